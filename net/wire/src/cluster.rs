//! What administrators ask of a cluster of brokers.

use millrace_model::{BrokerEpoch, BrokerId, LogId, PartitionId};
use rkyv::{Archive, Deserialize, Serialize};

use crate::BrokerInfo;

/// Partitions that a description names as in trouble; of more, only the number is told.
pub const MAX_TROUBLED_PARTITIONS: usize = 100;

/// A question about the cluster, or a change of it.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum ClusterAsk {
    /// Its brokers, its quorum, and how its partitions are.
    Describe,
    /// A broker shall hold nothing any more, and get no new replicas; or may again.
    Cordon {
        /// Which.
        broker: BrokerId,
        /// Which of the two.
        cordoned: bool,
    },
    /// A broker that holds nothing and does not run leaves for good.
    Unregister {
        /// Which.
        broker: BrokerId,
    },
    /// A partition shall have these replicas, the preferred leader first; `None` takes back a
    /// change that is under way.
    Reassign {
        /// Which.
        log: LogId,
        /// Its replicas.
        replicas: Option<Vec<BrokerId>>,
    },
    /// The first replica of each partition shall lead, where it can.
    ElectPreferred {
        /// Which.
        logs: Vec<LogId>,
    },
    /// How the metadata quorum stands, by its leader.
    Voters,
    /// A broker that learns the metadata shall vote on it.
    AddVoter {
        /// Which.
        broker: BrokerId,
    },
    /// A broker shall vote on the metadata no more.
    RemoveVoter {
        /// Which.
        broker: BrokerId,
    },
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum ClusterTold {
    /// The change is made.
    Done,
    /// To [`ClusterAsk::Describe`].
    Described(ClusterDescription),
    /// To [`ClusterAsk::Voters`].
    Voters(QuorumStanding),
}

/// The metadata quorum, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct QuorumStanding {
    /// Who leads it.
    pub leader: BrokerId,
    /// The term of that.
    pub term: u64,
    /// The last record that is committed.
    pub committed: u64,
    /// The end of the leader's log.
    pub last: u64,
    /// Its members, voters first.
    pub members: Vec<MemberStanding>,
}

/// A member of the metadata quorum, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct MemberStanding {
    /// Which.
    pub broker: BrokerId,
    /// Whether it votes.
    pub votes: bool,
    /// The last record that it is known to have on disk.
    pub matched: u64,
    /// For how long it has been silent, in milliseconds.
    pub silent_ms: u64,
    /// Whether the leader counts it as alive.
    pub alive: bool,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ClusterDescription {
    /// Its identity.
    pub cluster_id: String,
    /// Who answers.
    pub broker: BrokerId,
    /// Who leads the metadata quorum, as far as this broker knows.
    pub controller: Option<BrokerId>,
    /// The term of that.
    pub term: u64,
    /// The last metadata record that this broker knows to be committed.
    pub committed: u64,
    /// The members of the quorum.
    pub quorum: Vec<QuorumMember>,
    /// The feature level at which the cluster works.
    pub feature_level: u16,
    /// The registered brokers.
    pub brokers: Vec<BrokerStanding>,
    /// How the partitions are.
    pub partitions: PartitionCounts,
    /// The first partitions that are not as they should be.
    pub troubled: Vec<TroubledPartition>,
}

/// A member of the metadata quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct QuorumMember {
    /// Its id.
    pub broker: BrokerId,
    /// Whether it votes.
    pub votes: bool,
    /// Records that it has not confirmed yet. Known to the leader only.
    pub lag: Option<u64>,
}

/// What a broker may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum BrokerMode {
    /// It leads nothing and is in no in-sync set: it is away, or starting.
    Fenced,
    /// It serves.
    Active,
    /// It is going away in good order.
    ShuttingDown,
}

/// A broker as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct BrokerStanding {
    /// Who and where it is.
    pub info: BrokerInfo,
    /// What it may do.
    pub mode: BrokerMode,
    /// Whether it is being emptied.
    pub cordoned: bool,
    /// Its present uptime.
    pub epoch: BrokerEpoch,
    /// Partitions that it leads.
    pub leaders: u32,
    /// Partitions that it holds.
    pub replicas: u32,
}

/// How many partitions are how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PartitionCounts {
    /// All.
    pub total: u32,
    /// Without a leader: nobody can write or read them.
    pub leaderless: u32,
    /// With fewer replicas in sync than `min.insync.replicas`: nobody can write with acks=all.
    pub under_min_in_sync: u32,
    /// With replicas that are not in sync.
    pub under_replicated: u32,
    /// Whose replicas are changing.
    pub reassigning: u32,
    /// Whose leader is not the preferred one.
    pub led_elsewhere: u32,
}

/// A partition that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TroubledPartition {
    /// Its topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// Who leads.
    pub leader: Option<BrokerId>,
    /// Every replica.
    pub replicas: Vec<BrokerId>,
    /// The in-sync set.
    pub in_sync: Vec<BrokerId>,
    /// What is the matter, the worst first.
    pub trouble: Trouble,
}

/// What is the matter with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Trouble {
    /// Nobody leads.
    Leaderless,
    /// Fewer in sync than `min.insync.replicas`.
    UnderMinInSync,
    /// Not all replicas are in sync.
    UnderReplicated,
}
