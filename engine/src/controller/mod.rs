//! The metadata of the cluster on this broker: the quorum's node and the replicated state machine,
//! made durable on shard 0.
//!
//! One task, [`Controller::run`], owns the machines of `millrace-replication`: the quorum, the
//! cluster that its log makes, and the leases of brokers while this node leads. Every shard holds
//! a [`ControllerClient`] to ask with, and an image of the cluster that it publishes.

mod client;
mod names;

use millrace_model::BrokerEpoch;
use millrace_replication::cluster::{Changed, Cluster};

pub use client::ControllerClient;
pub use names::{KAFKA_LISTENER, QUIC_LISTENER, random_bytes, random_topic_id};

/// What a shard is told: the state after some commands, and what is different in it.
#[derive(Clone, Debug)]
pub struct Published {
    /// The state. Its parts are shared with every other copy.
    pub cluster: Cluster,
    /// What changed since the one before, in order.
    pub changes: Vec<Changed>,
    /// This broker's uptime, once it is registered in it. Before that it serves no partition.
    pub life: Option<BrokerEpoch>,
}
