//! The shell of one coordinator: it feeds the machine of `millrace-groups` and carries out what
//! the machine says.
//!
//! Everything happens on the shard that owns the log. Inputs are handled one at a time, and
//! the effects of each are carried out, in order, before the next. What became of writes comes
//! before what waits; while a checkpoint is appended, nothing but that is handled.
//!
//! **Invariant:** every ticket is answered once or withdrawn once: by the machine, by the
//! asker's end, or, when the machine is thrown away, by the shell.
//! **Invariant:** a machine one of whose writes failed handles nothing more. Its successor is made
//! from what is durable ([`super::load`]).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use millrace_groups::{
    Client, Coordinator, Effect, Failure, Input, Request, Response, Ticket, TopicsImage,
};
use millrace_model::{ErrorCode, LeaderEpoch, LogId};

use super::alarm::{Alarm, Rang};
use super::answer::{Answer, Awaited, answer};
use super::checkpoint::Checkpoints;
use super::journal::{Fate, Journal, Purpose};
use crate::lane::{Outcome, Place, Settle};
use crate::metrics::Counter;
use crate::shard::Shard;

/// See the module's documentation.
pub(crate) struct GroupCoordinator {
    log: LogId,
    /// The leader epoch in which it was loaded: in another one somebody else may have written.
    epoch: LeaderEpoch,
    shard: Weak<Shard>,
    machine: RefCell<Coordinator>,
    inputs: RefCell<VecDeque<Input>>,
    /// An input is being handled; what comes meanwhile waits.
    is_busy: Cell<bool>,
    has_ended: Cell<bool>,
    waiting: RefCell<HashMap<Ticket, Answer>>,
    next_ticket: Cell<u64>,
    journal: Journal,
    /// Is told what becomes of appends.
    teller: Rc<dyn Settle>,
    checkpoints: Checkpoints,
    alarm: Alarm,
}

/// Brings the coordinator what became of its appends, as long as there is one.
struct Teller(Weak<GroupCoordinator>);

impl Settle for Teller {
    fn settle(&self, place: Place, outcome: Outcome) {
        let Some(coordinator) = self.0.upgrade() else {
            return;
        };
        let result = match ErrorCode::from_i16(outcome.ack.code) {
            ErrorCode::None => Ok(()),
            code => Err(code),
        };
        coordinator.journal.settle(place.0, result);
        coordinator.run();
    }
}

impl GroupCoordinator {
    /// The coordinator of a machine that has been loaded from the log of `journal`, with what it
    /// wants to be done first.
    pub(super) fn start(
        shard: &Rc<Shard>,
        machine: Coordinator,
        effects: Vec<Effect>,
        journal: Journal,
        checkpoints: Checkpoints,
    ) -> Rc<Self> {
        let coordinator = Rc::new_cyclic(|weak: &Weak<Self>| Self {
            log: journal.partition().id(),
            epoch: journal.partition().leader_epoch(),
            shard: Rc::downgrade(shard),
            machine: RefCell::new(machine),
            inputs: RefCell::default(),
            is_busy: Cell::new(true),
            has_ended: Cell::new(false),
            waiting: RefCell::default(),
            next_ticket: Cell::new(0),
            journal,
            teller: Rc::new(Teller(weak.clone())),
            checkpoints,
            alarm: Alarm::default(),
        });
        coordinator.carry_out(shard, effects);
        coordinator.is_busy.set(false);
        coordinator.run();
        coordinator
    }

    pub(super) fn log(&self) -> LogId {
        self.log
    }

    /// The leader epoch in which it was loaded.
    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Whether its machine was thrown away.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Asks the machine. Dropping the future withdraws the request.
    pub(super) fn ask(self: &Rc<Self>, client: Client, request: Request) -> Awaited {
        let ticket = Ticket(self.next_ticket.get());
        self.next_ticket.set(ticket.0 + 1);
        let (answer, awaited) = answer(ticket, self);
        if self.has_ended.get() {
            answer.give(moved());
            return awaited;
        }
        self.waiting.borrow_mut().insert(ticket, answer);
        if let Request::Commit(commit) = &request
            && let Some(shard) = self.shard.upgrade()
        {
            shard.coordinators().images.hasten_for(&shard, commit);
        }
        self.feed(Input::Request {
            ticket,
            client,
            request,
        });
        awaited
    }

    /// Nobody waits for this answer any more.
    pub(super) fn withdraw(self: &Rc<Self>, ticket: Ticket) {
        let waited = self.waiting.borrow_mut().remove(&ticket);
        if waited.is_some() {
            self.feed(Input::Withdrawn(ticket));
        }
    }

    /// This answer is wanted now.
    pub(super) fn hurry(self: &Rc<Self>, ticket: Ticket) {
        self.feed(Input::Hurry(ticket));
    }

    /// The topics have changed.
    pub(super) fn topics_changed(self: &Rc<Self>, image: Arc<TopicsImage>) {
        self.feed(Input::Topics(image));
    }

    /// The timer has rung.
    pub(super) fn alarm_rang(self: &Rc<Self>) {
        let Some(shard) = self.shard.upgrade() else {
            return;
        };
        let now = shard.coordinators().now();
        match self.alarm.rang(now) {
            Rang::Due => self.feed(Input::Tick),
            Rang::Early(due) => self.alarm.set(due, now, self, shard.foreground()),
            Rang::ForNothing => {}
        }
    }

