//! The read cache of a shard: blocks of frames that were read from files and checked, by
//! bytes the ones used lately. One load at a time of each block, shared by all who want it.

use crate::disk::Disk;
use crate::files::SegmentKey;
use crate::frames::Run;
use crate::lru::Lru;
use crate::position::Position;
use crate::watch::Watch;
use millrace_model::Offset;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockKey {
    pub(crate) segment: SegmentKey,
    pub(crate) number: usize,
}

/// A checked block.
pub(crate) struct Block<D: Disk> {
    pub(crate) page: D::Page,
    /// Contiguous frames, with write headers between the runs.
    pub(crate) runs: Vec<Run>,
    /// Behind its last frame. The last block of a segment that is being written grows.
    pub(crate) end: Position,
}

impl<D: Disk> Block<D> {
    /// The run that holds `offset`.
    pub(crate) fn find(&self, offset: Offset) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.next <= offset);
        self.runs.get(at).filter(|run| run.base <= offset)
    }
}

/// See the module's documentation.
pub(crate) struct Cache<D: Disk> {
    blocks: RefCell<Lru<BlockKey, Rc<Block<D>>>>,
    loading: RefCell<BTreeMap<BlockKey, Rc<Watch>>>,
}

/// Whether the caller loads a block, or waits for whoever does.
pub(crate) enum Turn<'a, D: Disk> {
    Load(Loading<'a, D>),
    Wait(crate::watch::Changed),
}

impl<D: Disk> Cache<D> {
    pub(crate) fn new(limit: usize) -> Self {
        let blocks = RefCell::new(Lru::new(limit as u64));
        Self {
            blocks,
            loading: RefCell::default(),
        }
    }

    /// A block that reaches at least to `end`.
    pub(crate) fn find(&self, key: BlockKey, end: Position) -> Option<Rc<Block<D>>> {
        self.blocks
            .borrow_mut()
            .find(&key)
            .filter(|block| block.end >= end)
    }

    /// Decides who loads a block that is not there.
    pub(crate) fn turn(&self, key: BlockKey) -> Turn<'_, D> {
        let mut loading = self.loading.borrow_mut();
        if let Some(watch) = loading.get(&key) {
            return Turn::Wait(watch.changed());
        }
        loading.insert(key, Rc::default());
        Turn::Load(Loading { cache: self, key })
    }

    pub(crate) fn is_loading(&self, key: BlockKey) -> bool {
        self.loading.borrow().contains_key(&key)
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
        self.blocks.borrow_mut().remove_range(first..=last);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.borrow().weight()
    }
}

/// The right and duty to load one block. Dropped without a block, the next who waits loads.
pub(crate) struct Loading<'a, D: Disk> {
    cache: &'a Cache<D>,
    key: BlockKey,
}

impl<D: Disk> Loading<'_, D> {
    pub(crate) fn done(self, block: Rc<Block<D>>) {
        let bytes = block.page.as_ref().len() as u64;
        self.cache
            .blocks
            .borrow_mut()
            .insert(self.key, block, bytes);
    }
}

impl<D: Disk> Drop for Loading<'_, D> {
    fn drop(&mut self) {
        let watch = self.cache.loading.borrow_mut().remove(&self.key);
        if let Some(watch) = watch {
            watch.notify();
        }
    }
}
