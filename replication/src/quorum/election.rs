//! Who leads: campaigns, votes, stepping down.

use millrace_model::{BrokerId, Timestamp};

use super::limits::NOBODY;
use super::peer::Peer;
use super::role::{Candidate, Leader};
use super::{Body, Effect, HardState, Index, Message, Payload, Quorum, Role, Term};
use crate::planted::{Planted, is_planted};

impl Quorum {
    /// The leader of the present term, as far as is known.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        match &self.role {
            Role::Leader(_) => Some(self.id),
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    pub(super) fn draw_deadline(&mut self, now: Timestamp) -> Timestamp {
        let least = self.settings.election_timeout_ms;
        later(now, least + self.random.u64(0..least.max(1)))
    }

    /// Time is up without a leader: asks whether anybody would vote for this node.
    pub(super) fn campaign(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.election_deadline = self.draw_deadline(now);
        if !self.may_campaign() {
            self.role = Role::follower(None);
            return;
        }
        let mut candidate = Candidate::default();
        candidate.granted.insert(self.id);
        self.role = Role::PreCandidate(candidate);
        let term = self.hard.term.next();
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        for to in self.other_voters() {
            let body = Body::PreVote {
                last_index,
                last_term,
            };
            let message = self.message(to, body);
            effects.push(Effect::Send(Message { term, ..message }));
        }
        self.count_votes(now);
    }

    /// Asks for votes in a new term. The node's own vote counts when it is durable, and the
    /// others are asked only then.
    pub(super) fn stand(&mut self, now: Timestamp, transfer: bool) {
        self.enter_term(self.hard.term.next());
        self.hard.vote = Some(self.id);
        self.role = Role::Candidate(Candidate::default());
        self.election_deadline = self.draw_deadline(now);
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        for to in self.other_voters() {
            let body = Body::Vote {
                last_index,
                last_term,
                transfer,
            };
            self.promise(to, body);
        }
    }

