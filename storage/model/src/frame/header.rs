//! The two headers of 64 bytes, as numbers and as bytes. Their archived layout is the byte
//! map of `storage/FORMAT.md`, pinned by golden bytes in `tests/golden.rs`.

use rkyv::api::low::access;
use rkyv::api::serialize_using;
use rkyv::rancor::Failure;
use rkyv::ser::writer::Buffer;

use super::FrameError;
use crate::batch::BATCH_HEADER_LEN;
use crate::{LeaderEpoch, Offset, Timestamp};

/// Length of a [`FrameHeader`] and of a [`WriteHeader`], in bytes.
pub const FRAME_HEADER_LEN: usize = 64;

/// Frames start at multiples of this many bytes from the start of their segment, so that
/// an archived header can be read in place.
pub const FRAME_ALIGN: usize = 16;

/// The longest frame that is ever stored or sent: 64 MiB, whatever a topic's
/// `max.message.bytes` allows. A length above it is damage, not data.
pub const MAX_FRAME_LEN: usize = 64 << 20;

/// What the broker must read quickly, and what the batch's own checksum does not protect.
///
/// In a producer's stream `base_offset` and `leader_epoch` are 0; the broker assigns them
/// at append and seals the header again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FrameHeader {
    /// [`FrameHeader::MAGIC`].
    pub magic: u32,
    /// CRC-32C of the 56 bytes that follow this field, seeded with
    /// [`crate::LogId::checksum_seed`].
    pub checksum: u32,
    /// Bytes of the whole frame: header, batch and padding. A multiple of [`FRAME_ALIGN`].
    pub frame_len: u32,
    /// Bytes of the record batch, from its base offset to its last record.
    pub batch_len: u32,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record less `base_offset`.
    pub last_offset_delta: u32,
    /// Records in the batch. `last_offset_delta + 1` until compaction takes some away.
    pub record_count: u32,
    /// Epoch of the leader that appended the batch.
    pub leader_epoch: LeaderEpoch,
    /// Zero; keeps what follows aligned to 8 bytes.
    pub reserved_a: u32,
    /// Largest timestamp in the batch.
    pub max_timestamp: Timestamp,
    /// The broker's clock when it appended the batch.
    pub append_timestamp: Timestamp,
    /// Zero.
    pub reserved_b: u64,
}

impl FrameHeader {
    /// The first four bytes of a frame: `MRF1`.
    pub const MAGIC: u32 = u32::from_le_bytes(*b"MRF1");

    /// Reads and checks the header that `bytes` starts with: magic, checksum, and that its
    /// lengths and counts can be those of a frame. What follows the header is not looked at.
    ///
    /// # Errors
    /// [`FrameError`]: the bytes are too few, are no frame of this log, or contradict
    /// themselves.
    pub fn parse(bytes: &[u8], seed: u32) -> Result<Self, FrameError> {
        let aligned = AlignedHeader::read(bytes, Self::MAGIC, seed)?;
        let archived = access::<ArchivedFrameHeader, Failure>(&aligned.0)
            .expect("integers of a whole, aligned header are valid whatever their bits");
        let header = Self::from_archived(archived);
        header.check_lengths()?;
        header.check_counts()?;
        Ok(header)
    }

    /// The header as bytes, with the magic and a fresh checksum.
    #[must_use]
    pub fn seal(self, seed: u32) -> [u8; FRAME_HEADER_LEN] {
        let header = Self {
            magic: Self::MAGIC,
            ..self
        };
        let mut bytes = [0; FRAME_HEADER_LEN];
        serialize_using::<_, Failure>(&header, &mut Buffer::from(&mut bytes))
            .expect("the archived header is exactly this long");
        seal_checksum(&mut bytes, seed);
        bytes
    }

