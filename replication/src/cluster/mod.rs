//! The metadata of a cluster of brokers, as a replicated state machine.
//!
//! The quorum ([`crate::quorum`]) orders [`Command`]s; every broker applies each of them with
//! [`Cluster::apply`] and comes to the same state. What a command does, or why it is refused,
//! depends on nothing but the state and the command: no clock, no configuration of a broker,
//! no list of what this version happens to know. So a refusal is as deterministic as a
//! success, and whoever proposed the command learns the same answer that every copy computed.
//!
//! What is a matter of judgement stays outside and arrives as a command that states the
//! outcome: which brokers get a new topic's replicas ([`place`](Cluster::place)), whose lease has run out
//! ([`Leases`]), which leaders move back ([`Cluster::unbalanced_leaders`]), who votes ([`Voters`]), which settings
//! exist ([`Cluster::plan`]). `apply` checks only that the outcome is possible now. So a later version
//! may judge otherwise beside an earlier one. What `apply` itself does with a command is fixed by the
//! *feature level*: another meaning is another command, sent only when every broker knows it.
//!
//! # The rules of a partition
//! They are Kafka's, with the eligible leaders of KIP-966:
//! - The in-sync set and the leader change only here. A leader's proposal is a compare-and-set on
//!   leader epoch, partition epoch and the brokers' epochs (`alter.rs`).
//! - Leaders come from the in-sync set, in the order of the replicas; when it is empty, from the
//!   eligible ones; then the last known leader; then, only where the topic says so, from any
//!   replica (`elect.rs`).
//! - A replica that leaves the in-sync set while the set is below `min.insync.replicas` stays
//!   eligible, for it holds all that was acknowledged, until the set is large enough again, or it comes back
//!   from an unclean stop.
//!
//! **Invariant:** in-sync and eligible replicas are replicas, and none is both; the leader is in sync.
//! **Invariant:** partition epochs grow by one with every change of a partition; leader epochs grow
//! when the leader changes or a replica goes.
//! **Invariant:** a refused command changes nothing.
//! **Invariant:** no topic id, broker epoch or producer id is given out twice.
//!
//! A `Cluster` is cheap to clone: its parts are shared until they change. So each shard holds an
//! image of its own, and is told by [`Changed`] what is new in the next one.

mod alter;
mod answer;
mod balance;
mod broker;
mod command;
mod configs;
mod difference;
mod elect;
mod leases;
mod lifecycle;
mod partition;
mod peer;
mod place;
mod plan;
mod reassign;
mod snapshot;
mod topics;
mod voters;

pub use answer::{Answer, Applied, Changed, PartitionOutcome};
pub use balance::LeaderMove;
pub use broker::{Broker, BrokerState, Endpoint, FeatureRange, Registration};
pub use command::{
    AlterPartition, Command, ConfigChange, ConfigOwner, ElectionKind, InSyncMember, NewTopic,
    Resignation,
};
pub use leases::{Heartbeat, LeaseEffect, LeaseInput, LeaseSettings, Leases};
pub use partition::{ClusterTopic, LeaderRecovery, Partition, PartitionFault};
pub use peer::{
    Acquaintance, Ask, Introduction, MAX_ACQUAINTANCES, PeerAnswer, PeerCodecError, PeerRequest,
};
pub use plan::ClusterRequest;
pub use snapshot::ClusterSnapshotError;
pub use voters::{UNREGISTERED_MS, VOTER_ALIVE_MS, VoterChange, VoterSettings, VoterStep, Voters};

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_model::{BrokerId, ClusterId, ErrorCode, LogId, ProducerId, TopicId};

use crate::metadata::{Override, Refusal};
use crate::quorum::Index;

/// What this version of Millrace can do, as feature levels.
pub const FEATURE_LEVELS: FeatureRange = FeatureRange { least: 1, most: 1 };

/// Replicas of one partition: more would not make it safer.
pub const MAX_REPLICAS: usize = 32;

/// Where a broker can be reached: a listener for each kind of client and network.
pub const MAX_ENDPOINTS: usize = 16;

/// Bytes of a host name (DNS), a listener's name or a rack.
pub const MAX_NAME_LEN: usize = 255;

/// Settings of one topic or broker.
pub const MAX_OVERRIDES: usize = 256;

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    id: Option<ClusterId>,
    feature_level: u16,
    applied: Index,
    brokers: Arc<BTreeMap<BrokerId, Broker>>,
    topics: Arc<BTreeMap<TopicId, Arc<ClusterTopic>>>,
    names: Arc<BTreeMap<Arc<str>, TopicId>>,
    configs: Arc<BTreeMap<ConfigOwner, Vec<Override>>>,
    partitions: u32,
    next_producer_id: i64,
}

