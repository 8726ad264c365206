//! What a producer sent: every check that a broker owes its log, then the assignment of
//! offset and epoch in place.
//!
//! The check reads the two headers and passes over the batch once for its CRC. It does not
//! walk the records, so a batch whose records are garbage under a valid CRC is stored and
//! reaches its consumers, which refuse it: Kafka's rule for topics without compaction.

use super::{FRAME_HEADER_LEN, Frame, FrameError, FrameHeader, frame_len_for, produced_header};
use crate::batch::{BatchError, BatchHeader, RecordBatch, TimestampType};
use crate::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// What a topic's settings allow in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceLimits {
    /// `max.message.bytes`: the longest record batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far behind the broker's clock a record may be.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far ahead of the broker's clock it may be.
    pub timestamp_after_max_ms: i64,
}

/// Why a broker refuses a producer's frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// It is no frame of this log, or damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More or fewer bytes than one frame.
    #[error("expected one frame of {frame_len} bytes, got {given}")]
    NotOneFrame {
        /// The frame's length by its header.
        frame_len: usize,
        /// Bytes given.
        given: usize,
    },
    /// The frame carries an offset or an epoch, which only a broker assigns.
    #[error("the offset and leader epoch of a producer's frame are 0")]
    Assigned,
    /// The batch is over `max.message.bytes`.
    #[error("the batch has {len} bytes, max.message.bytes allows {limit}")]
    TooLarge {
        /// Bytes of the batch.
        len: usize,
        /// `max.message.bytes`.
        limit: usize,
    },
    /// The offsets of the records are not 0, 1, 2 and so on.
    #[error("{record_count} records cannot have {last_offset_delta} as their last offset delta")]
    Gaps {
        /// Records by the batch's header.
        record_count: u32,
        /// Its last offset delta.
        last_offset_delta: u32,
    },
    /// An attribute that clients may not set, or that is not served.
    #[error("a producer may not set the attribute: {0}")]
    Attribute(&'static str),
    /// Producer id, epoch and sequence contradict each other.
    #[error("producer id {id}, epoch {epoch} and base sequence {sequence} contradict each other")]
    Producer {
        /// The producer's id.
        id: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
        /// The sequence of the first record.
        sequence: Sequence,
    },
    /// A timestamp outside of `message.timestamp.before.max.ms` and
    /// `message.timestamp.after.max.ms`.
    #[error("timestamp {timestamp} is out of bounds at {now}: {bound} allows {limit_ms} ms")]
    Timestamp {
        /// The record's timestamp.
        timestamp: Timestamp,
        /// The broker's clock.
        now: Timestamp,
        /// The setting that refuses it.
        bound: &'static str,
        /// Its value.
        limit_ms: i64,
    },
}

impl ProduceError {
    /// The code that tells the producer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Frame(error) => error.code(),
            Self::NotOneFrame { .. } => ErrorCode::CorruptMessage,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Timestamp { .. } => ErrorCode::InvalidTimestamp,
            Self::Assigned | Self::Gaps { .. } | Self::Attribute(_) | Self::Producer { .. } => {
                ErrorCode::InvalidRecord
            }
        }
    }
}

/// A producer's frame that has passed every check, in the buffer where it will stay.
#[derive(Debug)]
pub struct ProducedFrame<'a> {
    bytes: &'a mut [u8],
    header: FrameHeader,
    batch: BatchHeader,
    seed: u32,
    timestamp_type: TimestampType,
}

impl<'a> ProducedFrame<'a> {
    /// Checks that `bytes` is exactly one frame that a producer may append to the log of
    /// this `seed` at the time `now`.
    ///
    /// # Errors
    /// [`ProduceError`], whose [`ProduceError::code`] tells the producer.
    pub fn check(
        bytes: &'a mut [u8],
        seed: u32,
        limits: &ProduceLimits,
        now: Timestamp,
    ) -> Result<Self, ProduceError> {
        let frame = Frame::check_agreeing(bytes, seed)?;
        let (header, batch) = (*frame.header(), *frame.batch().header());
        if header.len() != bytes.len() {
            return Err(ProduceError::NotOneFrame {
                frame_len: header.len(),
                given: bytes.len(),
            });
        }
        limits.check_header(&header)?;
        check_batch(&batch, limits, now)?;
        Ok(Self {
            bytes,
            header,
            batch,
            seed,
            timestamp_type: limits.timestamp_type,
        })
    }

    /// Checks a record batch that came without a frame, as Kafka's clients send it, and makes the
    /// frame around it. `bytes` is the room for the whole frame, as long as
    /// [`frame_len_for`] says, with the batch where it will stay: behind the room for the header.
    /// Header and padding may hold anything; the padding is zeroed here, the header is written
    /// by [`ProducedFrame::assign`].
    ///
    /// # Errors
    /// [`ProduceError`], as [`ProducedFrame::check`].
    pub fn check_batch(
        bytes: &'a mut [u8],
        batch_len: usize,
        seed: u32,
        limits: &ProduceLimits,
        now: Timestamp,
    ) -> Result<Self, ProduceError> {
        let no_frame = BatchError::Length { stated: batch_len };
        if frame_len_for(batch_len) != Some(bytes.len()) {
            return Err(FrameError::from(no_frame).into());
        }
        let (batch, padding) = bytes[FRAME_HEADER_LEN..].split_at_mut(batch_len);
        padding.fill(0);
        let batch = *RecordBatch::check(batch)
            .map_err(FrameError::from)?
            .header();
        let header = produced_header(&batch).map_err(FrameError::from)?;
        limits.check_header(&header)?;
        check_batch(&batch, limits, now)?;
        Ok(Self {
            bytes,
            header,
            batch,
            seed,
            timestamp_type: limits.timestamp_type,
        })
    }

