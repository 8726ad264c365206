//! What a replica asks of its shell.

use millrace_model::{BrokerId, Offset};

use super::{FollowerMessage, LeaderMessage, Proposal, PullClass, SessionId, Watermark};

/// What to do. Each states what it means by itself; the effects of one input are carried out
/// in order, before the next input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Everything below is committed, as far as this replica knows. A leader acknowledges it to
    /// `acks=all` and shows it to consumers. It never falls while a leader leads.
    HighWatermark(Offset),
    /// Leader: the in-sync set is too small. Produces with `acks=all` that wait are told
    /// `NOT_ENOUGH_REPLICAS_AFTER_APPEND`.
    FailWaiting,
    /// Leader: ask the metadata for this in-sync set, and hand back its answer with the id.
    Propose(Proposal),
    /// Leader: send this to the follower.
    Send {
        /// The follower.
        to: BrokerId,
        /// The session that it belongs to.
        session: SessionId,
        /// The message.
        message: LeaderMessage,
    },
    /// Leader: read frames from here on, send them, and say how far they went. One such is
    /// under way for a session at a time; the stream's flow control decides when it is done.
    /// It is dropped when the leadership ends first.
    SendFrames {
        /// The follower.
        to: BrokerId,
        /// The session that they belong to.
        session: SessionId,
        /// Where to start. No frame that reaches above the watermark's end is sent.
        from: Offset,
        /// To be sent along.
        watermark: Watermark,
        /// Where to read from, and after whom.
        class: PullClass,
    },
    /// Leader: ask the metadata for another leader, for this one's log does not keep what it
    /// promised. It does nothing more.
    Resign,
    /// This broker no longer leads: produces that wait are told `NOT_LEADER_OR_FOLLOWER`, no
    /// more are taken, no more frames are sent, and then the log's ends are told.
    LeadershipLost,
    /// Follower: send this to the leader.
    Pull {
        /// The leader.
        to: BrokerId,
        /// The message.
        message: FollowerMessage,
    },
    /// Follower: append the frames that came with this input, as they are, and then tell the
    /// log's ends.
    Append,
    /// Follower: take away what lies at or above this offset, durably, and tell where the log
    /// ends then.
    Truncate(Offset),
    /// Follower: empty the log, let it start at this offset, and tell when that is durable.
    Reset(Offset),
    /// Follower: the log may start here.
    SetLogStart(Offset),
    /// Follower: from now on its work is of this class.
    Class(PullClass),
}
