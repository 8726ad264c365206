//! What a group has committed, and where the partitions' ends are.

use std::collections::{BTreeMap, HashMap};

use millrace_client::Client;
use millrace_model::{ErrorCode, LogId, Offset, PartitionId};
use millrace_wire::{PartitionState, Topic};

use crate::cli::connect::failure;
use crate::cli::exit::{Exit, Failure};

/// Topic and partition.
pub(super) type Place = (String, u32);

/// All that a group has committed.
pub(super) async fn committed(
    client: &Client,
    group: &str,
) -> Result<BTreeMap<Place, Offset>, Failure> {
    let fetched = client.group_offsets(group, None).await;
    let mut committed = BTreeMap::new();
    for offset in fetched.map_err(|error| failure(&error))? {
        let code = ErrorCode::from_i16(offset.code);
        if code != ErrorCode::None {
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "the committed offset of partition {} of {} cannot be told: {code}",
                    offset.partition, offset.topic
                ),
            ));
        }
        if let Some(of) = offset.committed {
            committed.insert((offset.topic, offset.partition), of.offset);
        }
    }
    Ok(committed)
}

/// Topics of the broker by name.
pub(super) async fn topics<'a>(
    client: &Client,
    names: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Topic>, Failure> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    let metadata = client.metadata(Some(&names)).await;
    let topics = metadata.map_err(|error| failure(&error))?.topics;
    Ok(topics
        .into_iter()
        .map(|topic| (topic.name.clone(), topic))
        .collect())
}

/// Where a partition begins and ends; `None` for one that does not exist, such as of a topic that was deleted.
pub(super) async fn ends(
    client: &Client,
    topics: &HashMap<String, Topic>,
    (topic, partition): &Place,
) -> Result<Option<PartitionState>, Failure> {
    let Some(topic) = topics
        .get(topic)
        .filter(|topic| *partition < topic.partitions())
    else {
        return Ok(None);
    };
    let log = log_of(topic, *partition);
    match client.describe_partition(log).await {
        Ok(state) => Ok(Some(state)),
        Err(error) if is_gone(error.code()) => Ok(None),
        Err(error) => Err(failure(&error)),
    }
}

/// The log of a partition.
pub(super) fn log_of(topic: &Topic, partition: u32) -> LogId {
    LogId {
        topic: topic.id,
        partition: PartitionId(partition),
    }
}

fn is_gone(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition
    )
}
