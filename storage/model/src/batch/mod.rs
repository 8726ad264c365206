//! Kafka's record batch, version 2: the only one that Millrace stores.
//!
//! A [`RecordBatch`] borrows its bytes and was checked: length, version and CRC. Records
//! are read by [`RecordBatch::records`], which decompresses when it must, never beyond a
//! limit that the caller names. [`BatchBuilder`] writes batches. Every count and length is
//! held against the bytes that remain before anything is allocated or read.
//!
//! Absent on purpose: versions 0 and 1, which no living client sends, and transactions'
//! control records, which are read as plain records.

mod builder;
mod compression;
mod header;
mod record;
mod varint;

pub use builder::{BatchBuilder, BatchSpec, BuildError, ProducerStamp};
pub use compression::{Compression, CompressionError, Decompressor};
pub use header::{Attributes, BATCH_HEADER_LEN, BATCH_OVERHEAD, BatchHeader, TimestampType};
pub use record::{Header, Headers, MIN_RECORD_LEN, Record, Records};

use crate::ErrorCode;

/// Bytes that are not the record batch that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("needs {needed} bytes, has fewer")]
    TooShort {
        /// Bytes that the header, or the batch, takes.
        needed: usize,
    },
    /// The stated length cannot be that of this batch.
    #[error("a length of {stated} bytes is not that of the batch")]
    Length {
        /// The batch's length by its header.
        stated: usize,
    },
    /// Not version 2.
    #[error("magic {0} is not served, only 2 is")]
    Magic(i8),
    /// The CRC does not hold.
    #[error("the CRC does not hold")]
    Crc,
    /// A field of the header cannot be what it is.
    #[error("{0}")]
    Header(&'static str),
    /// None of Kafka's five compression types.
    #[error("compression type {0} is unknown")]
    UnknownCompression(u8),
    /// The records do not decompress, or to more than the limit.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record cannot be read.
    #[error("record {index}: {what}")]
    Record {
        /// Which record of the batch, counted from 0.
        index: u32,
        /// What does not hold.
        what: &'static str,
    },
    /// Bytes remain after the last record.
    #[error("{0} bytes remain after the last record")]
    Trailing(usize),
}

impl BatchError {
    /// The code that tells a client.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::Record { .. } | Self::Trailing(_) => ErrorCode::InvalidRecord,
            _ => ErrorCode::CorruptMessage,
        }
    }
}

/// A whole record batch whose length, version and CRC hold.
#[derive(Clone, Copy, Debug)]
pub struct RecordBatch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// Checks that `bytes` is exactly one record batch, with one pass over it for its CRC.
    ///
    /// # Errors
    /// [`BatchError`] with what does not hold.
    pub fn check(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        if bytes.len() != header.len {
            return Err(match bytes.len() < header.len {
                true => BatchError::TooShort { needed: header.len },
                false => BatchError::Length { stated: header.len },
            });
        }
        if header.crc != BatchHeader::compute_crc(bytes) {
            return Err(BatchError::Crc);
        }
        Ok(Self { header, bytes })
    }

    /// The batch of bytes whose checks are done.
    pub(crate) fn trusted(header: BatchHeader, bytes: &'a [u8]) -> Self {
        debug_assert!(Self::check(bytes).is_ok_and(|batch| batch.header == header));
        Self { header, bytes }
    }

    /// The fields of the header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How the records are compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.header.compression
    }

    /// The idempotent producer's stamp, or `None` when the producer is not idempotent.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerStamp> {
        self.header.producer()
    }

    /// The records. Those of a compressed batch are decompressed into `scratch` first, up
    /// to `limit` bytes; those of an uncompressed one are read in place without allocating.
    ///
    /// # Errors
    /// [`BatchError::Compression`] when they do not decompress or to more than `limit`. What
    /// is wrong with a record itself shows when the iterator comes to it.
    pub fn records<'s>(
        &self,
        scratch: &'s mut Decompressor,
        limit: usize,
    ) -> Result<Records<'s>, BatchError>
    where
        'a: 's,
    {
        let stored = &self.bytes[BATCH_HEADER_LEN..];
        let records = match self.header.compression {
            Compression::None => stored,
            compression => scratch.decompress(compression, stored, limit)?,
        };
        Ok(Records::new(&self.header, records))
    }

    /// Walks all records, and also refuses what only a producer's batch must not have:
    /// offset deltas that are not 0, 1, 2 and so on.
    ///
    /// # Errors
    /// [`BatchError`] with the first thing that does not hold.
    pub fn validate_records(
        &self,
        scratch: &mut Decompressor,
        limit: usize,
    ) -> Result<(), BatchError> {
        let base = self.header.base_offset;
        for (index, record) in (0..).zip(self.records(scratch, limit)?) {
            if record?.offset != base.plus(u64::from(index)) {
                return Err(BatchError::Record {
                    index,
                    what: "its offset leaves a gap",
                });
            }
        }
        Ok(())
    }
}
