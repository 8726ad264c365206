//! What the processor does with each byte of the log at least: a checksum and a copy. Over more
//! memory than caches hold, in pieces of an append buffer's size.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::{Item, Probe};

/// Bytes at a time.
const PIECE: usize = 256 << 10;

/// Bytes in all.
const FIELD: usize = 64 << 20;

/// One item.
pub(super) fn measure(probe: Probe, time: Duration) -> Item {
    let from = vec![7_u8; FIELD];
    match probe {
        Probe::Crc => repeat(probe, time, |at| {
            black_box(crc32c::crc32c(black_box(&from[at..at + PIECE])));
        }),
        Probe::Copy => {
            let mut into = vec![1_u8; FIELD];
            repeat(probe, time, |at| {
                into[at..at + PIECE].copy_from_slice(black_box(&from[at..at + PIECE]));
                black_box(&mut into);
            })
        }
        other => panic!("{} is not of the processor", other.name()),
    }
}

fn repeat(probe: Probe, time: Duration, mut piece: impl FnMut(usize)) -> Item {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < time {
        piece(count * PIECE % FIELD);
        count += 1;
    }
    let bytes = (count * PIECE) as u64;
    Item::rate(probe, count as u64, bytes, began.elapsed())
}
