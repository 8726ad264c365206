//! Bodies of micro-benchmarks, of machines that are private here. What they cost is what a log
//! pays for each frame beside the checksum and the copy.

use crate::appender::{Appender, Place, Stated};
use crate::disk::memory::MemoryDisk;
use crate::index::{BLOCK_SPACING, Index};
use crate::limits::StorageLimits;
use crate::position::Position;
use millrace_model::{LeaderEpoch, Offset, Timestamp};

/// An appender that plans writes which nobody carries out.
pub struct AppendPlan {
    appender: Appender<MemoryDisk>,
    next: Offset,
}

impl Default for AppendPlan {
    fn default() -> Self {
        let end = Place {
            segment: Offset::ZERO,
            position: Position::ZERO,
            offset: Offset::ZERO,
        };
        let limit = StorageLimits::default().append_buffer_bytes;
        Self {
            appender: Appender::new(MemoryDisk::new(1), 7, limit, end, Vec::new()),
            next: Offset::ZERO,
        }
    }
}

impl AppendPlan {
    /// Accepts frames of `len` bytes, a multiple of 16, with a record each: all staged, copied and
    /// committed, then one write planned and completed. The bytes that the write has.
    pub fn write_of(&mut self, frames: usize, frame: &[u8]) -> usize {
        for _ in 0..frames {
            self.next = Offset(self.next.0 + 1);
            let staged = self.appender.stage(frame.len());
            staged.copy_from_slice(frame);
            self.appender.commit(frame.len(), self.next);
        }
        let stated = Stated {
            epoch: LeaderEpoch(0),
            log_start: Offset::ZERO,
            now: Timestamp(1_700_000_000_000),
        };
        let mut bytes = 0;
        while let Some(write) = self.appender.next_write(&stated) {
            bytes += write.page.as_ref().len();
            self.appender.complete();
            self.appender.advance_durable(write.next);
        }
        if self.appender.accepted().position.0 >= SEGMENT_LEN {
            self.appender.begin_segment();
            self.appender.sealed_before(self.next);
        }
        bytes
    }
}

/// When the plan goes on to a next segment.
const SEGMENT_LEN: u64 = 128 << 20;

/// The index of a segment, with an entry for each block.
pub struct IndexLookup {
    index: Index,
    end: Position,
}

impl IndexLookup {
    /// Of so many blocks, each with as many records as its length in KiB.
    #[must_use]
    pub fn of_blocks(blocks: usize) -> Self {
        let mut index = Index::default();
        for block in 0..blocks {
            let position = Position::ZERO.plus(block * BLOCK_SPACING);
            index.boundary(position, Offset((block * RECORDS) as u64));
            index.cover(Timestamp(block as i64));
        }
        let end = Position::ZERO.plus(blocks * BLOCK_SPACING);
        Self { index, end }
    }

    /// Records in all blocks.
    #[must_use]
    pub fn records(&self) -> u64 {
        (self.index.entries().len() * RECORDS) as u64
    }

    /// The number of the block that holds the record of this offset.
    #[must_use]
    pub fn find(&self, offset: u64) -> Option<usize> {
        let block = self.index.block_of(Offset(offset), self.end)?;
        Some(block.number)
    }
}

/// Records of a block, of 1 KiB each.
const RECORDS: usize = BLOCK_SPACING >> 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_write_holds_its_frames() {
        let (mut plan, frame) = (AppendPlan::default(), [7; 1024]);
        assert_eq!(plan.write_of(1, &frame), 4096);
        let many = plan.write_of(64, &frame);
        assert!(many > 64 * 1024 && many.is_multiple_of(4096), "{many}");
        let segments = 3 * SEGMENT_LEN as usize / (1024 << 10);
        let large = [7; 64 << 10];
        for _ in 0..segments {
            assert!(plan.write_of(16, &large) > 1 << 20);
        }
    }

    #[test]
    fn every_record_is_found_in_its_block() {
        let lookup = IndexLookup::of_blocks(10);
        for offset in 0..lookup.records() {
            assert_eq!(lookup.find(offset), Some(offset as usize / RECORDS));
        }
    }
}
