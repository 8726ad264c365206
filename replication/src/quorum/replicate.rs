//! How the leader's log becomes everybody's: appends, answers, commit, apply.

use millrace_model::{BrokerId, Timestamp};

use super::election::later;
use super::limits::{MAX_MESSAGE_ENTRIES, MESSAGE_PAYLOAD};
use super::peer::{Mode, Peer};
use super::role::Leader;
use super::step::Violation;
use super::{
    Appended, Body, Effect, Entry, Index, Payload, ProposalId, Quorum, Refused, Role, Term,
};

impl Quorum {
    pub(super) fn append_as_leader(&mut self, payload: Payload, proposal: Option<ProposalId>) {
        let index = self.log.last_index().next();
        let term = self.hard.term;
        if let Some(id) = proposal {
            self.proposals.insert((index, term), id);
        }
        self.log.put(Entry {
            index,
            term,
            payload,
        });
    }

    /// Whether a leader has heard of this member within the time of an election.
    pub(super) fn hears(&self, now: Timestamp, leader: &Leader, member: BrokerId) -> bool {
        let recently = |peer: &Peer| later(peer.heard, self.settings.election_timeout_ms) >= now;
        member == self.id || leader.peers.get(&member).is_some_and(recently)
    }

    pub(super) fn leader_tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        if now >= leader.quorum_until {
            let membership = self.log.membership();
            let heard = |voter: &&BrokerId| self.hears(now, leader, **voter);
            if !membership.is_majority(membership.voters.iter().filter(heard).count()) {
                self.follow(now, None);
                return;
            }
        }
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if now >= leader.quorum_until {
            leader.quorum_until = later(now, self.settings.election_timeout_ms);
        }
        if now < leader.heartbeat_at {
            return;
        }
        leader.heartbeat_at = later(now, self.settings.heartbeat_interval_ms);
        for peer in leader.peers.values_mut() {
            peer.ask_again();
        }
        let streams =
            |(id, peer): (&BrokerId, &Peer)| matches!(peer.mode, Mode::Stream).then_some(*id);
        let streaming: Vec<BrokerId> = leader.peers.iter().filter_map(streams).collect();
        for to in streaming {
            self.send_append(to, 0, effects);
        }
    }

    /// Sends to each peer what it may be sent now.
    pub(super) fn send_appends(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        for to in leader.peers.keys().copied().collect::<Vec<_>>() {
            while self.send_next(to, effects) {}
        }
    }

    /// Sends one message if there is one to send. Each one moves the peer's state on, so this ends.
    fn send_next(&mut self, to: BrokerId, effects: &mut Vec<Effect>) -> bool {
        let Role::Leader(Leader { peers, .. }) = &self.role else {
            return false;
        };
        let peer = &peers[&to];
        match peer.mode {
            Mode::Probe { asked: false } => self.send_append(to, MAX_MESSAGE_ENTRIES, effects),
            Mode::Stream if peer.next <= self.log.last_index() && peer.window_is_open() => {
                self.send_append(to, MAX_MESSAGE_ENTRIES, effects)
            }
            Mode::Stream if peer.told < self.commit.min(peer.next.before()) => {
                self.send_append(to, 0, effects)
            }
            Mode::Snapshot { asked: false, .. } => self.send_snapshot_part(to, effects),
            _ => return false,
        }
        true
    }

    /// Sends the peer's next entries, or begins to send it a snapshot when they are gone.
    fn send_append(&mut self, to: BrokerId, most: usize, effects: &mut Vec<Effect>) {
        let Role::Leader(Leader { peers, .. }) = &mut self.role else {
            return;
        };
        let peer = peers
            .get_mut(&to)
            .expect("the caller took it from the peers");
        let previous = peer.next.before();
        let Some(previous_term) = self.log.term_at(previous) else {
            peer.mode = Mode::Snapshot {
                index: self.log.snapshot().meta.index,
                received: 0,
                asked: false,
            };
            return;
        };
        let entries = self.log.entries_from(peer.next, most, MESSAGE_PAYLOAD);
        let end = Index(previous.0 + entries.len() as u64);
        peer.told = peer.told.max(self.commit.min(end));
        match &mut peer.mode {
            Mode::Probe { asked } => *asked = true,
            _ => peer.next = end.next(),
        }
        let body = Body::Append {
            previous,
            previous_term,
            commit: self.commit,
            entries,
        };
        effects.push(Effect::Send(self.message(to, body)));
    }

    /// Entries of the present term's leader.
    pub(super) fn on_append(
        &mut self,
        now: Timestamp,
        from: BrokerId,
        previous: (Index, Term),
        commit: Index,
        entries: Vec<Entry>,
    ) -> Result<(), Violation> {
        self.hear_leader(now, from);
        let (previous, previous_term) = previous;
        let end = Index(previous.0 + entries.len() as u64);
        if previous > self.log.base() && self.log.term_at(previous) != Some(previous_term) {
            if previous <= self.commit {
                return Err(Violation::ConflictsWithCommitted(previous));
            }
            let (hint, hint_term) = self.log.agreement_hint(previous.before(), previous_term);
            let answer = Appended::Mismatch {
                previous,
                hint,
                hint_term,
            };
            self.promise(from, Body::AppendAnswer(answer));
            return Ok(());
        }
        for entry in entries {
            // What is at or before the base is in the snapshot, and so committed.
            if entry.index <= self.log.base() || self.log.term_at(entry.index) == Some(entry.term) {
                continue;
            }
            if entry.index <= self.commit {
                return Err(Violation::ConflictsWithCommitted(entry.index));
            }
            self.log.put(entry);
        }
        self.commit = self.commit.max(commit.min(end));
        self.promise(from, Body::AppendAnswer(Appended::Matched(end)));
        Ok(())
    }

    pub(super) fn on_append_answer(
        &mut self,
        now: Timestamp,
        from: BrokerId,
        answer: Appended,
    ) -> Result<(), Violation> {
        let Role::Leader(leader) = &mut self.role else {
            return Ok(());
        };
        let Some(peer) = leader.peers.get_mut(&from) else {
            return Ok(());
        };
        peer.heard = now;
        match answer {
            Appended::Matched(index) if index > self.log.last_index() => {
                return Err(Violation::BeyondLog(index));
            }
            Appended::Matched(index) => peer.confirm(index),
            Appended::Mismatch {
                previous,
                hint,
                hint_term,
            } => {
                let (agreed, _) = self.log.agreement_hint(hint, hint_term);
                // Below the base the leader cannot compare: the peer's word is as good.
                let agreed = if hint < self.log.base() { hint } else { agreed };
                let votes = self.log.membership().voters.contains(&from);
                match hint < peer.matched && !votes {
                    true => peer.begin_anew(agreed),
                    false => peer.refuse(previous, agreed),
                }
            }
        }
        Ok(())
    }

    /// Moves the leader's commit index to what a majority of the voters has on disk.
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let membership = self.log.membership();
        let mut durable: Vec<Index> = membership
            .voters
            .iter()
            .map(|voter| match *voter == self.id {
                true => self.log.durable(),
                false => leader
                    .peers
                    .get(voter)
                    .map_or(Index::ZERO, |peer| peer.matched),
            })
            .collect();
        durable.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&held) = durable.get(durable.len() / 2) else {
            return;
        };
        // An entry of an earlier term may still be replaced although a majority has it; one
        // of this term, once a majority has it, cannot, nor what is before it.
        let own = self.log.term_at(held) == Some(self.hard.term);
        if held > self.commit && own {
            self.commit = held;
        }
    }

    /// Hands out what is committed and durable here, in order.
    pub(super) fn apply(&mut self, effects: &mut Vec<Effect>) {
        if self.restoring.is_some() {
            return;
        }
        let until = self.commit.min(self.log.durable());
        while self.applied < until {
            self.applied = self.applied.next();
            let entry = self.log.entry(self.applied).expect("it is behind the base");
            let entry = entry.clone();
            let mut proposal = None;
            while let Some((&(index, term), &id)) = self.proposals.first_key_value()
                && index <= entry.index
            {
                self.proposals.pop_first();
                match (index, term) == (entry.index, entry.term) {
                    true => proposal = Some(id),
                    false => effects.push(Effect::Refused {
                        id,
                        why: Refused::Superseded,
                    }),
                }
            }
            effects.push(Effect::Committed { entry, proposal });
        }
        if self.applied.0 - self.snapshot_asked_at.0 >= self.settings.entries_per_snapshot {
            self.snapshot_asked_at = self.applied;
            effects.push(Effect::SnapshotWanted {
                index: self.applied,
            });
        }
    }

    /// A snapshot took the place of these entries: nobody here learns what became of them.
    pub(super) fn drop_proposals_to(&mut self, index: Index, effects: &mut Vec<Effect>) {
        while let Some((&(at, _), &id)) = self.proposals.first_key_value()
            && at <= index
        {
            self.proposals.pop_first();
            effects.push(Effect::Refused {
                id,
                why: Refused::Unknown,
            });
        }
    }
}
