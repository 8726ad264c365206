//! What a node can tell about itself, for `DescribeQuorum` and for people.

use millrace_model::{BrokerId, Timestamp};

use super::{Index, Membership, Quorum, Role, Term};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// It follows, or waits.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// A node's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStatus {
    /// What it is.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader it knows.
    pub leader: Option<BrokerId>,
    /// The members it knows.
    pub membership: Membership,
    /// What is committed, as far as it knows.
    pub commit: Index,
    /// What it has applied.
    pub applied: Index,
    /// The end of its log.
    pub last: Index,
    /// Of a leader: what it knows of the other members.
    pub peers: Vec<PeerStatus>,
}

/// What a leader knows of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub id: BrokerId,
    /// Up to here it has the leader's log on its disk.
    pub matched: Index,
    /// When it was last heard of.
    pub heard: Timestamp,
}

impl Quorum {
    /// The node's state.
    #[must_use]
    pub fn status(&self) -> QuorumStatus {
        let (role, peers) = match &self.role {
            Role::Follower(_) => (RoleName::Follower, Vec::new()),
            Role::PreCandidate(_) | Role::Candidate(_) => (RoleName::Candidate, Vec::new()),
            Role::Leader(leader) => {
                let peer = |(&id, peer): (&BrokerId, &super::peer::Peer)| PeerStatus {
                    id,
                    matched: peer.matched,
                    heard: peer.heard,
                };
                (RoleName::Leader, leader.peers.iter().map(peer).collect())
            }
        };
        QuorumStatus {
            role,
            term: self.hard.term,
            leader: self.leader(),
            membership: self.log.membership().clone(),
            commit: self.commit,
            applied: self.applied,
            last: self.log.last_index(),
            peers,
        }
    }
}