    /// The frame's header as the producer sent it.
    #[must_use]
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The batch's header, with the producer's id, epoch and sequence.
    #[must_use]
    pub fn batch(&self) -> &BatchHeader {
        &self.batch
    }

    /// Gives the frame its place in the log: writes offset and epoch into batch and header,
    /// `now` as append time, and seals the header. With `LogAppendTime` also the batch's
    /// timestamp, and its CRC anew.
    ///
    /// # Panics
    /// If the offset or the epoch is above what a batch can express, which no log reaches.
    pub fn assign(mut self, base: Offset, epoch: LeaderEpoch, now: Timestamp) -> Frame<'a> {
        assert!(base.0 <= MAX_BASE_OFFSET, "no log reaches 2^63 records");
        self.batch.base_offset = base;
        self.batch.partition_leader_epoch =
            i32::try_from(epoch.0).expect("no log reaches 2^31 leader epochs");
        if self.timestamp_type == TimestampType::LogAppendTime {
            self.batch.attributes = self.batch.attributes.with_log_append_time();
            self.batch.max_timestamp = now;
        }
        let batch_end = FRAME_HEADER_LEN + self.batch.len;
        let batch_bytes = &mut self.bytes[FRAME_HEADER_LEN..batch_end];
        match self.timestamp_type {
            TimestampType::CreateTime => self.batch.write_assigned(batch_bytes),
            TimestampType::LogAppendTime => self.batch.write_sealed(batch_bytes),
        }
        self.header.base_offset = base;
        self.header.leader_epoch = epoch;
        self.header.append_timestamp = now;
        self.header.max_timestamp = self.batch.largest_timestamp();
        let sealed = self.header.seal(self.seed);
        self.bytes[..FRAME_HEADER_LEN].copy_from_slice(&sealed);
        let bytes: &'a [u8] = self.bytes;
        let batch = RecordBatch::trusted(self.batch, &bytes[FRAME_HEADER_LEN..batch_end]);
        Frame {
            bytes,
            header: self.header,
            batch,
        }
    }
}

/// Any batch that starts here ends below 2^63.
const MAX_BASE_OFFSET: u64 = i64::MAX as u64 - u32::MAX as u64;

impl ProduceLimits {
    /// Refuses by its header alone what [`ProducedFrame::check`] would refuse in any case,
    /// before the batch has arrived and taken memory.
    ///
    /// # Errors
    /// [`ProduceError`]: too large, gaps between the offsets, or fields that a broker assigns.
    pub fn check_header(&self, header: &FrameHeader) -> Result<(), ProduceError> {
        if header.base_offset != Offset::ZERO || header.leader_epoch != LeaderEpoch(0) {
            return Err(ProduceError::Assigned);
        }
        let (len, limit) = (header.batch_len as usize, self.max_message_bytes);
        if len > limit {
            return Err(ProduceError::TooLarge { len, limit });
        }
        let (record_count, last_offset_delta) = (header.record_count, header.last_offset_delta);
        if u64::from(record_count) != u64::from(last_offset_delta) + 1 {
            return Err(ProduceError::Gaps {
                record_count,
                last_offset_delta,
            });
        }
        Ok(())
    }
}

fn check_batch(
    batch: &BatchHeader,
    limits: &ProduceLimits,
    now: Timestamp,
) -> Result<(), ProduceError> {
    check_attributes(batch)?;
    check_producer(batch)?;
    match limits.timestamp_type {
        TimestampType::CreateTime => check_timestamps(batch, limits, now),
        TimestampType::LogAppendTime => Ok(()),
    }
}

fn check_attributes(batch: &BatchHeader) -> Result<(), ProduceError> {
    let attributes = batch.attributes;
    let refused = [
        (attributes.is_control(), "control"),
        (
            attributes.is_transactional(),
            "transactional, transactions are not served",
        ),
        (attributes.has_delete_horizon(), "delete horizon"),
        (attributes.has_reserved_bits(), "reserved bits"),
    ];
    match refused.into_iter().find(|(set, _)| *set) {
        Some((_, name)) => Err(ProduceError::Attribute(name)),
        None => Ok(()),
    }
}

/// A batch without a producer id may carry any epoch and sequence: clients differ, and
/// nobody reads them.
fn check_producer(batch: &BatchHeader) -> Result<(), ProduceError> {
    let (id, epoch, sequence) = (batch.producer_id, batch.producer_epoch, batch.base_sequence);
    let sane = id == ProducerId::NONE || (id.0 >= 0 && epoch.0 >= 0 && sequence.0 >= 0);
    if sane {
        Ok(())
    } else {
        Err(ProduceError::Producer {
            id,
            epoch,
            sequence,
        })
    }
}

/// Without a record walk the first and the largest timestamp are known, so these are held
/// to the bounds. -1 means that a record has no timestamp, which is allowed.
fn check_timestamps(
    batch: &BatchHeader,
    limits: &ProduceLimits,
    now: Timestamp,
) -> Result<(), ProduceError> {
    if batch.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(ProduceError::Attribute(
            "LogAppendTime, which the topic does not have",
        ));
    }
    let refuse = |timestamp, bound, limit_ms| {
        Err(ProduceError::Timestamp {
            timestamp,
            now,
            bound,
            limit_ms,
        })
    };
    let first = batch.base_timestamp;
    let before = limits.timestamp_before_max_ms;
    if first != Timestamp::NONE && now.0.saturating_sub(first.0) > before {
        return refuse(first, "message.timestamp.before.max.ms", before);
    }
    let largest = batch.largest_timestamp();
    let after = limits.timestamp_after_max_ms;
    if largest != Timestamp::NONE && largest.0.saturating_sub(now.0) > after {
        return refuse(largest, "message.timestamp.after.max.ms", after);
    }
    Ok(())
}
