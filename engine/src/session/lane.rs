//! The fates of the frames of one produce stream, in the order of the frames.
//!
//! The reader takes a place for each frame as it arrives; the partition, or a refusal,
//! settles the place, in any order; the acknowledging side takes the settled places from the
//! front. So acknowledgements keep the order of the frames whatever settles first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;

use millrace_model::{ErrorCode, Offset};
use millrace_wire::Ack;

use crate::shard::notice::Notice;

/// Frames of one stream whose acknowledgement is not handed to the stream yet. The reader
/// waits beyond, so a client that reads no acknowledgements costs at most this many
/// entries (512 KiB).
pub(crate) const MAX_UNACKNOWLEDGED_FRAMES: usize = 8192;

/// What became of a frame, with when its acknowledgement was first due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What the client is told.
    pub(crate) ack: Ack,
    /// When the frame was durable, or refused.
    pub(crate) due: Instant,
}

impl Outcome {
    /// A frame that was not stored.
    pub(crate) fn refused(code: ErrorCode, log_start: Offset) -> Self {
        let ack = Ack::refused(code, log_start);
        Self {
            ack,
            due: Instant::now(),
        }
    }
}

/// The place of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Lane {
    /// Place of the first entry of `entries`.
    front: Cell<u64>,
    entries: RefCell<VecDeque<Option<Outcome>>>,
    closed: Cell<bool>,
    /// Something was settled, taken or closed.
    changed: Notice,
}

impl Lane {
    /// The place of the next frame.
    pub(crate) fn reserve(&self) -> Place {
        let mut entries = self.entries.borrow_mut();
        entries.push_back(None);
        Place(self.front.get() + entries.len() as u64 - 1)
    }

    /// Says what became of the frame at `place`.
    pub(crate) fn settle(&self, place: Place, outcome: Outcome) {
        let at = place
            .0
            .checked_sub(self.front.get())
            .expect("a place is settled once");
        let at = usize::try_from(at).expect("a lane is short");
        let first = {
            let mut entries = self.entries.borrow_mut();
            let entry = &mut entries[at];
            assert!(entry.is_none(), "a place is settled once");
            *entry = Some(outcome);
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

    /// Moves the settled outcomes at the front to `into`, at most `limit`.
    pub(crate) fn take_settled(&self, into: &mut Vec<Outcome>, limit: usize) {
        let mut entries = self.entries.borrow_mut();
        let before = into.len();
        while into.len() - before < limit
            && let Some(Some(outcome)) = entries.front()
        {
            into.push(*outcome);
            entries.pop_front();
        }
        let taken = into.len() - before;
        self.front.set(self.front.get() + taken as u64);
        if taken > 0 && entries.len() + taken >= MAX_UNACKNOWLEDGED_FRAMES {
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

    /// Waits until there is a place for one more frame.
    pub(crate) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.entries.borrow().len() < MAX_UNACKNOWLEDGED_FRAMES {
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

    fn refused(code: ErrorCode) -> Outcome {
        Outcome::refused(code, Offset::ZERO)
    }

    #[test]
    fn outcomes_leave_in_the_order_of_their_places() {
        let lane = Lane::default();
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
        let lane = Lane::default();
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
        let lane = Lane::default();
        let places: Vec<_> = (0..MAX_UNACKNOWLEDGED_FRAMES)
            .map(|_| lane.reserve())
            .collect();
        let mut room = std::pin::pin!(lane.room());
        assert!(block_on(poll_once(&mut room)).is_none());
        lane.settle(places[0], refused(ErrorCode::InvalidRecord));
        lane.take_settled(&mut Vec::new(), 1);
        assert!(block_on(poll_once(&mut room)).is_some());
    }
}
