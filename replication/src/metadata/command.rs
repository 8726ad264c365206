//! The commands and their bytes.
//!
//! Byte map: `MRMC`, version (u16, little-endian), two zero bytes, then the archived
//! command. A change of the archived layout is a new version; `tests/golden.rs` pins it.

use millrace_model::{BrokerId, LeaderEpoch, ProducerId, TopicId};
use rkyv::rancor;
use rkyv::util::AlignedVec;

use super::Topic;

const MAGIC: [u8; 4] = *b"MRMC";
const VERSION: u16 = 1;
const PREFIX_LEN: usize = 8;

/// A change of the metadata. It is durable before it is applied.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Command {
    /// This topic is new.
    CreateTopic(Topic),
    /// This topic goes.
    DeleteTopic {
        /// Its id.
        id: TopicId,
    },
    /// From now on this topic has exactly these partitions and settings.
    AlterTopic {
        /// Its id.
        id: TopicId,
        /// Number of partitions, not below the present one.
        partitions: u32,
        /// All its settings, sorted by name.
        overrides: Vec<Override>,
    },
    /// These producer ids are given out.
    AllocateProducerIds {
        /// The first.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// A broker began a life.
    BrokerStarted {
        /// The broker.
        broker: BrokerId,
        /// Its epoch, above that of every earlier life.
        epoch: LeaderEpoch,
    },
}

/// A setting of a topic that differs from the broker's default.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Override {
    /// Kafka's name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Why bytes are no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// They do not start as one.
    #[error("a metadata command starts with MRMC")]
    Magic,
    /// A later version of Millrace wrote them.
    #[error(
        "metadata command of version {0}, but this broker knows up to {VERSION}; run the version that wrote it or a later one"
    )]
    Version(u16),
    /// The archive does not hold.
    #[error("damaged metadata command: {0}")]
    Damaged(String),
}

impl Command {
    /// The command as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(
            MAGIC,
            VERSION,
            &rkyv::to_bytes::<rancor::Error>(self).expect("memory is the only limit"),
        )
    }

    /// The command that these bytes are.
    ///
    /// # Errors
    /// They are none, or damaged, or of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CommandError> {
        let body = match decode(MAGIC, VERSION, bytes) {
            Ok(body) => body,
            Err(PrefixError::Magic) => return Err(CommandError::Magic),
            Err(PrefixError::Version(version)) => return Err(CommandError::Version(version)),
        };
        rkyv::from_bytes::<Self, rancor::Error>(&body)
            .map_err(|error| CommandError::Damaged(error.to_string()))
    }
}

/// What is wrong before the archive.
pub(crate) enum PrefixError {
    /// Another magic, or too short.
    Magic,
    /// Another version.
    Version(u16),
}

/// Puts magic and version before an archive.
pub(crate) fn encode(magic: [u8; 4], version: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_LEN + body.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(body);
    bytes
}

/// Takes magic and version off; the archive comes back aligned.
pub(crate) fn decode(
    magic: [u8; 4],
    version: u16,
    bytes: &[u8],
) -> Result<AlignedVec, PrefixError> {
    let (prefix, body) = bytes
        .split_at_checked(PREFIX_LEN)
        .ok_or(PrefixError::Magic)?;
    if prefix[0..4] != magic {
        return Err(PrefixError::Magic);
    }
    let found = u16::from_le_bytes([prefix[4], prefix[5]]);
    if found != version || prefix[6..8] != [0; 2] {
        return Err(PrefixError::Version(found));
    }
    let mut aligned = AlignedVec::with_capacity(body.len());
    aligned.extend_from_slice(body);
    Ok(aligned)
}
