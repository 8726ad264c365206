//! Frames out of the chunks of a produce stream, by reference.
//!
//! A frame is taken in two steps: its header, which tells the length to acquire memory for,
//! then the whole. Nothing here waits or copies a body.

use bytes::Bytes;
use millrace_model::{FRAME_HEADER_LEN, FrameError, FrameHeader};
use millrace_wire::ChunkQueue;

/// Cuts a stream of chunks into frames.
pub(crate) struct FrameCutter {
    chunks: ChunkQueue,
    /// Seeds the checksum of each header.
    seed: u32,
    /// Bytes of a refused frame that are still to be thrown away.
    to_skip: usize,
}

impl FrameCutter {
    /// Cuts frames of the log with this checksum seed; `rest` is what followed the
    /// stream's opening message.
    pub(crate) fn new(rest: ChunkQueue, seed: u32) -> Self {
        Self {
            chunks: rest,
            seed,
            to_skip: 0,
        }
    }

    /// Adds what the stream delivered.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
        self.throw_away();
    }

    /// The header of the next frame, or `None` until more bytes come. Takes nothing.
    ///
    /// # Errors
    /// The header does not hold. Where the next frame starts is then unknown.
    pub(crate) fn header(&self) -> Result<Option<FrameHeader>, FrameError> {
        let mut bytes = [0; FRAME_HEADER_LEN];
        if self.to_skip > 0 || !self.chunks.peek(&mut bytes) {
            return Ok(None);
        }
        FrameHeader::parse(&bytes, self.seed).map(Some)
    }

    /// The next frame, of `len` bytes by its header, or `None` until it is whole.
    pub(crate) fn take(&mut self, len: usize) -> Option<Vec<Bytes>> {
        self.chunks.take(len)
    }

    /// Whether so many bytes of the next frame are here.
    pub(crate) fn has(&self, len: usize) -> bool {
        self.chunks.len() >= len
    }

    /// Throws away the next frame, of `len` bytes by its header, as it arrives.
    pub(crate) fn skip(&mut self, len: usize) {
        self.to_skip += len;
        self.throw_away();
    }

    /// Whether nothing of a next frame has arrived.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.chunks.is_empty() && self.to_skip == 0
    }

    fn throw_away(&mut self) {
        let len = self.to_skip.min(self.chunks.len());
        if self.chunks.take(len).is_some() {
            self.to_skip -= len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u32 = 7;

    fn frame(batch_len: u32) -> Vec<u8> {
        let frame_len = (FRAME_HEADER_LEN as u32 + batch_len).next_multiple_of(16);
        let header = FrameHeader {
            magic: FrameHeader::MAGIC,
            checksum: 0,
            frame_len,
            batch_len,
            base_offset: Default::default(),
            last_offset_delta: 0,
            record_count: 1,
            leader_epoch: Default::default(),
            reserved_a: 0,
            max_timestamp: Default::default(),
            append_timestamp: Default::default(),
            reserved_b: 0,
        };
        let mut bytes = header.seal(SEED).to_vec();
        bytes.resize(frame_len as usize, 0xAB);
        bytes
    }

    #[test]
    fn frames_are_cut_from_chunks_of_any_size() {
        let bytes = [frame(100), frame(61), frame(1_000)].concat();
        for chunk_len in [1, 7, 64, 100, bytes.len()] {
            let mut cutter = FrameCutter::new(ChunkQueue::default(), SEED);
            let mut cut = Vec::new();
            for chunk in bytes.chunks(chunk_len) {
                cutter.push(Bytes::copy_from_slice(chunk));
                while let Some(header) = cutter.header().unwrap()
                    && let Some(frame) = cutter.take(header.len())
                {
                    cut.push(frame.concat());
                }
            }
            assert_eq!(cut.concat(), bytes);
            assert_eq!(cut.len(), 3);
            assert!(cutter.is_between_frames());
        }
    }

    #[test]
    fn a_skipped_frame_leaves_the_next_whole() {
        let (skipped, kept) = (frame(500), frame(61));
        let mut cutter = FrameCutter::new(ChunkQueue::default(), SEED);
        cutter.push(Bytes::copy_from_slice(&skipped[..100]));
        let header = cutter.header().unwrap().unwrap();
        cutter.skip(header.len());
        assert!(cutter.header().unwrap().is_none());
        assert!(!cutter.is_between_frames());
        cutter.push([&skipped[100..], &kept].concat().into());
        let header = cutter.header().unwrap().unwrap();
        assert_eq!(cutter.take(header.len()).unwrap().concat(), kept);
    }

    #[test]
    fn a_broken_header_is_an_error() {
        let mut bytes = frame(100);
        bytes[20] ^= 1;
        let mut cutter = FrameCutter::new(ChunkQueue::default(), SEED);
        cutter.push(bytes.into());
        assert!(cutter.header().is_err());
    }
}
