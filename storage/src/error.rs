//! What can go wrong with a log, per operation.

use crate::disk::DiskError;
use crate::position::Position;
use crate::producers::SequenceError;
use millrace_model::{ErrorCode, LeaderEpoch, Offset, ProduceError};
use std::path::PathBuf;
use std::rc::Rc;

/// Why a log takes no appends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Latch {
    /// A write failed. The log is read-only until it is opened again, that is, until the
    /// broker restarts.
    #[error("a write failed, the log is read-only until the broker restarts: {0}")]
    Failed(Rc<str>),
    /// Data that was acknowledged is damaged. What lies below the damage is served; the
    /// files are left as they are.
    #[error("the log is damaged at offset {offset} ({file} at {position}), read-only")]
    Damaged {
        /// Everything below it is sound.
        offset: Offset,
        /// File name of the damaged segment.
        file: Rc<str>,
        /// Where the damage begins in it.
        position: Position,
    },
    /// The disk is full, or the process has too many open files. Appends are refused until
    /// there is room again; no restart is needed.
    #[error("the disk is full, appends are refused until space returns")]
    Full,
}

/// Why an append is refused. The log is as if it had not been tried.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The frame is not one that the topic accepts.
    #[error(transparent)]
    Frame(#[from] ProduceError),
    /// An idempotent producer's batch is out of order, forgotten or fenced.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The log takes no appends.
    #[error(transparent)]
    Latched(#[from] Latch),
    /// The bytes of a frame are not between a header and the longest frame.
    #[error("a frame of {0} bytes is too short or too long")]
    Length(usize),
    /// The end of the log is being taken away.
    #[error("the log is being truncated")]
    Truncating,
    /// More bytes wait to be written than [`crate::StorageLimits::pending_bytes`] allows.
    #[error("{0} bytes wait to be written, which is as many as may")]
    Overloaded(usize),
}

impl AppendError {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Frame(error) => error.code(),
            Self::Sequence(error) => error.code(),
            Self::Latched(_) | Self::Truncating => ErrorCode::KafkaStorageError,
            Self::Length(_) => ErrorCode::CorruptMessage,
            Self::Overloaded(_) => ErrorCode::ThrottlingQuotaExceeded,
        }
    }
}

/// Why a read fails.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log start or above the end.
    #[error("offset {offset} is out of range: the log holds {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// Log start offset.
        start: Offset,
        /// End of what is acknowledged.
        end: Offset,
    },
    /// The stored bytes are damaged.
    #[error("{path} is damaged at {position}: {reason}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        position: Position,
        /// What does not hold.
        reason: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ReadError {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Damaged { .. } | Self::Disk(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// Why a log is not opened. Damage to a log's content is no such reason, see
/// [`Latch::Damaged`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why the log's start or end is not changed, or data not flushed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The offset is below the log start or above the end.
    #[error("offset {offset} is out of range: the log holds {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// Log start offset.
        start: Offset,
        /// The end.
        end: Offset,
    },
    /// The log has records of a later epoch.
    #[error("epoch {epoch} cannot begin, the log has records of epoch {latest}")]
    Epoch {
        /// The epoch that was to begin.
        epoch: LeaderEpoch,
        /// The latest in the log.
        latest: LeaderEpoch,
    },
    /// The log is read-only.
    #[error(transparent)]
    Latched(#[from] Latch),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ChangeError {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Epoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::Latched(_) | Self::Disk(_) => ErrorCode::KafkaStorageError,
        }
    }
}
