//! The read cache of a shard: stretches of blocks that were read from files and checked, by
//! bytes the ones used lately. One load at a time of each block, shared by all who want it.
//!
//! A *stretch* is what one read brought: one block, or several that follow each other. It is
//! kept and dropped as a whole, so that the bytes which are counted are those which are held.
//!
//! What was read ahead of a reader and not asked for yet is counted apart: see
//! [`Cache::reserve_ahead`]. So is what one reader has read to its end: only a little of it is kept,
//! for another one close behind. A reader of history then does not push out what others share, nor
//! does it walk through as much memory as there is cache, all of it new to the processor.

use crate::disk::Disk;
use crate::files::SegmentKey;
use crate::frames::Run;
use crate::lru::Lru;
use crate::position::Position;
use crate::watch::Watch;
use millrace_model::Offset;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::{Rc, Weak};

/// The part of the cache that may hold what was read ahead and not asked for yet, as a divisor:
/// the rest is for what readers share, and for the reads of those who wait.
const AHEAD_PART: usize = 2;

/// The part of the cache that may hold what was read to its end by one reader only, as a divisor.
const SCANNED_PART: usize = 8;

/// A block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockKey {
    pub(crate) segment: SegmentKey,
    pub(crate) number: usize,
}

/// Checked blocks that follow each other.
pub(crate) struct Stretch<D: Disk> {
    /// The first of them.
    pub(crate) key: BlockKey,
    pub(crate) page: D::Page,
    /// Contiguous frames, with write headers between the runs.
    pub(crate) runs: Vec<Run>,
    /// How many blocks there are.
    pub(crate) blocks: usize,
    /// Behind its last frame. The last block of a segment that is being written grows.
    pub(crate) end: Position,
    /// Until somebody has asked for it.
    pub(crate) ahead: Cell<Option<Ahead>>,
    /// How often its end was read.
    pub(crate) passes: Cell<u64>,
}

impl<D: Disk> Stretch<D> {
    /// The run that holds `offset`.
    pub(crate) fn find(&self, offset: Offset) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.next <= offset);
        self.runs.get(at).filter(|run| run.base <= offset)
    }

    /// Whether `offset` is behind its last record.
    pub(crate) fn ends_at(&self, offset: Offset) -> bool {
        self.runs.last().is_none_or(|run| run.next <= offset)
    }
}

