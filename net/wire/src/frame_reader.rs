//! Frames from the chunks of a stream, by reference.

use bytes::Bytes;
use millrace_model::{FRAME_HEADER_LEN, FrameError, FrameHeader};

use crate::ChunkQueue;

/// Reassembles the frames of one partition. Feed it chunks, ask for the header of the next
/// frame, which says how long the frame is, then for the frame.
///
/// It checks headers only. It buffers what it is fed: who feeds it stops when the frame is
/// whole, so that a reader holds a frame and a chunk at most.
#[derive(Debug)]
pub struct FrameReader {
    chunks: ChunkQueue,
    seed: u32,
    max_frame_len: usize,
    /// The header of the frame that comes next, once it was read.
    header: Option<FrameHeader>,
}

/// Why a stream does not go on with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameReadError {
    /// What comes is no frame of this partition.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame is longer than this reader takes.
    #[error("a frame of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// Bytes of the frame.
        len: usize,
        /// The limit.
        limit: usize,
    },
}

impl FrameReader {
    /// A reader of the frames of the log with this [`millrace_model::LogId::checksum_seed`],
    /// none longer than `max_frame_len`. It starts with what another reader left over.
    #[must_use]
    pub fn new(seed: u32, max_frame_len: usize, rest: ChunkQueue) -> Self {
        Self {
            chunks: rest,
            seed,
            max_frame_len,
            header: None,
        }
    }

    /// Adds what the stream delivered.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// The header of the next frame, or `None` until more bytes come. May be asked again.
    ///
    /// # Errors
    /// [`FrameReadError`] as soon as the header is there and does not hold. Nothing after it
    /// can be read.
    pub fn next_header(&mut self) -> Result<Option<FrameHeader>, FrameReadError> {
        if self.header.is_none() {
            let mut bytes = [0; FRAME_HEADER_LEN];
            if self.chunks.peek(&mut bytes) {
                let header = FrameHeader::parse(&bytes, self.seed)?;
                let (len, limit) = (header.len(), self.max_frame_len);
                if len > limit {
                    return Err(FrameReadError::TooLong { len, limit });
                }
                self.header = Some(header);
            }
        }
        Ok(self.header)
    }

    /// Bytes that are missing until the frame whose header was read is whole.
    #[must_use]
    pub fn missing_bytes(&self) -> usize {
        let wanted = self.header.map_or(FRAME_HEADER_LEN, |header| header.len());
        wanted.saturating_sub(self.chunks.len())
    }

    /// The frame whose header [`FrameReader::next_header`] gave, as slices of the chunks
    /// that cover exactly it, or `None` until more bytes come.
    pub fn take_frame(&mut self) -> Option<Vec<Bytes>> {
        let frame = self.chunks.take(self.header?.len())?;
        self.header = None;
        Some(frame)
    }

    /// Bytes that arrived and were not taken. Not zero at the end of a stream means that
    /// the stream was cut inside a frame.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.chunks.len()
    }
}
