//! A topic's partitions and who holds them.

use std::sync::Arc;

use millrace_model::{BrokerId, LeaderEpoch, LogId, PartitionEpoch, PartitionId, TopicId};

use super::MAX_REPLICAS;
use crate::metadata::Override;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTopic {
    /// Its name, unique among the topics that exist.
    pub name: Arc<str>,
    /// Its id, unique for ever.
    pub id: TopicId,
    /// Settings that differ from the brokers', sorted by name, each once.
    pub overrides: Vec<Override>,
    /// Its partitions, in order.
    pub partitions: Vec<Arc<Partition>>,
}

impl ClusterTopic {
    /// Each partition with its log's identity.
    pub fn logs(&self) -> impl Iterator<Item = (LogId, &Partition)> {
        (0..).zip(&self.partitions).map(|(number, partition)| {
            let log = LogId {
                topic: self.id,
                partition: PartitionId(number),
            };
            (log, &**partition)
        })
    }
}

/// Whether a leader that was elected uncleanly has made its log whole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub enum LeaderRecovery {
    /// It is whole.
    #[default]
    Recovered,
    /// The leader has not said so yet: nobody else may be in sync with it.
    Recovering,
}

/// A partition's state.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Partition {
    /// Who holds it, the preferred leader first. While replicas change: those to be, then those to go.
    pub replicas: Vec<BrokerId>,
    /// The in-sync set, in the order of the replicas.
    pub in_sync: Vec<BrokerId>,
    /// Replicas out of sync that hold all that was acknowledged (KIP-966).
    pub eligible: Vec<BrokerId>,
    /// Who led last, while nobody does.
    pub last_leader: Option<BrokerId>,
    /// Who leads.
    pub leader: Option<BrokerId>,
    /// The term of its leadership.
    pub leader_epoch: LeaderEpoch,
    /// The version of this state.
    pub partition_epoch: PartitionEpoch,
    /// Replicas that are being added.
    pub adding: Vec<BrokerId>,
    /// Replicas that go when those are in sync.
    pub removing: Vec<BrokerId>,
    /// What the leader is doing.
    pub recovery: LeaderRecovery,
}

/// Why a partition's state cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionFault {
    /// None, too many, or one twice.
    #[error("a partition has 1 to {MAX_REPLICAS} replicas, each once")]
    Replicas,
    /// In sync, eligible, or being added or removed, but no replica.
    #[error("broker {0} is no replica")]
    NoReplica(BrokerId),
    /// Twice in a list, or in two that exclude each other.
    #[error("broker {0} is there twice")]
    Twice(BrokerId),
    /// A leader that is not in sync.
    #[error("leader {0} is not in sync")]
    Leader(BrokerId),
}

impl Partition {
    /// The replicas that are to be when what is under way is done.
    #[must_use]
    pub fn target(&self) -> Vec<BrokerId> {
        without(&self.replicas, &self.removing)
    }

    /// Whether its replicas are changing.
    #[must_use]
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Checks what must always hold.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), PartitionFault> {
        if self.replicas.is_empty() || self.replicas.len() > MAX_REPLICAS {
            return Err(PartitionFault::Replicas);
        }
        once(&self.replicas).map_err(|_| PartitionFault::Replicas)?;
        for list in [&self.in_sync, &self.eligible, &self.adding, &self.removing] {
            once(list)?;
            match list.iter().find(|broker| !self.replicas.contains(broker)) {
                Some(broker) => return Err(PartitionFault::NoReplica(*broker)),
                None => continue,
            }
        }
        for (list, other) in [
            (&self.in_sync, &self.eligible),
            (&self.adding, &self.removing),
        ] {
            if let Some(broker) = list.iter().find(|broker| other.contains(broker)) {
                return Err(PartitionFault::Twice(*broker));
            }
        }
        match self.leader {
            Some(leader) if !self.in_sync.contains(&leader) => Err(PartitionFault::Leader(leader)),
            _ => Ok(()),
        }
    }
}

/// Checks that no broker is there twice.
pub(super) fn once(list: &[BrokerId]) -> Result<(), PartitionFault> {
    for (at, broker) in list.iter().enumerate() {
        if list[..at].contains(broker) {
            return Err(PartitionFault::Twice(*broker));
        }
    }
    Ok(())
}

/// The list without these.
pub(super) fn without(list: &[BrokerId], these: &[BrokerId]) -> Vec<BrokerId> {
    let kept = list.iter().filter(|broker| !these.contains(broker));
    kept.copied().collect()
}

/// Those of the list that are among these.
pub(super) fn among(list: &[BrokerId], these: &[BrokerId]) -> Vec<BrokerId> {
    let kept = list.iter().filter(|broker| these.contains(broker));
    kept.copied().collect()
}
