//! Messages to bytes and back. What arrives is checked as a whole before it becomes a
//! message, so a receiver never holds half a one.

use bytes::{Bytes, BytesMut};
use millrace_model::ErrorCode;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::{
    ConsumeOpen, ConsumeOpened, MAX_MESSAGE_LEN, PREFACE_LEN, Preface, PrefaceError, ProduceOpen,
    ProduceOpened, QuorumOpen, ReplicaOpen, ReplicaOpened, Request, Response, StreamKind,
};

/// A message that follows a [`Preface`].
pub trait Message: Sized + sealed::Sealed {
    /// The archived form, at most [`MAX_MESSAGE_LEN`] bytes of it.
    ///
    /// # Errors
    /// [`EncodeError`] when it would be longer.
    fn to_archive(&self) -> Result<AlignedVec, EncodeError>;

    /// The message that these bytes are, wherever they lie in memory.
    ///
    /// # Errors
    /// [`DecodeError::Archive`] when they are no message of this type.
    fn from_archive(bytes: &[u8]) -> Result<Self, DecodeError>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! messages {
    ($($message:ty),*) => {$(
        impl sealed::Sealed for $message {}
        impl Message for $message {
            fn to_archive(&self) -> Result<AlignedVec, EncodeError> {
                to_archive(self)
            }
            fn from_archive(bytes: &[u8]) -> Result<Self, DecodeError> {
                from_archive::<Self>(bytes)
            }
        }
    )*};
}

messages!(
    Request,
    Response,
    ProduceOpen,
    ProduceOpened,
    ConsumeOpen,
    ConsumeOpened,
    ReplicaOpen,
    ReplicaOpened,
    QuorumOpen
);

/// A message is longer than any receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {len} bytes is over the limit of {limit}", limit = MAX_MESSAGE_LEN)]
pub struct EncodeError {
    /// Bytes it would have.
    pub len: usize,
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The preface does not hold.
    #[error(transparent)]
    Preface(#[from] PrefaceError),
    /// A stream of another kind than the one expected.
    #[error("a {found:?} stream where a {expected:?} stream belongs")]
    Kind {
        /// What was expected.
        expected: StreamKind,
        /// What came.
        found: StreamKind,
    },
    /// The message does not pass its check.
    #[error("the message is malformed: {0}")]
    Archive(String),
    /// More frames are announced than may come at once.
    #[error("a run of {0} bytes of frames is over the limit of {limit}", limit = crate::MAX_RUN_LEN)]
    RunLength(usize),
    /// A message of the quorum is announced that is too long.
    #[error("a message of {0} bytes is over the limit of {limit}", limit = MAX_MESSAGE_LEN)]
    MessageLength(usize),
    /// The bytes end early, or go on after the message.
    #[error("{found} bytes where the message has {expected}")]
    Length {
        /// Bytes that preface and message have.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
}

impl DecodeError {
    /// What to answer the sender.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Preface(PrefaceError::Version(_)) => ErrorCode::UnsupportedVersion,
            Self::Preface(_)
            | Self::Kind { .. }
            | Self::Archive(_)
            | Self::RunLength(_)
            | Self::MessageLength(_)
            | Self::Length { .. } => ErrorCode::InvalidRequest,
        }
    }
}

/// A preface and a message, ready to send.
///
/// # Errors
/// [`EncodeError`] when the message is over [`MAX_MESSAGE_LEN`].
pub fn encode<M: Message>(kind: StreamKind, message: &M) -> Result<Bytes, EncodeError> {
    let archive = message.to_archive()?;
    let message_len = u32::try_from(archive.len()).expect("the limit of a message fits in u32");
    let mut bytes = BytesMut::with_capacity(PREFACE_LEN + archive.len());
    bytes.extend_from_slice(&Preface { kind, message_len }.to_bytes());
    bytes.extend_from_slice(&archive);
    Ok(bytes.freeze())
}

/// The message in `bytes`, which are a whole message as [`encode`] made it, and the kind
/// that its preface names.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<M: Message>(bytes: &[u8]) -> Result<(StreamKind, M), DecodeError> {
    let (preface, message) = bytes.split_first_chunk().ok_or(DecodeError::Length {
        expected: PREFACE_LEN,
        found: bytes.len(),
    })?;
    let preface = Preface::from_bytes(preface)?;
    if message.len() != preface.message_len as usize {
        let expected = PREFACE_LEN + preface.message_len as usize;
        return Err(DecodeError::Length {
            expected,
            found: bytes.len(),
        });
    }
    Ok((preface.kind, M::from_archive(message)?))
}

pub(crate) fn to_archive<M>(message: &M) -> Result<AlignedVec, EncodeError>
where
    M: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    // The only way to fail is a message beyond the reach of a 32-bit relative pointer.
    let archive =
        rkyv::to_bytes::<rancor::Error>(message).map_err(|_| EncodeError { len: usize::MAX })?;
    if archive.len() > MAX_MESSAGE_LEN {
        return Err(EncodeError { len: archive.len() });
    }
    Ok(archive)
}

pub(crate) fn from_archive<M>(bytes: &[u8]) -> Result<M, DecodeError>
where
    M: Archive,
    M::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<M, HighDeserializer<rancor::Error>>,
{
    // Network chunks lie anywhere, an archive is read in place: hence the aligned copy.
    let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    rkyv::from_bytes::<M, rancor::Error>(&aligned)
        .map_err(|error| DecodeError::Archive(error.to_string()))
}
