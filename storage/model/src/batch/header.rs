//! The 61 bytes that a record batch starts with, all big-endian.
//!
//! | at | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | base offset |
//! | 8 | 4 | length of what follows |
//! | 12 | 4 | partition leader epoch |
//! | 16 | 1 | magic, 2 |
//! | 17 | 4 | CRC-32C of what follows |
//! | 21 | 2 | attributes |
//! | 23 | 4 | last offset delta |
//! | 27 | 8 | base timestamp |
//! | 35 | 8 | max timestamp |
//! | 43 | 8 | producer id |
//! | 51 | 2 | producer epoch |
//! | 53 | 4 | base sequence |
//! | 57 | 4 | record count |

use super::{BatchError, Compression, MIN_RECORD_LEN, ProducerStamp};
use crate::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Bytes of a record batch before its records.
pub const BATCH_HEADER_LEN: usize = 61;

/// Bytes of the base offset and the length, which the length does not count.
pub const BATCH_OVERHEAD: usize = 12;

/// The version that Millrace stores.
const MAGIC: i8 = 2;

const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;

/// What a batch's timestamps mean: Kafka's `message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's clock when it made the record.
    #[default]
    CreateTime,
    /// The broker's clock when it appended the batch; the same for all of its records.
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateTime => "CreateTime",
            Self::LogAppendTime => "LogAppendTime",
        }
    }
}

/// The flags of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes(pub u16);

impl Attributes {
    const COMPRESSION: u16 = 0b111;
    const LOG_APPEND_TIME: u16 = 1 << 3;
    const TRANSACTIONAL: u16 = 1 << 4;
    const CONTROL: u16 = 1 << 5;
    const DELETE_HORIZON: u16 = 1 << 6;
    const RESERVED: u16 = !0b111_1111;

    /// The bits that name the compression.
    #[must_use]
    pub const fn compression_bits(self) -> u8 {
        (self.0 & Self::COMPRESSION) as u8
    }

    /// What the timestamps mean.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        match self.0 & Self::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records, which only brokers write.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is a delete horizon (KIP-534), which only brokers write.
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// Whether a bit is set that has no meaning yet.
    #[must_use]
    pub const fn has_reserved_bits(self) -> bool {
        self.0 & Self::RESERVED != 0
    }

    pub(crate) const fn with_log_append_time(self) -> Self {
        Self(self.0 | Self::LOG_APPEND_TIME)
    }
}

/// The fields of a batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record. A producer sends 0, the broker assigns it.
    pub base_offset: Offset,
    /// Bytes of the whole batch.
    pub len: usize,
    /// Leader epoch under which the batch was appended; a producer sends -1 or 0.
    pub partition_leader_epoch: i32,
    /// CRC-32C of the batch from its attributes to its end.
    pub crc: u32,
    /// Flags.
    pub attributes: Attributes,
    /// How the records are compressed, as the attributes say.
    pub compression: Compression,
    /// Offset of the last record less `base_offset`.
    pub last_offset_delta: u32,
    /// Timestamp that the records' deltas count from: that of the first record.
    pub base_timestamp: Timestamp,
    /// Largest timestamp by the producer's account, or the time of append.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub base_sequence: Sequence,
    /// Number of records.
    pub record_count: u32,
}

