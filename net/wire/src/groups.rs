//! Consumer groups in control messages: the broker-driven protocol of members (KIP-848), committed
//! offsets, and what administrators ask.
//!
//! They travel behind one variant of [`crate::Request`] and of [`crate::Response`], as relative pointers,
//! so that the layout of all other messages is what it was before there were groups.

use millrace_model::{LeaderEpoch, Offset, TopicId};
use rkyv::{Archive, Deserialize, Serialize};

/// A member's epoch that asks to join, or to join again after a fence.
pub const JOIN_EPOCH: i32 = 0;

/// A member's epoch that says goodbye.
pub const LEAVE_EPOCH: i32 = -1;

/// A member's epoch that says goodbye for a while: a static member whose partitions wait for it.
pub const LEAVE_FOR_A_WHILE_EPOCH: i32 = -2;

/// The epoch of a commit from outside of the group, which only a group without members takes.
pub const NO_EPOCH: i32 = -1;

/// Asks the coordinator of a group for something.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum GroupRequest {
    /// Joins, stays, confirms what is owned, leaves: [`GroupResponse::Heartbeat`].
    Heartbeat(GroupHeartbeat),
    /// Commits offsets: [`GroupResponse::Committed`].
    Commit(GroupCommit),
    /// What is committed: [`GroupResponse::Offsets`].
    FetchOffsets {
        /// The group.
        group: String,
        /// Which partitions; `None` for all that have a committed offset.
        partitions: Option<Vec<TopicPartitions>>,
    },
    /// All groups of the broker, if one message holds them: [`GroupResponse::Listed`].
    List,
    /// A group and its members: [`GroupResponse::Described`].
    Describe {
        /// The group.
        group: String,
    },
    /// Removes a group that has no members, with its offsets: [`GroupResponse::Done`].
    Delete {
        /// The group.
        group: String,
    },
    /// Forgets offsets of topics that no member subscribes to: [`GroupResponse::OffsetsDeleted`].
    DeleteOffsets {
        /// The group.
        group: String,
        /// Which partitions.
        partitions: Vec<TopicPartitions>,
    },
    /// Groups by id, as many as one message holds: [`GroupResponse::ListedPart`].
    ListAfter {
        /// Only those whose ids come after this; empty for the first.
        after: String,
    },
}

/// A heartbeat of a member. It says everything each time, so that no answer that is lost matters.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupHeartbeat {
    /// The group.
    pub group: String,
    /// The member: an id of its own making, different from every other.
    pub member: String,
    /// Its epoch, or [`JOIN_EPOCH`], [`LEAVE_EPOCH`], [`LEAVE_FOR_A_WHILE_EPOCH`].
    pub epoch: i32,
    /// The id of a static member, which is the same each time that it starts.
    pub instance: Option<String>,
    /// Where the member runs.
    pub rack: Option<String>,
    /// What the member calls itself.
    pub client_id: String,
    /// How long it may take to give partitions up, in milliseconds.
    pub rebalance_timeout_ms: u32,
    /// Names of topics that it subscribes to.
    pub topics: Vec<String>,
    /// A regular expression (RE2 syntax) of names that it subscribes to.
    pub pattern: Option<String>,
    /// An assignor of the broker; `None` for the broker's choice.
    pub assignor: Option<String>,
    /// What it reads at present.
    pub owned: Vec<OwnedPartitions>,
}

/// Partitions of a topic that a member reads.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct OwnedPartitions {
    /// The topic.
    pub topic: TopicId,
    /// Its partitions, each once.
    pub partitions: Vec<u32>,
}

/// Partitions of a topic by its name.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TopicPartitions {
    /// The topic.
    pub topic: String,
    /// Its partitions, each once.
    pub partitions: Vec<u32>,
}

/// A commit of offsets.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupCommit {
    /// The group.
    pub group: String,
    /// The member, or empty for a commit from outside.
    pub member: String,
    /// The member's epoch, or [`NO_EPOCH`].
    pub epoch: i32,
    /// The id of a static member.
    pub instance: Option<String>,
    /// What is committed.
    pub offsets: Vec<CommitOffset>,
}

/// An offset on its way in.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CommitOffset {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// How far the group has come.
    pub committed: CommittedOffset,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record that was read, where it is known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The client's words.
    pub metadata: String,
}

/// Answers a [`GroupRequest`]. A request that fails as a whole is answered
/// [`crate::Response::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum GroupResponse {
    /// To a heartbeat.
    Heartbeat(GroupAssignment),
    /// The fate of each offset in the order of the request: numbers of a
    /// [`millrace_model::ErrorCode`], 0 for success.
    Committed(Vec<i16>),
    /// What is committed.
    Offsets(Vec<GroupOffset>),
    /// All groups, by id.
    Listed(Vec<ListedGroup>),
    /// A group.
    Described(DescribedGroup),
    /// The request is done.
    Done,
    /// The fate of each partition in the order of the request: numbers of a
    /// [`millrace_model::ErrorCode`], 0 for success.
    OffsetsDeleted(Vec<i16>),
    /// A part of all groups.
    ListedPart {
        /// By id.
        groups: Vec<ListedGroup>,
        /// Whether no group comes after these.
        is_last: bool,
    },
}

/// What a member is told at a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupAssignment {
    /// Its epoch from now on.
    pub epoch: i32,
    /// Milliseconds until it should come again.
    pub heartbeat_interval_ms: u32,
    /// What it shall read from now on; `None` for what it was told before.
    pub partitions: Option<Vec<AssignedPartitions>>,
}

/// Partitions of a topic that a member shall read.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AssignedPartitions {
    /// The topic.
    pub id: TopicId,
    /// Its name.
    pub topic: String,
    /// Its partitions, each once.
    pub partitions: Vec<u32>,
}

/// What is committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// `None`: nothing is committed.
    pub committed: Option<CommittedOffset>,
    /// Why it cannot be told: number of a [`millrace_model::ErrorCode`], 0 for success.
    pub code: i16,
}

/// A line of the list of groups. Names of states and types are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ListedGroup {
    /// The group.
    pub group: String,
    /// `classic` or `consumer`.
    pub group_type: String,
    /// For example `consumer`; empty for a group that only has offsets.
    pub protocol_type: String,
    /// For example `Stable`.
    pub state: String,
}

/// A group as administrators see it. Names of states and types are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribedGroup {
    /// The group.
    pub group: String,
    /// `classic` or `consumer`.
    pub group_type: String,
    /// For example `consumer`; empty for a group that only has offsets.
    pub protocol_type: String,
    /// For example `Stable`.
    pub state: String,
    /// The assignor in use, or empty.
    pub assignor: String,
    /// Generation, or group epoch.
    pub epoch: i32,
    /// The epoch of the target assignment; `None` in a classic group.
    pub target_epoch: Option<i32>,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct DescribedMember {
    /// The member.
    pub member: String,
    /// The id of a static member.
    pub instance: Option<String>,
    /// Where it runs.
    pub rack: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Its address, for example `/127.0.0.1`.
    pub host: String,
    /// Its epoch; `None` in a classic group.
    pub epoch: Option<i32>,
    /// What it reads.
    pub current: Vec<TopicPartitions>,
    /// What it shall read; in a classic group the same.
    pub target: Vec<TopicPartitions>,
}
