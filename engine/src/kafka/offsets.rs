//! What stands where in a partition: ListOffsets, OffsetForLeaderEpoch and DeleteRecords.

use std::rc::Rc;

use millrace_kafka::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, EpochEndOffset, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use millrace_model::{ErrorCode, LeaderEpoch, LogId, Offset, Timestamp};
use millrace_storage::ReadError;

use super::cluster::signed_epoch;
use super::context::RequestContext;
use super::fetch::{check_epoch, signed};
use super::names::{self, Asked};
use super::owners::ask_owners_unless;
use crate::partition::{Partition, end_unknown};
use crate::shard::{Refusal, Shard};

/// Timestamps that stand for a place in the log.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// The first version that knows `OFFSET_NOT_AVAILABLE`.
const FIRST_WITH_NOT_AVAILABLE: i16 = 5;

/// The first versions that know the last three.
const FIRST_WITH_MAX_TIMESTAMP: i16 = 7;
const FIRST_WITH_EARLIEST_LOCAL: i16 = 8;
const FIRST_WITH_LATEST_TIERED: i16 = 9;

/// Nothing was found.
const NOWHERE: (i64, i64) = (-1, -1);

/// Bytes read at a time where the largest timestamp is looked for.
const SEARCH_READ_LEN: usize = 256 << 10;

/// ListOffsets.
pub(super) async fn list(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let version = context.version;
    let mut questions = Vec::new();
    for topic in &request.topics {
        let named = names::find(shard, Asked::Name(&topic.name));
        for partition in &topic.partitions {
            let log = named
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|named| named.partition(partition.partition_index));
            let asked = (partition.timestamp, partition.current_leader_epoch);
            questions.push(log.and_then(|log| {
                check_timestamp(partition.timestamp, version)?;
                Ok((log, asked))
            }));
        }
    }
    let find = |shard: Rc<Shard>, log, (timestamp, epoch)| async move {
        let partition = led(&shard, log, epoch).await?;
        let found = find(&partition, timestamp).await?;
        Ok((found, signed_epoch(partition.leader_epoch())))
    };
    let mut answers = ask_owners_unless(shard, questions, find).await.into_iter();
    let mut partition = |index| {
        let answer = answers.next().expect("one answer a partition");
        let (error_code, ((offset, timestamp), epoch)) = match answer {
            Ok(found) => (ErrorCode::None, found),
            Err(refusal) if refusal.code == ErrorCode::OffsetNotAvailable => {
                (not_available(version), (NOWHERE, -1))
            }
            Err(refusal) => (refusal.code, (NOWHERE, -1)),
        };
        let is_somewhere = offset >= 0 && version >= 4;
        ListOffsetsPartitionResponse {
            partition_index: index,
            error_code: error_code as i16,
            timestamp,
            offset,
            leader_epoch: if is_somewhere { epoch } else { -1 },
        }
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| asked.partition_index);
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions: partitions.map(&mut partition).collect(),
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

/// What a client is told whose leader is new and does not know yet what is committed.
fn not_available(version: i16) -> ErrorCode {
    match version >= FIRST_WITH_NOT_AVAILABLE {
        true => ErrorCode::OffsetNotAvailable,
        false => ErrorCode::LeaderNotAvailable,
    }
}

fn check_timestamp(timestamp: i64, version: i16) -> Result<(), Refusal> {
    let first = match timestamp {
        MAX_TIMESTAMP => FIRST_WITH_MAX_TIMESTAMP,
        EARLIEST_LOCAL => FIRST_WITH_EARLIEST_LOCAL,
        LATEST_TIERED => FIRST_WITH_LATEST_TIERED,
        ..EARLIEST_LOCAL => i16::MAX,
        _ => 0,
    };
    match version >= first {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::UnsupportedVersion,
            "this timestamp stands for nothing in this version",
        )),
    }
}

/// A partition, for a client that believes in this leader epoch.
async fn led(shard: &Rc<Shard>, log: LogId, epoch: i32) -> Result<Rc<Partition>, Refusal> {
    let partition = shard.partition(log).await?;
    check_epoch(&partition, epoch)
        .map_err(|code| Refusal::new(code, "another leader epoch is current"))?;
    Ok(partition)
}

/// Offset and timestamp of what a timestamp stands for.
async fn find(partition: &Partition, timestamp: i64) -> Result<(i64, i64), Refusal> {
    let log = partition.log();
    let refuse = |error: ReadError| Refusal::new(error.code(), error.to_string());
    match timestamp {
        LATEST => {
            let end = partition.visible_end().ok_or_else(end_unknown)?;
            Ok((signed(end), -1))
        }
        EARLIEST | EARLIEST_LOCAL => Ok((signed(log.log_start()), -1)),
        LATEST_TIERED => Ok(NOWHERE),
        MAX_TIMESTAMP => find_max_timestamp(partition).await.map_err(refuse),
        _ => {
            let found = log.find_timestamp(Timestamp(timestamp)).await;
            let found = found.map_err(refuse)?;
            Ok(visible(partition, found))
        }
    }
}

