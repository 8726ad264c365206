//! OffsetCommit, OffsetFetch and OffsetDelete.

use std::rc::Rc;

use millrace_groups::{
    AlterOffsets, CommitOffset, CommittedOffset, DescribedOffset, FetchOffsets, Request, Response,
    SaidOffset,
};
use millrace_kafka::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use millrace_model::{ErrorCode, LeaderEpoch};

use super::super::context::RequestContext;
use super::{client, exists, failure};
use crate::shard::Shard;

/// What stands for an offset or an epoch that is not known.
const NONE: i32 = -1;

/// OffsetCommit. Partitions that do not exist are refused one by one, the others are committed
/// together.
pub(in super::super) async fn offset_commit(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let partition_index = partition.partition_index;
            let error_code = match offset_to_commit(shard, &topic.name, partition) {
                Ok(offset) => {
                    offsets.push(offset);
                    TO_BE_COMMITTED
                }
                Err(code) => code as i16,
            };
            partitions.push(OffsetCommitResponsePartition {
                partition_index,
                error_code,
            });
        }
        topics.push(OffsetCommitResponseTopic {
            name: topic.name,
            partitions,
        });
    }
    let count = offsets.len();
    let commit = CommitOffset {
        group: request.group_id,
        generation_or_epoch: request.generation_id_or_member_epoch,
        member: request.member_id,
        instance: request.group_instance_id,
        // Without its own retention a commit has the broker's.
        retention_ms: u64::try_from(request.retention_time_ms).ok(),
        offsets,
    };
    let codes = match count {
        0 => Vec::new(),
        _ => commit_codes(shard, context, commit, count).await,
    };
    let mut codes = codes.into_iter();
    let to_be_committed = topics
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions)
        .filter(|partition| partition.error_code == TO_BE_COMMITTED);
    for partition in to_be_committed {
        let code = codes.next().unwrap_or(ErrorCode::UnknownServerError);
        partition.error_code = code as i16;
    }
    OffsetCommitResponse {
        topics,
        ..OffsetCommitResponse::default()
    }
}

/// Stands in a response for the code that the coordinator will give.
const TO_BE_COMMITTED: i16 = i16::MIN;

fn offset_to_commit(
    shard: &Shard,
    topic: &str,
    asked: OffsetCommitRequestPartition,
) -> Result<AlterOffsets, ErrorCode> {
    let partition = u32::try_from(asked.partition_index).ok();
    let partition = partition.filter(|partition| exists(shard, topic, *partition));
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(AlterOffsets {
        topic: topic.to_owned(),
        partition,
        committed: CommittedOffset {
            offset: SaidOffset(asked.committed_offset),
            leader_epoch: u32::try_from(asked.committed_leader_epoch)
                .ok()
                .map(LeaderEpoch),
            metadata: asked.committed_metadata.unwrap_or_default(),
        },
    })
}

/// The fate of each offset.
async fn commit_codes(
    shard: &Rc<Shard>,
    context: &RequestContext,
    commit: CommitOffset,
    count: usize,
) -> Vec<ErrorCode> {
    let asked = shard.groups().ask(client(context), Request::Commit(commit));
    match asked.await {
        Response::Committed(codes) => codes,
        other => match failure(other).code {
            // Clients of earlier versions do not know epochs of members.
            ErrorCode::StaleMemberEpoch if context.version < 9 => {
                vec![ErrorCode::UnsupportedVersion; count]
            }
            code => vec![code; count],
        },
    }
}

/// OffsetFetch: one group up to version 7, any number later.
pub(in super::super) async fn offset_fetch(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if context.version < 8 {
        let topics = request
            .topics
            .map(|topics| topics.into_iter().map(named).collect());
        let fetch = fetch(request.group_id, None, NONE, topics, require_stable);
        return single_response(ask(shard, context, fetch).await, context.version);
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(fetch_group(shard, context, group, require_stable).await);
    }
    OffsetFetchResponse {
        groups,
        ..OffsetFetchResponse::default()
    }
}

async fn fetch_group(
    shard: &Rc<Shard>,
    context: &RequestContext,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let group_id = group.group_id.clone();
    let topics = group.topics.map(|topics| {
        let topics = topics.into_iter();
        let named = topics.map(
            |OffsetFetchRequestTopics {
                 name,
                 partition_indexes,
             }| { (name, numbers(partition_indexes)) },
        );
        named.collect()
    });
    let (member, epoch) = (group.member_id, group.member_epoch);
    let fetch = fetch(group.group_id, member, epoch, topics, require_stable);
    match ask(shard, context, fetch).await {
        Ok(offsets) => OffsetFetchResponseGroup {
            group_id,
            topics: by_topic(offsets, |name, offsets| OffsetFetchResponseTopics {
                name,
                partitions: offsets.into_iter().map(batched_partition).collect(),
            }),
            error_code: ErrorCode::None as i16,
        },
        Err((code, _)) => OffsetFetchResponseGroup {
            group_id,
            error_code: code as i16,
            ..OffsetFetchResponseGroup::default()
        },
    }
}

type Topics = Vec<(String, Vec<u32>)>;

/// What is committed, or why the fetch failed, with what it asked for.
type Fetched = Result<Vec<DescribedOffset>, (ErrorCode, Topics)>;

