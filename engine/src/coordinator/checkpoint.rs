//! Keeps the log of a coordinator short: from time to time the state is written to its end, and
//! what came before is let go.
//!
//! # Why no crash can hurt it
//! A checkpoint is the machine's snapshot, appended as ordinary batches; each record of it says
//! for one key what the log before it says already. It is taken when nothing is on its way
//! to the device, and until its last part is appended the machine gets no input, so between its
//! parts there is nothing else, and no part can undo a later change.
//!
//! - *Crash before all of it is durable:* the log start has not moved. A replay reads everything
//!   before, then the parts that are there, which repeat it.
//! - *Crash when all of it is durable, before the log start has moved:* the same.
//! - *Crash while the log start moves:* it is the old or the new one (`Log::set_log_start` is
//!   atomic and durable). From the new one, a replay reads the whole snapshot, then what
//!   came after it. Keys that were removed before have no record left, and need none.
//! - *A part cannot be appended or written* (a full disk): the machine's later writes would have failed
//!   with it. The checkpoint is given up and the coordinator loaded again from the log, which has
//!   lost nothing.

use std::cell::{Cell, RefCell};

use millrace_groups::Record;
use millrace_model::Offset;

/// A log shorter than this is not worth a checkpoint: replaying it takes tens of milliseconds.
pub(super) const CHECKPOINT_BYTES: u64 = 4 << 20;

/// The log may be this many times as long as the state, so that checkpoints are a fraction of
/// what is written.
const LOG_TO_STATE: u64 = 3;

/// Bytes of one batch of a checkpoint, well below what a batch may hold.
const PART_BYTES: usize = 512 << 10;

/// Parts of a checkpoint on their way to the device at a time, so that a large state does not
/// take the shard's memory.
const WINDOW_PARTS: usize = 16;

/// When a checkpoint is due, and what is left to do of one that has begun.
pub(super) struct Checkpoints {
    /// The length of the log since the last one at which the next is looked at.
    due_at: Cell<u64>,
    running: RefCell<Option<Checkpoint>>,
}

struct Checkpoint {
    /// Where it begins in the log.
    start: Offset,
    /// Parts that are not appended yet, the next one last.
    parts: Vec<Vec<Record>>,
    /// Parts that are appended and not durable yet.
    undurable: usize,
}

impl Checkpoints {
    /// The first one is looked at when the log has `due_at` bytes.
    pub(super) fn new(due_at: u64) -> Self {
        Self {
            due_at: Cell::new(due_at),
            running: RefCell::default(),
        }
    }

    /// Whether one should be looked at when the log has `bytes` since the last.
    pub(super) fn is_due(&self, bytes: u64) -> bool {
        bytes >= self.due_at.get() && self.running.borrow().is_none()
    }

    /// Begins one of `state` at `start`, unless the log is not long enough for so large a state.
    pub(super) fn begin(&self, state: Vec<Record>, bytes: u64, start: Offset) -> bool {
        let len: u64 = state.iter().map(|record| len_of(record) as u64).sum();
        let due_at = (len * LOG_TO_STATE).max(CHECKPOINT_BYTES);
        self.due_at.set(due_at);
        if bytes < due_at {
            return false;
        }
        *self.running.borrow_mut() = Some(Checkpoint {
            start,
            parts: parts(state),
            undurable: 0,
        });
        true
    }

    /// Whether parts are left to append. Until there are none, nothing else may be appended.
    pub(super) fn is_appending(&self) -> bool {
        let running = self.running.borrow();
        running
            .as_ref()
            .is_some_and(|checkpoint| !checkpoint.parts.is_empty())
    }

    /// The parts that may be on their way together.
    pub(super) fn next_parts(&self) -> Vec<Vec<Record>> {
        let mut running = self.running.borrow_mut();
        let Some(checkpoint) = running.as_mut() else {
            return Vec::new();
        };
        let left = checkpoint.parts.len().saturating_sub(WINDOW_PARTS);
        let mut next = checkpoint.parts.split_off(left);
        next.reverse();
        checkpoint.undurable += next.len();
        next
    }

