//! Consumer groups: members that share the partitions of topics among them, by the broker-driven
//! protocol (KIP-848), and remember in the broker how far they have come.
//!
//! A member is three parts: [`membership::Membership`] decides, without I/O; the task of
//! [`driver::Driver`] carries its heartbeats; [`GroupConsumer`], on the application's side, starts,
//! stops and commits partitions while the application asks for records.
//!
//! **Invariant:** a partition is given up on the application's side, between two of its calls. So what it
//! got before is processed and committed before another member reads on.

mod admin;
mod commit;
mod consumer;
mod driver;
mod membership;
#[cfg(test)]
mod membership_tests;
mod options;
mod reader;

use std::sync::Arc;

use millrace_model::{LogId, Offset, PartitionId};

pub use self::consumer::GroupConsumer;
pub use self::options::{CommitMode, GroupOptions};
use crate::ConsumerRecord;

/// A partition of a topic, as a member of a group knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub log: LogId,
}

impl GroupPartition {
    /// Its number in the topic.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.log.partition
    }
}

/// A record that a member of a group got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The record.
    pub record: ConsumerRecord,
}

/// How far a member is behind in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: GroupPartition,
    /// The next offset that the application gets.
    pub position: Offset,
    /// What this member knows to be committed.
    pub committed: Option<Offset>,
    /// End of what may be read.
    pub high_watermark: Offset,
}

impl PartitionLag {
    /// Offsets between the position and the end.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.high_watermark.0.saturating_sub(self.position.0)
    }
}

/// Who is told of partitions that come and go. The calls come while the application asks for records, on
/// its own task.
pub trait RebalanceListener: Send + 'static {
    /// These are read from now on.
    fn assigned(&mut self, partitions: &[GroupPartition]) {
        let _ = partitions;
    }

    /// These go to other members. Returns offsets to commit before they do, besides what the consumer
    /// commits itself.
    fn revoked(&mut self, partitions: &[GroupPartition]) -> Vec<(GroupPartition, Offset)> {
        let _ = partitions;
        Vec::new()
    }

    /// These belong to other members already: the broker has not heard of this one for too long.
    fn lost(&mut self, partitions: &[GroupPartition]) {
        let _ = partitions;
    }
}
