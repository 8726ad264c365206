//! The metadata of the cluster on this broker: the quorum's node and the replicated state machine,
//! made durable on shard 0.
//!
//! One task, [`Controller::run`], owns the machines of `millrace-replication`: the quorum, the
//! cluster that its log makes, and the leases of brokers while this node leads. Every shard holds
//! a [`ControllerClient`] to ask with, and an image of the cluster that it publishes.
//!
//! | file | what it does |
//! | --- | --- |
//! | `core` | feeds the machines and sorts what they want; awaits nothing |
//! | `asks` | changes on their way: proposed here, asked of the leader, or waiting for one |
//! | `inquiries` | how the quorum stands, as its leader knows it |
//! | `lifecycle` | this broker's registration, heartbeats and stop |
//! | `leader` | what falls to the leader: founding, heartbeats of others, balance |
//! | `knocks` | brokers whose process has ended, before their silence tells |
//! | `meet` | finds the leader where none is heard of |
//! | `voters` | who votes in the quorum: by the leader's judgement, and as it is told |
//! | `start` | opens: a broker that is alone serves at once, one of several joins |
//! | `run` | the task: the disk, the peers, the shards, time |
//! | `journal` | the quorum's log and snapshot on disk |
//! | `adopt` | what a broker brings that was alone before there were clusters |
//!
//! **Invariant:** a change is on the disks of a majority before anybody sees its effect.
//! **Invariant:** images are published in order, and before the change is answered: who created a
//! topic finds it on every shard of the broker that was asked.
//! **Invariant:** a client that goes away does not stop a change half-way.
//!
//! When the disk is full, changes are refused and may be tried again. When the journal fails
//! otherwise, this node no longer knows what it holds: it takes no part in the quorum until the
//! broker restarts, and every change is refused with `KAFKA_STORAGE_ERROR`; what exists goes on
//! being served, for as long as the others let it.

mod adopt;
mod asks;
mod client;
mod core;
mod draw;
mod inquiries;
mod journal;
mod knocks;
mod leader;
mod lifecycle;
mod listeners;
mod meet;
mod outside;
mod run;
mod start;
mod voters;

use millrace_model::{BrokerEpoch, BrokerId, ClusterId, IncarnationId};
use millrace_replication::Refusal;
use millrace_replication::cluster::{
    Changed, Cluster, ClusterSnapshotError, Endpoint, LeaseSettings, VoterSettings,
};
use millrace_replication::quorum::{QuorumSettings, QuorumStatus, RecoveryError};

pub use client::ControllerClient;
pub use draw::{random_cluster_id, random_incarnation, random_topic_id};
pub use journal::{JournalError, LogJournal, QUORUM_DIR, QuorumJournal, RecoveredJournal};
pub use listeners::{KAFKA_LISTENER, QUIC_LISTENER};
pub use outside::{NoPeers, PeerTransport, ShardTime, Time};

use client::Inbox;
use core::Core;

/// `broker.heartbeat.interval.ms`: three fit into a session.
pub const HEARTBEAT_INTERVAL_MS: u64 = 250;

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

/// Who this broker is.
#[derive(Clone, Debug)]
pub struct ControllerIdentity {
    /// Its number.
    pub broker: BrokerId,
    /// The cluster it belongs to; alone, the identity of the data directory.
    pub cluster: ClusterId,
    /// This run of the process.
    pub incarnation: IncarnationId,
    /// Its epoch before the last stop, if that was a clean one.
    pub clean_from: Option<BrokerEpoch>,
    /// The voters that a new quorum has; empty, or this broker only, when it founds alone. Of a quorum
    /// that is there, who may be asked for the others.
    pub voters: Vec<BrokerId>,
    /// Whether there are other brokers, or may be.
    pub has_peers: bool,
    /// How many voters its quorum shall have.
    pub voter_settings: VoterSettings,
    /// Its rack.
    pub rack: Option<String>,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// Its cores.
    pub shards: u8,
    /// How the quorum behaves.
    pub quorum: QuorumSettings,
    /// How patient its leader is with brokers.
    pub leases: LeaseSettings,
    /// How often this broker says that it is alive.
    pub heartbeat_interval_ms: u64,
}

