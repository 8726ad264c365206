//! Footers, trailers, the log-start file, producer snapshots and segments.
//!
//! A checksum would stop nearly every input, so each body gets the bytes as they are, and
//! once more with length and checksum made right.

use millrace_model::{FrameHeader, LogId, Offset, Timestamp, WriteHeader};
use millrace_storage::fuzz;

use super::super::Target;

const FOOTER: [u8; 4] = *b"MRX1";
const TRAILER: [u8; 4] = *b"MRT1";
const START_FILE: [u8; 4] = *b"MRS1";

/// Bytes of magic and checksum before what is sealed.
const SEAL_LEN: usize = 8;

/// Length of a trailer: one block.
const TRAILER_LEN: usize = millrace_storage::disk::BLOCK_LEN;

/// The targets of `millrace-storage`.
pub(super) fn targets() -> Vec<Target> {
    vec![
        Target::new("storage::footer", footer, footers()),
        Target::new("storage::trailer", trailer, trailers()),
        Target::new("storage::start_file", start_file, start_files()),
        Target::new(
            "storage::producer_snapshot",
            fuzz::producer_snapshot,
            snapshots(),
        ),
        Target::new("storage::segment", fuzz::segment, segments()),
    ]
}

fn footer(bytes: &[u8]) {
    fuzz::footer(bytes);
    fuzz::footer(&sealed(FOOTER, bytes));
}

fn trailer(bytes: &[u8]) {
    fuzz::trailer(bytes);
    let mut block = bytes.to_vec();
    block.resize(TRAILER_LEN - SEAL_LEN, 0);
    fuzz::trailer(&fuzz::seal(TRAILER, &block));
}

fn start_file(bytes: &[u8]) {
    fuzz::start_file(bytes);
    let copy = sealed(START_FILE, bytes);
    fuzz::start_file(&[copy.clone(), copy].concat());
}

/// The bytes with their length first, sealed.
fn sealed(magic: [u8; 4], bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(SEAL_LEN + bytes.len()).unwrap_or(u32::MAX);
    let mut with_len = bytes.to_vec();
    if let Some(field) = with_len.first_chunk_mut() {
        *field = len.to_le_bytes();
    }
    fuzz::seal(magic, &with_len)
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// Length, zero, the numbers of index entries, epochs, bytes of producers and zero, the
/// offsets of the segment, and those parts.
fn footers() -> Vec<Vec<u8>> {
    let snapshot = snapshots().remove(0);
    let producers = u32::try_from(snapshot.len()).expect("a small snapshot");
    let empty = words(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let index = words(&[0, 0, 0, 0, 100, 0, 10, 0, 4_096, 0, 200, 0]);
    let epochs = words(&[1, 0, 0, 0, 2, 0, 10, 0]);
    let head = words(&[0, 0, 2, 2, producers, 0, 0, 0, 0, 0]);
    vec![empty, [head, index, epochs, snapshot].concat()]
}

fn trailers() -> Vec<Vec<u8>> {
    vec![
        words(&[0, 0, 0, 0, 0, 0, 4_096, 0, 4_096, 0, 0, 0]),
        words(&[0; 12]),
    ]
}

/// Length, zero, log start, the offset to truncate to and the end of what was deleted (all
/// ones for none), and the numbers of epochs and bytes of producers.
fn start_files() -> Vec<Vec<u8>> {
    let none = u32::MAX;
    vec![
        words(&[0, 0, 7, 0, none, none, none, none, 0, 0]),
        words(&[0, 0, 7, 0, 9, 0, 7, 0, 1, 0, 1, 0, 0, 0]),
    ]
}

/// A producer with one batch.
fn snapshots() -> Vec<Vec<u8>> {
    let batch = words(&[0, 4, 0, 0, 5, 0, 1_000, 0]);
    let producer = [7_u64.to_le_bytes().as_slice(), &[0, 0, 1, 0], &batch].concat();
    vec![[words(&[1]), producer].concat(), words(&[0])]
}

/// A write with a frame, sealed for the log that the body assumes.
fn segments() -> Vec<Vec<u8>> {
    let seed = LogId::default().checksum_seed();
    let segment = |frame: Vec<u8>| {
        let header = FrameHeader::parse(&frame, seed).expect("the frame was just built");
        let write = WriteHeader {
            magic: WriteHeader::MAGIC,
            checksum: 0,
            frames_len: header.frame_len,
            leader_epoch: header.leader_epoch,
            next_offset: Offset::ZERO,
            durable_end: Offset::ZERO,
            log_start: Offset::ZERO,
            timestamp: Timestamp(1),
            reserved: [0; 2],
        };
        [
            write.seal(0).as_slice(),
            &header.seal(0),
            &frame[write.seal(0).len()..],
        ]
        .concat()
    };
    super::model::frames().into_iter().map(segment).collect()
}
