//! Who of the brokers keeps the metadata: the judgement of the quorum's leader.
//!
//! The quorum ([`crate::quorum`]) changes its members one at a time and sees to it that no change costs
//! the majority. Which change is good is decided here, from the state and from what the leader
//! hears of the members: every broker learns; as many of them vote as are wanted; who is on the
//! way out votes no more.
//!
//! # Rules
//! 1. A broker that serves is a member; a learner that is struck off is none.
//! 2. A voter is *leaving* when its broker is being decommissioned (cordoned), or is not
//!    registered and has been silent for [`UNREGISTERED_MS`]. It is replaced, and then votes no more. Who
//!    cannot be replaced leaves all the same: that is what was asked for.
//! 3. A voter is *lost* when it is registered and has been silent for
//!    [`VoterSettings::replace_after_ms`]. It is replaced by a learner that stands by, and stays a voter
//!    where none does: to take its vote without another in its place gains nothing. It costs
//!    little to come back as a learner, so this need not wait as long as moving data would
//!    (CockroachDB waits 5 minutes before it does that, Redpanda 15).
//! 4. There are fewer voters than wanted: the best learner votes. As many are wanted as the
//!    target says, or the largest odd number that there are brokers for: a second voter beside one only
//!    makes one more broker whose loss stops the metadata.
//! 5. More voters than wanted are left alone: a person has made them so.
//! 6. A leader that is leaving gives up its lead first, to a voter that stays.
//!
//! A broker that was told not to vote is not chosen again while the same leader leads; for good it
//! is kept out by decommissioning it.
//!
//! **Invariant:** one step at a time, and none while a change of the members is under way.
//! **Invariant:** only who is registered, serves, is heard and has caught up becomes a voter.

use std::collections::BTreeSet;

use millrace_model::{BrokerId, ErrorCode, Timestamp};

use super::{Broker, BrokerState, Cluster, refuse};
use crate::metadata::Refusal;
use crate::quorum::{
    MAX_MEMBERS, MAX_PROMOTION_LAG, MembershipChange, PeerStatus, QuorumStatus, RoleName,
};

/// How long a voter that no broker is registered for may be silent. A cluster that is being started
/// has such voters: brokers that have not been started yet.
pub const UNREGISTERED_MS: u64 = 60_000;

/// A member that was heard of within this time is alive: a few of the leader's heartbeats.
pub const VOTER_ALIVE_MS: u64 = 1_000;

/// How many voters there shall be, and how patient their leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterSettings {
    /// Voters that the cluster makes by itself: odd, or 0 to leave the voters to people.
    pub target: usize,
    /// Silence after which a registered voter is replaced; 0 for never.
    pub replace_after_ms: u64,
}

impl Default for VoterSettings {
    fn default() -> Self {
        Self {
            // One of them may be lost. More cost every change a further disk.
            target: 3,
            replace_after_ms: 5 * 60 * 1_000,
        }
    }
}

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum VoterChange {
    /// A broker shall vote.
    Add(BrokerId),
    /// A broker shall vote no more.
    Remove(BrokerId),
}

/// What the leader shall do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterStep {
    /// Change the members.
    Change(MembershipChange),
    /// Let this voter lead.
    HandOver(BrokerId),
}

/// The judgement of a leader.
#[derive(Debug)]
pub struct Voters {
    settings: VoterSettings,
    /// Who was told not to vote.
    kept_out: BTreeSet<BrokerId>,
}

impl Voters {
    /// That of a node that has not led yet.
    #[must_use]
    pub fn new(settings: VoterSettings) -> Self {
        Self {
            settings,
            kept_out: BTreeSet::new(),
        }
    }

    /// A term begins.
    pub fn lead(&mut self) {
        self.kept_out.clear();
    }

    /// What to do next by the rules, if anything.
    #[must_use]
    pub fn next_step(
        &self,
        now: Timestamp,
        cluster: &Cluster,
        status: &QuorumStatus,
    ) -> Option<VoterStep> {
        if status.role != RoleName::Leader || !status.membership_is_settled {
            return None;
        }
        let view = View {
            now,
            cluster,
            status,
        };
        let step = view.learners();
        step.or_else(|| match self.settings.target {
            0 => None,
            _ => self.promotion(&view).or_else(|| self.removal(&view)),
        })
    }

