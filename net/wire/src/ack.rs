//! Acknowledgements: fixed records of [`ACK_LEN`] bytes, one after another, without a
//! preface of their own, so that many go in one write.

use bytes::{BufMut, Bytes, BytesMut};
use millrace_model::{ErrorCode, Offset, Timestamp};

use crate::{ACK_LEN, Ack, ChunkQueue};

/// Bytes of [`Ack::reserved`].
const RESERVED_LEN: usize = 6;

impl Ack {
    /// The acknowledgement of a frame that was appended.
    #[must_use]
    pub fn appended(base_offset: Offset, append_timestamp: Timestamp, log_start: Offset) -> Self {
        let reserved = [0; RESERVED_LEN];
        Self {
            base_offset,
            append_timestamp,
            log_start,
            code: 0,
            reserved,
        }
    }

    /// The answer to a frame that was refused.
    #[must_use]
    pub fn refused(code: ErrorCode, log_start: Offset) -> Self {
        Self {
            code: code as i16,
            ..Self::appended(Offset(0), Timestamp::NONE, log_start)
        }
    }

    /// The error, or [`ErrorCode::None`].
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        ErrorCode::from_i16(self.code)
    }

    /// The archived form. Byte map, little-endian: `base_offset` at 0, `append_timestamp`
    /// at 8, `log_start` at 16, `code` at 24, six zero bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ACK_LEN] {
        let mut bytes = [0; ACK_LEN];
        bytes[0..8].copy_from_slice(&self.base_offset.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.append_timestamp.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log_start.0.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.code.to_le_bytes());
        bytes
    }

    /// The acknowledgement that these bytes are. Reserved bytes are not looked at, so that
    /// a later version may use them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ACK_LEN]) -> Self {
        let word = |at: usize| -> [u8; 8] {
            bytes[at..at + 8]
                .try_into()
                .expect("a range of eight bytes")
        };
        Self {
            base_offset: Offset(u64::from_le_bytes(word(0))),
            append_timestamp: Timestamp(i64::from_le_bytes(word(8))),
            log_start: Offset(u64::from_le_bytes(word(16))),
            code: i16::from_le_bytes([bytes[24], bytes[25]]),
            reserved: [0; RESERVED_LEN],
        }
    }
}

/// Acknowledgements that go out in one write.
#[derive(Debug, Default)]
pub struct AckBatch {
    bytes: BytesMut,
}

impl AckBatch {
    /// Adds one, after all others.
    pub fn push(&mut self, ack: &Ack) {
        self.bytes.put_slice(&ack.to_bytes());
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / ACK_LEN
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes all of them as bytes to send, and keeps the allocation for the next.
    pub fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }
}

/// Reassembles acknowledgements from the chunks of a stream.
#[derive(Debug, Default)]
pub struct AckReader {
    chunks: ChunkQueue,
}

impl AckReader {
    /// A reader that starts with what another one left over.
    #[must_use]
    pub fn new(chunks: ChunkQueue) -> Self {
        Self { chunks }
    }

    /// Adds what the stream delivered.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// The next acknowledgement, or `None` until more bytes come.
    pub fn next_ack(&mut self) -> Option<Ack> {
        let mut bytes = [0; ACK_LEN];
        self.chunks
            .copy_out(&mut bytes)
            .then(|| Ack::from_bytes(&bytes))
    }

    /// Bytes of an acknowledgement that is not whole. Not zero at the end of a stream
    /// means that the stream was cut.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.chunks.len()
    }
}
