//! What a log must hold, kept beside it as plain numbers: which batch stands where, in which epoch. Frames are
//! read by the simulator's own eyes ([`RawFrame`]).

use millrace_model::LogId;

use crate::sim::frames::RawFrame;
use crate::sim::trace::Violation;

/// In a record batch, everything from its attributes on is the producer's, byte for byte.
const FIXED_FROM: usize = 21;

/// A batch in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Offset of its first record.
    pub(super) base: u64,
    /// Offset after its last record.
    pub(super) next: u64,
    /// The leader epoch in which it was appended.
    pub(super) epoch: u32,
    /// Stands for its bytes.
    pub(super) print: u64,
}

/// A number that stands for the producer's bytes of a batch. No two batches of a history are the same.
pub(super) fn print_of(batch: &[u8]) -> u64 {
    batch[FIXED_FROM..]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The batches of whole frames.
pub(super) fn read_frames(mut bytes: &[u8], log: LogId) -> Result<Vec<Stored>, Violation> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let frame = RawFrame::read(bytes, log)?;
        found.push(Stored {
            base: frame.base,
            next: frame.next,
            epoch: frame.epoch,
            print: print_of(frame.batch),
        });
        bytes = &bytes[frame.len..];
    }
    Ok(found)
}

/// The batches of one log, in order, without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mirror {
    start: u64,
    batches: Vec<Stored>,
}

impl Mirror {
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn end(&self) -> u64 {
        self.batches.last().map_or(self.start, |last| last.next)
    }

    pub(super) fn push(&mut self, batch: Stored) {
        self.batches.push(batch);
    }

    /// The log ends here now.
    pub(super) fn truncate(&mut self, end: u64) {
        while self.batches.last().is_some_and(|last| last.next > end) {
            self.batches.pop();
        }
    }

    /// The log starts here now; a batch that reaches above stays.
    pub(super) fn set_start(&mut self, start: u64) {
        if start > self.start {
            self.start = start;
            let gone = self.batches.partition_point(|batch| batch.next <= start);
            self.batches.drain(..gone);
        }
    }

    /// The log is empty and goes on here.
    pub(super) fn reset(&mut self, to: u64) {
        self.start = to;
        self.batches.clear();
    }

    /// The batches that have something between these offsets.
    pub(super) fn touching(&self, from: u64, end: u64) -> &[Stored] {
        let first = self.batches.partition_point(|batch| batch.next <= from);
        let last = self.batches.partition_point(|batch| batch.base < end);
        &self.batches[first..last.max(first)]
    }

    /// The batches that reach above `from` and end at or below `end`.
    pub(super) fn between(&self, from: u64, end: u64) -> &[Stored] {
        let first = self.batches.partition_point(|batch| batch.next <= from);
        let last = self.batches.partition_point(|batch| batch.next <= end);
        &self.batches[first..last.max(first)]
    }
}