impl ControllerIdentity {
    /// That of a broker that is alone.
    #[must_use]
    pub fn alone(broker: BrokerId, cluster: ClusterId, incarnation: IncarnationId) -> Self {
        Self {
            broker,
            cluster,
            incarnation,
            clean_from: None,
            voters: Vec::new(),
            has_peers: false,
            voter_settings: VoterSettings::default(),
            rack: None,
            endpoints: Vec::new(),
            shards: 1,
            quorum: QuorumSettings::default(),
            leases: LeaseSettings::default(),
            heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
        }
    }

    /// Whether a new quorum is of this broker only.
    #[must_use]
    pub fn founds_alone(&self) -> bool {
        self.voters.iter().all(|voter| *voter == self.broker)
    }
}

/// How a node stands.
#[derive(Clone, Debug)]
pub struct ControllerStatus {
    /// The quorum, as this node sees it.
    pub quorum: QuorumStatus,
    /// This broker's uptime, once it is registered.
    pub life: Option<BrokerEpoch>,
    /// Why this node takes no part until the broker restarts, if so.
    pub failure: Option<String>,
}

/// Why the controller cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What it holds contradicts itself.
    #[error("the metadata directory is damaged: {0}; restore it from a copy")]
    Recovery(#[from] RecoveryError),
    /// The snapshot in it cannot be read.
    #[error(transparent)]
    Snapshot(#[from] ClusterSnapshotError),
    /// A committed command cannot be carried out.
    #[error("{0}")]
    Command(String),
    /// A broker that was alone is to be one of several founders.
    #[error(
        "the data directory is of broker {broker} alone, but controller.quorum.voters names \
         {configured:?}: a cluster grows out of a broker when that broker, and each that joins it, \
         names only {broker}@HOST:PORT there; the others become voters by themselves"
    )]
    Founders {
        /// This broker.
        broker: BrokerId,
        /// Who votes according to the configuration.
        configured: Vec<u32>,
    },
    /// A broker of several is configured to be alone.
    #[error(
        "the data directory is of one broker of several: {others:?} are others; start it with \
         controller.quorum.voters, cluster.id and its certificates"
    )]
    Others {
        /// Who else there is.
        others: Vec<u32>,
    },
    /// The data directory is of another cluster.
    #[error("the metadata belongs to cluster {found}, but this broker to {configured}")]
    Cluster {
        /// Of which it is.
        found: ClusterId,
        /// Of which it should be.
        configured: ClusterId,
    },
    /// A broker that was alone cannot bring its topics into a cluster.
    #[error(
        "the data directory has {topics} topics of a broker that was alone, before it belonged to \
         a cluster; start it without controller.quorum.voters, or name another directory"
    )]
    Former {
        /// How many.
        topics: usize,
    },
    /// The state refuses this broker.
    #[error("this broker cannot start on its metadata: {0}")]
    Refused(Refusal),
}

/// The controller, on shard 0.
pub struct Controller<J, T> {
    core: Core,
    journal: J,
    time: T,
    client: ControllerClient,
    inbox: Inbox,
}

impl<J: QuorumJournal, T: Time> Controller<J, T> {
    /// A handle to ask with, for every shard.
    #[must_use]
    pub fn client(&self) -> ControllerClient {
        self.client.clone()
    }

    /// The state by now, for the shards to start from.
    #[must_use]
    pub fn published(&self) -> Published {
        Published {
            cluster: self.core.cluster().clone(),
            changes: Vec::new(),
            life: self.core.life(),
        }
    }
}

#[cfg(test)]
mod tests;
