//! The bytes of a stream that have arrived and nobody has taken yet, by reference.

use std::collections::VecDeque;

use bytes::Bytes;

/// Chunks of a stream in order. Taking whole ranges out of it copies nothing.
#[derive(Debug, Default)]
pub struct ChunkQueue {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl ChunkQueue {
    /// Adds what the stream delivered.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the first bytes without taking them. False, and nothing copied, when there
    /// are too few.
    #[must_use]
    pub fn peek(&self, into: &mut [u8]) -> bool {
        if self.len < into.len() {
            return false;
        }
        let mut filled = 0;
        for chunk in &self.chunks {
            let take = chunk.len().min(into.len() - filled);
            into[filled..filled + take].copy_from_slice(&chunk[..take]);
            filled += take;
            if filled == into.len() {
                break;
            }
        }
        true
    }

    /// Copies the first bytes and takes them. False, and nothing taken, when there are too
    /// few.
    #[must_use]
    pub fn copy_out(&mut self, into: &mut [u8]) -> bool {
        let whole = self.peek(into);
        if whole {
            self.skip(into.len());
        }
        whole
    }

    /// Takes the first `len` bytes as slices of the chunks, or nothing when there are
    /// fewer.
    #[must_use]
    pub fn take(&mut self, len: usize) -> Option<Vec<Bytes>> {
        if self.len < len {
            return None;
        }
        let mut taken = Vec::new();
        self.drain(len, |chunk| taken.push(chunk));
        Some(taken)
    }

    fn skip(&mut self, len: usize) {
        self.drain(len, drop);
    }

    fn drain(&mut self, mut len: usize, mut each: impl FnMut(Bytes)) {
        self.len -= len;
        while len > 0 {
            let front = self
                .chunks
                .front_mut()
                .expect("the length counts the chunks");
            if front.len() > len {
                each(front.split_to(len));
                return;
            }
            len -= front.len();
            each(self.chunks.pop_front().expect("it was just looked at"));
        }
    }
}
