//! What clients ask of a coordinator, whichever protocol they speak.

use std::fmt;

use bytes::Bytes;
use millrace_model::{LeaderEpoch, Offset, TopicId};

/// Who asks, as descriptions of groups show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// `client.id`.
    pub id: String,
    /// The client's address, for example `/127.0.0.1`.
    pub host: String,
}

/// A request to the coordinator of the group it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Classic protocol: join. [`crate::Response::Joined`].
    Join(JoinGroup),
    /// Classic protocol: hand in or fetch the assignment. [`crate::Response::Synced`].
    Sync(SyncGroup),
    /// Classic protocol: still there. [`crate::Response::Done`].
    Heartbeat(Heartbeat),
    /// Members leave (either protocol, as administrators do too). [`crate::Response::Left`].
    Leave(LeaveGroup),
    /// Broker-driven protocol (KIP-848): join, stay, reconcile, leave.
    /// [`crate::Response::ConsumerHeartbeat`].
    ConsumerHeartbeat(ConsumerHeartbeat),
    /// Commit offsets. [`crate::Response::Committed`].
    Commit(CommitOffset),
    /// Read committed offsets. [`crate::Response::Offsets`].
    FetchOffsets(FetchOffsets),
    /// An administrator forgets offsets of topics that no member subscribes to.
    /// [`crate::Response::OffsetsDeleted`].
    DeleteOffsets {
        /// The group.
        group: String,
        /// Topic and partition.
        partitions: Vec<(String, u32)>,
    },
    /// An administrator removes an empty group. [`crate::Response::Done`].
    Delete {
        /// The group.
        group: String,
    },
    /// The group as it stands. [`crate::Response::Described`].
    Describe {
        /// The group.
        group: String,
        /// `Some`: only a group of this protocol is described, another is `GROUP_ID_NOT_FOUND`.
        only: Option<crate::GroupType>,
    },
    /// Every group of this coordinator. [`crate::Response::Listed`].
    List,
}

/// JoinGroup. Names as in Kafka's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group: String,
    /// Empty for a member that has no id yet.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// For example `consumer` or `connect`.
    pub protocol_type: String,
    /// Assignors in the order of the member's preference, with its metadata for each.
    pub protocols: Vec<(String, Bytes)>,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Whether a member without an id must be told one and come again (version 4 and later).
    pub needs_member_id: bool,
    /// Whether the answer can tell a static leader to skip the assignment (version 9 and later).
    pub can_skip_assignment: bool,
    /// Why it joins, for the log.
    pub reason: Option<String>,
}

/// SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group: String,
    /// The generation that the member joined.
    pub generation: i32,
    /// The member.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// What the member thinks (version 5 and later).
    pub protocol_type: Option<String>,
    /// What the member thinks (version 5 and later).
    pub protocol_name: Option<String>,
    /// By the leader: each member's assignment.
    pub assignments: Vec<(String, Bytes)>,
}

/// Heartbeat of the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group: String,
    /// The member's generation.
    pub generation: i32,
    /// The member.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Whether the answer may wait for news of the group: the client sends heartbeats beside all else that it does, and
    /// whoever gives the request tells by [`crate::Input::Hurry`] when it wants something else.
    pub can_wait: bool,
}

/// LeaveGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroup {
    /// The group.
    pub group: String,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// One of those who leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// The member, or empty where the instance names it.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Why, for the log.
    pub reason: Option<String>,
}

/// ConsumerGroupHeartbeat (KIP-848). `None` means: as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: String,
    /// The member; clients of version 0 leave it empty at first and are given one.
    pub member: String,
    /// 0 to join, -1 to leave, -2 to leave for a while (static), else the member's epoch.
    pub member_epoch: i32,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// `client.rack`.
    pub rack: Option<String>,
    /// Milliseconds, `max.poll.interval.ms`; -1: as before.
    pub rebalance_timeout_ms: i32,
    /// Names.
    pub subscribed_topics: Option<Vec<String>>,
    /// A regular expression (RE2 syntax). Empty: none any more.
    pub subscribed_regex: Option<String>,
    /// `group.remote.assignor`.
    pub assignor: Option<String>,
    /// What the member reads now.
    pub owned: Option<Vec<OwnedPartitions>>,
}

/// Partitions of a topic that a member owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedPartitions {
    /// The topic.
    pub topic: TopicId,
    /// Its partitions, each once.
    pub partitions: Vec<u32>,
}

/// OffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// The group.
    pub group: String,
    /// Generation or member epoch; -1 for a commit from outside of the group.
    pub generation_or_epoch: i32,
    /// The member, or empty.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Retention in milliseconds instead of the broker's (versions up to 4).
    pub retention_ms: Option<u64>,
    /// What is committed.
    pub offsets: Vec<AlterOffsets>,
}

/// A committed offset of one partition on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterOffsets {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// What it shall be.
    pub committed: CommittedOffset,
}

/// How far a group has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: SaidOffset,
    /// Leader epoch of the last record that was read.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The client's words.
    pub metadata: String,
}

/// An offset as a client says it. Kafka keeps whatever it says and hands it back: KafkaJS resets a group to
/// the end of a log with -1 and to its start with -2, and finds its own marks again when it resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaidOffset(pub i64);

impl SaidOffset {
    /// The offset, unless it is a mark.
    #[must_use]
    pub fn offset(self) -> Option<Offset> {
        u64::try_from(self.0).ok().map(Offset)
    }
}

impl From<Offset> for SaidOffset {
    /// Offsets have 63 bits; one above them is as far from any log as the greatest.
    fn from(offset: Offset) -> Self {
        Self(i64::try_from(offset.0).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for SaidOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// OffsetFetch for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOffsets {
    /// The group.
    pub group: String,
    /// The member, where the request names it (version 9).
    pub member: Option<String>,
    /// Its epoch, with `member`.
    pub member_epoch: i32,
    /// Topics and partitions; `None` for all.
    pub partitions: Option<Vec<(String, Vec<u32>)>>,
    /// `UNSTABLE_OFFSET_COMMIT` rather than an offset that a transaction may move.
    pub require_stable: bool,
}
