//! The vocabulary of Millrace: identifiers, offsets, epochs, error codes, and the frame,
//! the one unit of data that is the same bytes in a producer's stream, in memory, on disk
//! and in a consumer's stream.
//!
//! This crate is pure: it opens nothing, awaits nothing and reads no clock.

pub mod batch;
mod cluster_ids;
mod coordinator;
mod epochs;
mod error_code;
mod frame;
pub mod fuzz;
mod ids;
mod planted;
mod settings;
mod topic_name;

pub use batch::{
    BatchBuilder, BatchError, BatchHeader, BatchSpec, Compression, Decompressor, Header,
    ProducerStamp, Record, RecordBatch, TimestampType,
};
pub use cluster_ids::{BrokerEpoch, ClusterId, IdentityError, IncarnationId, PartitionEpoch};
pub use coordinator::coordinator_partition;
pub use epochs::{EpochStart, LeaderEpochs};
pub use error_code::ErrorCode;
pub use frame::{
    ArchivedFrameHeader, ArchivedWriteHeader, FRAME_ALIGN, FRAME_HEADER_LEN, Frame, FrameError,
    FrameHeader, MAX_BATCH_LEN, MAX_FRAME_LEN, ProduceError, ProduceLimits, ProducedFrame,
    WriteHeader, encode_frame, frame_for_batch, frame_len_for,
};
pub use ids::{
    BrokerId, LeaderEpoch, LogId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence,
    ShardCount, ShardId, Timestamp, TopicId, TopicIdError,
};
pub use settings::{CleanupPolicy, SettingError, TopicSettings};
pub use topic_name::{
    GROUP_OFFSETS_TOPIC, MAX_TOPIC_NAME_LEN, TopicName, TopicNameError, is_internal_topic,
};
