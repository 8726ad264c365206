//! The commands and their bytes.
//!
//! Byte map: `MRCC`, version (u16, little-endian), two zero bytes, then the archived
//! command. A change of the archived layout is a new version; `tests/cluster_golden.rs` pins it.

use millrace_model::{
    BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, LogId, PartitionEpoch, TopicId,
};
use rkyv::rancor;

use super::{LeaderRecovery, Registration};
use crate::metadata::{CommandError, Override, PrefixError, Topic, decode, encode};

const MAGIC: [u8; 4] = *b"MRCC";
const VERSION: u16 = 1;

/// A change of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Command {
    /// The first command: the cluster gets its identity.
    Found {
        /// Drawn at random.
        cluster: ClusterId,
        /// What its brokers can do.
        level: u16,
    },
    /// What a broker that was alone brings with it, from its own log of commands.
    Adopt {
        /// The broker, the only replica of everything.
        broker: BrokerId,
        /// The leader epoch of its latest life.
        epoch: LeaderEpoch,
        /// Its topics.
        topics: Vec<Topic>,
        /// The first producer id that it has not given out.
        next_producer_id: i64,
    },
    /// A broker announces itself, and is fenced until it has caught up.
    Register(Registration),
    /// A broker has caught up and may serve.
    Unfence {
        /// The broker.
        broker: BrokerId,
        /// The life that is meant.
        epoch: BrokerEpoch,
    },
    /// A broker's lease has run out, or it has stopped.
    Fence {
        /// The broker.
        broker: BrokerId,
        /// The life that is meant.
        epoch: BrokerEpoch,
    },
    /// A broker wants to stop: its leaders move away.
    BeginShutdown {
        /// The broker.
        broker: BrokerId,
        /// The life that is meant.
        epoch: BrokerEpoch,
    },
    /// A broker shall get no new replicas, or may again.
    Cordon {
        /// The broker.
        broker: BrokerId,
        /// Which.
        cordoned: bool,
    },
    /// A broker that holds nothing leaves for good.
    Unregister {
        /// The broker.
        broker: BrokerId,
    },
    /// A topic is new.
    CreateTopic(NewTopic),
    /// A topic goes.
    DeleteTopic {
        /// Its id.
        id: TopicId,
    },
    /// A topic gets more partitions.
    CreatePartitions {
        /// The topic.
        topic: TopicId,
        /// How many it has.
        present: u32,
        /// The replicas of each new one, the preferred leader first.
        assignments: Vec<Vec<BrokerId>>,
    },
    /// Settings change.
    AlterConfigs {
        /// Whose.
        owner: ConfigOwner,
        /// The changes, each name once.
        changes: Vec<ConfigChange>,
    },
    /// A leader proposes in-sync sets.
    AlterPartitions {
        /// The leader.
        broker: BrokerId,
        /// Its life.
        epoch: BrokerEpoch,
        /// The sets.
        partitions: Vec<AlterPartition>,
    },
    /// A partition's replicas shall be others; `None` takes back what is under way.
    Reassign {
        /// The partition.
        partition: LogId,
        /// Its replicas, the preferred leader first.
        target: Option<Vec<BrokerId>>,
    },
    /// Partitions shall have other leaders.
    ElectLeaders {
        /// Which.
        kind: ElectionKind,
        /// The partitions.
        partitions: Vec<LogId>,
    },
    /// A broker wants a block of producer ids.
    AllocateProducerIds {
        /// The broker.
        broker: BrokerId,
        /// Its life.
        epoch: BrokerEpoch,
    },
    /// Every broker can do more.
    SetFeatureLevel {
        /// The level.
        level: u16,
    },
    /// A leader's logs have failed: others in sync shall lead, where there are any.
    ResignLeaders {
        /// The leader.
        broker: BrokerId,
        /// Its life.
        epoch: BrokerEpoch,
        /// The leaderships that it gives up.
        partitions: Vec<Resignation>,
    },
}

/// A leadership that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Resignation {
    /// The partition.
    pub log: LogId,
    /// The epoch in which the leader leads it: a later leadership is not meant.
    pub leader_epoch: LeaderEpoch,
}

/// A topic that shall be.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its id, drawn at random.
    pub id: TopicId,
    /// Settings that differ from the brokers', sorted by name, each once.
    pub overrides: Vec<Override>,
    /// The replicas of each partition, the preferred leader first.
    pub assignments: Vec<Vec<BrokerId>>,
}

/// Whose settings.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub enum ConfigOwner {
    /// Of every broker that has none of its own.
    AllBrokers,
    /// Of one broker.
    Broker(BrokerId),
    /// Of one topic.
    Topic(TopicId),
}

/// A setting that changes.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ConfigChange {
    /// Its name.
    pub name: String,
    /// Its value; `None` resets it.
    pub value: Option<String>,
}

/// A leader's proposal for one partition: a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AlterPartition {
    /// The partition.
    pub log: LogId,
    /// The leader epoch that it knows.
    pub leader_epoch: LeaderEpoch,
    /// The partition's version that it changes.
    pub partition_epoch: PartitionEpoch,
    /// The in-sync set that shall be.
    pub in_sync: Vec<InSyncMember>,
    /// Whether the log is whole again after an unclean election.
    pub recovery: LeaderRecovery,
}

/// A member of a proposed in-sync set, with the life in which it fetched (KIP-903).
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct InSyncMember {
    /// The broker.
    pub broker: BrokerId,
    /// Its life.
    pub epoch: BrokerEpoch,
}

/// Which leader is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ElectionKind {
    /// The first replica.
    Preferred,
    /// Any that serves, even if records are lost, where there is none.
    Unclean,
}

impl Command {
    /// The command as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = rkyv::to_bytes::<rancor::Error>(self).expect("memory is the only limit");
        encode(MAGIC, VERSION, &body)
    }

    /// The command that these bytes are.
    ///
    /// # Errors
    /// They are none, or damaged, or of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CommandError> {
        let body = match decode(MAGIC, VERSION, bytes) {
            Ok(body) => body,
            Err(PrefixError::Magic) => return Err(CommandError::Magic),
            Err(PrefixError::Version(version)) => return Err(CommandError::Version(version)),
        };
        rkyv::from_bytes::<Self, rancor::Error>(&body)
            .map_err(|error| CommandError::Damaged(error.to_string()))
    }
}
