//! From one generation to the next.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use millrace_model::ErrorCode;

use super::{ClassicGroup, Preparing, State, Timer};
use crate::Response;
use crate::deadlines::after;
use crate::turn::Turn;

/// A wait of no time at all would come to its end within the tick that began it.
const MIN_WAIT_MS: i32 = 1;
/// A wait for static members that are all away is begun again until their sessions end, which can be half
/// an hour: it must not be begun a thousand times a second.
const MIN_WAIT_FOR_ABSENT_MS: i64 = 1_000;

impl ClassicGroup {
    /// A member came, or came again with other wishes: begin a rebalance, or see whether the one under way
    /// is complete.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Preparing(_) => self.complete_if_all_joined(turn),
            State::Empty => self.begin_first(turn),
            State::Completing | State::Stable => self.begin_again(turn),
        }
    }

    /// A member is gone.
    pub(super) fn after_removal(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Empty => {}
            State::Preparing(_) => self.complete_if_all_joined(turn),
            State::Completing | State::Stable => self.begin_again(turn),
        }
    }

    /// The timer of the joins.
    pub(super) fn joins_are_over(&mut self, turn: &mut Turn<'_>) {
        match &mut self.state {
            State::Preparing(Preparing::First {
                remaining_ms,
                has_grown,
            }) if *has_grown && *remaining_ms > 0 => {
                let delay_ms =
                    i64::from(turn.settings.initial_rebalance_delay_ms).min(*remaining_ms);
                *remaining_ms -= delay_ms;
                *has_grown = false;
                self.deadlines.set(Timer::Joins, after(turn.now, delay_ms));
            }
            State::Preparing(_) => self.complete_joins(turn),
            State::Empty | State::Completing | State::Stable => {}
        }
    }

    /// The timer of the syncs: members that have not synced do not read, so their partitions must go to
    /// others.
    pub(super) fn syncs_are_over(&mut self, turn: &mut Turn<'_>) {
        let unsynced = std::mem::take(&mut self.unsynced);
        for id in &unsynced {
            self.remove_member(turn, id, ErrorCode::UnknownMemberId);
        }
        if !unsynced.is_empty() {
            self.after_removal(turn);
        }
    }

    pub(super) fn session_is_over(&mut self, turn: &mut Turn<'_>, id: &str) {
        if self.pending.remove(id) {
            self.complete_if_all_joined(turn);
        } else {
            self.remove_member(turn, id, ErrorCode::UnknownMemberId);
            self.after_removal(turn);
        }
    }

    /// Forgets a member and tells it why, where it waits.
    pub(super) fn remove_member(&mut self, turn: &mut Turn<'_>, id: &str, why: ErrorCode) {
        self.forget_timers(id);
        self.unsynced.remove(id);
        let Some(member) = self.members.remove(id) else {
            return;
        };
        self.unsupport(&member.protocols);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if member.joining.is_some() {
            self.joining -= 1;
        }
        for ticket in member.tickets() {
            self.waiting.remove(&ticket);
            turn.fail(ticket, why);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn begin_first(&mut self, turn: &mut Turn<'_>) {
        let delay_ms = i64::from(turn.settings.initial_rebalance_delay_ms);
        let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
        self.enter(
            State::Preparing(Preparing::First {
                remaining_ms,
                has_grown: false,
            }),
            turn.now,
        );
        match delay_ms {
            0 => self.complete_joins(turn),
            _ => self.deadlines.set(Timer::Joins, after(turn.now, delay_ms)),
        }
    }

    pub(super) fn begin_again(&mut self, turn: &mut Turn<'_>) {
        self.unsynced.clear();
        self.deadlines.cancel(&Timer::Syncs);
        match self.state {
            State::Completing => self.give_up_syncs(turn),
            _ => self.tell_waiting_heartbeats(turn),
        }
        self.enter(State::Preparing(Preparing::Again), turn.now);
        let due = after(turn.now, self.rebalance_timeout_ms());
        self.deadlines.set(Timer::Joins, due);
        self.complete_if_all_joined(turn);
    }

    /// A rebalance that was waiting for the last of the members, pending ones too, goes on.
    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::Preparing(Preparing::Again)
            && self.joining == self.members.len()
            && self.pending.is_empty()
        {
            self.complete_joins(turn);
        }
    }

    /// Ends the wait for joins: dynamic members that did not come are dropped. Static ones keep their
    /// places until their sessions end, or until they fail to sync in time.
    fn complete_joins(&mut self, turn: &mut Turn<'_>) {
        self.deadlines.cancel(&Timer::Joins);
        let absent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in &absent {
            self.remove_member(turn, id, ErrorCode::UnknownMemberId);
        }
        if self.members.is_empty() {
            self.become_empty(turn);
        } else if self.elect_leader() {
            self.begin_generation(turn);
        } else {
            // Only static members that are away: none of them could lead.
            self.enter(State::Preparing(Preparing::Again), turn.now);
            let wait_ms = self.rebalance_timeout_ms().max(MIN_WAIT_FOR_ABSENT_MS);
            self.deadlines.set(Timer::Joins, after(turn.now, wait_ms));
        }
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.enter(State::Empty, turn.now);
        self.protocol = None;
        self.leader = None;
        if self.generation == 0 && self.written.is_none() {
            // Nobody ever got as far as a generation: as if it had not been.
            self.protocol_type = None;
            return;
        }
        self.generation = next_generation(self.generation);
        self.write(turn);
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        self.generation = next_generation(self.generation);
        self.protocol = self.choose_protocol();
        self.enter(State::Completing, turn.now);
        self.joining = 0;
        self.unsynced = self.members.keys().cloned().collect();
        let due = after(turn.now, self.rebalance_timeout_ms());
        self.deadlines.set(Timer::Syncs, due);
        for id in self.unsynced.clone() {
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            if let Some(ticket) = member.joining.take() {
                self.waiting.remove(&ticket);
                self.answer_current(turn, ticket, &id);
            }
        }
    }

    /// The leader stays where it has joined; else the first of those who have.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if !self.leader.as_ref().is_some_and(has_joined) {
            self.leader = self.members.keys().find(|id| has_joined(id)).cloned();
        }
        self.leader.is_some()
    }

    /// Each member votes for the first of its protocols that all support; the one with most votes wins, of
    /// several the first by name.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let by_all = |name: &str| self.supported.get(name).copied() == Some(self.members.len());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|(name, _)| name.as_str());
            if let Some(vote) = names.find(|name| by_all(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let (winner, _) = votes
            .into_iter()
            .max_by_key(|(name, votes)| (*votes, Reverse(*name)))?;
        Some(winner.to_owned())
    }

    /// Everybody who waits for an assignment is sent back to join.
    fn give_up_syncs(&mut self, turn: &mut Turn<'_>) {
        let mut given_up = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.syncing.take() {
                self.waiting.remove(&ticket);
                turn.answer(ticket, Response::failed(ErrorCode::RebalanceInProgress));
                given_up.push(id.clone());
            }
        }
        for id in given_up {
            self.touch(turn.now, &id);
        }
    }

    /// The longest of the members', which has time to finish what it reads.
    fn rebalance_timeout_ms(&self) -> i64 {
        let longest = self.members.values().map(|m| m.rebalance_timeout_ms).max();
        longest.unwrap_or(0).max(MIN_WAIT_MS).into()
    }
}

fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}
