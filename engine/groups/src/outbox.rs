//! Who waits for an answer, and for which write each answer waits.
//!
//! **Invariant:** a ticket is answered once, or withdrawn.
//! **Invariant:** an answer of a group goes out after all writes of that group before it are durable.

use std::collections::{BTreeMap, VecDeque};

use millrace_model::ErrorCode;

use crate::planted::{Planted, is_planted};
use crate::{Effect, Record, Response, Ticket, WriteId};

/// Tombstones of one write. A group may have more offsets than fit in one batch of the log; removing
/// them in several steps is as good.
const MAX_TOMBSTONES_PER_WRITE: usize = 1_000;

struct InFlight {
    write: WriteId,
    group: String,
    answers: Vec<(Ticket, Response)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Tickets that have no answer yet, with the group they ask.
    open: BTreeMap<Ticket, String>,
    next_write: u64,
    in_flight: VecDeque<InFlight>,
    /// The newest write in flight of each group that has one.
    newest: BTreeMap<String, WriteId>,
}

impl Outbox {
    /// A request came in.
    ///
    /// # Panics
    /// If its ticket is in use: the shell's numbers are broken.
    pub(crate) fn open(&mut self, ticket: Ticket, group: &str) {
        let before = self.open.insert(ticket, group.to_owned());
        assert!(before.is_none(), "a ticket names one request");
    }

    /// Nobody waits any more. Gives the group that was asked.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> Option<String> {
        self.open.remove(&ticket)
    }

    /// The group that was asked, where there is no answer yet.
    pub(crate) fn asked(&self, ticket: Ticket) -> Option<String> {
        self.open.get(&ticket).cloned()
    }

    /// Asks for an append.
    pub(crate) fn append(&mut self, group: &str, records: Vec<Record>, effects: &mut Vec<Effect>) {
        if records.iter().any(|record| record.value.is_some()) {
            self.append_one(group, records, effects);
            return;
        }
        let mut rest = records.into_iter().peekable();
        while rest.peek().is_some() {
            let chunk = rest.by_ref().take(MAX_TOMBSTONES_PER_WRITE).collect();
            self.append_one(group, chunk, effects);
        }
    }

    /// Answers when the group's writes are durable.
    pub(crate) fn answer(
        &mut self,
        group: &str,
        ticket: Ticket,
        response: Response,
        effects: &mut Vec<Effect>,
    ) {
        match self.newest.get(group).copied() {
            Some(write) if !is_planted(Planted::AnswerBeforeWritten) => {
                self.answer_after(write, ticket, response)
            }
            _ => self.respond(ticket, response, effects),
        }
    }

    /// Answers when all writes are durable.
    pub(crate) fn answer_after_all(
        &mut self,
        ticket: Ticket,
        response: Response,
        effects: &mut Vec<Effect>,
    ) {
        match self.in_flight.back().map(|last| last.write) {
            Some(write) => self.answer_after(write, ticket, response),
            None => self.respond(ticket, response, effects),
        }
    }

    /// This write and all before it are durable.
    pub(crate) fn written(&mut self, write: WriteId, effects: &mut Vec<Effect>) {
        while self
            .in_flight
            .front()
            .is_some_and(|first| first.write <= write)
        {
            let Some(done) = self.in_flight.pop_front() else {
                return;
            };
            if self.newest.get(&done.group) == Some(&done.write) {
                self.newest.remove(&done.group);
            }
            for (ticket, response) in done.answers {
                self.respond(ticket, response, effects);
            }
        }
    }

    /// Everybody who waits is told the same.
    pub(crate) fn fail_all(&mut self, code: ErrorCode, effects: &mut Vec<Effect>) {
        self.in_flight.clear();
        self.newest.clear();
        for ticket in std::mem::take(&mut self.open).into_keys() {
            effects.push(Effect::Respond {
                ticket,
                response: Response::failed(code),
            });
        }
    }

    fn append_one(&mut self, group: &str, records: Vec<Record>, effects: &mut Vec<Effect>) {
        let write = WriteId(self.next_write);
        self.next_write += 1;
        self.newest.insert(group.to_owned(), write);
        self.in_flight.push_back(InFlight {
            write,
            group: group.to_owned(),
            answers: Vec::new(),
        });
        effects.push(Effect::Append { write, records });
    }

    fn answer_after(&mut self, write: WriteId, ticket: Ticket, response: Response) {
        let first = self.in_flight.front().map_or(write, |first| first.write);
        let at = usize::try_from(write.0 - first.0).expect("writes in flight fit in memory");
        self.in_flight[at].answers.push((ticket, response));
    }

    /// Silent where the ticket was withdrawn.
    fn respond(&mut self, ticket: Ticket, response: Response, effects: &mut Vec<Effect>) {
        if self.open.remove(&ticket).is_some() {
            effects.push(Effect::Respond { ticket, response });
        }
    }
}
