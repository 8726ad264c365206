//! The replicas of a partition and the metadata of the cluster, as pure state machines.
//!
//! - [`partition`]: a leader knows how far each replica has come, which of them are in sync,
//!   and so the high watermark: what may be acknowledged to `acks=all` and shown to consumers.
//!   A follower makes its log the leader's.
//! - [`Metadata`] knows the topics, the epochs of brokers and the producer ids given out. It
//!   changes by [`Command`]s only, so that replaying them gives the same state anywhere.
//!
//! Both read no clock, await nothing and touch no device: time and completions are inputs,
//! what to do is an output. Absent here: elections and the quorum that orders the commands.
//! One broker is a quorum of one, and its log of commands is the order.

mod metadata;
pub mod partition;

pub use metadata::{
    ApplyError, Change, Command, CommandError, MAX_BROKERS, MAX_PARTITIONS,
    MAX_PARTITIONS_PER_TOPIC, MAX_TOPICS, Metadata, Override, PRODUCER_ID_BLOCK, Refusal, Request,
    SnapshotError, Topic,
};
