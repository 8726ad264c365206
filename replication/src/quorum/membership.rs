//! Who votes and who learns, and how that changes: one member at a time.

use std::collections::BTreeSet;

use bytes::Bytes;
use millrace_model::{BrokerId, Timestamp};

use super::limits::{MAX_MEMBERS, MAX_PROMOTION_LAG};
use super::role::{Leader, Role};
use super::{Effect, Payload, ProposalId, Quorum, Refused};

/// The members of the quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those whose majority commits.
    pub voters: BTreeSet<BrokerId>,
    /// Those who follow without a vote; none of them votes.
    pub learners: BTreeSet<BrokerId>,
}

/// A change of the members. Majorities before and after it overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A node begins to learn.
    AddLearner(BrokerId),
    /// A learner that has caught up votes from now on.
    Promote(BrokerId),
    /// A voter only learns from now on. A leader that is meant leads until that is committed.
    Demote(BrokerId),
    /// A voter or learner leaves. A leader that leaves leads until that is committed.
    Remove(BrokerId),
}

impl Membership {
    /// Members that all vote.
    pub fn of_voters(voters: impl IntoIterator<Item = BrokerId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            learners: BTreeSet::new(),
        }
    }

    /// Every member.
    pub fn members(&self) -> impl Iterator<Item = BrokerId> {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Whether it is a member of either kind.
    #[must_use]
    pub fn contains(&self, member: BrokerId) -> bool {
        self.voters.contains(&member) || self.learners.contains(&member)
    }

    /// Whether these are more than half of the voters.
    pub(super) fn is_majority(&self, count: usize) -> bool {
        count > self.voters.len() / 2
    }

    /// The members after a change.
    fn changed(&self, change: MembershipChange) -> Result<Self, Refused> {
        let mut changed = self.clone();
        match change {
            MembershipChange::AddLearner(node) => {
                if self.contains(node) {
                    return Err(Refused::AlreadyMember);
                }
                if self.voters.len() + self.learners.len() >= MAX_MEMBERS {
                    return Err(Refused::TooManyMembers);
                }
                changed.learners.insert(node);
            }
            MembershipChange::Promote(node) => {
                if !changed.learners.remove(&node) {
                    return Err(Refused::NotMember);
                }
                changed.voters.insert(node);
            }
            MembershipChange::Demote(node) => {
                if !changed.voters.remove(&node) {
                    return Err(Refused::NotMember);
                }
                if changed.voters.is_empty() {
                    return Err(Refused::LastVoter);
                }
                changed.learners.insert(node);
            }
            MembershipChange::Remove(node) => {
                if !changed.voters.remove(&node) && !changed.learners.remove(&node) {
                    return Err(Refused::NotMember);
                }
                if changed.voters.is_empty() {
                    return Err(Refused::LastVoter);
                }
            }
        }
        Ok(changed)
    }
}

impl Quorum {
    pub(super) fn change_membership(
        &mut self,
        now: Timestamp,
        id: ProposalId,
        change: MembershipChange,
        effects: &mut Vec<Effect>,
    ) {
        match self.check_change(now, change) {
            Ok(membership) => {
                self.append_as_leader(Payload::Membership(membership), Some(id));
                self.meet_members(now);
            }
            Err(why) => effects.push(Effect::Refused { id, why }),
        }
    }

    fn check_change(
        &self,
        now: Timestamp,
        change: MembershipChange,
    ) -> Result<Membership, Refused> {
        let Role::Leader(leader) = &self.role else {
            return Err(self.not_leader());
        };
        if self.log.membership_at() > self.commit {
            return Err(Refused::ChangeInProgress);
        }
        // Without this, two leaders in turn could each change the members of a different
        // uncommitted set, and the majorities of the two would not overlap.
        if self.commit < leader.term_start {
            return Err(Refused::NotReady);
        }
        if let MembershipChange::Promote(node) = change {
            let matched = leader.peers.get(&node).map_or(0, |peer| peer.matched.0);
            let entries = self.log.last_index().0 - matched;
            if self.log.membership().learners.contains(&node) && entries > MAX_PROMOTION_LAG {
                return Err(Refused::NotCaughtUp { entries });
            }
        }
        let changed = self.log.membership().changed(change)?;
        self.check_majority(now, leader, &changed)?;
        Ok(changed)
    }

    /// Refuses other voters of whom the leader does not hear a majority: it could commit nothing
    /// any more, not even this change.
    fn check_majority(
        &self,
        now: Timestamp,
        leader: &Leader,
        changed: &Membership,
    ) -> Result<(), Refused> {
        if changed.voters == self.log.membership().voters {
            return Ok(());
        }
        let heard = |voter: &&BrokerId| self.hears(now, leader, **voter);
        let alive = changed.voters.iter().filter(heard).count();
        match changed.is_majority(alive) {
            true => Ok(()),
            false => Err(Refused::MajorityAway {
                alive,
                voters: changed.voters.len(),
            }),
        }
    }

    pub(super) fn propose(&mut self, id: ProposalId, command: Bytes, effects: &mut Vec<Effect>) {
        let why = match &self.role {
            Role::Leader(_) if command.len() > super::MAX_COMMAND_LEN => {
                Refused::TooLong { len: command.len() }
            }
            Role::Leader(_)
                if self.log.last_index().0 - self.commit.0 >= super::MAX_UNCOMMITTED =>
            {
                Refused::Busy
            }
            Role::Leader(_) => {
                self.append_as_leader(Payload::Command(command), Some(id));
                return;
            }
            _ => self.not_leader(),
        };
        effects.push(Effect::Refused { id, why });
    }

    pub(super) fn not_leader(&self) -> Refused {
        Refused::NotLeader {
            leader: self.leader(),
        }
    }

    /// Whether this node is the only voter.
    pub(super) fn is_alone(&self) -> bool {
        self.is_voter(self.id) && self.log.membership().voters.len() == 1
    }

    pub(super) fn is_voter(&self, node: BrokerId) -> bool {
        self.log.membership().voters.contains(&node)
    }
}
