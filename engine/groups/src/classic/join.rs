//! JoinGroup.

use millrace_model::ErrorCode;

use super::{ClassicGroup, Member, Preparing, State, Timer};
use crate::deadlines::after;
use crate::turn::Turn;
use crate::{Client, JoinGroup, JoinedGroup, JoinedMember, Response, Ticket};

impl ClassicGroup {
    /// Handles a join whose own fields have been checked.
    pub(crate) fn join(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        client: Client,
        request: JoinGroup,
    ) {
        let result = if !self.has_room_for(&request, turn.settings.max_size) {
            self.turn_away(turn, &request.member);
            Err(ErrorCode::GroupMaxSizeReached)
        } else if !self.can_agree(&request) {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else if request.member.is_empty() {
            self.join_anew(turn, ticket, client, &request);
            Ok(())
        } else if self.pending.contains(&request.member) {
            self.join_as_promised(turn, ticket, client, &request)
        } else {
            self.join_again(turn, ticket, client, &request)
        };
        if let Err(code) = result {
            turn.fail(ticket, code);
        }
    }

    /// Pending members count: who asks for ids and vanishes takes places, for a session at most.
    fn has_room_for(&self, request: &JoinGroup, max_size: u32) -> bool {
        let max_size = usize::try_from(max_size).unwrap_or(usize::MAX);
        let member = self.members.get(&request.member);
        if matches!(self.state, State::Preparing(_)) && self.members.len() > max_size {
            // The limit was lowered: the first to come again stay.
            return self.joining < max_size
                || member.is_some_and(|member| member.joining.is_some());
        }
        let replaces = |instance: &String| self.instances.contains_key(instance);
        member.is_some()
            || self.pending.contains(&request.member)
            || request.instance.as_ref().is_some_and(replaces)
            || self.members.len() + self.pending.len() < max_size
    }

    fn turn_away(&mut self, turn: &mut Turn<'_>, id: &str) {
        if self.members.contains_key(id) {
            self.remove_member(turn, id, ErrorCode::GroupMaxSizeReached);
            self.after_removal(turn);
        }
    }

    /// Whether the group and the member have a protocol in common.
    fn can_agree(&self, request: &JoinGroup) -> bool {
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|(name, _)| {
                self.supported.get(name).copied().unwrap_or(0) == self.members.len()
            })
    }

    fn join_anew(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        client: Client,
        request: &JoinGroup,
    ) {
        match &request.instance {
            Some(instance) => {
                let id = turn.ids.named(instance);
                match self.instances.get(instance).cloned() {
                    Some(old) => self.replace_static(turn, ticket, client, request, &old, id),
                    None => self.add(turn, ticket, client, request, id),
                }
            }
            None if request.needs_member_id => {
                let id = turn.ids.named(&client.id);
                self.pending.insert(id.clone());
                let due = after(turn.now, request.session_timeout_ms.into());
                self.deadlines.set(Timer::Session(id.clone()), due);
                turn.answer(ticket, Response::MemberIdRequired { member: id });
            }
            None => {
                let id = turn.ids.named(&client.id);
                self.add(turn, ticket, client, request, id);
            }
        }
    }

    /// A member comes with the id that it was told to come with.
    fn join_as_promised(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        client: Client,
        request: &JoinGroup,
    ) -> Result<(), ErrorCode> {
        if request.instance.is_some() {
            // Such an id was never given to a static member.
            return Err(ErrorCode::UnknownMemberId);
        }
        self.pending.remove(&request.member);
        self.deadlines
            .cancel(&Timer::Session(request.member.clone()));
        self.add(turn, ticket, client, request, request.member.clone());
        Ok(())
    }

    fn join_again(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        client: Client,
        request: &JoinGroup,
    ) -> Result<(), ErrorCode> {
        self.check_member(&request.member, request.instance.as_deref())?;
        let is_leader = self.leader.as_ref() == Some(&request.member);
        let same = self
            .members
            .get(&request.member)
            .is_some_and(|member| member.protocols == request.protocols);
        match self.state {
            State::Empty => return Err(ErrorCode::UnknownMemberId),
            // The answer to its join may have been lost.
            State::Completing if same => self.answer_current(turn, ticket, &request.member),
            // A leader that joins again asks for a rebalance: it has seen the topics change.
            State::Stable if same && !is_leader => {
                self.answer_current(turn, ticket, &request.member);
            }
            State::Preparing(_) | State::Completing | State::Stable => {
                self.update_member(&request.member, client, request);
                self.await_join(turn, &request.member, ticket);
                self.rebalance(turn);
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        client: Client,
        request: &JoinGroup,
        id: String,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        self.insert_member(id.clone(), Member::new(client, request));
        if let State::Preparing(Preparing::First { has_grown, .. }) = &mut self.state {
            *has_grown = true;
        }
        self.await_join(turn, &id, ticket);
        self.rebalance(turn);
    }

    /// The generation as it stands, to a member of it.
    pub(super) fn answer_current(&mut self, turn: &mut Turn<'_>, ticket: Ticket, id: &str) {
        self.touch(turn.now, id);
        if let Some(member) = self.members.get_mut(id) {
            member.hold.session_begins(turn.now);
        }
        turn.answer(ticket, Response::Joined(self.joined(id)));
    }

    pub(super) fn joined(&self, id: &str) -> JoinedGroup {
        let leader = self.leader.clone().unwrap_or_default();
        let members = match leader == id {
            true => self.joined_members(),
            false => Vec::new(),
        };
        JoinedGroup {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader,
            skip_assignment: false,
            member: id.to_owned(),
            members,
        }
    }

    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref();
        self.members
            .iter()
            .map(|(id, member)| JoinedMember {
                member: id.clone(),
                instance: member.instance.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    pub(super) fn insert_member(&mut self, id: String, member: Member) {
        for (protocol, _) in &member.protocols {
            *self.supported.entry(protocol.clone()).or_default() += 1;
        }
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id, member);
    }

    pub(super) fn update_member(&mut self, id: &str, client: Client, request: &JoinGroup) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let before = std::mem::replace(&mut member.protocols, request.protocols.clone());
        member.client = client;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        for (protocol, _) in &request.protocols {
            *self.supported.entry(protocol.clone()).or_default() += 1;
        }
        self.unsupport(&before);
    }

    pub(super) fn unsupport(&mut self, protocols: &[(String, bytes::Bytes)]) {
        for (protocol, _) in protocols {
            if let Some(count) = self.supported.get_mut(protocol) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(protocol);
                }
            }
        }
    }

    /// The member waits for the generation. Where it waited already, the request before was given up.
    pub(super) fn await_join(&mut self, turn: &mut Turn<'_>, id: &str, ticket: Ticket) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match member.joining.replace(ticket) {
            Some(before) => {
                self.waiting.remove(&before);
                turn.fail(before, ErrorCode::RebalanceInProgress);
            }
            None => self.joining += 1,
        }
        self.waiting.insert(ticket, id.to_owned());
        self.deadlines.cancel(&Timer::Session(id.to_owned()));
    }
}
