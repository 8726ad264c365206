//! When to prepare space ahead of the writes of a segment, and how. Pure.
//!
//! A durable write into blocks that were written before costs half of one that makes the
//! file system convert or allocate extents. So a segment with many small writes is zeroed
//! ahead, and one with large writes, where zeroing would cost as much as it saves, is
//! only given its length and reserved extents. So is one with a few small writes: a write beyond
//! the end of a file is left to one of the few threads that the kernel has for a ring, and a
//! thousand logs that begin would wait for those. What is written once or twice gets nothing.
//!
//! Preparing goes on beside the writes, so that none waits for it. **Invariant:** what is prepared
//! was never written, and no write begins where something is being prepared: what a write takes is
//! [claimed](Space::claim) before it begins, and whoever would reach into what is being prepared
//! waits ([`Space::is_preparing`]).

use crate::position::Position;

/// Writes to a segment before anything is prepared: one that is seldom written stays as small as
/// its data.
const RESERVE_AFTER_WRITES: u32 = 2;

/// Writes to a segment before zeros are written ahead.
const ZERO_AFTER_WRITES: u32 = 8;

/// Writes below this length are small.
const SMALL_WRITE: usize = 64 << 10;

/// Zeroed by one write: short, for acknowledgements share the device with it.
pub(crate) const ZERO_WRITE: usize = 256 << 10;

/// Zeroed in one go at most. In between it is half of what the segment has, so that a segment with
/// little data stays small.
const ZERO_STEP_MAX: u64 = 4 << 20;

/// It is time again when this part is left of what was prepared last.
const AGAIN_AT: u64 = 2;

/// Reserved at once at most. In between it is as much as the segment has, so that many logs with
/// little data each do not take the device's space.
const ALLOCATE_STEP_MAX: u64 = 16 << 20;

/// Reserved at least, in writes as long as the recent ones.
const ALLOCATE_WRITES: usize = 4;

/// The next write is expected to be at most this many times the recent ones.
const HEADROOM: usize = 2;

/// Something to do before the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepare {
    /// Write zeros from here to there: whole [`ZERO_WRITE`]s, from the start of a device block.
    Zero { from: Position, to: Position },
    /// Make the file so long, from the first to the second place, and reserve its space.
    Allocate { from: Position, to: Position },
}