    /// All that was asked for is durable, so the candidate's vote for itself is.
    pub(super) fn count_own_vote(&mut self, now: Timestamp) {
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.granted.insert(self.id);
            self.count_votes(now);
        }
    }

    fn count_votes(&mut self, now: Timestamp) {
        let (Role::PreCandidate(candidate) | Role::Candidate(candidate)) = &self.role else {
            return;
        };
        let voters = &self.log.membership().voters;
        let granted = candidate.granted.intersection(voters).count();
        if !self.log.membership().is_majority(granted) {
            return;
        }
        match self.role {
            Role::PreCandidate(_) => self.stand(now, false),
            _ => self.lead(now),
        }
    }

    fn lead(&mut self, now: Timestamp) {
        let term_start = self.log.last_index().next();
        self.role = Role::Leader(Leader {
            peers: std::collections::BTreeMap::new(),
            term_start,
            heartbeat_at: later(now, self.settings.heartbeat_interval_ms),
            quorum_until: later(now, self.settings.election_timeout_ms),
        });
        self.meet_members(now);
        self.append_as_leader(Payload::Noop, None);
    }

    /// Begins to send to new members and forgets those who left.
    pub(super) fn meet_members(&mut self, now: Timestamp) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let membership = self.log.membership();
        leader.peers.retain(|&peer, _| membership.contains(peer));
        for member in membership.members().filter(|&member| member != self.id) {
            let next = self.log.last_index().next();
            leader
                .peers
                .entry(member)
                .or_insert_with(|| Peer::new(next, now));
        }
    }

    /// Takes a later term that a peer has.
    pub(super) fn follow_term(&mut self, now: Timestamp, term: Term, leader: Option<BrokerId>) {
        self.enter_term(term);
        self.follow(now, leader);
    }

    /// Follows in the present term.
    pub(super) fn follow(&mut self, now: Timestamp, leader: Option<BrokerId>) {
        self.role = Role::follower(leader);
        self.election_deadline = self.draw_deadline(now);
    }

    /// Hears the leader of the present term.
    pub(super) fn hear_leader(&mut self, now: Timestamp, leader: BrokerId) {
        self.follow(now, Some(leader));
        self.loyal_until = later(now, self.settings.election_timeout_ms);
    }

    /// The leader's process has ended, as the network says: neither stands this node by it any more,
    /// nor waits long before it asks for votes. The others learn of it within a moment of their own, and
    /// who asks before they have is ignored, so that a wrong report unseats nobody.
    pub(super) fn lose_leader(&mut self, now: Timestamp, broker: BrokerId) {
        let Role::Follower(follower) = &self.role else {
            return;
        };
        if follower.leader != Some(broker) {
            return;
        }
        self.role = Role::follower(None);
        self.loyal_until = now;
        let longest = self.settings.election_timeout_ms / 4;
        self.election_deadline = later(now, self.random.u64(0..=longest));
    }

    /// Whether this node leads or stands by a leader that it hears.
    pub(super) fn is_loyal(&self, now: Timestamp) -> bool {
        matches!(self.role, Role::Leader(_)) || now < self.loyal_until
    }

    pub(super) fn on_pre_vote(
        &mut self,
        now: Timestamp,
        message: &Message,
        last: (Term, Index),
        effects: &mut Vec<Effect>,
    ) {
        if self.is_loyal(now) {
            return;
        }
        let granted = message.term > self.hard.term && self.is_up_to_date(last);
        let answer = self.message(message.from, Body::PreVoteAnswer { granted });
        let term = if granted {
            message.term
        } else {
            self.hard.term
        };
        effects.push(Effect::Send(Message { term, ..answer }));
    }

    pub(super) fn on_pre_vote_answer(&mut self, now: Timestamp, message: &Message) {
        if message.term != self.hard.term.next() {
            return;
        }
        if let Role::PreCandidate(candidate) = &mut self.role {
            candidate.granted.insert(message.from);
            self.count_votes(now);
        }
    }

    /// A request for a vote in the present term.
    pub(super) fn on_vote(&mut self, now: Timestamp, from: BrokerId, last: (Term, Index)) {
        let free = self.hard.vote.is_none_or(|vote| vote == from);
        let leaderless = self.leader().is_none();
        let granted = free && leaderless && self.is_up_to_date(last);
        if granted && self.hard.vote.is_none() {
            self.hard = HardState {
                vote: Some(from),
                ..self.hard
            };
            self.writes.hard_changed = true;
            self.follow(now, None);
        }
        self.promise(from, Body::VoteAnswer { granted });
    }

    pub(super) fn on_vote_answer(&mut self, now: Timestamp, from: BrokerId, granted: bool) {
        if let Role::Candidate(candidate) = &mut self.role
            && granted
        {
            candidate.granted.insert(from);
            self.count_votes(now);
        }
    }

    pub(super) fn transfer(&mut self, to: BrokerId, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let has_all = |peer: &Peer| peer.matched == self.log.last_index();
        if self.is_voter(to) && leader.peers.get(&to).is_some_and(has_all) {
            effects.push(Effect::Send(self.message(to, Body::CampaignNow)));
        }
    }

    pub(super) fn on_campaign_now(&mut self, now: Timestamp, from: BrokerId) {
        if self.leader() == Some(from) && self.is_voter(self.id) {
            self.stand(now, true);
        }
    }

    /// A leader that is no voter any more leaves once that is committed.
    pub(super) fn leave_when_removed(&mut self, now: Timestamp) {
        let removed = !self.is_voter(self.id) && self.log.membership_at() <= self.commit;
        if removed && matches!(self.role, Role::Leader(_)) {
            self.follow(now, None);
        }
    }

    /// Says so when term, role or leader is another than was last said.
    pub(super) fn announce(&mut self, effects: &mut Vec<Effect>) {
        let (term, leader) = (self.hard.term, self.leader());
        if self.announced == (term, leader) {
            return;
        }
        self.announced = (term, leader);
        effects.push(match leader {
            Some(leader) if leader == self.id => Effect::BecameLeader { term },
            _ => Effect::BecameFollower { term, leader },
        });
    }

    /// Whether it may be needed as a leader. A voter whose removal is not known to be committed
    /// may be: with the longest log, it is perhaps the only one that the others can elect.
    fn may_campaign(&self) -> bool {
        let committed = self.log.membership_as_of(self.commit);
        self.is_voter(self.id) || committed.voters.contains(&self.id)
    }

    fn is_up_to_date(&self, last: (Term, Index)) -> bool {
        is_planted(Planted::VoteForShorterLog)
            || last >= (self.log.last_term(), self.log.last_index())
    }

    fn other_voters(&self) -> Vec<BrokerId> {
        let voters = self.log.membership().voters.iter().copied();
        voters
            .filter(|&voter| voter != self.id && voter != NOBODY)
            .collect()
    }
}

/// `now`, `ms` later.
pub(super) fn later(now: Timestamp, ms: u64) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
}
