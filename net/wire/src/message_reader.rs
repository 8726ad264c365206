//! The opening of a stream: a preface and one message, from chunks of any size.

use bytes::Bytes;

use crate::{ChunkQueue, DecodeError, Message, PREFACE_LEN, Preface};

/// Reads the preface and the message that open a stream. Feed it chunks, ask for the
/// preface, then, knowing the kind, for the message; what follows the message is in
/// [`MessageReader::into_rest`].
///
/// It buffers what it is fed: who feeds it stops at the message's end, and
/// [`crate::MAX_MESSAGE_LEN`] bounds that.
#[derive(Debug, Default)]
pub struct MessageReader {
    chunks: ChunkQueue,
    preface: Option<Preface>,
}

impl MessageReader {
    /// Adds what the stream delivered.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// The preface, or `None` until more bytes come. May be asked again.
    ///
    /// # Errors
    /// [`DecodeError::Preface`] as soon as its 16 bytes are there and do not hold.
    pub fn preface(&mut self) -> Result<Option<Preface>, DecodeError> {
        if self.preface.is_none() {
            let mut bytes = [0; PREFACE_LEN];
            if self.chunks.copy_out(&mut bytes) {
                self.preface = Some(Preface::from_bytes(&bytes)?);
            }
        }
        Ok(self.preface)
    }

    /// The message after the preface, or `None` until more bytes come. Ask once more only
    /// after `None`.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn message<M: Message>(&mut self) -> Result<Option<M>, DecodeError> {
        let Some(preface) = self.preface()? else {
            return Ok(None);
        };
        let len = preface.message_len as usize;
        if self.chunks.len() < len {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        let whole = self.chunks.copy_out(&mut bytes);
        assert!(whole, "the length was just compared");
        M::from_archive(&bytes).map(Some)
    }

    /// Bytes that arrived after what was read so far.
    #[must_use]
    pub fn into_rest(self) -> ChunkQueue {
        self.chunks
    }

    /// How the stream ended too early, for a stream that is at its end.
    #[must_use]
    pub fn cut_short(&self) -> DecodeError {
        let message_len = self.preface.map(|preface| preface.message_len as usize);
        let taken = if self.preface.is_some() {
            PREFACE_LEN
        } else {
            0
        };
        DecodeError::Length {
            expected: PREFACE_LEN + message_len.unwrap_or(0),
            found: taken + self.chunks.len(),
        }
    }
}
