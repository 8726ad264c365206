//! The pages that were written lately, for readers at the tail: kept per log, evicted first
//! in, first out across all logs of the shard.
//!
//! A page that is not on the device yet is never evicted: nobody else has its frames.

use crate::disk::Disk;
use crate::frames::Run;
use millrace_model::Offset;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Pages that cannot be evicted yet and are passed over before eviction gives up for now.
const PASSED_OVER: usize = 8;

/// A page in a tail.
pub(crate) struct TailPage<D: Disk> {
    /// Its place among the pages of its tail, which the pool gives it.
    number: u64,
    page: D::Page,
    /// Bytes that it keeps, which is what counts.
    memory: usize,
    frames: Run,
}

impl<D: Disk> TailPage<D> {
    pub(crate) const fn new(page: D::Page, memory: usize, frames: Run) -> Self {
        Self {
            number: 0,
            page,
            memory,
            frames,
        }
    }
}

/// One log's pages, in order and without gaps.
pub(crate) struct Tail<D: Disk> {
    pages: VecDeque<TailPage<D>>,
    next_number: u64,
    /// End of what is on the device.
    written: Offset,
    held: Rc<Cell<usize>>,
}

impl<D: Disk> Tail<D> {
    /// Everything below `end` can be read from the device.
    pub(crate) fn written(&mut self, end: Offset) {
        self.written = end;
    }

    /// Forgets what reaches above `end`, which was taken back.
    pub(crate) fn truncate(&mut self, end: Offset) {
        while self.pages.back().is_some_and(|last| last.frames.next > end) {
            let last = self.pages.pop_back().expect("the loop has seen it");
            self.let_go(&last);
        }
    }

    /// Forgets all that can be read from the device. Returns the bytes freed.
    pub(crate) fn release(&mut self) -> usize {
        let before = self.held.get();
        while self.evict_first() {}
        if self.pages.is_empty() {
            self.pages = VecDeque::new();
        }
        before - self.held.get()
    }

    /// The end of the page submitted last.
    pub(crate) fn end(&self) -> Option<Offset> {
        self.pages.back().map(|last| last.frames.next)
    }

    /// The page that holds `offset`, and its frames.
    pub(crate) fn find(&self, offset: Offset) -> Option<(&D::Page, &Run)> {
        let at = self.pages.partition_point(|p| p.frames.next <= offset);
        let found = self.pages.get(at).filter(|p| p.frames.base <= offset)?;
        Some((&found.page, &found.frames))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pages.iter().map(|page| page.memory).sum()
    }

    fn evict_first(&mut self) -> bool {
        let evictable = self
            .pages
            .front()
            .is_some_and(|p| p.frames.next <= self.written);
        if evictable {
            let first = self.pages.pop_front().expect("it was just seen");
            self.let_go(&first);
        }
        evictable
    }

    fn let_go(&self, page: &TailPage<D>) {
        self.held.set(self.held.get() - page.memory);
    }
}

impl<D: Disk> Drop for Tail<D> {
    fn drop(&mut self) {
        self.held.set(self.held.get() - self.bytes());
    }
}

/// A page, by its log's tail and its number there.
type Entry<D> = (Weak<RefCell<Tail<D>>>, u64);

/// All tails of a shard.
pub(crate) struct TailPool<D: Disk> {
    held: Rc<Cell<usize>>,
    limit: usize,
    in_order: RefCell<VecDeque<Entry<D>>>,
}

impl<D: Disk> TailPool<D> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            held: Rc::default(),
            limit,
            in_order: RefCell::default(),
        }
    }

    /// A log's tail, empty, with everything below `written` on the device.
    pub(crate) fn tail(&self, written: Offset) -> Rc<RefCell<Tail<D>>> {
        let pages = VecDeque::new();
        let held = Rc::clone(&self.held);
        Rc::new(RefCell::new(Tail {
            pages,
            next_number: 0,
            written,
            held,
        }))
    }

    /// Adds a page that is submitted now.
    pub(crate) fn push(&self, tail: &Rc<RefCell<Tail<D>>>, page: TailPage<D>) {
        self.held.set(self.held.get() + page.memory);
        let number = {
            let mut tail = tail.borrow_mut();
            let number = tail.next_number;
            tail.next_number += 1;
            tail.pages.push_back(TailPage { number, ..page });
            number
        };
        self.in_order
            .borrow_mut()
            .push_back((Rc::downgrade(tail), number));
        self.evict();
    }

    /// Bytes of all pages that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.held.get()
    }

    fn evict(&self) {
        let mut passed_over = 0;
        while self.held.get() > self.limit && passed_over < PASSED_OVER {
            let Some((tail, number)) = self.in_order.borrow_mut().pop_front() else {
                return;
            };
            let Some(alive) = tail.upgrade() else {
                continue;
            };
            let mut alive = alive.borrow_mut();
            let released = alive
                .pages
                .front()
                .is_none_or(|first| first.number > number);
            if !released && !alive.evict_first() {
                self.in_order.borrow_mut().push_back((tail, number));
                passed_over += 1;
            }
        }
        self.forget_released();
    }

    /// Entries of pages that were released otherwise are dropped when they stand in front.
    fn forget_released(&self) {
        let mut in_order = self.in_order.borrow_mut();
        let gone = |(tail, number): &Entry<D>| {
            tail.upgrade().is_none_or(|tail| {
                let tail = tail.borrow();
                tail.pages
                    .front()
                    .is_none_or(|first| first.number > *number)
            })
        };
        while in_order.front().is_some_and(gone) {
            in_order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::BLOCK_LEN;
    use crate::disk::memory::MemoryDisk;

    #[test]
    fn what_pages_keep_counts_and_not_what_they_show() {
        let (disk, pool) = (
            MemoryDisk::new(1),
            TailPool::<MemoryDisk>::new(10 * BLOCK_LEN),
        );
        let tail = pool.tail(Offset(0));
        for base in 0..5 {
            let page = disk.freeze(disk.buffer(BLOCK_LEN), BLOCK_LEN);
            let (base, next) = (Offset(base), Offset(base + 1));
            let range = 0..BLOCK_LEN;
            let page = TailPage::new(page, 4 * BLOCK_LEN, Run { range, base, next });
            pool.push(&tail, page);
            tail.borrow_mut().written(next);
        }
        assert_eq!(pool.bytes(), 8 * BLOCK_LEN);
        let there: Vec<u64> = (0..5)
            .filter(|&at| tail.borrow().find(Offset(at)).is_some())
            .collect();
        assert_eq!(there, [3, 4]);
        drop(tail);
        assert_eq!(pool.bytes(), 0);
    }
}
