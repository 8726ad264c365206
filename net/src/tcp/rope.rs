//! Chunks that are to be written one after the other, as far as they are not yet.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Chunks handed to the kernel at a time; its own limit is 1,024.
const SLICES_A_WRITE: usize = 64;

/// Bytes in chunks, in the order in which they are written. Chunks are held by reference.
#[derive(Debug, Default)]
pub struct Rope {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    /// Adds a chunk behind all others.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first chunk that is left.
    pub(super) fn first(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    /// Fills `slices` with what comes next, and returns how many there are.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_A_WRITE]) -> usize {
        let filled = slices.iter_mut().zip(&self.chunks);
        filled
            .map(|(slice, chunk)| *slice = IoSlice::new(chunk))
            .count()
    }

    /// So many bytes are written.
    pub(super) fn advance(&mut self, mut written: usize) {
        assert!(written <= self.len, "no more is written than there was");
        self.len -= written;
        while written > 0 {
            let first = self.chunks.front_mut().expect("the length counts chunks");
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.chunks.pop_front();
        }
    }
}

impl Extend<Bytes> for Rope {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, chunks: T) {
        chunks.into_iter().for_each(|chunk| self.push(chunk));
    }
}

pub(super) const NO_SLICES: [&[u8]; SLICES_A_WRITE] = [&[]; SLICES_A_WRITE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_leaves_in_order_whatever_the_steps() {
        let all: Vec<u8> = (0..=255).collect();
        for step in 1..40 {
            let mut rope = Rope::default();
            rope.extend(all.chunks(7).map(Bytes::copy_from_slice));
            rope.push(Bytes::new());
            let mut seen = Vec::new();
            while !rope.is_empty() {
                let mut slices = NO_SLICES.map(IoSlice::new);
                let count = rope.slices(&mut slices);
                let next = slices[..count].iter().flat_map(|slice| slice.iter());
                let taken: Vec<u8> = next.copied().take(step).collect();
                seen.extend_from_slice(&taken);
                rope.advance(taken.len());
            }
            assert_eq!(seen, all);
            assert!(rope.first().is_empty());
        }
    }
}
