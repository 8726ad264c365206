//! The frame: a fixed 64-byte header, a Kafka v2 record batch byte for byte, and zero
//! padding to 16 bytes. See `storage/FORMAT.md` for the byte maps.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
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
}

/// Precedes the frames of each device write in a segment, and never leaves the broker.
///
/// It is filled in when the write is submitted, so `durable_end` covers every earlier
/// write. Recovery uses it to tell a torn last write (cut it) from damage to data that was
/// acknowledged (refuse): a valid header further on that says "everything below X was
/// durable" proves that damage below X is not a torn tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
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
}

const _: () = assert!(size_of::<ArchivedFrameHeader>() == FRAME_HEADER_LEN);
const _: () = assert!(size_of::<ArchivedWriteHeader>() == FRAME_HEADER_LEN);
const _: () = assert!(align_of::<ArchivedFrameHeader>() <= FRAME_ALIGN);
