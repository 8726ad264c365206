//! SyncGroup.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_model::ErrorCode;

use super::{ClassicGroup, State, Timer};
use crate::turn::Turn;
use crate::{Response, SyncGroup, Ticket};

impl ClassicGroup {
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: SyncGroup) {
        if let Err(code) = self.try_sync(turn, ticket, request) {
            turn.fail(ticket, code);
        }
    }

    fn try_sync(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        request: SyncGroup,
    ) -> Result<(), ErrorCode> {
        self.check_member(&request.member, request.instance.as_deref())?;
        self.check_generation(request.generation)?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => return Err(ErrorCode::UnknownMemberId),
            State::Preparing(_) => return Err(ErrorCode::RebalanceInProgress),
            State::Completing => {
                let is_leader = self.leader.as_ref() == Some(&request.member);
                self.await_sync(turn, &request.member, ticket);
                if is_leader {
                    self.assign(turn, request.assignments);
                }
            }
            State::Stable => {
                self.touch(turn.now, &request.member);
                self.answer_sync(turn, ticket, &request.member);
            }
        }
        self.unsynced.remove(&request.member);
        if self.unsynced.is_empty() {
            self.deadlines.cancel(&Timer::Syncs);
        }
        Ok(())
    }

    pub(super) const fn check_generation(&self, generation: i32) -> Result<(), ErrorCode> {
        match generation == self.generation {
            true => Ok(()),
            false => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn await_sync(&mut self, turn: &mut Turn<'_>, id: &str, ticket: Ticket) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if let Some(before) = member.syncing.replace(ticket) {
            self.waiting.remove(&before);
            turn.fail(before, ErrorCode::RebalanceInProgress);
        }
        self.waiting.insert(ticket, id.to_owned());
        self.deadlines.cancel(&Timer::Session(id.to_owned()));
    }

    /// The leader has decided. Members that it left out have nothing to read.
    fn assign(&mut self, turn: &mut Turn<'_>, assignments: Vec<(String, Bytes)>) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        if !self.can_be_written(turn) {
            return self.refuse_assignment(turn);
        }
        self.enter(State::Stable, turn.now);
        self.write(turn);
        let waiting: Vec<(String, Ticket)> = self
            .members
            .iter_mut()
            .filter_map(|(id, member)| Some((id.clone(), member.syncing.take()?)))
            .collect();
        for (id, ticket) in waiting {
            self.waiting.remove(&ticket);
            self.touch(turn.now, &id);
            self.answer_sync(turn, ticket, &id);
        }
    }

    /// The group with these assignments is larger than what the log takes: as in Kafka nobody is assigned anything, all are
    /// told so, and may try again.
    fn refuse_assignment(&mut self, turn: &mut Turn<'_>) {
        let mut refused = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = Bytes::new();
            if let Some(ticket) = member.syncing.take() {
                self.waiting.remove(&ticket);
                turn.fail(ticket, ErrorCode::UnknownServerError);
                refused.push(id.clone());
            }
        }
        for id in refused {
            self.touch(turn.now, &id);
        }
        self.begin_again(turn);
    }

    fn answer_sync(&self, turn: &mut Turn<'_>, ticket: Ticket, id: &str) {
        let assignment = self.members.get(id).map(|member| member.assignment.clone());
        turn.answer(
            ticket,
            Response::Synced {
                protocol_type: self.protocol_type.clone(),
                protocol_name: self.protocol.clone(),
                assignment: assignment.unwrap_or_default(),
            },
        );
    }
}
