//! Gathers records into a batch, and writes the batch, or the whole frame that a producer
//! sends, in one go.

use bytes::{BufMut, BytesMut};

use super::compression::Compressor;
use super::varint::{long_len, write_long};
use super::{Attributes, BATCH_HEADER_LEN, BatchHeader, Compression, CompressionError, Header};
use crate::frame::produced_header;
use crate::{
    FRAME_HEADER_LEN, LogId, MAX_BATCH_LEN, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

/// What an idempotent producer stamps on a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record.
    pub base_sequence: Sequence,
}

/// How a batch is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BatchSpec {
    /// How to compress the records.
    pub compression: Compression,
    /// The level, for gzip and zstd; `None` for their default. Brought into the range of
    /// [`Compression::levels`].
    pub level: Option<i32>,
    /// The idempotent producer's stamp, or `None`.
    pub producer: Option<ProducerStamp>,
}

/// A batch that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A batch has at least one record.
    #[error("the batch has no records")]
    Empty,
    /// The batch would not fit a frame.
    #[error("the batch would have {len} bytes, a frame holds {MAX_BATCH_LEN}")]
    TooLarge {
        /// Bytes that it would have.
        len: usize,
    },
    /// The compressor failed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Gathers records into one batch after the other, keeping its buffers.
#[derive(Default)]
pub struct BatchBuilder {
    records: Vec<u8>,
    count: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    compressed: Vec<u8>,
    compressor: Compressor,
}

impl std::fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("count", &self.count)
            .field("records_len", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl BatchBuilder {
    /// A builder without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record after those that are there.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] when the batch would not fit a frame; the builder is as
    /// before.
    pub fn append<'h, H>(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
        timestamp: Timestamp,
    ) -> Result<(), BuildError>
    where
        H: IntoIterator<Item = Header<'h>>,
        H::IntoIter: ExactSizeIterator + Clone,
    {
        let headers = headers.into_iter();
        let base = if self.count == 0 {
            timestamp
        } else {
            self.base_timestamp
        };
        let timestamp_delta = timestamp.0.wrapping_sub(base.0);
        let body = body_len(timestamp_delta, self.count, key, value, headers.clone());
        let len = self
            .len()
            .saturating_add(body)
            .saturating_add(long_len(as_long(body)));
        if len > MAX_BATCH_LEN {
            return Err(BuildError::TooLarge { len });
        }
        let out = &mut self.records;
        write_long(out, as_long(body));
        out.push(0);
        write_long(out, timestamp_delta);
        write_long(out, i64::from(self.count));
        write_nullable(out, key);
        write_nullable(out, value);
        write_long(out, as_long(headers.len()));
        for header in headers {
            write_nullable(out, Some(header.key));
            write_nullable(out, header.value);
        }
        self.base_timestamp = base;
        self.max_timestamp = if self.count == 0 {
            base
        } else {
            self.max_timestamp.max(timestamp)
        };
        self.count += 1;
        Ok(())
    }

    /// Bytes of the batch when it is not compressed.
    #[must_use]
    pub fn len(&self) -> usize {
        BATCH_HEADER_LEN + self.records.len()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.count
    }

    /// Forgets the records.
    pub fn clear(&mut self) {
        self.records.clear();
        self.count = 0;
    }

    /// The batch of the records so far, which are forgotten.
    ///
    /// # Errors
    /// [`BuildError`]; the records are kept.
    pub fn build(&mut self, spec: &BatchSpec) -> Result<Vec<u8>, BuildError> {
        let mut out = BytesMut::new();
        self.write_batch(spec, &mut out)?;
        Ok(out.into())
    }

    /// Appends to `out` the frame that a producer sends to `log`: header, batch of the
    /// records so far, and padding. The records are forgotten.
    ///
    /// # Errors
    /// [`BuildError`]; the records are kept and `out` is as before.
    pub fn build_frame(
        &mut self,
        log: LogId,
        spec: &BatchSpec,
        out: &mut BytesMut,
    ) -> Result<(), BuildError> {
        let start = out.len();
        out.put_bytes(0, FRAME_HEADER_LEN);
        let batch = self
            .write_batch(spec, out)
            .inspect_err(|_| out.truncate(start))?;
        let header = produced_header(&batch).expect("write_batch keeps within MAX_BATCH_LEN");
        let sealed = header.seal(log.checksum_seed());
        out[start..start + FRAME_HEADER_LEN].copy_from_slice(&sealed);
        out.put_bytes(0, start + header.len() - out.len());
        Ok(())
    }

    /// Appends the batch to `out` and forgets the records; on error changes neither.
    fn write_batch(
        &mut self,
        spec: &BatchSpec,
        out: &mut BytesMut,
    ) -> Result<BatchHeader, BuildError> {
        let last_offset_delta = self.count.checked_sub(1).ok_or(BuildError::Empty)?;
        let records = match spec.compression {
            Compression::None => &self.records,
            compression => {
                self.compressed.clear();
                let (level, compressed) = (spec.level, &mut self.compressed);
                self.compressor
                    .compress(compression, level, &self.records, compressed)?;
                &self.compressed
            }
        };
        let len = BATCH_HEADER_LEN + records.len();
        if len > MAX_BATCH_LEN {
            return Err(BuildError::TooLarge { len });
        }
        let producer = spec.producer.unwrap_or(NO_PRODUCER);
        let mut header = BatchHeader {
            base_offset: Offset::ZERO,
            len,
            partition_leader_epoch: 0,
            crc: 0,
            attributes: Attributes(spec.compression as u16),
            compression: spec.compression,
            last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            record_count: self.count,
        };
        let start = out.len();
        out.reserve(len + crate::FRAME_ALIGN);
        out.put_bytes(0, BATCH_HEADER_LEN);
        out.put_slice(records);
        header.write_sealed(&mut out[start..]);
        self.clear();
        Ok(header)
    }
}

/// What a batch of a producer without idempotence carries.
const NO_PRODUCER: ProducerStamp = ProducerStamp {
    id: ProducerId::NONE,
    epoch: ProducerEpoch(-1),
    base_sequence: Sequence(-1),
};

/// Bytes of a record after its length.
fn body_len<'h>(
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = Header<'h>>,
) -> usize {
    let attributes = 1;
    let count_len = long_len(as_long(headers.len()));
    let headers = headers.map(|h| nullable_len(Some(h.key)).saturating_add(nullable_len(h.value)));
    [
        attributes,
        long_len(timestamp_delta),
        long_len(i64::from(offset_delta)),
        nullable_len(key),
        nullable_len(value),
        count_len,
    ]
    .into_iter()
    .chain(headers)
    .fold(0, usize::saturating_add)
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => long_len(-1),
        Some(bytes) => bytes.len().saturating_add(long_len(as_long(bytes.len()))),
    }
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => write_long(out, -1),
        Some(bytes) => {
            write_long(out, as_long(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// A length in memory is below 2^63; a saturated sum is refused as too large.
fn as_long(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}
