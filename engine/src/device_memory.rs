//! The allocator of the broker's binary: buffers for device I/O come from huge pages that are kept
//! and used again, everything else from the system's allocator.
//!
//! The system's allocator maps a large, page-aligned buffer anew and unmaps it when it is given
//! back. For the pages of a log that is a fault and a page of zeros for each 4 KiB that a device is
//! about to overwrite, and as many pages to pin for each transfer.
//!
//! A small one it takes from the end of a thread's heap, which grows by just that much, a system call and a fault
//! each time, as long as the pages of the tail are held.
//!
//! Here a thread holds *chunks*, and deals out runs of units of them, the lowest that fit: of huge pages for
//! most buffers, of smaller chunks for those of a few blocks, which single records are written from. A buffer is given back where it was taken: those of glommio never leave their
//! thread. When a chunk is free as a whole it goes back to the system, but for a few ([`Class::kept`]), so what a thread holds follows what it uses. What limits that are the budgets of
//! those who use it: the append buffers, the pages of the tail, the read cache.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::ptr;

/// Units of a chunk: a bitmap has so many bits.
const UNITS: usize = u128::BITS as usize;

/// Buffers of device I/O are aligned to blocks of the device; hardly anything else is.
const ALIGN: usize = 4096;

/// Buffers by their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Of a few blocks.
    Small,
    /// Of more.
    Large,
}

impl Class {
    /// Buffers are made of whole units.
    const fn unit(self) -> usize {
        match self {
            Self::Small => ALIGN,
            Self::Large => 16 << 10,
        }
    }

    /// A chunk's length. A large one is a huge page.
    const fn chunk(self) -> usize {
        self.unit() * UNITS
    }

    /// Free chunks that a thread keeps for the next buffers: large ones as many as one reader of large responses
    /// takes ahead, and gives back when it is done; of small ones as many bytes as of one large.
    const fn kept(self) -> usize {
        4
    }

    fn with<T>(self, of: impl FnOnce(&mut Chunks) -> T) -> T {
        let chunks = match self {
            Self::Small => &SMALL,
            Self::Large => &LARGE,
        };
        chunks.with(|chunks| of(&mut chunks.borrow_mut()))
    }
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub struct DeviceMemory;

/// Which units of each chunk are taken, by the chunk's address.
struct Chunks {
    class: Class,
    taken: BTreeMap<usize, u128>,
    free: usize,
}

thread_local! {
    // Never dropped: buffers may be given back until the very end of the thread.
    static SMALL: ManuallyDrop<RefCell<Chunks>> = const { Chunks::none(Class::Small) };
    static LARGE: ManuallyDrop<RefCell<Chunks>> = const { Chunks::none(Class::Large) };
}

/// The class and the units of a buffer, if it is one for device I/O.
fn units(layout: Layout) -> Option<(Class, u32)> {
    let size = layout.size();
    let class = match size < Class::Large.unit() {
        true => Class::Small,
        false => Class::Large,
    };
    let is_ours = layout.align() == ALIGN && (ALIGN..=Class::Large.chunk()).contains(&size);
    let units = || u32::try_from(size.div_ceil(class.unit()));
    is_ours.then(|| (class, units().expect("a chunk has a hundred units or so")))
}

/// So many ones from bit 0 on.
const fn ones(count: u32) -> u128 {
    u128::MAX >> (u128::BITS - count)
}

/// The lowest run of `count` bits that are not set in `taken`.
fn free_run(taken: u128, count: u32) -> Option<u32> {
    let mut starts = !taken;
    // After each step, a bit is set where a run of so many begins.
    let mut have = 1;
    while have < count && starts != 0 {
        let step = have.min(count - have);
        starts &= starts >> step;
        have += step;
    }
    (starts != 0).then(|| starts.trailing_zeros())
}

impl Chunks {
    const fn none(class: Class) -> ManuallyDrop<RefCell<Self>> {
        ManuallyDrop::new(RefCell::new(Self {
            class,
            taken: BTreeMap::new(),
            free: 0,
        }))
    }

