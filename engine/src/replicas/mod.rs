//! How the replicas of partitions on this shard and their counterparts on other brokers keep up with each
//! other.
//!
//! | file | what it does |
//! | --- | --- |
//! | `host` | what the partitions of a shard need of it |
//! | `serve` | a follower's stream, at the leader: what it says goes to the partitions, frames go out |
//! | `sending` | which frames go out next, and what is read for them |
//! | `pull` | the streams of this shard to the leaders that it follows |
//! | `following` | one such stream: what a leader says goes to the partitions |
//! | `image` | what the metadata says of a partition, as its replicas are told |
//! | `outbox` | messages on their way out, the latest of each partition |
//! | `proposals` | in-sync sets on their way to the controller |
//! | `resignations` | leaderships whose logs have failed, on their way to the controller |
//! | `alarm` | when the machines want to be woken |
//! | `throttle` | how fast followers catch up |
//! | `translate` | between the messages of the machines and those of the wire |
//! | `stream` | the two halves of a stream, whatever carries it |
//!
//! # What a peer can hold
//! It has proven to be a broker of this cluster, which does not make it right. What waits to be sent to it is a
//! message for each of its partitions, and two runs of frames. What comes from it is read into memory of the shard's
//! budget, a run at a time, and nothing more is read until there is some. A run that does not arrive is
//! given up. What it says is checked: a record by the wire, frames by [`ReplicaRun`](millrace_storage::ReplicaRun) and the log, offsets and
//! epochs by the machines, which refuse a session, never the process.

mod alarm;
mod following;
mod host;
pub(crate) mod image;
mod outbox;
mod proposals;
mod pull;
mod resignations;
mod sending;
mod serve;
mod stream;
#[cfg(test)]
mod tests;
mod throttle;
mod translate;

pub(crate) use host::{Host, HostParts};
pub(crate) use pull::Link;
pub(crate) use sending::{FollowerStream, Job};
pub(crate) use serve::serve_replica_stream;
pub(crate) use stream::{Incoming, Outgoing, StreamEnded};