    /// The offset after the frame's last record.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as u64 + 1)
    }

    /// The offset of the frame's last record.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as u64)
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frame_len as usize
    }

    /// Never: a frame has at least a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    fn from_archived(archived: &ArchivedFrameHeader) -> Self {
        Self {
            magic: archived.magic.to_native(),
            checksum: archived.checksum.to_native(),
            frame_len: archived.frame_len.to_native(),
            batch_len: archived.batch_len.to_native(),
            base_offset: Offset(archived.base_offset.0.to_native()),
            last_offset_delta: archived.last_offset_delta.to_native(),
            record_count: archived.record_count.to_native(),
            leader_epoch: LeaderEpoch(archived.leader_epoch.0.to_native()),
            reserved_a: archived.reserved_a.to_native(),
            max_timestamp: Timestamp(archived.max_timestamp.0.to_native()),
            append_timestamp: Timestamp(archived.append_timestamp.0.to_native()),
            reserved_b: archived.reserved_b.to_native(),
        }
    }

    fn check_lengths(&self) -> Result<(), FrameError> {
        let batch_len = self.batch_len as usize;
        let fits = batch_len >= BATCH_HEADER_LEN
            && self.len() <= MAX_FRAME_LEN
            && frame_len_for(batch_len) == Some(self.len());
        if !fits {
            return Err(FrameError::Length {
                frame_len: self.frame_len,
                batch_len: self.batch_len,
            });
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), FrameError> {
        if self.reserved_a != 0 || self.reserved_b != 0 {
            return Err(FrameError::Header("a reserved field is not zero"));
        }
        let delta = u64::from(self.last_offset_delta);
        if self.record_count == 0 || u64::from(self.record_count) > delta + 1 {
            return Err(FrameError::Header(
                "the record count does not fit the offsets",
            ));
        }
        if delta > MAX_OFFSET_DELTA || self.base_offset.0 > MAX_OFFSET - delta {
            return Err(FrameError::Header(
                "an offset is above what a batch can express",
            ));
        }
        if self.leader_epoch.0 > MAX_LEADER_EPOCH {
            return Err(FrameError::Header(
                "the leader epoch is above what a batch can express",
            ));
        }
        Ok(())
    }
}

/// The largest offset whose successor still fits the signed field of a record batch.
const MAX_OFFSET: u64 = i64::MAX as u64 - 1;

/// The largest `last_offset_delta` of a record batch: its record count is an `i32` too.
const MAX_OFFSET_DELTA: u64 = i32::MAX as u64 - 1;

/// The largest leader epoch that fits the signed field of a record batch.
const MAX_LEADER_EPOCH: u32 = i32::MAX as u32;

/// Bytes of the frame that holds a batch of `batch_len` bytes, or `None` when it would be
/// over [`MAX_FRAME_LEN`].
#[must_use]
pub const fn frame_len_for(batch_len: usize) -> Option<usize> {
    if batch_len > MAX_BATCH_LEN {
        return None;
    }
    Some((FRAME_HEADER_LEN + batch_len).next_multiple_of(FRAME_ALIGN))
}

/// The longest record batch that fits a frame.
pub const MAX_BATCH_LEN: usize = MAX_FRAME_LEN - FRAME_HEADER_LEN;

/// Precedes the frames of each device write in a segment, and never leaves the broker.
///
/// It is filled in when the write is submitted, so `durable_end` covers every earlier
/// write. Recovery uses it to tell a torn last write (cut it) from damage to data that was
/// acknowledged (refuse): a valid header further on that says "everything below X was
/// durable" proves that damage below X is not a torn tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WriteHeader {
    /// [`WriteHeader::MAGIC`].
    pub magic: u32,
    /// CRC-32C of the 56 bytes that follow, seeded as in [`FrameHeader::checksum`].
    pub checksum: u32,
    /// Bytes of the frames that this write carries after this header.
    pub frames_len: u32,
    /// Epoch of the leader that wrote.
    pub leader_epoch: LeaderEpoch,
    /// Offset of the first record after this header.
    pub next_offset: Offset,
    /// Everything below this offset was durable when the write was submitted.
    pub durable_end: Offset,
    /// Log start offset when the write was submitted.
    pub log_start: Offset,
    /// The broker's clock when the write was submitted.
    pub timestamp: Timestamp,
    /// Zero.
    pub reserved: [u64; 2],
}

impl WriteHeader {
    /// The first four bytes of a write: `MRW1`.
    pub const MAGIC: u32 = u32::from_le_bytes(*b"MRW1");