    fn take(&mut self, count: u32) -> *mut u8 {
        let found = self.taken.iter_mut().find_map(|(chunk, taken)| {
            let at = free_run(*taken, count)?;
            Some((*chunk, taken, at))
        });
        if let Some((chunk, taken, at)) = found {
            self.free -= usize::from(*taken == 0);
            *taken |= ones(count) << at;
            return ptr::with_exposed_provenance_mut(chunk + at as usize * self.class.unit());
        }
        let chunk = map_chunk(self.class);
        if !chunk.is_null() {
            self.taken.insert(chunk.expose_provenance(), ones(count));
        }
        chunk
    }

    fn give_back(&mut self, buffer: *mut u8, count: u32) {
        let address = buffer.expose_provenance();
        let (unit, len) = (self.class.unit(), self.class.chunk());
        let (chunk, at) = (address & !(len - 1), address % len / unit);
        let Some(taken) = self.taken.get_mut(&chunk) else {
            // Of a thread that knows it as taken for ever. Its memory is free all the same.
            return unmap(buffer, count as usize * unit);
        };
        *taken &= !(ones(count) << at);
        if *taken != 0 {
            return;
        }
        self.free += 1;
        if self.free > self.class.kept() {
            // The highest, so that the lower ones stay in use.
            let last = self.taken.iter().rev().find(|(_, taken)| **taken == 0);
            let last = *last.expect("there are free ones").0;
            self.taken.remove(&last);
            self.free -= 1;
            unmap(ptr::with_exposed_provenance_mut(last), len);
        }
    }
}

/// A chunk of zeros, or null if the system has no memory.
fn map_chunk(class: Class) -> *mut u8 {
    let len = class.chunk();
    // SAFETY: a new mapping, wherever the system puts it.
    let mapped = unsafe {
        libc::mmap(
            ptr::null_mut(),
            2 * len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    let mapped = mapped.cast::<u8>();
    let before = mapped.align_offset(len);
    let chunk = mapped.wrapping_add(before);
    unmap(mapped, before);
    unmap(chunk.wrapping_add(len), len - before);
    let advice = match class {
        // One fault for all of it instead of one for each block.
        Class::Small => libc::MADV_POPULATE_WRITE,
        Class::Large => libc::MADV_HUGEPAGE,
    };
    // SAFETY: the mapping is this function's. What the kernel does not do costs faults, or small pages.
    unsafe { libc::madvise(chunk.cast(), len, advice) };
    chunk
}

/// Gives pages that nobody uses back to the system.
fn unmap(from: *mut u8, len: usize) {
    if len > 0 {
        // SAFETY: the callers own the pages. What fails leaves them mapped, which harms nobody.
        unsafe { libc::munmap(from.cast(), len) };
    }
}

// SAFETY: `take` deals out memory of at least the layout's size and alignment that nobody else
// has until it is given back with the same layout, by which both sides tell whose it is. Nothing
// here unwinds: the map takes its own memory from `System`, for it asks for no such alignment.
unsafe impl GlobalAlloc for DeviceMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match units(layout) {
            Some((class, count)) => class.with(|chunks| chunks.take(count)),
            // SAFETY: as the caller promises.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, buffer: *mut u8, layout: Layout) {
        match units(layout) {
            Some((class, count)) => class.with(|chunks| chunks.give_back(buffer, count)),
            // SAFETY: as the caller promises, and it came from `System`.
            None => unsafe { System.dealloc(buffer, layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if units(layout).is_none() {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: as the caller promises.
        let buffer = unsafe { self.alloc(layout) };
        if !buffer.is_null() {
            // SAFETY: the buffer has just been made, with the layout's size.
            unsafe { ptr::write_bytes(buffer, 0, layout.size()) };
        }
        buffer
    }

    unsafe fn realloc(&self, buffer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is one of a layout.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if units(layout).is_none() && units(new).is_none() {
            // SAFETY: as the caller promises, and it came from `System`.
            return unsafe { System.realloc(buffer, layout, new_size) };
        }
        // SAFETY: the new layout is valid as the caller promises.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: both buffers have so many bytes, and one of them is new.
            unsafe { ptr::copy_nonoverlapping(buffer, moved, layout.size().min(new_size)) };
            // SAFETY: as the caller promises.
            unsafe { self.dealloc(buffer, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, ALIGN).unwrap()
    }

    const UNIT: usize = Class::Large.unit();
    const CHUNK: usize = Class::Large.chunk();

    fn held(class: Class) -> (usize, usize) {
        class.with(|chunks| (chunks.taken.len(), chunks.free))
    }

    #[test]
    fn the_lowest_run_that_fits_is_found() {
        assert_eq!(free_run(0, 128), Some(0));
        assert_eq!(free_run(1, 128), None);
        assert_eq!(free_run(u128::MAX, 1), None);
        assert_eq!(free_run(0b1001_0011, 1), Some(2));
        assert_eq!(free_run(0b1001_0011, 2), Some(2));
        assert_eq!(free_run(0b1001_0011, 3), Some(8));
        assert_eq!(free_run(u128::MAX >> 5, 5), Some(123));
        assert_eq!(free_run(u128::MAX >> 5, 6), None);
    }

    #[test]
    fn only_what_is_for_a_device_is_ours() {
        assert_eq!(units(layout(ALIGN - 1)), None);
        assert_eq!(units(layout(ALIGN)), Some((Class::Small, 1)));
        assert_eq!(units(layout(UNIT - 1)), Some((Class::Small, 4)));
        assert_eq!(units(layout(UNIT)), Some((Class::Large, 1)));
        assert_eq!(units(layout(UNIT + 1)), Some((Class::Large, 2)));
        assert_eq!(units(layout(CHUNK)), Some((Class::Large, 128)));
        assert_eq!(units(layout(CHUNK + 1)), None);
        assert_eq!(units(Layout::from_size_align(CHUNK, 64).unwrap()), None);
    }

    #[test]
    fn buffers_do_not_overlap_and_chunks_go_back_when_they_are_free() {
        deal_out(Class::Large, 60, UNIT..=CHUNK / 2);
        deal_out(Class::Small, 900, ALIGN..=UNIT - 1);
    }

    fn deal_out(class: Class, most: usize, sizes: std::ops::RangeInclusive<usize>) {
        std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(3);
            let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for step in 0..most as u32 * 13 {
                if live.len() < most && random.u8(..3) > 0 {
                    let layout = layout(random.usize(sizes.clone()));
                    // SAFETY: the layout is not empty.
                    let buffer = unsafe { DeviceMemory.alloc(layout) };
                    assert!(buffer.is_aligned_to_block());
                    let mark = step as u8;
                    // SAFETY: the buffer has the layout's size.
                    unsafe { ptr::write_bytes(buffer, mark, layout.size()) };
                    live.push((buffer, layout, mark));
                } else if !live.is_empty() {
                    check_and_free(live.swap_remove(random.usize(..live.len())));
                }
            }
            live.into_iter().for_each(check_and_free);
            assert_eq!(held(class), (class.kept(), class.kept()));
        })
        .join()
        .unwrap();
    }

    fn check_and_free((buffer, layout, mark): (*mut u8, Layout, u8)) {
        // SAFETY: the buffer was filled and is live.
        let bytes = unsafe { std::slice::from_raw_parts(buffer, layout.size()) };
        assert!(bytes.iter().all(|&byte| byte == mark));
        // SAFETY: it came from there with this layout.
        unsafe { DeviceMemory.dealloc(buffer, layout) };
    }

    trait Block {
        fn is_aligned_to_block(&self) -> bool;
    }

    impl Block for *mut u8 {
        fn is_aligned_to_block(&self) -> bool {
            self.addr().is_multiple_of(ALIGN)
        }
    }

    #[test]
    fn what_grows_keeps_its_bytes_and_what_is_foreign_is_unmapped() {
        // SAFETY: layouts are not empty, and buffers are used as they were made.
        unsafe {
            let small = DeviceMemory.alloc_zeroed(layout(ALIGN));
            *small = 7;
            let large = DeviceMemory.realloc(small, layout(ALIGN), 3 * UNIT);
            assert_eq!((*large, *large.add(1)), (7, 0));
            let large = large.expose_provenance();
            std::thread::spawn(move || {
                let large = ptr::with_exposed_provenance_mut(large);
                DeviceMemory.dealloc(large, layout(3 * UNIT));
                assert_eq!(held(Class::Large), (0, 0));
            })
            .join()
            .unwrap();
        }
    }
}
