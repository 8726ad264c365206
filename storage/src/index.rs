//! The sparse index of one segment: where blocks of frames begin, and the largest timestamp
//! in each.
//!
//! A *block* is the run between two entries: whole write headers and frames, at least
//! [`BLOCK_SPACING`] bytes except the last. Cold reads bring
//! whole blocks, one or several at a time.

use crate::position::Position;
use millrace_model::{Offset, Timestamp};

/// The least number of bytes between two entries: large enough that 1 GiB of log needs no
/// more than 8,192 entries, small enough that a random read does not fetch much in vain.
pub(crate) const BLOCK_SPACING: usize = 128 << 10;

/// Where a block begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of the first record at or behind `position`.
    pub offset: Offset,
    /// Start of a write header or of a frame.
    pub position: Position,
    /// No record of the block has a larger timestamp.
    pub max_timestamp: Timestamp,
}

/// A block: its place among the blocks of its segment and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockSpan {
    /// Number of the block in its segment, counted from 0.
    pub(crate) number: usize,
    /// Offset of its first record.
    pub(crate) base: Offset,
    /// Its first byte.
    pub(crate) start: Position,
    /// Behind its last byte.
    pub(crate) end: Position,
}

/// The entries of one segment, in order of offset and of position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
}

impl Index {
    /// An index from entries that were read from a footer: strictly rising positions, rising
    /// offsets, the first at position 0. `None` if they are not.
    pub(crate) fn from_entries(entries: Vec<IndexEntry>) -> Option<Self> {
        let first_at_start = entries.first().is_none_or(|e| e.position == Position::ZERO);
        let rising = entries
            .windows(2)
            .all(|w| w[0].position < w[1].position && w[0].offset < w[1].offset);
        (first_at_start && rising).then_some(Self { entries })
    }

    /// Tells that a write header or frame begins at `position`, with `offset` the first
    /// record at or behind it.
    pub(crate) fn boundary(&mut self, position: Position, offset: Offset) {
        let due = self.entries.last().is_none_or(|last| {
            offset > last.offset && position.since(last.position) >= BLOCK_SPACING
        });
        if due {
            let max_timestamp = Timestamp::NONE;
            self.entries.push(IndexEntry {
                offset,
                position,
                max_timestamp,
            });
        }
    }

    /// Tells that the last block holds a record of this timestamp.
    pub(crate) fn cover(&mut self, timestamp: Timestamp) {
        let last = self
            .entries
            .last_mut()
            .expect("a boundary comes before its frame");
        last.max_timestamp = last.max_timestamp.max(timestamp);
    }

    /// Forgets what begins at or behind `end`. The last block that stays keeps its largest
    /// timestamp, which is then an upper bound only.
    pub(crate) fn truncate(&mut self, end: Position) {
        let keep = self.entries.partition_point(|e| e.position < end);
        self.entries.truncate(keep);
    }

    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The block that holds `offset`, in a segment whose data ends at `data_end`, or may be read up to
    /// there. What is on its way to the device has entries already: a block may end before the next one.
    pub(crate) fn block_of(&self, offset: Offset, data_end: Position) -> Option<BlockSpan> {
        let after = self.entries.partition_point(|e| e.offset <= offset);
        self.block(after.checked_sub(1)?, data_end)
    }

    /// The block of this number.
    pub(crate) fn block(&self, number: usize, data_end: Position) -> Option<BlockSpan> {
        let entry = self.entries.get(number)?;
        let end = self
            .entries
            .get(number + 1)
            .map_or(data_end, |next| next.position.min(data_end));
        Some(BlockSpan {
            number,
            base: entry.offset,
            start: entry.position,
            end,
        })
    }

    /// Offset of the first block that may hold a record with a timestamp of at least
    /// `timestamp`, at or behind the block that holds `from`.
    pub(crate) fn first_with_timestamp(
        &self,
        from: Offset,
        timestamp: Timestamp,
    ) -> Option<Offset> {
        let skip = self
            .entries
            .partition_point(|e| e.offset <= from)
            .saturating_sub(1);
        self.entries[skip..]
            .iter()
            .find(|e| e.max_timestamp >= timestamp)
            .map(|e| e.offset)
    }

    /// Bytes of memory that the entries occupy.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: usize = 1024;

    /// Frames of 64 KiB with ten records each, timestamps as given.
    fn filled(timestamps: &[i64]) -> (Index, Position) {
        let mut index = Index::default();
        let mut at = Position::ZERO;
        for (n, &timestamp) in timestamps.iter().enumerate() {
            index.boundary(at, Offset(n as u64 * 10));
            index.cover(Timestamp(timestamp));
            at = at.plus(64 * K);
        }
        (index, at)
    }

    #[test]
    fn entries_stand_a_block_apart() {
        let (index, _) = filled(&[1, 2, 3, 4, 5]);
        let places: Vec<_> = index
            .entries()
            .iter()
            .map(|e| (e.offset.0, e.position.0))
            .collect();
        assert_eq!(places, [(0, 0), (20, 128 << 10), (40, 256 << 10)]);
    }

    #[test]
    fn a_block_reaches_to_the_next_entry_or_the_end() {
        let (index, end) = filled(&[1, 2, 3, 4, 5]);
        let block = index.block_of(Offset(25), end).unwrap();
        assert_eq!((block.number, block.base), (1, Offset(20)));
        assert_eq!(block.end, Position(256 << 10));
        assert_eq!(index.block_of(Offset(1000), end).unwrap().end, end);
        assert_eq!(Index::default().block_of(Offset(0), end), None);
    }

    #[test]
    fn a_block_ends_where_what_is_written_does() {
        let (index, end) = filled(&[1, 2, 3, 4, 5]);
        let written = Position((128 + 64) << 10);
        assert!(written < end);
        let block = index.block_of(Offset(25), written).unwrap();
        assert_eq!((block.number, block.end), (1, written));
        let behind = index.block(2, written).unwrap();
        assert!(behind.end < behind.start, "none of it is written");
    }

    #[test]
    fn timestamps_lead_to_the_first_block_that_may_hold_them() {
        let (index, _) = filled(&[5, 9, 3, 4, 20]);
        assert_eq!(
            index.first_with_timestamp(Offset(0), Timestamp(9)),
            Some(Offset(0))
        );
        assert_eq!(
            index.first_with_timestamp(Offset(0), Timestamp(10)),
            Some(Offset(40))
        );
        assert_eq!(
            index.first_with_timestamp(Offset(25), Timestamp(4)),
            Some(Offset(20))
        );
        assert_eq!(index.first_with_timestamp(Offset(0), Timestamp(21)), None);
    }

    #[test]
    fn truncation_forgets_what_begins_at_or_behind_the_end() {
        let (mut index, _) = filled(&[1, 2, 3, 4, 5]);
        index.truncate(Position(128 << 10));
        assert_eq!(index.entries().len(), 1);
        index.truncate(Position::ZERO);
        assert_eq!(index, Index::default());
    }

    #[test]
    fn entries_out_of_order_are_refused() {
        let entry = |offset, position| IndexEntry {
            offset: Offset(offset),
            position: Position(position),
            max_timestamp: Timestamp(0),
        };
        assert!(Index::from_entries(vec![entry(5, 0), entry(6, 200)]).is_some());
        assert!(Index::from_entries(vec![entry(5, 16)]).is_none());
        assert!(Index::from_entries(vec![entry(5, 0), entry(5, 200)]).is_none());
        assert!(Index::from_entries(vec![entry(5, 0), entry(6, 0)]).is_none());
    }
}
