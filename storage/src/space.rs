//! When to prepare space ahead of the writes of a segment, and how. Pure.
//!
//! A durable write into blocks that were written before costs half of one that makes the
//! file system convert or allocate extents. So a segment with many small writes is zeroed
//! ahead, and one with large writes, where zeroing would cost as much as it saves, is
//! only given reserved extents. A segment with few writes gets nothing.

use crate::position::Position;

/// Writes to a segment before anything is prepared: an idle partition's segment stays as
/// small as its data.
const BUSY_AFTER_WRITES: u32 = 8;

/// Writes below this length are small.
const SMALL_WRITE: usize = 64 << 10;

/// Zeroed at once, between two writes: about as long as one write of that size delays the
/// next acknowledgement, so it is bounded.
pub(crate) const ZERO_STEP: usize = 256 << 10;

/// Reserved at once.
const ALLOCATE_STEP: u64 = 16 << 20;

/// The next write is expected to be at most this many times the recent ones.
const HEADROOM: usize = 2;

/// Something to do before the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepare {
    /// Write [`ZERO_STEP`] zeros at this position, the start of a device block.
    Zero(Position),
    /// Reserve space up to this length.
    Allocate(u64),
}

/// What is known of the space of the segment that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Blocks below are written or reserved.
    ready: Position,
    /// Behind the last write, at a block's start.
    written: Position,
    writes: u32,
    /// Moving average of the lengths of writes.
    recent: usize,
    /// Preparing failed for want of space; the writes themselves will tell.
    paused: bool,
}

impl Space {
    /// A segment whose file has `len` bytes, which were all written once.
    pub(crate) fn of_file(len: u64) -> Self {
        Self {
            ready: Position(len),
            ..Self::default()
        }
    }

    /// A write of `len` bytes at `at` is done.
    pub(crate) fn wrote(&mut self, at: Position, len: usize) {
        self.written = at.plus(len);
        self.ready = self.ready.max(self.written);
        self.recent = if self.writes == 0 {
            len
        } else {
            (self.recent * 7 + len) / 8
        };
        self.writes = self.writes.saturating_add(1);
    }

    /// What to prepare now in a segment of at most `segment_bytes`, if anything.
    pub(crate) fn plan(&self, segment_bytes: u64) -> Option<Prepare> {
        let left = self.ready.since(self.written);
        let due = self.writes >= BUSY_AFTER_WRITES && left < self.recent * HEADROOM;
        if self.paused || !due || self.ready.0 >= segment_bytes {
            return None;
        }
        Some(match self.recent < SMALL_WRITE {
            true => Prepare::Zero(self.ready),
            false => Prepare::Allocate((self.ready.0 + ALLOCATE_STEP).min(segment_bytes)),
        })
    }

    /// The preparation is done.
    pub(crate) fn prepared(&mut self, what: Prepare) {
        self.ready = match what {
            Prepare::Zero(at) => at.plus(ZERO_STEP),
            Prepare::Allocate(len) => Position(len).block_ceil(),
        };
    }

    /// There was no space for the preparation.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 64 << 20;

    fn after(writes: u32, len: usize) -> Space {
        let mut space = Space::default();
        for n in 0..writes {
            space.wrote(Position(u64::from(n) * len as u64), len);
        }
        space
    }

    #[test]
    fn few_writes_prepare_nothing() {
        assert_eq!(after(7, 4096).plan(SEGMENT), None);
    }

    #[test]
    fn small_writes_zero_ahead_until_there_is_room() {
        let mut space = after(8, 4096);
        let plan = space.plan(SEGMENT).unwrap();
        assert_eq!(plan, Prepare::Zero(Position(8 * 4096)));
        space.prepared(plan);
        assert_eq!(space.plan(SEGMENT), None);
        assert!((8..80).any(|n| {
            space.wrote(Position(n * 4096), 4096);
            space.plan(SEGMENT).is_some()
        }));
    }

    #[test]
    fn large_writes_reserve() {
        let mut space = after(8, 128 << 10);
        let plan = space.plan(SEGMENT).unwrap();
        assert_eq!(plan, Prepare::Allocate((1 << 20) + ALLOCATE_STEP));
        space.prepared(plan);
        assert_eq!(space.plan(SEGMENT), None);
    }

    #[test]
    fn a_recycled_file_or_a_full_disk_needs_no_preparation() {
        let mut space = Space::of_file(SEGMENT);
        for n in 0..20 {
            space.wrote(Position(n * 4096), 4096);
        }
        assert_eq!(space.plan(SEGMENT), None);
        let mut full = after(20, 4096);
        full.pause();
        assert_eq!(full.plan(SEGMENT), None);
    }
}
