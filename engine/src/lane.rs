//! What is answered in the order in which it was asked: the fates of the frames of a produce
//! stream, the responses of a Kafka connection.
//!
//! The reader takes a place for each question as it arrives; whoever answers settles the place,
//! in any order; the writing side takes the settled places from the front. So answers keep the
//! order of the questions whatever settles first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;

use millrace_model::{ErrorCode, Offset};
use millrace_wire::Ack;

use crate::shard::notice::Notice;
use crate::trace::Trace;

/// What became of a frame, with when its acknowledgement was first due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What the client is told.
    pub(crate) ack: Ack,
    /// When the frame was durable, or refused.
    pub(crate) due: Instant,
    /// Where its time went until then; nothing of a frame that was not stored.
    pub(crate) trace: Trace,
}

impl Outcome {
    /// A frame that was not stored.
    pub(crate) fn refused(code: ErrorCode, log_start: Offset) -> Self {
        let ack = Ack::refused(code, log_start);
        Self {
            ack,
            due: Instant::now(),
            trace: Trace::default(),
        }
    }
}

/// Who is told what becomes of frames and batches.
pub(crate) trait Settle {
    /// Says what became of what has this place. Once for each place.
    fn settle(&self, place: Place, outcome: Outcome);
}

/// The place of one question among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) u64);

/// See the module's documentation.
pub(crate) struct Lane<T = Outcome> {
    /// Places that are not taken yet, at most.
    limit: usize,
    /// Place of the first entry of `entries`.
    front: Cell<u64>,
    entries: RefCell<VecDeque<Option<T>>>,
    closed: Cell<bool>,
    /// Something was settled, taken or closed.
    changed: Notice,
}

impl Settle for Lane<Outcome> {
    fn settle(&self, place: Place, outcome: Outcome) {
        Lane::settle(self, place, outcome);
    }
}

impl<T> Lane<T> {
    /// A lane on which [`Lane::room`] waits once `limit` places are not taken yet.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            front: Cell::new(0),
            entries: RefCell::default(),
            closed: Cell::new(false),
            changed: Notice::default(),
        }
    }

    /// The place of the next question.
    pub(crate) fn reserve(&self) -> Place {
        let mut entries = self.entries.borrow_mut();
        entries.push_back(None);
        Place(self.front.get() + entries.len() as u64 - 1)
    }

    /// Answers what has this place.
    pub(crate) fn settle(&self, place: Place, answer: T) {
        let at = place
            .0
            .checked_sub(self.front.get())
            .expect("a place is settled once");
        let at = usize::try_from(at).expect("a lane is short");
        let first = {
            let mut entries = self.entries.borrow_mut();
            let entry = &mut entries[at];
            assert!(entry.is_none(), "a place is settled once");
            *entry = Some(answer);
            at == 0
        };
        if first {
            self.changed.notify();
        }
    }

    /// No more places will be reserved.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.changed.notify();
    }

    /// Moves the settled answers at the front to `into`, at most `limit`.
    pub(crate) fn take_settled(&self, into: &mut Vec<T>, limit: usize) {
        let mut entries = self.entries.borrow_mut();
        let before = into.len();
        while into.len() - before < limit
            && let Some(answer) = entries.front_mut().and_then(Option::take)
        {
            into.push(answer);
            entries.pop_front();
        }
        let taken = into.len() - before;
        self.front.set(self.front.get() + taken as u64);
        if taken > 0 && entries.len() + taken >= self.limit {
            self.changed.notify();
        }
    }

    /// Waits until something can be taken: true; or until the lane is closed and empty:
    /// false.
    pub(crate) async fn settled(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            match self.entries.borrow().front() {
                Some(Some(_)) => return true,
                None if self.closed.get() => return false,
                _ => {}
            }
            changed.await;
        }
    }

    /// Waits until there is a place for one more question.
    pub(crate) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.entries.borrow().len() < self.limit {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    const LIMIT: usize = 100;

    fn lane() -> Lane {
        Lane::new(LIMIT)
    }

    fn refused(code: ErrorCode) -> Outcome {
        Outcome::refused(code, Offset::ZERO)
    }

    #[test]
    fn outcomes_leave_in_the_order_of_their_places() {
        let lane = lane();
        let (first, second) = (lane.reserve(), lane.reserve());
        lane.settle(second, refused(ErrorCode::InvalidRecord));
        let mut taken = Vec::new();
        lane.take_settled(&mut taken, 10);
        assert!(taken.is_empty());
        lane.settle(first, refused(ErrorCode::CorruptMessage));
        assert!(block_on(lane.settled()));
        lane.take_settled(&mut taken, 10);
        let codes: Vec<i16> = taken.iter().map(|outcome| outcome.ack.code).collect();
        assert_eq!(
            codes,
            [
                ErrorCode::CorruptMessage as i16,
                ErrorCode::InvalidRecord as i16
            ]
        );
    }

    #[test]
    fn a_closed_lane_ends_once_it_is_empty() {
        let lane = lane();
        let place = lane.reserve();
        lane.close();
        assert!(block_on(poll_once(lane.settled())).is_none());
        lane.settle(place, refused(ErrorCode::InvalidRecord));
        assert!(block_on(lane.settled()));
        lane.take_settled(&mut Vec::new(), 1);
        assert!(!block_on(lane.settled()));
    }

    #[test]
    fn a_full_lane_makes_the_reader_wait() {
        let lane = lane();
        let places: Vec<_> = (0..LIMIT).map(|_| lane.reserve()).collect();
        let mut room = std::pin::pin!(lane.room());
        assert!(block_on(poll_once(&mut room)).is_none());
        lane.settle(places[0], refused(ErrorCode::InvalidRecord));
        lane.take_settled(&mut Vec::new(), 1);
        assert!(block_on(poll_once(&mut room)).is_some());
    }
}