/// Bytes that are read ahead and that nobody has asked for yet.
#[derive(Debug)]
pub(crate) struct Ahead {
    all: Rc<Cell<usize>>,
    bytes: usize,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

/// See the module's documentation.
pub(crate) struct Cache<D: Disk> {
    stretches: RefCell<Lru<BlockKey, Rc<Stretch<D>>>>,
    loading: RefCell<BTreeMap<BlockKey, Rc<Watch>>>,
    ahead: Rc<Cell<usize>>,
    scanned: RefCell<Scanned<D>>,
    limit: usize,
}

/// Stretches whose end was read once, in that order, perhaps gone meanwhile or read again.
struct Scanned<D: Disk> {
    stretches: VecDeque<(Weak<Stretch<D>>, usize)>,
    bytes: usize,
}

/// Whether the caller loads, or waits for whoever does.
pub(crate) enum Turn<D: Disk> {
    Load(Loading<D>),
    Wait(crate::watch::Changed),
}

impl<D: Disk> Cache<D> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            stretches: RefCell::new(Lru::new(limit as u64)),
            loading: RefCell::default(),
            ahead: Rc::default(),
            scanned: RefCell::new(Scanned {
                stretches: VecDeque::new(),
                bytes: 0,
            }),
            limit,
        }
    }

    /// A stretch that holds the block as far as `end`.
    pub(crate) fn find(&self, key: BlockKey, end: Position) -> Option<Rc<Stretch<D>>> {
        let first = self.key_of(key, end)?;
        let found = self.stretches.borrow_mut().find(&first)?;
        drop(found.ahead.take());
        Some(found)
    }

    /// Whether the block is there as far as `end`, or comes. No use of it.
    pub(crate) fn is_at_hand(&self, key: BlockKey, end: Position) -> bool {
        self.loading.borrow().contains_key(&key) || self.key_of(key, end).is_some()
    }

    /// The key of the stretch with a block.
    fn key_of(&self, key: BlockKey, end: Position) -> Option<BlockKey> {
        let stretches = self.stretches.borrow();
        let (first, stretch) = stretches.floor(&key)?;
        let has_block = first.segment == key.segment && key.number - first.number < stretch.blocks;
        (has_block && stretch.end >= end).then_some(first)
    }

    /// Decides who loads the block `first`, and with it those behind it up to `end`, none of
    /// which is there or comes.
    pub(crate) fn turn(self: &Rc<Self>, first: BlockKey, end: usize) -> Turn<D> {
        let mut loading = self.loading.borrow_mut();
        if let Some(watch) = loading.get(&first) {
            return Turn::Wait(watch.changed());
        }
        let watch = Rc::<Watch>::default();
        let numbers = first.number..end;
        for number in numbers.clone() {
            loading.insert(BlockKey { number, ..first }, Rc::clone(&watch));
        }
        Turn::Load(Loading {
            cache: Rc::clone(self),
            first,
            numbers,
            watch,
        })
    }

    /// Takes leave to read `bytes` ahead. `None` when too much was read ahead already that
    /// nobody has asked for yet: more would only push that out before its time.
    pub(crate) fn reserve_ahead(&self, bytes: usize) -> Option<Ahead> {
        let all = self.ahead.get() + bytes;
        (all <= self.limit / AHEAD_PART).then(|| {
            self.ahead.set(all);
            let all = Rc::clone(&self.ahead);
            Ahead { all, bytes }
        })
    }

    /// Tells that somebody has read the end of a stretch.
    pub(crate) fn passed(&self, stretch: &Rc<Stretch<D>>) {
        stretch.passes.set(stretch.passes.get() + 1);
        if stretch.passes.get() > 1 {
            return;
        }
        let bytes = stretch.page.as_ref().len();
        let mut scanned = self.scanned.borrow_mut();
        scanned.stretches.push_back((Rc::downgrade(stretch), bytes));
        scanned.bytes += bytes;
        while scanned.bytes > self.limit / SCANNED_PART {
            let oldest = scanned.stretches.pop_front();
            let (oldest, bytes) = oldest.expect("the bytes are those of the stretches");
            scanned.bytes -= bytes;
            if let Some(oldest) = oldest.upgrade().filter(|oldest| oldest.passes.get() == 1) {
                self.stretches.borrow_mut().remove(&oldest.key);
            }
        }
    }

    /// Forgets the blocks of one segment.
    pub(crate) fn forget_segment(&self, segment: SegmentKey) {
        self.forget(segment, segment);
    }

    /// Forgets the blocks of a log.
    pub(crate) fn forget_log(&self, log: u64) {
        self.forget(
            SegmentKey {
                log,
                base: Offset(0),
            },
            SegmentKey {
                log,
                base: Offset(u64::MAX),
            },
        );
    }

    fn forget(&self, first: SegmentKey, last: SegmentKey) {
        let first = BlockKey {
            segment: first,
            number: 0,
        };
        let last = BlockKey {
            segment: last,
            number: usize::MAX,
        };
        self.stretches.borrow_mut().remove_range(first..=last);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.stretches.borrow().weight()
    }
}

/// The right and duty to load some blocks. Dropped without them, the next who waits loads.
pub(crate) struct Loading<D: Disk> {
    cache: Rc<Cache<D>>,
    first: BlockKey,
    numbers: Range<usize>,
    watch: Rc<Watch>,
}

impl<D: Disk> Loading<D> {
    pub(crate) fn done(self, stretch: Rc<Stretch<D>>) {
        let bytes = stretch.page.as_ref().len() as u64;
        self.cache
            .stretches
            .borrow_mut()
            .insert(self.first, stretch, bytes);
    }
}