async fn ask(shard: &Rc<Shard>, context: &RequestContext, fetch: FetchOffsets) -> Fetched {
    let asked_for = fetch.partitions.clone().unwrap_or_default();
    let asked = shard
        .groups()
        .ask(client(context), Request::FetchOffsets(fetch));
    match asked.await {
        Response::Offsets(offsets) => Ok(offsets),
        other => Err((failure(other).code, asked_for)),
    }
}

fn fetch(
    group: String,
    member: Option<String>,
    member_epoch: i32,
    partitions: Option<Topics>,
    require_stable: bool,
) -> FetchOffsets {
    FetchOffsets {
        group,
        member,
        member_epoch,
        partitions,
        require_stable,
    }
}

fn named(topic: OffsetFetchRequestTopic) -> (String, Vec<u32>) {
    (topic.name, numbers(topic.partition_indexes))
}

/// The partitions that can exist; nothing is ever committed for others.
fn numbers(partitions: Vec<i32>) -> Vec<u32> {
    let partitions = partitions.into_iter();
    partitions.filter_map(|p| u32::try_from(p).ok()).collect()
}

/// The response about one group. The first version has no room for a failure of the whole: each
/// partition has it.
fn single_response(fetched: Fetched, version: i16) -> OffsetFetchResponse {
    let (offsets, code) = match fetched {
        Ok(offsets) => (offsets, ErrorCode::None),
        Err((code, topics)) if version < 2 => (nothing_but(code, topics), ErrorCode::None),
        Err((code, _)) => (Vec::new(), code),
    };
    OffsetFetchResponse {
        topics: by_topic(offsets, |name, offsets| OffsetFetchResponseTopic {
            name,
            partitions: offsets.into_iter().map(partition).collect(),
        }),
        error_code: code as i16,
        ..OffsetFetchResponse::default()
    }
}

fn nothing_but(error: ErrorCode, topics: Topics) -> Vec<DescribedOffset> {
    let all = topics.into_iter().flat_map(|(topic, partitions)| {
        let offset = move |partition| DescribedOffset {
            topic: topic.clone(),
            partition,
            committed: None,
            error,
        };
        partitions.into_iter().map(offset)
    });
    all.collect()
}

/// Offsets of one topic after the other, as `make` puts them.
fn by_topic<T>(
    offsets: Vec<DescribedOffset>,
    make: impl Fn(String, Vec<DescribedOffset>) -> T,
) -> Vec<T> {
    let mut topics: Vec<(String, Vec<DescribedOffset>)> = Vec::new();
    for offset in offsets {
        match topics.last_mut().filter(|(name, _)| *name == offset.topic) {
            Some((_, offsets)) => offsets.push(offset),
            None => topics.push((offset.topic.clone(), vec![offset])),
        }
    }
    let topics = topics.into_iter();
    topics.map(|(name, offsets)| make(name, offsets)).collect()
}

fn partition(offset: DescribedOffset) -> OffsetFetchResponsePartition {
    let batched = batched_partition(offset);
    OffsetFetchResponsePartition {
        partition_index: batched.partition_index,
        committed_offset: batched.committed_offset,
        committed_leader_epoch: batched.committed_leader_epoch,
        metadata: batched.metadata,
        error_code: batched.error_code,
    }
}

fn batched_partition(offset: DescribedOffset) -> OffsetFetchResponsePartitions {
    let partition_index = i32::try_from(offset.partition).unwrap_or(i32::MAX);
    let (committed_offset, epoch, metadata) = match offset.committed {
        None => (i64::from(NONE), None, String::new()),
        Some(committed) => (
            committed.offset.0,
            committed.leader_epoch,
            committed.metadata,
        ),
    };
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset,
        committed_leader_epoch: epoch
            .and_then(|epoch| i32::try_from(epoch.0).ok())
            .unwrap_or(NONE),
        metadata: Some(metadata),
        error_code: offset.error as i16,
    }
}

/// OffsetDelete.
pub(in super::super) async fn offset_delete(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let mut partitions = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let number = u32::try_from(partition.partition_index).ok();
            let number = number.filter(|number| exists(shard, &topic.name, *number));
            partitions.extend(number.map(|number| (topic.name.clone(), number)));
        }
    }
    let delete = Request::DeleteOffsets {
        group: request.group_id,
        partitions: partitions.clone(),
    };
    let codes = match shard.groups().ask(client(context), delete).await {
        Response::OffsetsDeleted(codes) => codes,
        other => {
            return OffsetDeleteResponse {
                error_code: failure(other).code as i16,
                ..OffsetDeleteResponse::default()
            };
        }
    };
    let mut deleted = partitions.into_iter().zip(codes).peekable();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            let index = partition.partition_index;
            let is_this = |((name, number), _): &((String, u32), ErrorCode)| {
                *name == topic.name && i32::try_from(*number) == Ok(index)
            };
            let code = deleted.next_if(is_this).map(|(_, code)| code);
            OffsetDeleteResponsePartition {
                partition_index: index,
                error_code: code.unwrap_or(ErrorCode::UnknownTopicOrPartition) as i16,
            }
        });
        OffsetDeleteResponseTopic {
            partitions: partitions.collect(),
            name: topic.name.clone(),
        }
    });
    OffsetDeleteResponse {
        topics: topics.collect(),
        ..OffsetDeleteResponse::default()
    }
}
