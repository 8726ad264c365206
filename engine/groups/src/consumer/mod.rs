//! The broker-driven protocol of consumer groups (KIP-848): one group as a machine.
//!
//! A group moves in three steps. Its *epoch* rises when members or what they subscribe to change. The
//! *target assignment* is computed for that epoch by an [`assignor`]. Then each member is led from what it
//! reads to its target by its own heartbeats: first it gives up, then it says that it has, then it is given
//! what others have given up. Nobody waits for anybody but for the very partitions that the other holds.
//!
//! **Invariant:** the durable state is a function of the group's records. Every change is written as
//! records first, and these change the state by the same [`ConsumerGroup::replay`] that reads the log.
//! **Invariant:** a request that fails changes nothing.
//! **Invariant:** no partition is given to a member while another may still read it: until that one has said
//! that it does not, or has been fenced.
//!
//! After a replay, and whenever topics change, the coordinator calls [`ConsumerGroup::started`] and
//! [`ConsumerGroup::topics_changed`]. A response may be given when the group's last records are durable.
//!
//! Absent here: the coordinator's tickets and writes, committed offsets, which group there is.

pub mod assignor;
mod classic;
mod describe;
mod group;
mod heartbeat;
mod limits;
mod member;
mod migration;
mod partitions;
mod protocol;
mod reconcile;
mod regex;
mod request;
mod subscription;
mod target;
mod timers;

use millrace_model::{ErrorCode, Timestamp};

pub use group::ConsumerGroup;
pub use limits::{
    MAX_GROUP_REGEXES, MAX_ID_LEN, MAX_REGEX_LEN, MAX_SUBSCRIBED_TOPICS, MAX_TOPIC_NAME_LEN,
};
pub use member::{Current, Member};
pub use migration::{ClassicMemberPlain, ClassicPlain};
pub use partitions::Partitions;
pub use protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolError, ConsumerProtocolSubscription,
};

use crate::{Failure, GroupRecord, GroupSettings, Response, TopicsImage};

/// The epoch with which a member joins.
pub const JOIN_EPOCH: i32 = 0;
/// The epoch with which a member leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The epoch with which a static member leaves for a while, and which it has until it is back.
pub const LEAVE_STATIC_EPOCH: i32 = -2;

/// What holds at the moment of a request.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The time.
    pub now: Timestamp,
    /// The topics.
    pub topics: &'a TopicsImage,
    /// The broker's settings.
    pub settings: &'a GroupSettings,
}

/// What came of a request: the answer, and the records that the group has already applied to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// To be given when the records are durable.
    pub response: Response,
    /// One batch; empty where nothing changed.
    pub records: Vec<GroupRecord>,
}

impl Moment<'_> {
    /// The time so many milliseconds later.
    fn after(&self, ms: i64) -> Timestamp {
        Timestamp(self.now.0.saturating_add(ms.max(0)))
    }
}

fn failure(code: ErrorCode, message: impl Into<String>) -> Failure {
    Failure {
        code,
        message: Some(message.into()),
    }
}
