//! Frames that are appended and whose producers have not been told.
//!
//! There are two lines, for two kinds of frames: those that wait for every in-sync replica, and those
//! that wait for this one. In each they stand in the order of the log.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use millrace_model::Offset;
use millrace_replication::partition::Acks;
use millrace_wire::Ack;

use crate::lane::{Place, Settle};
use crate::trace::Trace;

/// A frame that waits for its fate.
pub(super) struct Unsettled {
    /// The offset after its last record.
    pub(super) end: Offset,
    /// What its client is told if it is stored.
    pub(super) ack: Ack,
    pub(super) teller: Rc<dyn Settle>,
    pub(super) place: Place,
    /// Where its time went until it was appended.
    pub(super) trace: Trace,
    pub(super) appended: Instant,
    /// When this broker had it durably, if it waits for others since.
    pub(super) durable: Option<Instant>,
}

#[derive(Default)]
struct Line {
    frames: RefCell<VecDeque<Unsettled>>,
    /// How many of them, from the front, are durable here and wait for other brokers.
    awaiting_others: Cell<usize>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Waiting {
    for_all: Line,
    for_leader: Line,
}

impl Waiting {
    pub(super) fn push(&self, acks: Acks, frame: Unsettled) {
        self.line(acks).frames.borrow_mut().push_back(frame);
    }

    /// The next frame that ends at or below `end`.
    pub(super) fn pop_below(&self, acks: Acks, end: Offset) -> Option<Unsettled> {
        let line = self.line(acks);
        let frame = line
            .frames
            .borrow_mut()
            .pop_front_if(|frame| frame.end <= end)?;
        if frame.durable.is_some() {
            line.awaiting_others.set(line.awaiting_others.get() - 1);
        }
        Some(frame)
    }

    /// Notes when frames that wait for other brokers became durable here, up to `end`.
    pub(super) fn note_durable(&self, end: Offset, now: Instant) {
        let line = &self.for_all;
        let known = line.awaiting_others.get();
        let mut frames = line.frames.borrow_mut();
        let new = frames.iter_mut().skip(known);
        let new = new.take_while(|frame| frame.end <= end);
        let count = new.map(|frame| frame.durable = Some(now)).count();
        line.awaiting_others.set(known + count);
    }

    /// Takes every frame of this kind that reaches above `end`.
    pub(super) fn take_above(&self, acks: Acks, end: Offset) -> VecDeque<Unsettled> {
        let line = self.line(acks);
        let mut frames = line.frames.borrow_mut();
        let keep = frames.iter().take_while(|frame| frame.end <= end).count();
        let taken = frames.split_off(keep);
        line.awaiting_others
            .set(line.awaiting_others.get().min(keep));
        taken
    }

    pub(super) fn len(&self) -> usize {
        self.for_all.frames.borrow().len() + self.for_leader.frames.borrow().len()
    }

    fn line(&self, acks: Acks) -> &Line {
        match acks {
            Acks::All => &self.for_all,
            Acks::Leader => &self.for_leader,
        }
    }
}
