//! The records of a partition in a Fetch response: a rope of chunks that are never copied.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// Record batches one after the other, as a rope of chunks that may split them anywhere.
///
/// Two are equal when their bytes are, wherever these are split.
#[derive(Clone, Default)]
pub struct RecordSet {
    chunks: Vec<Bytes>,
    len: usize,
}

impl RecordSet {
    /// Adds a chunk at the end.
    pub fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    /// Bytes in all chunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunks in order, none of them empty.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The chunks in order, none of them empty.
    #[must_use]
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// The bytes in one piece: copied together when there are several chunks.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.chunks.len() <= 1 {
            return self.chunks.pop().unwrap_or_default();
        }
        let mut bytes = BytesMut::with_capacity(self.len);
        self.chunks
            .iter()
            .for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes.freeze()
    }
}

impl fmt::Debug for RecordSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordSet({} bytes)", self.len)
    }
}

impl From<Bytes> for RecordSet {
    fn from(chunk: Bytes) -> Self {
        Self::from_iter([chunk])
    }
}

impl FromIterator<Bytes> for RecordSet {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut records = Self::default();
        chunks.into_iter().for_each(|chunk| records.push(chunk));
        records
    }
}

impl PartialEq for RecordSet {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self
                .chunks
                .iter()
                .flatten()
                .eq(other.chunks.iter().flatten())
    }
}
