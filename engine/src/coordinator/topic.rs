//! `__consumer_offsets`: the topic whose partitions are the logs of the coordinators, and which
//! partition a group belongs to.

use std::rc::Rc;

use millrace_model::{ErrorCode, GROUP_OFFSETS_TOPIC, LogId, MAX_BATCH_LEN, PartitionId, TopicId};
use millrace_replication::Refusal;
use millrace_replication::cluster::ClusterRequest;

use crate::controller::random_topic_id;
use crate::shard::{Shard, partition_count};

/// The topic as a shard knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetsTopic {
    /// Its id.
    pub(super) id: TopicId,
    /// How many partitions it was made with. Never changes.
    pub(super) partitions: u32,
}

impl OffsetsTopic {
    /// The topic, if a group was ever used.
    pub(super) fn of(shard: &Shard) -> Option<Self> {
        let cluster = shard.topics().cluster();
        let topic = cluster.topic_named(GROUP_OFFSETS_TOPIC)?;
        Some(Self {
            id: topic.id,
            partitions: partition_count(topic),
        })
    }

    /// The topic, made if this is the first use of a group.
    pub(super) async fn of_or_new(shard: &Rc<Shard>) -> Result<Self, Refusal> {
        if let Some(topic) = Self::of(shard) {
            return Ok(topic);
        }
        match create(shard).await {
            Ok(()) => {}
            // Somebody else was first.
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {}
            Err(refusal) => return Err(refusal),
        }
        let missing = || Refusal::new(ErrorCode::CoordinatorNotAvailable, "try again later");
        Self::of(shard).ok_or_else(missing)
    }

    /// The log of the coordinator that a group belongs to.
    pub(super) fn log_of(self, group: &str) -> LogId {
        LogId {
            topic: self.id,
            partition: PartitionId(partition_of(group, self.partitions)),
        }
    }
}

/// Everything is kept until a checkpoint stands for it, every write is durable before it is
/// acknowledged, the largest group fits in one batch, and no step of the wall clock makes a write
/// one of the wrong time.
async fn create(shard: &Rc<Shard>) -> Result<(), Refusal> {
    let id = random_topic_id()
        .map_err(|error| Refusal::new(ErrorCode::CoordinatorNotAvailable, error.to_string()))?;
    let config = shard.config();
    let any_time = i64::MAX.to_string();
    let settings = [
        ("max.message.bytes", MAX_BATCH_LEN.to_string()),
        ("message.timestamp.after.max.ms", any_time.clone()),
        ("message.timestamp.before.max.ms", any_time),
        ("message.timestamp.type", "CreateTime".to_owned()),
        ("min.insync.replicas", "1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
        ("retention.ms", "-1".to_owned()),
        (
            "segment.bytes",
            config.offsets_topic_segment_bytes.0.to_string(),
        ),
        ("write.caching", "false".to_owned()),
    ];
    let request = ClusterRequest::CreateTopic {
        name: GROUP_OFFSETS_TOPIC.to_owned(),
        id,
        partitions: config.offsets_topic_num_partitions.get(),
        replication: 1,
        internal: true,
        overrides: settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    };
    shard.controller().request(request).await.map(drop)
}

/// Kafka's placement: the absolute value of Java's hash of the name, modulo the partitions.
fn partition_of(group: &str, partitions: u32) -> u32 {
    let hash = java_hash(group);
    // Java's `abs` of the smallest number is itself; Kafka takes 0 for it.
    hash.checked_abs().unwrap_or(0).unsigned_abs() % partitions
}

/// Java's `String.hashCode`, which counts UTF-16 units.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_placed_as_kafka_places_them() {
        // As `"...".hashCode()` of a Java runtime prints them.
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("a"), 97);
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert_eq!(java_hash("\u{1f980}"), 1_772_802, "two units");
        assert_eq!(partition_of("hello", 50), 22);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert!(partition_of("consumer-group", 3) < 3);
    }
}
