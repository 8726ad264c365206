//! Frames of the log as the records of a response: each batch without its frame's header and
//! padding.
//!
//! A batch is a slice of the page that it lies in. Only small ones are copied together, for each slice
//! costs a reference and an entry in the vector of the write.

use bytes::{Bytes, BytesMut};
use millrace_kafka::RecordSet;

use crate::session::consume::{Frames, Run};
use crate::session::home_bytes::share;

/// Batches of a run are copied together when they are shorter than this on average: about where a
/// copy costs as much as a slice.
const COPY_BELOW: usize = 2 << 10;

/// The compression in the attributes of a batch.
const ZSTD: u8 = 4;

/// Where the low byte of a batch's attributes lies, and the bits that name the compression.
const ATTRIBUTES_AT: usize = 22;
const COMPRESSION_BITS: u8 = 0b111;

/// Adds the batches of a run.
pub(super) fn add(records: &mut RecordSet, run: Run) {
    let batches: Vec<_> = run.batches().collect();
    let bytes = run.as_bytes();
    if bytes.len() < batches.len() * COPY_BELOW {
        let mut copied = BytesMut::with_capacity(bytes.len());
        for batch in batches {
            copied.extend_from_slice(&bytes[batch]);
        }
        records.push(copied.freeze());
    } else {
        let page = share(Frames(run));
        for batch in batches {
            records.push(page.slice(batch));
        }
    }
}

/// Whether a batch of these runs is compressed with zstd.
pub(super) fn has_zstd(runs: &[Run]) -> bool {
    runs.iter().any(|run| {
        let bytes = run.as_bytes();
        run.batches()
            .any(|batch| bytes[batch.start + ATTRIBUTES_AT] & COMPRESSION_BITS == ZSTD)
    })
}

/// A copy that may go to another shard.
pub(super) fn copy(records: &RecordSet) -> RecordSet {
    let mut copied = BytesMut::with_capacity(records.len());
    for chunk in records.chunks() {
        copied.extend_from_slice(chunk);
    }
    Bytes::from(copied).into()
}
