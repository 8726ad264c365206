//! What a node is in its term.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{BrokerId, Timestamp};

use super::Index;
use super::peer::Peer;

#[derive(Debug)]
pub(super) enum Role {
    Follower(Follower),
    /// Asks whether it would be elected.
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Leader),
}

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) leader: Option<BrokerId>,
}

#[derive(Debug, Default)]
pub(super) struct Candidate {
    pub(super) granted: BTreeSet<BrokerId>,
}

#[derive(Debug)]
pub(super) struct Leader {
    pub(super) peers: BTreeMap<BrokerId, Peer>,
    /// The first entry of this term.
    pub(super) term_start: Index,
    pub(super) heartbeat_at: Timestamp,
    /// It steps down if by then it has not heard from a majority.
    pub(super) quorum_until: Timestamp,
}

impl Role {
    pub(super) fn follower(leader: Option<BrokerId>) -> Self {
        Self::Follower(Follower { leader })
    }
}
