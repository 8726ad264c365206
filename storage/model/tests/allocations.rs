//! What the hot path allocates: nothing. What hostile input makes a decoder allocate: little.
//!
//! A file of its own, for the allocator that counts is the whole process's.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use millrace_model::{
    BatchSpec, Compression, Decompressor, Frame, LeaderEpoch, Offset, ProducedFrame, TopicSettings,
};
use support::{LIMIT, LOG, NOW, frame_of, random_records};

thread_local! {
    /// Bytes that this thread has asked for, in all.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the count beside it is a
// thread-local cell that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the callee's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that `work` allocates.
fn allocated(work: impl FnOnce()) -> usize {
    let before = ALLOCATED.with(Cell::get);
    work();
    ALLOCATED.with(Cell::get) - before
}

#[test]
fn checking_assigning_and_reading_a_frame_allocates_nothing() {
    let records = random_records(&mut fastrand::Rng::with_seed(41), true);
    let mut bytes = frame_of(&records, &BatchSpec::default());
    let (seed, limits) = (
        LOG.checksum_seed(),
        TopicSettings::default().produce_limits(),
    );
    let mut scratch = Decompressor::new();
    let mut value_bytes = 0;
    let cost = allocated(|| {
        let produced = ProducedFrame::check(&mut bytes, seed, &limits, NOW).unwrap();
        produced.assign(Offset(5), LeaderEpoch(1), NOW);
        let frame = Frame::check_stored(&bytes, seed).unwrap();
        for record in frame.batch().records(&mut scratch, LIMIT).unwrap() {
            let record = record.unwrap();
            value_bytes += record.value.map_or(0, <[u8]>::len) + record.headers().count();
        }
    });
    assert!(value_bytes > 0);
    assert_eq!(cost, 0);
}

#[test]
fn what_a_header_declares_is_not_allocated() {
    // A block of 6 bytes that declares 2^29.
    let xerial = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x06";
    let snappy = [&xerial[..], &[0x80, 0x80, 0x80, 0x80, 0x02, 0]].concat();
    // A file name that never ends.
    let gzip = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], &[b'a'; 300_000]].concat();
    let hostile = [
        (Compression::Snappy, snappy, 1 << 10),
        (Compression::Gzip, gzip, 512 << 10),
        (Compression::Lz4, lz4_of_one_byte(), 13 << 20),
    ];
    for (compression, stored, most) in hostile {
        let mut scratch = Decompressor::new();
        let mut refused = false;
        let cost = allocated(|| {
            refused = scratch.decompress(compression, &stored, 1 << 30).is_err();
        });
        assert!(refused, "{compression}");
        assert!(cost <= most, "{compression} allocated {cost} bytes");
    }
}

/// A frame that declares 2^40 bytes in linked blocks of 4 MiB, and holds one.
fn lz4_of_one_byte() -> Vec<u8> {
    let info = FrameInfo::new()
        .content_size(Some(1 << 40))
        .block_size(BlockSize::Max4MB)
        .block_mode(BlockMode::Linked);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(b"1").unwrap();
    encoder.flush().unwrap();
    let mut frame = encoder.get_ref().clone();
    frame.extend_from_slice(&[0; 4]);
    frame
}
