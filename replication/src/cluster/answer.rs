//! What applying a command says: to its proposer, and to whoever carries changes out.

use millrace_model::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, LogId, PartitionEpoch, ProducerId, TopicId,
};

use super::Partition;

/// A command was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For its proposer.
    pub answer: Answer,
    /// What is different now, each once, in a fixed order.
    pub changes: Vec<Changed>,
}

/// What the proposer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The broker is registered under this epoch.
    Registered(BrokerEpoch),
    /// These producer ids are the broker's.
    ProducerIds {
        /// The first.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// What became of each partition, in the order of the command.
    Partitions(Vec<PartitionOutcome>),
}

/// What became of one partition of a command about many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// Kafka's code; [`ErrorCode::None`] when it was changed as asked.
    pub code: ErrorCode,
    /// The partition as it is now, if the command could be judged.
    pub partition: Option<Partition>,
}

/// What is different. The new state is in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The cluster was founded, or uses more features.
    Cluster,
    /// A broker is new, has another life, another state, or other endpoints.
    Broker(BrokerId),
    /// A broker is no longer registered.
    BrokerGone(BrokerId),
    /// A topic is new; its partitions are not named one by one.
    TopicCreated(TopicId),
    /// A topic is gone; its data can go.
    TopicDeleted {
        /// Its id.
        id: TopicId,
        /// Its name.
        name: String,
        /// How many partitions it had.
        partitions: u32,
    },
    /// A topic has other settings.
    TopicConfigs(TopicId),
    /// A broker, or with `None` all of them, have other settings.
    BrokerConfigs(Option<BrokerId>),
    /// A partition is new or has another state.
    Partition {
        /// Which.
        log: LogId,
        /// Its leader now.
        leader: Option<BrokerId>,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The partition's.
        partition_epoch: PartitionEpoch,
    },
}

impl Applied {
    pub(super) fn done(changes: Vec<Changed>) -> Self {
        let answer = Answer::Done;
        Self { answer, changes }
    }
}

impl Changed {
    pub(super) fn partition(log: LogId, partition: &Partition) -> Self {
        Self::Partition {
            log,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
        }
    }
}
