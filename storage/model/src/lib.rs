//! The vocabulary of Millrace: identifiers, offsets, epochs, error codes, and the frame,
//! the one unit of data that is the same bytes in a producer's stream, in memory, on disk
//! and in a consumer's stream.
//!
//! This crate is pure: it opens nothing, awaits nothing and reads no clock.

mod error_code;
mod frame;
mod ids;

pub use error_code::ErrorCode;
pub use frame::{
    ArchivedFrameHeader, ArchivedWriteHeader, FRAME_ALIGN, FRAME_HEADER_LEN, FrameHeader,
    MAX_FRAME_LEN, WriteHeader,
};
pub use ids::{
    BrokerId, LeaderEpoch, LogId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence,
    ShardCount, ShardId, Timestamp, TopicId,
};