impl BatchHeader {
    /// Reads and checks the header that `bytes` starts with. [`BatchHeader::len`] tells where
    /// the batch ends; that it is whole and its CRC are for [`super::RecordBatch::check`].
    ///
    /// # Errors
    /// [`BatchError`] with what does not hold.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(bytes) = bytes.first_chunk::<BATCH_HEADER_LEN>() else {
            return Err(BatchError::TooShort {
                needed: BATCH_HEADER_LEN,
            });
        };
        let magic = i8::from_be_bytes(take(bytes, MAGIC_AT));
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let attributes = Attributes(u16::from_be_bytes(take(bytes, ATTRIBUTES_AT)));
        let header = Self {
            base_offset: Offset(unsigned_long(bytes, 0, "the base offset is negative")?),
            len: batch_len(bytes)?,
            partition_leader_epoch: i32::from_be_bytes(take(bytes, EPOCH_AT)),
            crc: u32::from_be_bytes(take(bytes, CRC_AT)),
            attributes,
            compression: Compression::from_bits(attributes.compression_bits())?,
            last_offset_delta: unsigned(bytes, 23, "the last offset delta is negative")?,
            base_timestamp: Timestamp(i64::from_be_bytes(take(bytes, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(take(bytes, 35))),
            producer_id: ProducerId(i64::from_be_bytes(take(bytes, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(take(bytes, 51))),
            base_sequence: Sequence(i32::from_be_bytes(take(bytes, 53))),
            record_count: unsigned(bytes, 57, "the record count is negative")?,
        };
        header.check_counts()?;
        Ok(header)
    }

    /// The idempotent producer's stamp, or `None` when the producer is not idempotent.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerStamp> {
        (self.producer_id != ProducerId::NONE).then_some(ProducerStamp {
            id: self.producer_id,
            epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
        })
    }

    /// The largest timestamp that the header vouches for. Some clients leave the max
    /// timestamp empty; the first record's is known even then.
    #[must_use]
    pub fn largest_timestamp(&self) -> Timestamp {
        match self.attributes.timestamp_type() {
            TimestampType::CreateTime => self.max_timestamp.max(self.base_timestamp),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }

    /// The CRC of a whole batch's bytes.
    pub(crate) fn compute_crc(batch: &[u8]) -> u32 {
        crc32c::crc32c(&batch[ATTRIBUTES_AT..])
    }

    /// Writes base offset and leader epoch, which the CRC does not cover, into `batch`.
    pub(crate) fn write_assigned(&self, batch: &mut [u8]) {
        batch[..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        batch[EPOCH_AT..MAGIC_AT].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
    }

    /// Writes the whole header into `batch`, whose records are in place, with a fresh CRC.
    pub(crate) fn write_sealed(&mut self, batch: &mut [u8]) {
        let stated = u32::try_from(self.len - BATCH_OVERHEAD).expect("a batch fits a frame");
        self.write_assigned(batch);
        batch[8..EPOCH_AT].copy_from_slice(&stated.to_be_bytes());
        batch[MAGIC_AT..CRC_AT].copy_from_slice(&MAGIC.to_be_bytes());
        batch[ATTRIBUTES_AT..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        batch[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        batch[53..57].copy_from_slice(&self.base_sequence.0.to_be_bytes());
        batch[57..BATCH_HEADER_LEN].copy_from_slice(&self.record_count.to_be_bytes());
        self.crc = Self::compute_crc(batch);
        batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&self.crc.to_be_bytes());
    }

    fn check_counts(&self) -> Result<(), BatchError> {
        let delta = u64::from(self.last_offset_delta);
        if self.record_count == 0 {
            return Err(BatchError::Header("the batch has no records"));
        }
        if u64::from(self.record_count) > delta + 1 {
            return Err(BatchError::Header("there are more records than offsets"));
        }
        if self.base_offset.0 >= i64::MAX as u64 - delta {
            return Err(BatchError::Header("the last offset is above 2^63"));
        }
        let room = (self.len - BATCH_HEADER_LEN) / MIN_RECORD_LEN;
        if self.compression == Compression::None && self.record_count as usize > room {
            return Err(BatchError::Header(
                "there are more records than the bytes have room for",
            ));
        }
        Ok(())
    }
}

fn take<const N: usize>(bytes: &[u8; BATCH_HEADER_LEN], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("every field lies inside the header")
}

fn unsigned(
    bytes: &[u8; BATCH_HEADER_LEN],
    at: usize,
    negative: &'static str,
) -> Result<u32, BatchError> {
    u32::try_from(i32::from_be_bytes(take(bytes, at))).map_err(|_| BatchError::Header(negative))
}

fn unsigned_long(
    bytes: &[u8; BATCH_HEADER_LEN],
    at: usize,
    negative: &'static str,
) -> Result<u64, BatchError> {
    u64::try_from(i64::from_be_bytes(take(bytes, at))).map_err(|_| BatchError::Header(negative))
}

/// Bytes of the whole batch by its header.
fn batch_len(bytes: &[u8; BATCH_HEADER_LEN]) -> Result<usize, BatchError> {
    let stated = unsigned(bytes, 8, "the length is negative")? as usize;
    let len = stated + BATCH_OVERHEAD;
    if !(BATCH_HEADER_LEN..=crate::MAX_BATCH_LEN).contains(&len) {
        return Err(BatchError::Length { stated: len });
    }
    Ok(len)
}
