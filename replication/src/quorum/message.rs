//! What the nodes say to each other.

use bytes::Bytes;
use millrace_model::BrokerId;

use super::{Entry, Index, SnapshotMeta, Term};

/// A message. It may get lost, come late, twice, or in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: BrokerId,
    /// The receiver.
    pub to: BrokerId,
    /// The sender's term. Of a pre-vote and its consent: the term that is asked for.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me? Binds nobody.
    PreVote {
        /// The sender's last entry.
        last_index: Index,
        /// That entry's term.
        last_term: Term,
    },
    /// The answer to it.
    PreVoteAnswer {
        /// Yes or no.
        granted: bool,
    },
    /// Vote for me.
    Vote {
        /// The sender's last entry.
        last_index: Index,
        /// That entry's term.
        last_term: Term,
        /// The leader itself has asked the sender to take over, so do not stand by it.
        transfer: bool,
    },
    /// The answer to it.
    VoteAnswer {
        /// Yes or no.
        granted: bool,
    },
    /// The leader's log continues so. Without entries: a heartbeat.
    Append {
        /// The entry before the first of these.
        previous: Index,
        /// That entry's term.
        previous_term: Term,
        /// What the leader knows to be committed.
        commit: Index,
        /// The entries behind it.
        entries: Vec<Entry>,
    },
    /// The answer to it and to a whole snapshot.
    AppendAnswer(Appended),
    /// A part of a snapshot, for a follower whose next entry the leader no longer has.
    SnapshotPart {
        /// Of which snapshot.
        meta: SnapshotMeta,
        /// Bytes of the whole.
        total: u64,
        /// Where this part begins.
        offset: u64,
        /// The part.
        data: Bytes,
    },
    /// The answer to it: how much has come so far.
    SnapshotAnswer {
        /// Of which snapshot.
        index: Index,
        /// Bytes from the start, without a gap.
        received: u64,
    },
    /// Take over from me, the leader: campaign at once.
    CampaignNow,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Everything up to here is durable and as the leader has it.
    Matched(Index),
    /// The entry before the sent ones is another here, or none.
    Mismatch {
        /// Which was asked for.
        previous: Index,
        /// Where the logs may agree instead.
        hint: Index,
        /// The term of the entry there.
        hint_term: Term,
    },
}
