//! Heartbeats, and those whose answer waits for news.
//!
//! A member of the classic protocol learns of a rebalance with the answer to its next heartbeat, 3 s by default. So the
//! answer to a heartbeat of a stable group may wait: until the group begins to rebalance, until the member is
//! removed, until the client wants something else of its connection ([`crate::Input::Hurry`]), or until its time is over.
//! The shell says of which clients a heartbeat may wait ([`Heartbeat::can_wait`]).
//!
//! **Invariant:** outside of Stable no heartbeat waits, and of a member at most one.
//! **Invariant:** a heartbeat waits for no longer than its member's own clock allows: clients count their session from the
//! last answer, so the next leaves when [`SHARE_OF_SESSION`] of the session has passed since the request before it.
//!
//! Static members get their answers at once: they close without leaving, and would wait for the heartbeat before they do.

use millrace_model::{ErrorCode, Timestamp};

use super::{ClassicGroup, State, Timer};
use crate::deadlines::after;
use crate::turn::Turn;
use crate::{Heartbeat, Response, Ticket};

/// How much of a session may pass between a sign of life and the answer to the heartbeat after it. What is left is for the
/// ways there and back, and for a client that is slow to send its next.
const SHARE_OF_SESSION: (i64, i64) = (2, 3);

/// What a member's heartbeats wait for.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// The heartbeat that waits.
    pub(super) ticket: Option<Ticket>,
    /// The member's own clock of its session began here, or later. `None` where that is not known.
    since: Option<Timestamp>,
    /// Its connection ended while a heartbeat waited: it may not have the patience, and is answered at once from then on.
    has_hung_up: bool,
}

impl Hold {
    /// An answer that begins the member's session leaves now, or later.
    pub(super) const fn session_begins(&mut self, now: Timestamp) {
        self.since = Some(now);
    }
}

impl ClassicGroup {
    pub(crate) fn heartbeat(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &Heartbeat) {
        match self.try_heartbeat(turn, request) {
            Err(code) => turn.fail(ticket, code),
            Ok(()) => self.answer_heartbeat(turn, ticket, request),
        }
    }

    /// The client wants the answer now.
    pub(crate) fn hurry(&mut self, turn: &mut Turn<'_>, ticket: Ticket) {
        if let Some(id) = self.waiting.get(&ticket).cloned() {
            self.release(turn, &id, |member| *member == Some(ticket));
        }
    }

    /// A heartbeat has waited for as long as it may.
    pub(super) fn hold_is_over(&mut self, turn: &mut Turn<'_>, id: &str) {
        self.release(turn, id, |_| true);
    }

    /// The group begins to rebalance: the members whose heartbeats wait are told so.
    pub(super) fn tell_waiting_heartbeats(&mut self, turn: &mut Turn<'_>) {
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.hold.ticket.take() {
                self.waiting.remove(&ticket);
                self.deadlines.cancel(&Timer::Heartbeat(id.clone()));
                turn.fail(ticket, ErrorCode::RebalanceInProgress);
            }
        }
    }

    /// Nobody waits for the answer to a heartbeat any more, if this ticket is one's.
    pub(super) fn withdraw_heartbeat(&mut self, id: &str, ticket: Ticket) -> bool {
        let Some(member) = self.members.get_mut(id) else {
            return false;
        };
        if member.hold.ticket != Some(ticket) {
            return false;
        }
        member.hold.ticket = None;
        member.hold.has_hung_up = true;
        self.deadlines.cancel(&Timer::Heartbeat(id.to_owned()));
        true
    }

    fn try_heartbeat(&mut self, turn: &mut Turn<'_>, request: &Heartbeat) -> Result<(), ErrorCode> {
        self.check_member(&request.member, request.instance.as_deref())?;
        self.check_generation(request.generation)?;
        self.touch(turn.now, &request.member);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::Preparing(_) => Err(ErrorCode::RebalanceInProgress),
            // Members may begin to send heartbeats before they sync.
            State::Completing | State::Stable => Ok(()),
        }
    }

    fn answer_heartbeat(&mut self, turn: &mut Turn<'_>, ticket: Ticket, request: &Heartbeat) {
        let id = &request.member;
        self.release(turn, id, |_| true);
        let is_stable = self.state == State::Stable;
        let Some(member) = self.members.get_mut(id) else {
            return turn.fail(ticket, ErrorCode::UnknownMemberId);
        };
        let before = member.hold.since.replace(turn.now);
        let may_wait =
            is_stable && request.can_wait && member.instance.is_none() && !member.hold.has_hung_up;
        let until = before.filter(|_| may_wait).map(|before| {
            let (share, of) = SHARE_OF_SESSION;
            let by_session = i64::from(member.session_timeout_ms) * share / of;
            let by_setting = i64::from(turn.settings.heartbeat_hold_max_ms);
            after(before, by_session).min(after(turn.now, by_setting))
        });
        match until.filter(|until| *until > turn.now) {
            None => turn.answer(ticket, Response::Done),
            Some(until) => {
                member.hold.ticket = Some(ticket);
                self.waiting.insert(ticket, id.clone());
                self.deadlines.set(Timer::Heartbeat(id.clone()), until);
            }
        }
    }

    /// Answers the member's heartbeat that waits, where it is one that is meant.
    fn release(
        &mut self,
        turn: &mut Turn<'_>,
        id: &str,
        is_meant: impl FnOnce(&Option<Ticket>) -> bool,
    ) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if is_meant(&member.hold.ticket)
            && let Some(ticket) = member.hold.ticket.take()
        {
            self.waiting.remove(&ticket);
            self.deadlines.cancel(&Timer::Heartbeat(id.to_owned()));
            turn.answer(ticket, Response::Done);
        }
    }
}
