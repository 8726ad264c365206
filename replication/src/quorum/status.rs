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
    /// Whether that is committed, as far as it knows: while it is not, it cannot be changed.
    pub membership_is_settled: bool,
    /// What is committed, as far as it knows.
    pub commit: Index,
    /// What it has applied.
    pub applied: Index,
    /// The end of its log.
    pub last: Index,
    /// Of a leader: what it knows of the other members.
    pub peers: Vec<PeerStatus>,
}

/// How the quorum stands, as its leader sees it. Times are ages, so that they mean the same elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct QuorumReport {
    /// Who leads, and tells this.
    pub leader: BrokerId,
    /// Its term.
    pub term: u64,
    /// What is committed.
    pub commit: u64,
    /// The voters, then the learners.
    pub members: Vec<MemberReport>,
}

/// How one member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct MemberReport {
    /// Which.
    pub id: BrokerId,
    /// Whether it is a voter, or a learner.
    pub votes: bool,
    /// Up to here it has the leader's log on its disk.
    pub matched: u64,
    /// Whether that is all there is.
    pub is_caught_up: bool,
    /// Since when it has not been heard of, in milliseconds.
    pub silent_ms: u64,
}

impl QuorumStatus {
    /// What `node`, whose state this is, reports at `now` when it leads.
    #[must_use]
    pub fn report(&self, node: BrokerId, now: Timestamp) -> Option<QuorumReport> {
        if self.role != RoleName::Leader {
            return None;
        }
        let member = |id: BrokerId, votes| {
            let peer = self.peers.iter().find(|peer| peer.id == id);
            let (matched, silent) = match peer {
                Some(peer) => (peer.matched, now.0.saturating_sub(peer.heard.0)),
                None if id == node => (self.last, 0),
                None => (Index::ZERO, i64::MAX),
            };
            MemberReport {
                id,
                votes,
                matched: matched.0,
                is_caught_up: matched >= self.last,
                silent_ms: u64::try_from(silent).unwrap_or(0),
            }
        };
        let voters = self.membership.voters.iter().map(|id| member(*id, true));
        let learners = self.membership.learners.iter().map(|id| member(*id, false));
        Some(QuorumReport {
            leader: node,
            term: self.term.0,
            commit: self.commit.0,
            members: voters.chain(learners).collect(),
        })
    }
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
            membership_is_settled: self.log.membership_at() <= self.commit,
            commit: self.commit,
            applied: self.applied,
            last: self.log.last_index(),
            peers,
        }
    }
}