impl Cluster {
    /// Carries out the command that the log has at `index`.
    ///
    /// # Errors
    /// The command is refused, at every broker alike, and changes nothing.
    ///
    /// # Panics
    /// If `index` is not above that of the command before.
    pub fn apply(&mut self, index: Index, command: &Command) -> Result<Applied, Refusal> {
        assert!(index > self.applied, "commands are applied in order, once");
        self.applied = index;
        if self.id.is_none() && !matches!(command, Command::Found { .. }) {
            return refuse(ErrorCode::InvalidRequest, "the cluster is not founded");
        }
        match command {
            Command::Found { cluster, level } => self.found(*cluster, *level),
            Command::Adopt {
                broker,
                epoch,
                topics,
                next_producer_id,
            } => self.adopt(*broker, *epoch, topics, *next_producer_id),
            Command::Register(registration) => self.register(index, registration),
            Command::Unfence { broker, epoch } => self.unfence(*broker, *epoch),
            Command::Fence { broker, epoch } => self.fence(*broker, *epoch),
            Command::BeginShutdown { broker, epoch } => self.begin_shutdown(*broker, *epoch),
            Command::Cordon { broker, cordoned } => self.cordon(*broker, *cordoned),
            Command::Unregister { broker } => self.unregister(*broker),
            Command::CreateTopic(topic) => self.create_topic(topic),
            Command::DeleteTopic { id } => self.delete_topic(*id),
            Command::CreatePartitions {
                topic,
                present,
                assignments,
            } => self.create_partitions(*topic, *present, assignments),
            Command::AlterConfigs { owner, changes } => self.alter_configs(*owner, changes),
            Command::AlterPartitions {
                broker,
                epoch,
                partitions,
            } => self.alter_partitions(*broker, *epoch, partitions),
            Command::Reassign { partition, target } => self.reassign(*partition, target.as_deref()),
            Command::ElectLeaders { kind, partitions } => self.elect_leaders(*kind, partitions),
            Command::AllocateProducerIds { broker, epoch } => {
                self.allocate_producer_ids(*broker, *epoch)
            }
            Command::SetFeatureLevel { level } => self.set_feature_level(*level),
            Command::ResignLeaders {
                broker,
                epoch,
                partitions,
            } => self.resign_leaders(*broker, *epoch, partitions),
        }
    }

    /// Its identity, once it is founded.
    #[must_use]
    pub fn id(&self) -> Option<ClusterId> {
        self.id
    }

    /// What every broker can do and so may be used.
    #[must_use]
    pub fn feature_level(&self) -> u16 {
        self.feature_level
    }

    /// The last command that was applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The registered brokers.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Broker> {
        self.brokers.values()
    }

    /// A registered broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &ClusterTopic> {
        let topic = |id| &**self.topics.get(id).expect("a name leads to a topic");
        self.names.values().map(topic)
    }

    /// The topic of this id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&ClusterTopic> {
        self.topics.get(&id).map(|topic| &**topic)
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<&ClusterTopic> {
        self.names.get(name).and_then(|id| self.topic(*id))
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, log: LogId) -> Option<&Partition> {
        let partition = usize::try_from(log.partition.0).ok()?;
        let topic = self.topic(log.topic)?;
        topic
            .partitions
            .get(partition)
            .map(|partition| &**partition)
    }

    /// Partitions of all topics.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The first producer id that was never given out.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        ProducerId(self.next_producer_id)
    }

    /// The settings of brokers: one's own, or those of all.
    #[must_use]
    pub fn configs(&self, owner: ConfigOwner) -> &[Override] {
        match owner {
            ConfigOwner::Topic(id) => self.topic(id).map_or(&[], |topic| &topic.overrides),
            _ => self.configs.get(&owner).map_or(&[], Vec::as_slice),
        }
    }

    /// Whether a broker can take up leadership or join an in-sync set.
    #[must_use]
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id)
            .is_some_and(|broker| broker.state == BrokerState::Active)
    }

    /// `min.insync.replicas` of a topic.
    #[must_use]
    pub fn min_in_sync(&self, topic: &ClusterTopic) -> usize {
        let value = self.setting(topic, "min.insync.replicas");
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or(1)
            .max(1)
    }

    /// `unclean.leader.election.enable` of a topic.
    #[must_use]
    pub fn allows_unclean_leader(&self, topic: &ClusterTopic) -> bool {
        self.setting(topic, "unclean.leader.election.enable") == Some("true")
    }

    fn setting<'a>(&'a self, topic: &'a ClusterTopic, name: &str) -> Option<&'a str> {
        let defaults = self.configs(ConfigOwner::AllBrokers);
        let found = |overrides: &'a [Override]| {
            let mut entries = overrides.iter();
            let entry = entries.find(|entry| entry.name == name);
            entry.map(|entry| entry.value.as_str())
        };
        found(&topic.overrides).or_else(|| found(defaults))
    }
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}
