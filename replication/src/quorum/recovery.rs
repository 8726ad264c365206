//! What a node finds on its disk.

use millrace_model::BrokerId;

use super::{Entry, HardState, Index, Membership, Payload, Snapshot, Term};

/// What the disk holds. The default is that of a node that waits to be made a learner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The latest whole snapshot.
    pub snapshot: Snapshot,
    /// Entries in order; those that are in the snapshot may be among them.
    pub entries: Vec<Entry>,
}

impl Recovered {
    /// What the first voters of a new cluster start from: a log whose first entry names them.
    /// It must be durable before the node starts, and the same on each of them. A node that
    /// comes later starts from nothing and gets that entry like any other.
    pub fn bootstrap(voters: impl IntoIterator<Item = BrokerId>) -> Self {
        let first = Entry {
            index: Index::ZERO.next(),
            term: Term::default(),
            payload: Payload::Membership(Membership::of_voters(voters)),
        };
        Self {
            entries: vec![first],
            ..Self::default()
        }
    }
}

/// What the disk holds contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// An entry is missing.
    #[error("the metadata log has entry {found} after {after}: what is between is lost")]
    Gap {
        /// The last one before it.
        after: Index,
        /// The one that was found.
        found: Index,
    },
    /// An entry has an earlier term than the one before it.
    #[error("entry {0} of the metadata log is of an earlier term than the one before it")]
    Order(Index),
    /// No log is that long.
    #[error("{0} is no place in a metadata log")]
    Index(Index),
    /// The log has entries of a term that the node has not seen.
    #[error(
        "the metadata log has entries of term {log}, but the node has seen only {state}: its vote is lost"
    )]
    Term {
        /// What the node has seen.
        state: Term,
        /// The last entry's term.
        log: Term,
    },
}
