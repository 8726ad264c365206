//! What a coordinator answers.

use bytes::Bytes;
use millrace_model::{ErrorCode, TopicId};

use crate::{Client, CommittedOffset, OwnedPartitions};

/// Why a request failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For a person; protocols without room for it drop it.
    pub message: Option<String>,
}

/// The answer to a [`crate::Request`]. A failure of any of them is [`Response::Failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The request failed as a whole.
    Failed(Failure),
    /// `MEMBER_ID_REQUIRED`: come again with this id.
    MemberIdRequired {
        /// The new member's id.
        member: String,
    },
    /// It is done.
    Done,
    /// To a join, when the generation is complete.
    Joined(JoinedGroup),
    /// To a sync.
    Synced {
        /// The group's protocol type.
        protocol_type: Option<String>,
        /// The protocol that was chosen.
        protocol_name: Option<String>,
        /// The member's assignment.
        assignment: Bytes,
    },
    /// To a leave: the fate of each member, in the order of the request.
    Left(Vec<ErrorCode>),
    /// To a heartbeat of the broker-driven protocol.
    ConsumerHeartbeat {
        /// The member.
        member: String,
        /// Its epoch.
        member_epoch: i32,
        /// Milliseconds until it should come again.
        heartbeat_interval_ms: u32,
        /// What it shall read from now on; `None`: as before.
        assignment: Option<Vec<OwnedPartitions>>,
    },
    /// To a commit: the fate of each offset, in the order of the request.
    Committed(Vec<ErrorCode>),
    /// To a fetch of offsets: for each partition asked for (or all), what is committed if anything is,
    /// or why it cannot be told.
    Offsets(Vec<DescribedOffset>),
    /// To a deletion of offsets: the fate of each, in the order of the request.
    OffsetsDeleted(Vec<ErrorCode>),
    /// To a description.
    Described(DescribedGroup),
    /// To a list.
    Listed(Vec<ListedGroup>),
}

/// A generation of a classic group, as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedGroup {
    /// The generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The assignor that all members know.
    pub protocol_name: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// A static leader that came back need not assign again.
    pub skip_assignment: bool,
    /// The member that is answered.
    pub member: String,
    /// For the leader: every member.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// What is committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedOffset {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// `None`: nothing is committed.
    pub committed: Option<CommittedOffset>,
    /// Why it cannot be told, or [`ErrorCode::None`].
    pub error: ErrorCode,
}

/// Which protocol a group runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupType {
    /// Join and sync.
    Classic,
    /// KIP-848.
    Consumer,
}

impl GroupType {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// Where a group stands. The first four are states of classic groups, and `Empty`, `Stable`, `Dead` of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// No member.
    Empty,
    /// Members join.
    PreparingRebalance,
    /// The leader assigns.
    CompletingRebalance,
    /// Everybody reads.
    Stable,
    /// No such group.
    Dead,
    /// Broker-driven: the target is computed.
    Assigning,
    /// Broker-driven: members move to the target.
    Reconciling,
}

impl GroupState {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
        }
    }
}

/// A line of the list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group: String,
    /// For example `consumer`.
    pub protocol_type: String,
    /// Where it stands.
    pub state: GroupState,
    /// Which protocol it runs.
    pub group_type: GroupType,
}

/// A group as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// The group.
    pub group: String,
    /// Where it stands.
    pub state: GroupState,
    /// Which protocol it runs.
    pub group_type: GroupType,
    /// For example `consumer`; empty for a group that only has offsets.
    pub protocol_type: String,
    /// The assignor in use.
    pub protocol_name: String,
    /// Generation, or group epoch.
    pub epoch: i32,
    /// Broker-driven: the epoch of the target assignment.
    pub assignment_epoch: i32,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// `client.rack`.
    pub rack: Option<String>,
    /// Broker-driven: the member's epoch.
    pub member_epoch: i32,
    /// Who it is.
    pub client: Client,
    /// Classic: its metadata for the protocol in use.
    pub metadata: Bytes,
    /// Classic: its assignment.
    pub assignment: Bytes,
    /// Broker-driven: the names it subscribes to.
    pub subscribed_topics: Vec<String>,
    /// Broker-driven: its regular expression.
    pub subscribed_regex: Option<String>,
    /// Broker-driven: what it reads, and what it shall read.
    pub consumer: Option<ConsumerAssignment>,
    /// Whether it speaks the classic protocol within a group of the broker-driven one.
    pub is_classic: bool,
}

/// What a member of the broker-driven protocol reads and shall read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerAssignment {
    /// What it reads, with topics' names.
    pub current: Vec<(TopicId, String, Vec<u32>)>,
    /// What it shall read.
    pub target: Vec<(TopicId, String, Vec<u32>)>,
}
