//! What the log is made of.

use std::fmt;

use bytes::Bytes;
use millrace_model::BrokerId;

use super::Membership;

/// A reign: at most one node leads in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A place in the log, counted from 1. 0 is the place before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Term {
    pub(super) fn next(self) -> Self {
        Self(
            self.0
                .checked_add(1)
                .expect("terms from peers are far below"),
        )
    }
}

impl Index {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// The place after this one.
    ///
    /// # Panics
    /// At the end of `u64`, which no log reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("no log is that long"))
    }

    pub(super) const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the first entry of a term, by which its leader commits what came before.
    Noop,
    /// A command for the state machine.
    Command(Bytes),
    /// From this entry on, these are the members.
    Membership(Membership),
}

impl Payload {
    /// Bytes that it takes in a message, about.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Command(command) => command.len() + 32,
            Self::Membership(membership) => 4 * membership.members().count() + 32,
            Self::Noop => 32,
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub index: Index,
    /// The term in which a leader made it.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

/// What a node must never forget beside its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term that it has seen.
    pub term: Term,
    /// Whom it has voted for in that term.
    pub vote: Option<BrokerId>,
}

/// Where a snapshot stands in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that is in it.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The members by then.
    pub membership: Membership,
}

/// The state machine as bytes, and where in the log that was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Where.
    pub meta: SnapshotMeta,
    /// The state machine. Empty at index 0.
    pub data: Bytes,
}
