//! The replicas of a partition and the metadata of the cluster, as pure state machines.
//!
//! - [`partition`]: a leader knows how far each replica has come, which of them are in sync,
//!   and so the high watermark: what may be acknowledged to `acks=all` and shown to consumers.
//!   A follower makes its log the leader's.
//! - [`quorum`] is one node of the metadata quorum: it puts commands into one order that a
//!   majority of the voters has on disk.
//! - [`cluster`] is what those commands change: brokers and their lives, topics, partitions with
//!   their replicas, leaders and in-sync sets, settings, producer ids.
//! - [`Metadata`] is the metadata of a broker that is alone, with a log of its own. A cluster
//!   takes it over with [`cluster::Command::Adopt`].
//!
//! All read no clock, await nothing and touch no device: time and completions are inputs,
//! what to do is an output.

pub mod cluster;
mod metadata;
pub mod partition;
#[cfg(feature = "planted-faults")]
pub mod planted;
#[cfg(not(feature = "planted-faults"))]
mod planted;
pub mod quorum;

pub use metadata::{
    ApplyError, Change, Command, CommandError, MAX_BROKERS, MAX_PARTITIONS,
    MAX_PARTITIONS_PER_TOPIC, MAX_TOPICS, Metadata, Override, PRODUCER_ID_BLOCK, Refusal, Request,
    SnapshotError, Topic,
};
