//! Which partition a request means: topics by name or by id, partitions by index.

use millrace_model::{ErrorCode, LogId, PartitionId, TopicId, TopicName, is_internal_topic};

use crate::shard::{Refusal, Shard, partition_count};

/// How a request names a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    /// As always.
    Name(&'a str),
    /// Since KIP-516.
    Id(TopicId),
}

/// A topic that exists.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) id: TopicId,
    pub(crate) name: String,
    partitions: u32,
}

/// The topic that is asked for.
///
/// # Errors
/// There is none.
pub(crate) fn find(shard: &Shard, asked: Asked<'_>) -> Result<Named, Refusal> {
    let cluster = shard.topics().cluster();
    let (topic, refusal) = match asked {
        Asked::Name(name) => (
            cluster.topic_named(name),
            ErrorCode::UnknownTopicOrPartition,
        ),
        Asked::Id(id) => (cluster.topic(id), ErrorCode::UnknownTopicId),
    };
    match topic {
        Some(topic) => Ok(Named {
            id: topic.id,
            name: topic.name.to_string(),
            partitions: partition_count(topic),
        }),
        None => Err(Refusal::new(refusal, "there is no such topic")),
    }
}

impl Named {
    /// The log of one of its partitions.
    ///
    /// # Errors
    /// It has no such partition.
    pub(crate) fn partition(&self, index: i32) -> Result<LogId, Refusal> {
        let partition = u32::try_from(index).ok();
        let partition = partition.filter(|index| *index < self.partitions);
        let Some(partition) = partition else {
            let message = format!("`{}` has {} partitions", self.name, self.partitions);
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        Ok(LogId {
            topic: self.id,
            partition: PartitionId(partition),
        })
    }

    /// Whether only the broker writes to it.
    pub(crate) fn is_internal(&self) -> bool {
        is_internal_topic(&self.name)
    }
}

/// Whether a topic may have this name.
pub(crate) fn is_legal(name: &str) -> bool {
    TopicName::parse(name).is_ok()
}