impl<D: Disk> Drop for Loading<D> {
    fn drop(&mut self) {
        let mut loading = self.cache.loading.borrow_mut();
        for number in self.numbers.clone() {
            loading.remove(&BlockKey {
                number,
                ..self.first
            });
        }
        drop(loading);
        self.watch.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::BLOCK_LEN;
    use crate::disk::memory::MemoryDisk;

    /// Enough for 64 stretches of one device block.
    const LIMIT: usize = 64 * BLOCK_LEN;

    fn cache() -> Rc<Cache<MemoryDisk>> {
        Rc::new(Cache::new(LIMIT))
    }

    fn key(number: usize) -> BlockKey {
        let (log, base) = (1, Offset(0));
        let segment = SegmentKey { log, base };
        BlockKey { segment, number }
    }

    /// Loads blocks of one device block each.
    fn load(cache: &Rc<Cache<MemoryDisk>>, numbers: Range<usize>) -> Rc<Stretch<MemoryDisk>> {
        let Turn::Load(loading) = cache.turn(key(numbers.start), numbers.end) else {
            panic!("nobody else loads")
        };
        let disk = MemoryDisk::new(1);
        let len = numbers.len() * BLOCK_LEN;
        let stretch = Rc::new(Stretch {
            key: key(numbers.start),
            page: disk.freeze(disk.buffer(len), len),
            runs: Vec::new(),
            blocks: numbers.len(),
            end: end_of(numbers.end - 1),
            ahead: Cell::default(),
            passes: Cell::default(),
        });
        loading.done(Rc::clone(&stretch));
        stretch
    }

    fn end_of(number: usize) -> Position {
        Position::ZERO.plus((number + 1) * BLOCK_LEN)
    }

    fn is_there(cache: &Cache<MemoryDisk>, number: usize) -> bool {
        cache.find(key(number), end_of(number)).is_some()
    }

    #[test]
    fn a_block_is_found_in_its_stretch() {
        let cache = cache();
        load(&cache, 2..5);
        load(&cache, 7..8);
        let there: Vec<usize> = (0..10).filter(|&n| is_there(&cache, n)).collect();
        assert_eq!(there, [2, 3, 4, 7]);
        assert!(cache.find(key(7), end_of(8)).is_none(), "it has grown");
        let mut other = key(3);
        other.segment.log = 2;
        assert!(cache.find(other, end_of(3)).is_none());
    }

    #[test]
    fn who_loads_a_stretch_loads_each_of_its_blocks() {
        let cache = cache();
        let loading = cache.turn(key(0), 3);
        assert!(cache.is_at_hand(key(2), end_of(2)));
        assert!(matches!(cache.turn(key(1), 2), Turn::Wait(_)));
        drop(loading);
        assert!(!cache.is_at_hand(key(2), end_of(2)));
        assert!(matches!(cache.turn(key(1), 2), Turn::Load(_)));
    }

    #[test]
    fn of_what_one_reader_has_passed_little_is_kept() {
        let cache = cache();
        let shared = load(&cache, 0..1);
        cache.passed(&shared);
        cache.passed(&shared);
        for number in 1..60 {
            cache.passed(&load(&cache, number..number + 1));
        }
        let kept: Vec<usize> = (0..60).filter(|&n| is_there(&cache, n)).collect();
        assert_eq!(kept, [0, 52, 53, 54, 55, 56, 57, 58, 59]);
        assert_eq!(cache.bytes(), 9 * BLOCK_LEN as u64);
    }

    #[test]
    fn what_is_read_ahead_has_its_limit_until_it_is_asked_for_or_gone() {
        let cache = cache();
        let half = cache.reserve_ahead(LIMIT / 2);
        assert!(half.is_some() && cache.reserve_ahead(1).is_none());
        let stretch = load(&cache, 0..1);
        stretch.ahead.set(half);
        drop(stretch);
        assert!(cache.reserve_ahead(1).is_none());
        assert!(is_there(&cache, 0));
        let again = cache.reserve_ahead(LIMIT / 2);
        let stretch = load(&cache, 1..2);
        stretch.ahead.set(again);
        drop(stretch);
        cache.forget_log(1);
        assert_eq!(cache.ahead.get(), 0);
    }
}
