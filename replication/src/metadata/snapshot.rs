//! The whole state as bytes, so that old commands can be forgotten.
//!
//! Byte map as of a command, with the magic `MRMS`. The checksum is the business of the file
//! that holds it. Decoding rebuilds the state by applying commands to an empty one, so a
//! snapshot that contradicts itself is refused like a command that does.

use millrace_model::{BrokerId, LeaderEpoch};
use rkyv::rancor;

use super::command::{PrefixError, decode, encode};
use super::{ApplyError, Command, Metadata, Topic};

const MAGIC: [u8; 4] = *b"MRMS";
const VERSION: u16 = 1;

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Image {
    topics: Vec<Topic>,
    next_producer_id: i64,
    brokers: Vec<EpochOfBroker>,
}

/// The epoch of a broker's latest life, as a snapshot holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct EpochOfBroker {
    /// The broker.
    pub(super) broker: BrokerId,
    /// Its epoch.
    pub(super) epoch: LeaderEpoch,
}

/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// They do not start as one.
    #[error("a metadata snapshot starts with MRMS")]
    Magic,
    /// A later version of Millrace wrote them.
    #[error(
        "metadata snapshot of version {0}, but this broker knows up to {VERSION}; run the version that wrote it or a later one"
    )]
    Version(u16),
    /// The archive does not hold.
    #[error("damaged metadata snapshot: {0}")]
    Damaged(String),
    /// The parts contradict each other.
    #[error("damaged metadata snapshot: {0}")]
    Contradiction(#[from] ApplyError),
}

impl Metadata {
    /// The state as bytes.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let epoch = |(&broker, &epoch): (&BrokerId, &LeaderEpoch)| EpochOfBroker { broker, epoch };
        let image = Image {
            topics: self.topics().cloned().collect(),
            next_producer_id: self.next_producer_id,
            brokers: self.brokers.iter().map(epoch).collect(),
        };
        let body = rkyv::to_bytes::<rancor::Error>(&image).expect("memory is the only limit");
        encode(MAGIC, VERSION, &body)
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// They are none, or damaged, or of a later version.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = match decode(MAGIC, VERSION, bytes) {
            Ok(body) => body,
            Err(PrefixError::Magic) => return Err(SnapshotError::Magic),
            Err(PrefixError::Version(version)) => return Err(SnapshotError::Version(version)),
        };
        let image = rkyv::from_bytes::<Image, rancor::Error>(&body)
            .map_err(|error| SnapshotError::Damaged(error.to_string()))?;
        if image.next_producer_id < 0 {
            return Err(SnapshotError::Damaged(
                "a producer id below zero".to_owned(),
            ));
        }
        let mut state = Self {
            next_producer_id: image.next_producer_id,
            ..Self::default()
        };
        for topic in image.topics {
            state.apply(&Command::CreateTopic(topic))?;
        }
        for EpochOfBroker { broker, epoch } in image.brokers {
            state.apply(&Command::BrokerStarted { broker, epoch })?;
        }
        Ok(state)
    }
}