    /// Reads and checks the header that `bytes` starts with: magic, checksum, order of the
    /// offsets, reserved fields.
    ///
    /// # Errors
    /// [`FrameError`]: the bytes are too few, are no write of this log, or contradict
    /// themselves.
    pub fn parse(bytes: &[u8], seed: u32) -> Result<Self, FrameError> {
        let aligned = AlignedHeader::read(bytes, Self::MAGIC, seed)?;
        let archived = access::<ArchivedWriteHeader, Failure>(&aligned.0)
            .expect("integers of a whole, aligned header are valid whatever their bits");
        let header = Self::from_archived(archived);
        header.check()?;
        Ok(header)
    }

    /// The header as bytes, with the magic and a fresh checksum.
    #[must_use]
    pub fn seal(self, seed: u32) -> [u8; FRAME_HEADER_LEN] {
        let header = Self {
            magic: Self::MAGIC,
            ..self
        };
        let mut bytes = [0; FRAME_HEADER_LEN];
        serialize_using::<_, Failure>(&header, &mut Buffer::from(&mut bytes))
            .expect("the archived header is exactly this long");
        seal_checksum(&mut bytes, seed);
        bytes
    }

    fn from_archived(archived: &ArchivedWriteHeader) -> Self {
        Self {
            magic: archived.magic.to_native(),
            checksum: archived.checksum.to_native(),
            frames_len: archived.frames_len.to_native(),
            leader_epoch: LeaderEpoch(archived.leader_epoch.0.to_native()),
            next_offset: Offset(archived.next_offset.0.to_native()),
            durable_end: Offset(archived.durable_end.0.to_native()),
            log_start: Offset(archived.log_start.0.to_native()),
            timestamp: Timestamp(archived.timestamp.0.to_native()),
            reserved: archived.reserved.map(|zero| zero.to_native()),
        }
    }

    fn check(&self) -> Result<(), FrameError> {
        if self.reserved != [0; 2] {
            return Err(FrameError::Header("a reserved field is not zero"));
        }
        if self.durable_end > self.next_offset {
            return Err(FrameError::Header(
                "what was durable lies after what was written",
            ));
        }
        if !(self.frames_len as usize).is_multiple_of(FRAME_ALIGN) {
            return Err(FrameError::Header(
                "the frames' length is not a multiple of 16",
            ));
        }
        Ok(())
    }
}

/// A header's bytes where its archived integers may be read in place.
#[repr(C, align(16))]
struct AlignedHeader([u8; FRAME_HEADER_LEN]);

impl AlignedHeader {
    fn read(bytes: &[u8], magic: u32, seed: u32) -> Result<Self, FrameError> {
        let Some(header) = bytes.first_chunk::<FRAME_HEADER_LEN>() else {
            return Err(FrameError::TooShort {
                needed: FRAME_HEADER_LEN,
            });
        };
        let found = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if found != magic {
            return Err(FrameError::NotAFrame { magic: found });
        }
        let stored = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if stored != crc32c::crc32c_append(seed, &header[CHECKSUMMED_FROM..]) {
            return Err(FrameError::Checksum);
        }
        Ok(Self(*header))
    }
}

/// Magic and checksum come before what the checksum covers.
const CHECKSUMMED_FROM: usize = 8;

fn seal_checksum(bytes: &mut [u8; FRAME_HEADER_LEN], seed: u32) {
    let checksum = crc32c::crc32c_append(seed, &bytes[CHECKSUMMED_FROM..]);
    bytes[4..CHECKSUMMED_FROM].copy_from_slice(&checksum.to_le_bytes());
}

const _: () = assert!(size_of::<ArchivedFrameHeader>() == FRAME_HEADER_LEN);
const _: () = assert!(size_of::<ArchivedWriteHeader>() == FRAME_HEADER_LEN);
const _: () = assert!(align_of::<ArchivedFrameHeader>() <= FRAME_ALIGN);
const _: () = assert!(align_of::<ArchivedWriteHeader>() <= FRAME_ALIGN);
const _: () = assert!(MAX_FRAME_LEN.is_multiple_of(FRAME_ALIGN));