fn visible(partition: &Partition, found: Option<(Offset, Timestamp)>) -> (i64, i64) {
    let end = partition.high_watermark();
    let found = found.filter(|(offset, _)| *offset < end);
    found.map_or(NOWHERE, |(offset, timestamp)| (signed(offset), timestamp.0))
}

/// The first record with the largest timestamp.
async fn find_max_timestamp(partition: &Partition) -> Result<(i64, i64), ReadError> {
    let log = partition.log();
    let largest = log.max_timestamp();
    let found = visible(partition, log.find_timestamp(largest).await?);
    if largest == Timestamp::NONE || found != NOWHERE {
        return Ok(found);
    }
    // The log knows a larger one than its readers do: of a record that is on its way to the device,
    // or was deleted from the middle of a segment.
    let (mut from, end) = (log.log_start(), partition.readable_end());
    let mut largest = Timestamp::NONE;
    while from < end {
        let runs = log.read(from, SEARCH_READ_LEN, end).await?;
        let Some(last) = runs.last() else { break };
        from = last.next;
        largest = runs
            .iter()
            .map(|run| run.max_timestamp())
            .fold(largest, Timestamp::max);
    }
    Ok(visible(partition, log.find_timestamp(largest).await?))
}

/// OffsetForLeaderEpoch.
pub(super) async fn for_leader_epoch(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut questions = Vec::new();
    for topic in &request.topics {
        let named = names::find(shard, Asked::Name(&topic.topic));
        for partition in &topic.partitions {
            let log = named
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|named| named.partition(partition.partition));
            let asked = (partition.leader_epoch, partition.current_leader_epoch);
            questions.push(log.map(|log| (log, asked)));
        }
    }
    let find = |shard: Rc<Shard>, log, (asked, current)| async move {
        let partition = led(&shard, log, current).await?;
        Ok(end_of_epoch(&partition, asked))
    };
    let mut answers = ask_owners_unless(shard, questions, find).await.into_iter();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = answers.next().expect("one answer a partition");
            let (code, (leader_epoch, end_offset)) = match answer {
                Ok(found) => (ErrorCode::None, found),
                Err(refusal) => (refusal.code, (-1, -1)),
            };
            EpochEndOffset {
                error_code: code as i16,
                partition: asked.partition,
                leader_epoch,
                end_offset,
            }
        });
        topics.push(OffsetForLeaderTopicResult {
            partitions: partitions.collect(),
            topic: topic.topic,
        });
    }
    OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    }
}

/// The largest epoch with data that is not above `asked`, and where its data ends.
fn end_of_epoch(partition: &Partition, asked: i32) -> (i32, i64) {
    let current = signed_epoch(partition.leader_epoch());
    let Ok(epoch) = u32::try_from(asked) else {
        return (-1, -1);
    };
    if asked > current {
        return (-1, -1);
    }
    let log = partition.log();
    if asked == current {
        // It is this broker's, whether it has written yet or not.
        return (current, signed(log.accepted_end()));
    }
    let (epoch, end) = log.end_offset_for_epoch(LeaderEpoch(epoch));
    (signed_epoch(epoch), signed(end))
}

/// DeleteRecords.
pub(super) async fn delete_records(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut questions = Vec::new();
    for topic in &request.topics {
        let named = names::find(shard, Asked::Name(&topic.name));
        for partition in &topic.partitions {
            let log =
                named
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|named| match named.is_internal() {
                        true => Err(Refusal::new(
                            ErrorCode::InvalidTopicException,
                            "clients do not write to this topic",
                        )),
                        false => named.partition(partition.partition_index),
                    });
            questions.push(log.map(|log| (log, partition.offset)));
        }
    }
    let delete = |shard: Rc<Shard>, log, before| async move { delete(&shard, log, before).await };
    let mut answers = ask_owners_unless(shard, questions, delete)
        .await
        .into_iter();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = answers.next().expect("one answer a partition");
            let (code, low_watermark) = match answer {
                Ok(log_start) => (ErrorCode::None, log_start),
                Err(refusal) => (refusal.code, -1),
            };
            DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark,
                error_code: code as i16,
            }
        });
        topics.push(DeleteRecordsTopicResult {
            partitions: partitions.collect(),
            name: topic.name,
        });
    }
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

/// What stands for "all there is".
const TO_HIGH_WATERMARK: i64 = -1;

/// Deletes what lies before an offset; returns where the log starts then.
async fn delete(shard: &Rc<Shard>, log: LogId, before: i64) -> Result<i64, Refusal> {
    let before = match before {
        TO_HIGH_WATERMARK => None,
        before => Some(Offset(u64::try_from(before).map_err(|_| {
            Refusal::new(ErrorCode::OffsetOutOfRange, "a negative offset")
        })?)),
    };
    let partition = shard.partition(log).await?;
    partition.delete_before(before).await.map(signed)
}