    /// What a person asks for, as a step of the leader, or why it cannot be. A step that is not
    /// the change itself is to be done before the change is asked for again.
    ///
    /// # Errors
    /// Why not. What the quorum itself refuses (a change under way, a learner that lags, a majority that
    /// would be away) is not looked for here.
    pub fn judge(
        &mut self,
        now: Timestamp,
        cluster: &Cluster,
        status: &QuorumStatus,
        change: VoterChange,
    ) -> Result<VoterStep, Refusal> {
        let view = View {
            now,
            cluster,
            status,
        };
        let step = match change {
            VoterChange::Add(broker) => view.addition(broker).map(VoterStep::Change),
            VoterChange::Remove(broker) => view.removal_of(broker),
        }?;
        match (change, step) {
            (VoterChange::Add(broker), _) => {
                self.kept_out.remove(&broker);
            }
            (VoterChange::Remove(broker), VoterStep::Change(_)) => {
                self.kept_out.insert(broker);
            }
            (VoterChange::Remove(_), VoterStep::HandOver(_)) => {}
        }
        Ok(step)
    }

    /// Rule 4.
    fn promotion(&self, view: &View<'_>) -> Option<VoterStep> {
        let staying = self.staying(view);
        let racks: Vec<&str> = staying.iter().filter_map(|id| view.rack(*id)).collect();
        let shares_rack = |id: &BrokerId| view.rack(*id).is_some_and(|rack| racks.contains(&rack));
        let learners = view.status.membership.learners.iter().copied();
        let able = learners.filter(|id| view.can_vote(*id) && !self.kept_out.contains(id));
        let able: Vec<BrokerId> = able.collect();
        let wanted = odd(self.settings.target.min(staying.len() + able.len()));
        if staying.len() >= wanted {
            return None;
        }
        let best = able.iter().min_by_key(|id| (shares_rack(id), **id));
        best.map(|id| VoterStep::Change(MembershipChange::Promote(*id)))
    }

    /// Rules 2, 3 and 6.
    fn removal(&self, view: &View<'_>) -> Option<VoterStep> {
        let voters = || view.status.membership.voters.iter().copied();
        let me = view.leader();
        let leaving = voters().filter(|id| view.is_leaving(*id));
        // The leader last: whoever leads next would have to begin anew.
        if let Some(id) = leaving.min_by_key(|id| (Some(*id) == me, *id)) {
            return match Some(id) == me {
                true => view
                    .heir(|id| !self.goes(view, id))
                    .map(VoterStep::HandOver),
                false => Some(VoterStep::Change(view.off(id))),
            };
        }
        let is_replaced = self.staying(view).len() >= self.settings.target;
        let lost = voters().find(|id| self.is_lost(view, *id) && is_replaced);
        lost.map(|id| VoterStep::Change(view.off(id)))
    }

    fn staying(&self, view: &View<'_>) -> Vec<BrokerId> {
        let voters = view.status.membership.voters.iter().copied();
        voters.filter(|id| !self.goes(view, *id)).collect()
    }

    fn goes(&self, view: &View<'_>, voter: BrokerId) -> bool {
        view.is_leaving(voter) || self.is_lost(view, voter)
    }

    fn is_lost(&self, view: &View<'_>, voter: BrokerId) -> bool {
        let patience = self.settings.replace_after_ms;
        patience > 0 && view.cluster.broker(voter).is_some() && view.silence_ms(voter) >= patience
    }
}

/// The largest odd number up to `count`; of none, none.
fn odd(count: usize) -> usize {
    match count {
        0 => 0,
        _ => count - (count + 1) % 2,
    }
}

/// What the leader knows.
struct View<'a> {
    now: Timestamp,
    cluster: &'a Cluster,
    status: &'a QuorumStatus,
}

