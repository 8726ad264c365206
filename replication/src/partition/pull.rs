//! What leader and follower of one partition say to each other on a replica stream.
//!
//! The bytes, and which partition a message is about, are the business of the native
//! protocol (`millrace-wire`).

use std::fmt;

use millrace_model::{BrokerEpoch, ErrorCode, LeaderEpoch, Offset};

/// One subscription of a follower. A later one is greater, also beyond a restart of the
/// follower, so that what belongs to an earlier one is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The uptime of the follower's broker.
    pub life: BrokerEpoch,
    /// Counts this replica's subscriptions in that uptime, from 1.
    pub number: u64,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.life, self.number)
    }
}

/// Where a follower's log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its end, all of it durable: where frames are to start, and what may count.
    pub end: Offset,
    /// Epoch of the record before `end`; `None` for an empty log.
    pub last_epoch: Option<LeaderEpoch>,
    /// Its start.
    pub log_start: Offset,
}

/// How urgent a follower's frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullClass {
    /// It keeps up: producers may be waiting for it.
    Live,
    /// It is far behind: its frames come after everybody else's work.
    CatchUp,
}

/// From a follower to its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerMessage {
    /// Asks for frames from a position on, if it agrees with the leader's log.
    Subscribe {
        /// The new session.
        session: SessionId,
        /// The leader epoch that the follower is in.
        epoch: LeaderEpoch,
        /// Where its log stands.
        position: Position,
    },
    /// More has become durable.
    Progress {
        /// The session.
        session: SessionId,
        /// The leader epoch.
        epoch: LeaderEpoch,
        /// Everything below is durable.
        end: Offset,
    },
    /// No more frames.
    Unsubscribe {
        /// The session that ends.
        session: SessionId,
    },
}

impl FollowerMessage {
    /// The session that it belongs to.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self {
            Self::Subscribe { session, .. }
            | Self::Progress { session, .. }
            | Self::Unsubscribe { session } => *session,
        }
    }
}

/// What a leader tells of its log with everything that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Everything below is committed.
    pub high_watermark: Offset,
    /// Start of the leader's log.
    pub log_start: Offset,
    /// End of what the leader has durably.
    pub end: Offset,
}

/// A run of frames as its receiver found them; the frames themselves stay with the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramesHeader {
    /// Offset of the first record.
    pub base: Offset,
    /// The offset after the last record.
    pub end: Offset,
    /// The epochs in the run, each with its first offset there, as the frames' own headers
    /// have them.
    pub epochs: Vec<millrace_model::EpochStart>,
    /// The leader's watermark when it sent them.
    pub watermark: Watermark,
}

/// From a leader to one of its followers, in answer to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderMessage {
    /// Frames, each after the one before.
    Frames(FramesHeader),
    /// How far the leader is, without frames.
    Watermark(Watermark),
    /// The follower's log does not agree.
    Diverging {
        /// The largest epoch in the leader's log that is not above the follower's last.
        epoch: LeaderEpoch,
        /// Where that epoch ends there.
        end: Offset,
    },
    /// The follower's log is nothing that the leader's could go on from: it ends below its
    /// start, or was written in epochs of which the leader has no record any more.
    OutOfRange {
        /// Where to start anew.
        log_start: Offset,
    },
    /// The session is refused or ended.
    Refused(ErrorCode),
}
