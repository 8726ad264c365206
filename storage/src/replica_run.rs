//! Frames as a leader sends them to a follower: found in the chunks of a stream, not trusted.
//!
//! A [`ReplicaRun`] is known by the frames' headers, each of which holds: it is of this log, its lengths
//! are those of a frame, and it follows the one before. Whether the batches are whole is found out
//! where they are stored, with [`crate::Log::append_replica`].

use crate::AppendError;
use bytes::Bytes;
use millrace_model::{
    EpochStart, ErrorCode, FRAME_HEADER_LEN, FrameError, FrameHeader, LeaderEpoch, LogId,
    MAX_FRAME_LEN, Offset,
};

/// Why frames of a leader are refused.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// A frame that is none of this log, or damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No frame, or more bytes than a run may have.
    #[error("a run of {0} bytes is too short or too long")]
    Length(usize),
    /// A frame that does not begin where the one before it, or the log, ends.
    #[error("a frame begins at {found} where {expected} would go on")]
    Gap {
        /// What would go on.
        expected: Offset,
        /// Where the frame begins.
        found: Offset,
    },
    /// A frame of an earlier epoch than the one before it.
    #[error("a frame of epoch {epoch} follows one of epoch {latest}")]
    Epoch {
        /// The frame's.
        epoch: LeaderEpoch,
        /// That of what it follows.
        latest: LeaderEpoch,
    },
    /// The log takes none.
    #[error(transparent)]
    Refused(#[from] AppendError),
}

impl ReplicaError {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Frame(error) => error.code(),
            Self::Length(_) | Self::Gap { .. } | Self::Epoch { .. } => ErrorCode::CorruptMessage,
            Self::Refused(error) => error.code(),
        }
    }
}

/// Whole frames of a leader, each after the one before. See the module's documentation.
#[derive(Clone, Debug)]
pub struct ReplicaRun {
    chunks: Vec<Bytes>,
    len: usize,
    base: Offset,
    end: Offset,
    epochs: Vec<EpochStart>,
}

impl ReplicaRun {
    /// Finds the frames of the log `id` in these chunks, which hold nothing else.
    ///
    /// # Errors
    /// [`ReplicaError`]: there are none or too many, a header does not hold, or they do not
    /// follow each other.
    pub fn check(id: LogId, chunks: Vec<Bytes>) -> Result<Self, ReplicaError> {
        let len: usize = chunks.iter().map(Bytes::len).sum();
        if !(FRAME_HEADER_LEN..=MAX_FRAME_LEN).contains(&len) {
            return Err(ReplicaError::Length(len));
        }
        let (seed, mut epochs) = (id.checksum_seed(), Vec::<EpochStart>::new());
        let mut ends: Option<(Offset, Offset)> = None;
        let mut frames = Frames::new(&chunks, len);
        while frames.left > 0 {
            let header = frames.header(seed)?;
            if header.len() > frames.left {
                let needed = header.len();
                return Err(FrameError::TooShort { needed }.into());
            }
            let (epoch, start) = (header.leader_epoch, header.base_offset);
            let (base, expected) = ends.unwrap_or((start, start));
            if start != expected {
                return Err(ReplicaError::Gap {
                    expected,
                    found: start,
                });
            }
            match epochs.last().map(|last| last.epoch) {
                Some(latest) if epoch < latest => {
                    return Err(ReplicaError::Epoch { epoch, latest });
                }
                Some(latest) if epoch == latest => {}
                _ => epochs.push(EpochStart { epoch, start }),
            }
            ends = Some((base, header.next_offset()));
            frames.pass(header.len());
        }
        let (base, end) = ends.ok_or(ReplicaError::Length(len))?;
        Ok(Self {
            chunks,
            len,
            base,
            end,
            epochs,
        })
    }

    /// Bytes of all frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a run has at least a frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Offset after the last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The epochs of the frames, each with its first offset here.
    #[must_use]
    pub fn epochs(&self) -> &[EpochStart] {
        &self.epochs
    }

    /// The frames, one by one.
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames::new(&self.chunks, self.len)
    }
}

/// A place among chunks that hold frames.
pub(crate) struct Frames<'a> {
    chunks: &'a [Bytes],
    /// Bytes of the first chunk that lie behind.
    passed: usize,
    /// Bytes ahead.
    left: usize,
}

impl<'a> Frames<'a> {
    fn new(chunks: &'a [Bytes], left: usize) -> Self {
        let passed = 0;
        Self {
            chunks,
            passed,
            left,
        }
    }

    /// Bytes of the frame here, whose header has been checked; `None` behind the last.
    pub(crate) fn next_len(&self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let mut header = [0; FRAME_HEADER_LEN];
        self.copy(&mut header);
        Some(crate::frames::len_of(&header))
    }

    /// Copies what lies ahead, which is enough.
    pub(crate) fn copy(&self, into: &mut [u8]) {
        let (mut at, mut skip) = (0, self.passed);
        for chunk in self.chunks {
            let take = (chunk.len() - skip).min(into.len() - at);
            into[at..at + take].copy_from_slice(&chunk[skip..skip + take]);
            (at, skip) = (at + take, 0);
            if at == into.len() {
                return;
            }
        }
    }

    /// Goes on behind `len` bytes.
    pub(crate) fn pass(&mut self, len: usize) {
        self.left -= len;
        self.passed += len;
        while let Some(first) = self.chunks.first()
            && first.len() <= self.passed
        {
            self.passed -= first.len();
            self.chunks = &self.chunks[1..];
        }
    }

    fn header(&self, seed: u32) -> Result<FrameHeader, FrameError> {
        let mut header = [0; FRAME_HEADER_LEN];
        if self.left < header.len() {
            let needed = header.len();
            return Err(FrameError::TooShort { needed });
        }
        self.copy(&mut header);
        FrameHeader::parse(&header, seed)
    }
}