    fn feed(self: &Rc<Self>, input: Input) {
        self.inputs.borrow_mut().push_back(input);
        self.run();
    }

    /// Handles what there is to handle.
    fn run(self: &Rc<Self>) {
        let Some(shard) = self.shard.upgrade() else {
            return;
        };
        if self.is_busy.replace(true) {
            return;
        }
        while !self.has_ended.get() && self.step(&shard) {}
        self.is_busy.set(false);
    }

    /// Does the next thing. False when there is none for now.
    fn step(self: &Rc<Self>, shard: &Rc<Shard>) -> bool {
        if let Some(fate) = self.journal.next_fate() {
            self.learn(shard, fate);
            return true;
        }
        let is_due = self.checkpoints.is_due(self.journal.bytes());
        if is_due || self.checkpoints.is_appending() {
            if self.journal.is_settled() {
                self.write_checkpoint(shard);
                return true;
            }
            return false;
        }
        let Some(input) = self.inputs.borrow_mut().pop_front() else {
            return false;
        };
        self.handle(shard, input);
        true
    }

    fn learn(self: &Rc<Self>, shard: &Rc<Shard>, fate: Fate) {
        match (fate.purpose, fate.result) {
            (Purpose::Machine(write), _) => self.handle(shard, fate.input(write)),
            (Purpose::Checkpoint, Ok(())) => self.checkpoints.part_is_durable(),
            (Purpose::Checkpoint, Err(_)) => {}
        }
        match fate.result {
            Ok(()) => self.advance_log_start(shard),
            Err(code) => self.end(shard, code),
        }
    }

    fn handle(self: &Rc<Self>, shard: &Rc<Shard>, input: Input) {
        let mut effects = Vec::new();
        let now = shard.coordinators().now();
        self.machine.borrow_mut().handle(now, input, &mut effects);
        self.carry_out(shard, effects);
    }

    fn carry_out(self: &Rc<Self>, shard: &Rc<Shard>, effects: Vec<Effect>) {
        let now = shard.coordinators().now();
        for effect in effects {
            match effect {
                Effect::Append { write, records } => {
                    let purpose = Purpose::Machine(write);
                    self.journal.append(purpose, &records, now, &self.teller);
                }
                Effect::Respond { ticket, response } => self.respond(shard, ticket, response),
                Effect::WakeAt(due) => self.alarm.set(due, now, self, shard.foreground()),
            }
        }
    }

    fn respond(&self, shard: &Shard, ticket: Ticket, response: Response) {
        // The leader is answered once in each generation.
        if let Response::Joined(joined) = &response
            && joined.leader == joined.member
            && !joined.skip_assignment
        {
            shard.metrics().count(Counter::GroupRebalances);
        }
        // It may have been withdrawn while the machine was on its way to this answer.
        let waiting = self.waiting.borrow_mut().remove(&ticket);
        if let Some(answer) = waiting {
            answer.give(response);
        }
    }

    /// Begins a checkpoint, or appends its next parts.
    fn write_checkpoint(self: &Rc<Self>, shard: &Rc<Shard>) {
        if !self.checkpoints.is_appending() {
            let state = self.machine.borrow().snapshot();
            let (bytes, start) = (self.journal.bytes(), self.journal.end());
            if !self.checkpoints.begin(state, bytes, start) {
                return;
            }
            tracing::debug!(log = %self.log, bytes, %start, "a checkpoint of groups begins");
            self.journal.begin_checkpoint();
        }
        let now = shard.coordinators().now();
        for part in self.checkpoints.next_parts() {
            self.journal
                .append(Purpose::Checkpoint, &part, now, &self.teller);
        }
        self.advance_log_start(shard);
    }

    /// Lets go of what came before a checkpoint that is durable.
    fn advance_log_start(&self, shard: &Rc<Shard>) {
        let Some(start) = self.checkpoints.take_start() else {
            return;
        };
        shard.metrics().count(Counter::GroupCheckpoints);
        let partition = Rc::clone(self.journal.partition());
        shard.spawn(async move {
            let moved = partition.log().set_log_start(start).await;
            // It may have had the device while batches were appended.
            partition.settle();
            partition.write();
            if let Err(error) = moved {
                // The next checkpoint tries again.
                tracing::warn!(log = %partition.id(), %error, "a log of groups stays long");
            }
        });
    }

    /// Throws the machine away: what it knows beyond the log is lost. Whoever waits must ask again.
    fn end(self: &Rc<Self>, shard: &Rc<Shard>, why: ErrorCode) {
        tracing::warn!(log = %self.log, error = %why, "groups could not be written and are loaded again");
        self.retire();
        shard.metrics().count(Counter::GroupWriteFailures);
        shard.coordinators().reload(shard, self);
    }

    /// Throws the machine away, for good. Whoever waits must look for the coordinator again.
    pub(super) fn retire(&self) {
        self.has_ended.set(true);
        self.alarm.stop();
        self.inputs.borrow_mut().clear();
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for answer in waiting.into_values() {
            answer.give(moved());
        }
    }
}

/// What a client is told whose coordinator is gone for the moment: to look for it again.
pub(super) fn moved() -> Response {
    Response::Failed(Failure {
        code: ErrorCode::NotCoordinator,
        message: Some("the group's coordinator has moved or is loaded again; try again".to_owned()),
    })
}