impl View<'_> {
    fn leader(&self) -> Option<BrokerId> {
        self.status.leader
    }

    fn peer(&self, id: BrokerId) -> Option<&PeerStatus> {
        self.status.peers.iter().find(|peer| peer.id == id)
    }

    fn rack(&self, id: BrokerId) -> Option<&str> {
        self.cluster.broker(id)?.rack.as_deref()
    }

    fn silence_ms(&self, id: BrokerId) -> u64 {
        if Some(id) == self.leader() {
            return 0;
        }
        let heard = self.peer(id).map_or(self.now, |peer| peer.heard);
        u64::try_from(self.now.0.saturating_sub(heard.0)).unwrap_or(0)
    }

    /// Rule 1.
    fn learners(&self) -> Option<VoterStep> {
        let membership = &self.status.membership;
        let struck_off = |id: &&BrokerId| self.cluster.broker(**id).is_none();
        if let Some(id) = membership.learners.iter().find(struck_off) {
            return Some(VoterStep::Change(MembershipChange::Remove(*id)));
        }
        if membership.members().count() >= MAX_MEMBERS {
            return None;
        }
        let is_missing = |broker: &&Broker| {
            broker.state == BrokerState::Active && !membership.contains(broker.id)
        };
        let missing = self.cluster.brokers().find(is_missing)?;
        let change = MembershipChange::AddLearner(missing.id);
        Some(VoterStep::Change(change))
    }

    fn can_vote(&self, id: BrokerId) -> bool {
        let serves = |broker: &Broker| broker.state == BrokerState::Active && !broker.cordoned;
        let lag = |peer: &PeerStatus| self.status.last.0.saturating_sub(peer.matched.0);
        self.cluster.broker(id).is_some_and(serves)
            && self.silence_ms(id) <= VOTER_ALIVE_MS
            && self.peer(id).is_some_and(|it| lag(it) <= MAX_PROMOTION_LAG)
    }

    fn is_leaving(&self, voter: BrokerId) -> bool {
        match self.cluster.broker(voter) {
            Some(broker) => broker.cordoned,
            None => self.silence_ms(voter) >= UNREGISTERED_MS,
        }
    }

    /// How a voter stops voting: who is of the cluster goes on learning.
    fn off(&self, voter: BrokerId) -> MembershipChange {
        match self.cluster.broker(voter) {
            Some(_) => MembershipChange::Demote(voter),
            None => MembershipChange::Remove(voter),
        }
    }

    /// Who leads after this node: of the other voters that are alive the one that has come furthest.
    fn heir(&self, may: impl Fn(BrokerId) -> bool) -> Option<BrokerId> {
        let voters = self.status.membership.voters.iter().copied();
        let others = voters.filter(|id| Some(*id) != self.leader() && may(*id));
        let alive = others.filter(|id| self.silence_ms(*id) <= VOTER_ALIVE_MS);
        alive.max_by_key(|id| self.peer(*id).map(|peer| peer.matched))
    }

    fn addition(&self, broker: BrokerId) -> Result<MembershipChange, Refusal> {
        let membership = &self.status.membership;
        let why = match self.cluster.broker(broker) {
            None => {
                return refuse(
                    ErrorCode::BrokerIdNotRegistered,
                    format!("broker {broker} is not registered"),
                );
            }
            _ if membership.voters.contains(&broker) => "votes already",
            Some(known) if known.cordoned => "is being decommissioned",
            Some(known) if known.state != BrokerState::Active => "does not serve",
            _ if !membership.learners.contains(&broker) => "does not learn yet; try again",
            _ if self.silence_ms(broker) > VOTER_ALIVE_MS => "is not heard by the quorum's leader",
            Some(_) => return Ok(MembershipChange::Promote(broker)),
        };
        refuse(
            ErrorCode::InvalidRequest,
            format!("broker {broker} cannot become a voter: it {why}"),
        )
    }

    fn removal_of(&self, broker: BrokerId) -> Result<VoterStep, Refusal> {
        let voters = &self.status.membership.voters;
        if !voters.contains(&broker) {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("broker {broker} is no voter"),
            );
        }
        if voters.len() == 1 {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("broker {broker} is the last voter: add another first"),
            );
        }
        if Some(broker) != self.leader() {
            return Ok(VoterStep::Change(self.off(broker)));
        }
        match self.heir(|_| true) {
            Some(heir) => Ok(VoterStep::HandOver(heir)),
            None => refuse(
                ErrorCode::InvalidRequest,
                format!("broker {broker} leads the quorum, and no other voter is alive"),
            ),
        }
    }
}
