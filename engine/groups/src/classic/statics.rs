//! A static member that comes back: the same `group.instance.id` with a new member id (KIP-345).

use millrace_model::ErrorCode;

use super::{ClassicGroup, State};
use crate::turn::Turn;
use crate::{Client, JoinGroup, JoinedGroup, Response, Ticket};

impl ClassicGroup {
    /// The member `old` becomes `new`. Whoever still uses the old id is fenced. In a stable group whose
    /// assignment still holds there is no rebalance.
    pub(super) fn replace_static(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        client: Client,
        request: &JoinGroup,
        old: &str,
        new: String,
    ) {
        let protocol = self.protocol.clone();
        let wants_the_same = self.members.get(old).is_some_and(|member| {
            let mut protocols = request.protocols.iter();
            protocols
                .find(|(name, _)| Some(name) == protocol.as_ref())
                .is_some_and(|(name, metadata)| member.wants_the_same(Some(name), metadata))
        });
        let leader_before = self.leader.clone();
        self.rename(turn, old, &new);
        self.update_member(&new, client, request);
        if self.state == State::Stable
            && wants_the_same
            && self.choose_protocol() == protocol
            && self.can_be_written(turn)
        {
            self.write(turn);
            self.touch(turn.now, &new);
            let joined = self.joined_again(request, leader_before, new);
            turn.answer(ticket, Response::Joined(joined));
        } else {
            self.await_join(turn, &new, ticket);
            self.rebalance(turn);
        }
    }

    /// A leader that can be told to skip the assignment is told so; an older one is not told that it leads,
    /// so that it does not assign.
    fn joined_again(
        &self,
        request: &JoinGroup,
        leader_before: Option<String>,
        new: String,
    ) -> JoinedGroup {
        let joined = self.joined(&new);
        if request.can_skip_assignment {
            return JoinedGroup {
                skip_assignment: joined.leader == new,
                ..joined
            };
        }
        JoinedGroup {
            leader: leader_before.unwrap_or_default(),
            members: Vec::new(),
            ..joined
        }
    }

    fn rename(&mut self, turn: &mut Turn<'_>, old: &str, new: &str) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        self.forget_timers(old);
        if member.joining.is_some() {
            self.joining -= 1;
        }
        for ticket in member.tickets() {
            self.waiting.remove(&ticket);
            turn.fail(ticket, ErrorCode::FencedInstanceId);
        }
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), new.to_owned());
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(new.to_owned());
        }
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(new.to_owned());
        }
        member.forget_tickets();
        self.members.insert(new.to_owned(), member);
    }
}
