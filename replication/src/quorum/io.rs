//! What goes into the machine and what comes out of it.

use bytes::Bytes;
use millrace_model::BrokerId;

use super::{Entry, HardState, Index, MembershipChange, Message, Snapshot, Term, Violation};

/// The proposer's own number for a proposal, by which it is told of its fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// A write, numbered in the order in which they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

impl WriteId {
    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A peer's message arrived.
    Message(Message),
    /// This write and all before it are durable. A write that fails is not answered: the
    /// node stops, for it no longer knows what it holds.
    Persisted(WriteId),
    /// The log shall have this command.
    Propose {
        /// The proposer's number for it.
        id: ProposalId,
        /// The command.
        command: Bytes,
    },
    /// The members shall be others.
    ChangeMembership {
        /// The proposer's number for it.
        id: ProposalId,
        /// The change.
        change: MembershipChange,
    },
    /// The network says that nobody is there where this broker was: its process has ended. A
    /// follower of it need not wait until it has been silent for long.
    Gone(BrokerId),
    /// Another voter shall lead, because this one is going away.
    TransferLeadership {
        /// Who.
        to: BrokerId,
    },
    /// The state machine as bytes, as it was when all up to `index` was applied.
    SnapshotTaken {
        /// The last applied entry that is in it.
        index: Index,
        /// The bytes.
        data: Bytes,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable, after all writes before it, then say [`Input::Persisted`].
    Persist(Write),
    /// Send this. It may get lost, come late, twice, or in another order.
    Send(Message),
    /// This entry is committed and durable here. Entries come in order, each once.
    Committed {
        /// The entry.
        entry: Entry,
        /// The proposal that it is, if it was made here.
        proposal: Option<ProposalId>,
    },
    /// A snapshot came instead of entries and is durable: replace the state machine.
    Restore(Snapshot),
    /// The log has grown: answer with [`Input::SnapshotTaken`] when convenient.
    SnapshotWanted {
        /// What is applied by now.
        index: Index,
    },
    /// This node leads from now on. What earlier leaders left is committed only when
    /// the first entry of this term is.
    BecameLeader {
        /// Its term.
        term: Term,
    },
    /// This node follows, or waits for a leader.
    BecameFollower {
        /// The latest term it knows.
        term: Term,
        /// The leader, if it is known.
        leader: Option<BrokerId>,
    },
    /// A proposal will not be done, or nobody here will learn whether it was.
    Refused {
        /// Which.
        id: ProposalId,
        /// Why.
        why: Refused,
    },
    /// A peer sent what no sound peer sends; it was ignored.
    Violated {
        /// The peer.
        from: BrokerId,
        /// What is wrong with it.
        violation: Violation,
    },
}

/// What must become durable together. A crash in the middle may leave the first parts: the
/// hard state, then the snapshot, then the entries in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its number.
    pub id: WriteId,
    /// Term and vote, if they changed.
    pub hard_state: Option<HardState>,
    /// A snapshot.
    pub snapshot: Option<SnapshotWrite>,
    /// Entries, in place of everything from the first one's index on.
    pub entries: Vec<Entry>,
}

/// A snapshot to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotWrite {
    /// It.
    pub snapshot: Snapshot,
    /// What becomes of the entries behind it.
    pub tail: LogTail,
}

/// What becomes of the log behind a snapshot's index; what is before it may always go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTail {
    /// It continues the snapshot.
    Keep,
    /// It belongs to another history: the log begins anew behind the snapshot.
    Discard,
}

/// Why a proposal is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This node does not lead.
    #[error("this node does not lead the metadata quorum{}", leader.map(|leader| format!("; broker {leader} does")).unwrap_or_default())]
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<BrokerId>,
    },
    /// Too much is under way; try again.
    #[error("too many metadata changes are under way; try again")]
    Busy,
    /// It is longer than a command may be.
    #[error("a metadata command of {len} bytes is over the limit")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Another leader put another entry in its place: it was not and will not be done.
    #[error("another leader took over before the change was committed; try again")]
    Superseded,
    /// A snapshot took the place of the entries among which it would be.
    #[error("another leader took over; whether the change was made is unknown")]
    Unknown,
    /// Members change one at a time.
    #[error("another change of the quorum's members is under way")]
    ChangeInProgress,
    /// The leader has not committed anything in its term yet.
    #[error("the leader is too new; try again")]
    NotReady,
    /// It is a member already.
    #[error("it is a member already")]
    AlreadyMember,
    /// It is no member of the kind that the change is about.
    #[error("it is no such member")]
    NotMember,
    /// A learner that lags would hold up the majority.
    #[error("the learner lags behind by {entries} entries")]
    NotCaughtUp {
        /// By how many entries.
        entries: u64,
    },
    /// The leader hears too few of those that would vote.
    #[error("of the {voters} voters that there would be, only {alive} are alive")]
    MajorityAway {
        /// How many it hears, itself among them.
        alive: usize,
        /// How many would vote.
        voters: usize,
    },
    /// Without it nobody would be left.
    #[error("the last voter cannot leave")]
    LastVoter,
    /// There are as many members as there may be.
    #[error("the quorum has as many members as it may have")]
    TooManyMembers,
}