/// What is known of the space of the segment that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Blocks below are written, about to be, or reserved.
    ready: Position,
    /// From here on the file is being prepared.
    preparing: Option<Position>,
    /// Length of the last preparation.
    step: u64,
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

    /// A write of `len` bytes at `at` is about to begin.
    pub(crate) fn claim(&mut self, at: Position, len: usize) {
        assert!(
            !self.is_preparing(at, len),
            "no write begins where the file is being prepared"
        );
        self.ready = self.ready.max(at.plus(len));
    }

    /// Whether a write of `len` bytes at `at` has to wait for the end of the preparation.
    pub(crate) fn is_preparing(&self, at: Position, len: usize) -> bool {
        self.preparing.is_some_and(|from| at.plus(len) > from)
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
        let is_zeroed = self.recent < SMALL_WRITE && self.writes >= ZERO_AFTER_WRITES;
        let enough = (self.step / AGAIN_AT) as usize;
        let due = self.writes >= RESERVE_AFTER_WRITES && left < enough.max(self.recent * HEADROOM);
        if self.paused || !due || self.ready.0 >= segment_bytes {
            return None;
        }
        Some(match is_zeroed {
            true => {
                let step = (self.written.0 / 2).clamp(ZERO_WRITE as u64, ZERO_STEP_MAX);
                let step = step / ZERO_WRITE as u64 * ZERO_WRITE as u64;
                let from = self.ready;
                let to = Position(from.0 + step);
                Prepare::Zero { from, to }
            }
            false => {
                let from = self.ready;
                let least = (self.recent * ALLOCATE_WRITES) as u64;
                let step = self.written.0.max(least).min(ALLOCATE_STEP_MAX);
                let to = Position((from.0 + step).min(segment_bytes)).block_ceil();
                Prepare::Allocate { from, to }
            }
        })
    }

    /// The preparation begins.
    pub(crate) fn begin(&mut self, what: Prepare) {
        let (Prepare::Zero { from, .. } | Prepare::Allocate { from, .. }) = what;
        self.preparing = Some(from);
    }

    /// The preparation is done.
    pub(crate) fn prepared(&mut self, what: Prepare) {
        self.preparing = None;
        let (Prepare::Zero { from, to } | Prepare::Allocate { from, to }) = what;
        self.step = to.0 - from.0;
        self.ready = self.ready.max(to);
    }

    /// The log falls idle, or is closed: nothing is prepared until it is busy again.
    pub(crate) fn rest(&mut self) {
        self.writes = 0;
    }

    /// There was no space for the preparation.
    pub(crate) fn pause(&mut self) {
        self.preparing = None;
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
    fn a_write_or_none_prepares_nothing() {
        assert_eq!(after(0, 4096).plan(SEGMENT), None);
        assert_eq!(after(1, 4096).plan(SEGMENT), None);
    }

    #[test]
    fn a_few_small_writes_reserve_as_much_as_there_is() {
        let from = Position(6 * 4096);
        let to = from.plus(6 * 4096);
        let plan = after(6, 4096).plan(SEGMENT);
        assert_eq!(plan, Some(Prepare::Allocate { from, to }));
    }

    #[test]
    fn small_writes_zero_ahead_until_there_is_room() {
        let mut space = after(8, 4096);
        let plan = space.plan(SEGMENT).unwrap();
        let from = Position(8 * 4096);
        let to = from.plus(ZERO_WRITE);
        assert_eq!(plan, Prepare::Zero { from, to });
        space.begin(plan);
        space.prepared(plan);
        assert_eq!(space.plan(SEGMENT), None);
        assert!((8..80).any(|n| {
            space.wrote(Position(n * 4096), 4096);
            space.plan(SEGMENT).is_some()
        }));
    }

    #[test]
    fn zeroing_grows_with_the_segment_up_to_a_limit() {
        let (mut space, mut steps) = (Space::default(), Vec::new());
        for n in 0..8192 {
            let at = Position(n * 4096);
            space.claim(at, 4096);
            space.wrote(at, 4096);
            if let Some(plan @ Prepare::Zero { from, to }) = space.plan(SEGMENT) {
                space.begin(plan);
                space.prepared(plan);
                steps.push(to.0 - from.0);
            }
        }
        assert!(steps.is_sorted());
        assert_eq!(steps.first(), Some(&(ZERO_WRITE as u64)));
        assert_eq!(steps.last(), Some(&ZERO_STEP_MAX));
    }

    #[test]
    fn only_a_write_that_reaches_into_the_zeros_is_in_the_way() {
        let mut space = after(8, 4096);
        let plan = space.plan(SEGMENT).unwrap();
        space.begin(plan);
        let next = Position(7 * 4096);
        assert!(!space.is_preparing(next, 4096));
        assert!(space.is_preparing(next, 8192));
        space.prepared(plan);
        assert!(!space.is_preparing(next, 8192));
    }

    #[test]
    fn a_write_under_way_is_not_zeroed() {
        let mut space = after(8, 4096);
        let at = Position(8 * 4096);
        space.claim(at, 4096);
        let Some(Prepare::Zero { from, .. }) = space.plan(SEGMENT) else {
            panic!("zeroing is due");
        };
        assert_eq!(from, at.plus(4096));
    }

    #[test]
    #[should_panic(expected = "no write begins where the file is being prepared")]
    fn a_write_into_what_is_being_zeroed_is_a_defect() {
        let mut space = after(8, 4096);
        let plan = space.plan(SEGMENT).unwrap();
        space.begin(plan);
        space.claim(Position(8 * 4096), 4096);
    }

    #[test]
    fn large_writes_reserve() {
        let mut space = after(8, 128 << 10);
        let plan = space.plan(SEGMENT).unwrap();
        let (from, to) = (Position(1 << 20), Position(2 << 20));
        assert_eq!(plan, Prepare::Allocate { from, to });
        space.prepared(plan);
        assert_eq!(space.plan(SEGMENT), None);
    }

    #[test]
    fn reserving_grows_with_the_segment_up_to_a_limit() {
        let (mut space, mut steps) = (Space::default(), Vec::new());
        for n in 0..512 {
            let at = Position(n * (128 << 10));
            space.claim(at, 128 << 10);
            space.wrote(at, 128 << 10);
            if let Some(plan @ Prepare::Allocate { from, to }) = space.plan(u64::MAX) {
                space.begin(plan);
                space.prepared(plan);
                steps.push(to.0 - from.0);
            }
        }
        assert!(steps.is_sorted());
        assert_eq!(steps.first(), Some(&(512 << 10)));
        assert_eq!(steps.last(), Some(&ALLOCATE_STEP_MAX));
    }

    #[test]
    fn a_log_at_rest_prepares_nothing_until_it_is_busy_again() {
        let mut space = after(8, 4096);
        space.rest();
        assert_eq!(space.plan(SEGMENT), None);
        for n in 8..16 {
            space.wrote(Position(n * 4096), 4096);
        }
        assert!(space.plan(SEGMENT).is_some());
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
