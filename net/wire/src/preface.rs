//! The 16 bytes that open a stream.

/// Length of a [`Preface`] in bytes.
pub const PREFACE_LEN: usize = 16;

const MAGIC: [u8; 4] = *b"MRQ1";

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum StreamKind {
    /// One request, one response.
    Control = 1,
    /// Frames to one partition, acknowledgements back.
    Produce = 2,
    /// Frames of one partition, pushed as they become readable.
    Consume = 3,
    /// Frames of many partitions to a broker that follows, its progress back.
    Replicate = 4,
    /// Messages of the metadata quorum, one way.
    Quorum = 5,
    /// As [`Self::Consume`], from a broker whose replica is in sync, whether it leads or not.
    ConsumeReplica = 6,
}

/// Opens each stream in each direction. Byte map, little-endian:
///
/// | at | bytes | what |
/// | --- | --- | --- |
/// | 0 | 4 | `MRQ1` |
/// | 4 | 2 | version, [`crate::VERSION`] |
/// | 6 | 2 | [`StreamKind`] |
/// | 8 | 4 | length of the message that follows |
/// | 12 | 4 | zero |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preface {
    /// What the stream is for.
    pub kind: StreamKind,
    /// Bytes of the message that follows, at most [`crate::MAX_MESSAGE_LEN`].
    pub message_len: u32,
}

/// Why the first 16 bytes of a stream are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefaceError {
    /// Not this protocol.
    #[error("a stream of the native protocol starts with MRQ1")]
    Magic,
    /// Another version of it.
    #[error("version {0} is not served, only {only}", only = crate::VERSION)]
    Version(u16),
    /// No such kind of stream.
    #[error("no stream is of kind {0}")]
    Kind(u16),
    /// The message is too long.
    #[error("a message of {0} bytes is over the limit of {limit}", limit = crate::MAX_MESSAGE_LEN)]
    Length(u32),
    /// The last four bytes are not zero.
    #[error("the reserved bytes of the preface are not zero")]
    Reserved,
}

impl Preface {
    /// The preface as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PREFACE_LEN] {
        let mut bytes = [0; PREFACE_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&crate::VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&(self.kind as u16).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.message_len.to_le_bytes());
        bytes
    }

    /// The preface that these bytes are.
    ///
    /// # Errors
    /// The first field that does not hold, in the order of the byte map.
    pub fn from_bytes(bytes: &[u8; PREFACE_LEN]) -> Result<Self, PrefaceError> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let message_len = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if bytes[0..4] != MAGIC {
            return Err(PrefaceError::Magic);
        }
        if u16_at(4) != crate::VERSION {
            return Err(PrefaceError::Version(u16_at(4)));
        }
        let kind = match u16_at(6) {
            1 => StreamKind::Control,
            2 => StreamKind::Produce,
            3 => StreamKind::Consume,
            4 => StreamKind::Replicate,
            5 => StreamKind::Quorum,
            6 => StreamKind::ConsumeReplica,
            other => return Err(PrefaceError::Kind(other)),
        };
        if message_len as usize > crate::MAX_MESSAGE_LEN {
            return Err(PrefaceError::Length(message_len));
        }
        if bytes[12..16] != [0; 4] {
            return Err(PrefaceError::Reserved);
        }
        Ok(Self { kind, message_len })
    }
}
