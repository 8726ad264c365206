//! The checkers' own reading of stored frames, apart from the product's: byte positions of
//! the frame header (`storage/FORMAT.md`) and of Kafka's record batch version 2.

use millrace_model::LogId;

use super::trace::{Violation, ensure};

/// Bytes of a frame header.
const HEADER: usize = 64;

/// In a record batch, everything from its version on is the producer's, byte for byte.
/// Before it stand the base offset, the length and the leader epoch.
const FIXED_FROM: usize = 16;

/// One frame, cut out of what a reader got.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawFrame<'a> {
    /// Offset of the first record.
    pub(super) base: u64,
    /// Offset after the last record.
    pub(super) next: u64,
    /// Epoch of the leader that appended it.
    pub(super) epoch: u32,
    /// The record batch.
    pub(super) batch: &'a [u8],
    /// Bytes of the whole frame.
    pub(super) len: usize,
}

impl<'a> RawFrame<'a> {
    /// The frame that `bytes` begins with, as the log `id` must have stored it.
    pub(super) fn read(bytes: &'a [u8], id: LogId) -> Result<Self, Violation> {
        ensure!(bytes.len() >= HEADER, "{} bytes are no frame", bytes.len());
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        ensure!(
            &bytes[..4] == b"MRF1",
            "no frame where one must be: {:?}",
            &bytes[..16]
        );
        let sum = crc32c::crc32c_append(seed(id), &bytes[8..HEADER]);
        ensure!(
            u32_at(4) == sum,
            "the checksum of a frame header does not hold"
        );
        let (len, batch_len) = (u32_at(8) as usize, u32_at(12) as usize);
        ensure!(
            len <= bytes.len(),
            "a frame of {len} bytes in {}",
            bytes.len()
        );
        ensure!(
            len == (HEADER + batch_len).next_multiple_of(16),
            "a frame of {len} bytes for a batch of {batch_len}"
        );
        ensure!(
            bytes[HEADER + batch_len..len].iter().all(|byte| *byte == 0),
            "the padding of a frame is not zero"
        );
        let base = u64_at(16);
        let frame = Self {
            base,
            next: base + u64::from(u32_at(24)) + 1,
            epoch: u32_at(32),
            batch: &bytes[HEADER..HEADER + batch_len],
            len,
        };
        frame.check_batch()?;
        Ok(frame)
    }

    /// Whether this is the batch that the producer sent.
    pub(super) fn carries(&self, sent: &[u8]) -> bool {
        self.batch.len() == sent.len() && self.batch[FIXED_FROM..] == sent[FIXED_FROM..]
    }

    fn check_batch(&self) -> Result<(), Violation> {
        let batch = self.batch;
        ensure!(batch.len() >= 61, "a batch of {} bytes", batch.len());
        let base = u64::from_be_bytes(batch[..8].try_into().expect("8 bytes"));
        let epoch = u32::from_be_bytes(batch[12..16].try_into().expect("4 bytes"));
        ensure!(
            base == self.base,
            "frame at {} holds a batch at {base}",
            self.base
        );
        ensure!(
            epoch == self.epoch,
            "frame of epoch {} holds a batch of {epoch}",
            self.epoch
        );
        Ok(())
    }
}

/// The record batch inside a frame that was built to be sent.
pub(super) fn batch_of(frame: &[u8]) -> &[u8] {
    let len = u32::from_le_bytes(frame[12..16].try_into().expect("4 bytes"));
    &frame[HEADER..HEADER + len as usize]
}

fn seed(id: LogId) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.topic.0), &id.partition.0.to_le_bytes())
}
