//! What can go wrong, each with what the reader can do about it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use millrace_model::{ErrorCode, LogId, Offset};
use millrace_wire::{DecodeError, WireError};

/// Why something the client was asked for did not happen.
///
/// One error may concern all records of a batch, so it can be cloned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection came about.
    #[error("cannot connect to {broker} over QUIC (UDP): {reason}")]
    Connect {
        /// The broker's address.
        broker: SocketAddr,
        /// What was tried and what happened.
        reason: String,
    },
    /// The connection broke, or the stream did. A retry opens another.
    #[error("the connection to {broker} broke: {reason}")]
    Disconnected {
        /// The broker's address.
        broker: SocketAddr,
        /// What the transport says.
        reason: String,
    },
    /// The broker shows another certificate than the one that was pinned on first use.
    #[error(transparent)]
    CertificateChanged(Box<CertificateChange>),
    /// The broker shows a certificate that is not among those to trust.
    #[error(
        "{broker} shows the certificate sha256:{found}, which is not the one to trust ({trusted})",
        found = Hex(found)
    )]
    CertificateUntrusted {
        /// The broker's address.
        broker: SocketAddr,
        /// The fingerprint of the certificate that was shown.
        found: [u8; 32],
        /// What is trusted instead.
        trusted: String,
    },
    /// The file that says whom to trust cannot be used.
    #[error("{file}: {reason}", file = file.display())]
    TrustFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The broker refused.
    #[error("{code}: {message}")]
    Broker {
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: String,
    },
    /// The answer did not come in time. Whether the broker did what it was asked is unknown.
    #[error("{what} was not done after {after:?}")]
    TimedOut {
        /// What was awaited.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The broker does not speak the protocol as this client does.
    #[error("the broker's answer cannot be read: {0}")]
    Protocol(String),
    /// A frame that the broker sent is damaged.
    #[error("a damaged frame in {log} at or after offset {position}: {reason}")]
    Damaged {
        /// The partition.
        log: LogId,
        /// The position of the consumer.
        position: Offset,
        /// What does not hold.
        reason: String,
    },
    /// A record, or a request, that no broker would take.
    #[error("{code}: {message}")]
    Refused {
        /// Kafka's code for it.
        code: ErrorCode,
        /// What is wrong with it.
        message: String,
    },
    /// The options contradict themselves.
    #[error("option {name}: {reason}")]
    Options {
        /// The option.
        name: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The producer, consumer or client was closed.
    #[error("closed")]
    Closed,
}

/// A broker shows another certificate than the one that was pinned on first use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the certificate of {broker} has changed! Line {line} of {file} pins sha256:{pinned}, the \
     broker shows sha256:{found}. Someone may be between you and the broker. If the broker was \
     set up anew, remove that line.",
    file = file.display(), pinned = Hex(pinned), found = Hex(found)
)]
pub struct CertificateChange {
    /// The broker's address.
    pub broker: SocketAddr,
    /// The file of known brokers.
    pub file: PathBuf,
    /// Its line, counted from 1.
    pub line: usize,
    /// The fingerprint in that line.
    pub pinned: [u8; 32],
    /// The fingerprint of the certificate that was shown.
    pub found: [u8; 32],
}

impl ClientError {
    /// Kafka's code for this error.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Broker { code, .. } | Self::Refused { code, .. } => *code,
            Self::TimedOut { .. } => ErrorCode::RequestTimedOut,
            Self::Damaged { .. } => ErrorCode::CorruptMessage,
            _ => ErrorCode::UnknownServerError,
        }
    }

    /// Whether the same may succeed later without any change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } => true,
            Self::Broker { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// The partition is gone for ever: a topic made again has another id.
    pub(crate) fn is_gone(&self) -> bool {
        let gone = [
            ErrorCode::UnknownTopicId,
            ErrorCode::UnknownTopicOrPartition,
        ];
        matches!(self, Self::Broker { code, .. } if gone.contains(code))
    }

    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Refused {
            code,
            message: message.into(),
        }
    }
}

impl From<WireError> for ClientError {
    fn from(error: WireError) -> Self {
        Self::Broker {
            code: ErrorCode::from_i16(error.code),
            message: error.message,
        }
    }
}

impl From<DecodeError> for ClientError {
    fn from(error: DecodeError) -> Self {
        match error.code() {
            code @ ErrorCode::UnsupportedVersion => Self::Broker {
                code,
                message: error.to_string(),
            },
            _ => Self::Protocol(error.to_string()),
        }
    }
}

/// A fingerprint as hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8; 32]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
