//! The frame: a fixed 64-byte header, a Kafka v2 record batch byte for byte, and zero
//! padding to 16 bytes. See `storage/FORMAT.md` for the byte maps.
//!
//! Bytes become a frame through one of two checked constructors, and are not checked again:
//! [`Frame::check_stored`] for what a broker wrote (from disk, or on its way to a
//! consumer), [`ProducedFrame::check`] for what a producer sent. Both pass over the batch
//! once, for its CRC, and allocate nothing. Neither decompresses or walks records: see
//! [`RecordBatch::validate_records`].

mod encode;
mod header;
mod produced;

pub(crate) use encode::produced_header;
pub use encode::{encode_frame, frame_for_batch};
pub use header::{
    ArchivedFrameHeader, ArchivedWriteHeader, FRAME_ALIGN, FRAME_HEADER_LEN, FrameHeader,
    MAX_BATCH_LEN, MAX_FRAME_LEN, WriteHeader, frame_len_for,
};
pub use produced::{ProduceError, ProduceLimits, ProducedFrame};

use crate::batch::{BatchError, RecordBatch};
use crate::{ErrorCode, Offset};

/// Bytes that are not the frame, or the header, that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the header or the frame does.
    #[error("needs {needed} bytes, has fewer")]
    TooShort {
        /// Bytes that the whole thing takes.
        needed: usize,
    },
    /// The first four bytes are not the magic.
    #[error("not a frame: it starts with {magic:#010x}")]
    NotAFrame {
        /// What they are, read in little-endian order.
        magic: u32,
    },
    /// The header's checksum does not hold: damage, or a frame of another log.
    #[error("the header's checksum does not hold")]
    Checksum,
    /// The two lengths are not those of any frame.
    #[error("a frame of {frame_len} bytes cannot hold a batch of {batch_len}")]
    Length {
        /// The frame's length as stated.
        frame_len: u32,
        /// The batch's length as stated.
        batch_len: u32,
    },
    /// A field of the header cannot be what it is.
    #[error("header: {0}")]
    Header(&'static str),
    /// Header and batch state different values.
    #[error("header and batch differ in the {0}")]
    Mismatch(&'static str),
    /// The batch is damaged.
    #[error("batch: {0}")]
    Batch(#[from] BatchError),
    /// A byte of the padding is not zero.
    #[error("the padding is not zero")]
    Padding,
}

impl FrameError {
    /// The code that tells a client.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(error) => error.code(),
            _ => ErrorCode::CorruptMessage,
        }
    }
}

/// A whole frame that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    header: FrameHeader,
    batch: RecordBatch<'a>,
}

impl<'a> Frame<'a> {
    /// Checks the frame that `bytes` starts with, as a broker stores and serves it: header,
    /// batch, that the two agree, the batch's CRC and the padding. More bytes may follow.
    ///
    /// # Errors
    /// [`FrameError`] with what does not hold. [`FrameError::TooShort`] says how many bytes
    /// to gather.
    pub fn check_stored(bytes: &'a [u8], seed: u32) -> Result<Self, FrameError> {
        let frame = Self::check_agreeing(bytes, seed)?;
        let (header, batch) = (&frame.header, frame.batch.header());
        if header.base_offset != batch.base_offset {
            return Err(FrameError::Mismatch("base offset"));
        }
        if i64::from(header.leader_epoch.0) != i64::from(batch.partition_leader_epoch) {
            return Err(FrameError::Mismatch("leader epoch"));
        }
        Ok(frame)
    }

    /// Everything but the fields that a broker assigns.
    fn check_agreeing(bytes: &'a [u8], seed: u32) -> Result<Self, FrameError> {
        let header = FrameHeader::parse(bytes, seed)?;
        let Some(bytes) = bytes.get(..header.len()) else {
            return Err(FrameError::TooShort {
                needed: header.len(),
            });
        };
        let (batch, padding) = bytes[FRAME_HEADER_LEN..].split_at(header.batch_len as usize);
        if padding.iter().any(|&byte| byte != 0) {
            return Err(FrameError::Padding);
        }
        let batch = RecordBatch::check(batch)?;
        let fields = batch.header();
        if header.record_count != fields.record_count {
            return Err(FrameError::Mismatch("record count"));
        }
        if header.last_offset_delta != fields.last_offset_delta {
            return Err(FrameError::Mismatch("last offset delta"));
        }
        if header.max_timestamp != fields.largest_timestamp() {
            return Err(FrameError::Mismatch("largest timestamp"));
        }
        Ok(Self {
            bytes,
            header,
            batch,
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The record batch inside, as a Kafka client knows it.
    #[must_use]
    pub fn batch(&self) -> RecordBatch<'a> {
        self.batch
    }

    /// The whole frame: header, batch and padding.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a frame has at least a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }
}
