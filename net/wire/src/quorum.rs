//! Quorum streams: how the nodes of the metadata quorum talk.
//!
//! A broker opens one to each other that it talks to and keeps it. It sends [`QuorumOpen`], then
//! messages, each behind its length; nothing comes back, for an answer goes the other way on the
//! stream of the other broker. A message may get lost with its stream; the quorum expects that.

use bytes::{BufMut, Bytes, BytesMut};
use millrace_model::{BrokerId, ClusterId};
use rkyv::{Archive, Deserialize, Serialize};

use crate::{ChunkQueue, DecodeError, MAX_MESSAGE_LEN};

/// Opens a quorum stream. The connection must have proved the same by certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct QuorumOpen {
    /// The cluster that the sender belongs to. Another one is refused.
    pub cluster: ClusterId,
    /// The sender.
    pub broker: BrokerId,
}

/// Bytes of the length in front of a message, little-endian.
const LEN_BYTES: usize = 4;

/// Writes a message behind what `out` holds. What it says is the quorum's business.
///
/// # Panics
/// If it is longer than [`MAX_MESSAGE_LEN`]; the quorum's own limit is below that.
pub fn put_quorum_message(out: &mut BytesMut, message: &[u8]) {
    assert!(
        message.len() <= MAX_MESSAGE_LEN,
        "a message of {} bytes",
        message.len()
    );
    out.reserve(LEN_BYTES + message.len());
    out.put_u32_le(u32::try_from(message.len()).expect("the limit fits in u32"));
    out.put_slice(message);
}

/// Reads the messages of a quorum stream from chunks of any size. It buffers what it is fed: who
/// feeds it takes the messages out before it feeds more.
#[derive(Debug, Default)]
pub struct QuorumReader {
    chunks: ChunkQueue,
    /// Length of the message that comes next, once it is known.
    next_len: Option<usize>,
}

impl QuorumReader {
    /// A reader that starts with what another one left over.
    #[must_use]
    pub fn new(chunks: ChunkQueue) -> Self {
        Self {
            chunks,
            next_len: None,
        }
    }

    /// Adds what the stream delivered.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// The next message, or `None` until more bytes come.
    ///
    /// # Errors
    /// [`DecodeError::MessageLength`] as soon as the length is there and over [`MAX_MESSAGE_LEN`].
    /// Nothing after it can be read.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(len) = self.message_len()? else {
            return Ok(None);
        };
        let Some(chunks) = self.chunks.take(len) else {
            return Ok(None);
        };
        self.next_len = None;
        Ok(Some(match <[Bytes; 1]>::try_from(chunks) {
            Ok([whole]) => whole,
            Err(pieces) => pieces.concat().into(),
        }))
    }

    /// Whether a message has begun and is not whole.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        self.next_len.is_some() || !self.chunks.is_empty()
    }

    /// Bytes that arrived and were not taken.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.chunks.len()
    }

    fn message_len(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.next_len.is_none() {
            let mut bytes = [0; LEN_BYTES];
            if self.chunks.copy_out(&mut bytes) {
                let len = u32::from_le_bytes(bytes) as usize;
                if len > MAX_MESSAGE_LEN {
                    return Err(DecodeError::MessageLength(len));
                }
                self.next_len = Some(len);
            }
        }
        Ok(self.next_len)
    }
}