    /// A part is durable.
    pub(super) fn part_is_durable(&self) {
        if let Some(checkpoint) = self.running.borrow_mut().as_mut() {
            checkpoint.undurable -= 1;
        }
    }

    /// The place that the log may begin from, once every part is durable. Given once.
    pub(super) fn take_start(&self) -> Option<Offset> {
        let mut running = self.running.borrow_mut();
        running
            .take_if(|checkpoint| checkpoint.parts.is_empty() && checkpoint.undurable == 0)
            .map(|checkpoint| checkpoint.start)
    }
}

/// The records as batches of about [`PART_BYTES`], the first one last.
fn parts(state: Vec<Record>) -> Vec<Vec<Record>> {
    let mut parts: Vec<Vec<Record>> = Vec::new();
    let mut room = 0;
    for record in state {
        let len = len_of(&record);
        match parts.last_mut().filter(|_| len <= room) {
            Some(part) => part.push(record),
            None => {
                parts.push(vec![record]);
                room = PART_BYTES;
            }
        }
        room = room.saturating_sub(len);
    }
    parts.reverse();
    parts
}

/// About what a record takes in a batch.
fn len_of(record: &Record) -> usize {
    /// Lengths, deltas and the like.
    const OVERHEAD: usize = 16;
    OVERHEAD + record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn state(records: usize, len: usize) -> Vec<Record> {
        let record = |key: usize| Record {
            key: Bytes::from(key.to_string()),
            value: Some(vec![0; len].into()),
        };
        (0..records).map(record).collect()
    }

    #[test]
    fn parts_keep_the_order_and_only_a_huge_record_makes_a_huge_part() {
        let mut records = state(1_000, 10_000);
        records.insert(7, state(1, 2 * PART_BYTES).remove(0));
        let parts = parts(records.clone());
        let mut again = Vec::new();
        for part in parts.into_iter().rev() {
            let len: usize = part.iter().map(len_of).sum();
            assert!(len <= PART_BYTES || part.len() == 1);
            again.extend(part);
        }
        assert_eq!(again, records);
    }

    #[test]
    fn a_checkpoint_waits_until_the_log_is_several_times_its_state() {
        let checkpoints = Checkpoints::new(CHECKPOINT_BYTES);
        assert!(!checkpoints.is_due(CHECKPOINT_BYTES - 1));
        assert!(checkpoints.is_due(CHECKPOINT_BYTES));
        let large = state(4, 1 << 20);
        assert!(!checkpoints.begin(large.clone(), CHECKPOINT_BYTES, Offset(3)));
        assert!(!checkpoints.is_due(3 * CHECKPOINT_BYTES));
        assert!(checkpoints.is_due(13 << 20));
        assert!(checkpoints.begin(large, 13 << 20, Offset(9)));
        assert!(!checkpoints.is_due(99 << 20), "one at a time");
    }

    #[test]
    fn the_log_may_begin_at_a_checkpoint_when_all_of_it_is_durable() {
        let checkpoints = Checkpoints::new(0);
        let bytes = 100 << 20;
        assert!(checkpoints.begin(state(WINDOW_PARTS + 1, PART_BYTES), bytes, Offset(5)));
        for window in [WINDOW_PARTS, 1] {
            assert!(checkpoints.is_appending());
            assert_eq!(checkpoints.next_parts().len(), window);
            for _ in 0..window {
                assert_eq!(checkpoints.take_start(), None);
                checkpoints.part_is_durable();
            }
        }
        assert!(!checkpoints.is_appending());
        assert_eq!(checkpoints.take_start(), Some(Offset(5)));
        assert_eq!(checkpoints.take_start(), None);
    }

    #[test]
    fn the_checkpoint_of_nothing_is_over_at_once() {
        let checkpoints = Checkpoints::new(0);
        assert!(checkpoints.begin(Vec::new(), CHECKPOINT_BYTES, Offset(8)));
        assert!(!checkpoints.is_appending());
        assert_eq!(checkpoints.take_start(), Some(Offset(8)));
    }
}
