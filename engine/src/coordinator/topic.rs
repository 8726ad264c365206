//! `__consumer_offsets`: the topic whose partitions are the logs of the coordinators, and which
//! partition a group belongs to.

use std::rc::Rc;

use millrace_model::{
    ErrorCode, GROUP_OFFSETS_TOPIC, LogId, MAX_BATCH_LEN, TopicId, coordinator_partition,
};
use millrace_replication::Refusal;
use millrace_replication::cluster::{BrokerState, ClusterRequest};

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
            partition: coordinator_partition(group, self.partitions),
        }
    }
}

/// Replicas of the topic: as configured, or as many as there are brokers to hold them.
fn replication(shard: &Shard) -> usize {
    let wanted = shard.config().offsets_topic_replication_factor.get();
    let cluster = shard.topics().cluster();
    let brokers = cluster.brokers();
    let serving = brokers.filter(|broker| broker.state == BrokerState::Active);
    serving.count().min(wanted as usize).max(1)
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
        replication: replication(shard),
        internal: true,
        overrides: settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    };
    shard.controller().request(request).await.map(drop)
}
