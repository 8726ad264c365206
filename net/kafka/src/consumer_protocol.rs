//! The blobs that members of a group of protocol type `consumer` exchange through JoinGroup and
//! SyncGroup: what a member subscribes to, and what the leader assigns to it. The broker does not
//! look into them to run the group; it does to describe a group and to move one between the
//! protocols.

use bytes::Bytes;

use crate::field::Field;
use crate::reader::{DecodeError, Fault, Reader};
use crate::table::messages;
use crate::writer::{EncodeError, Writer};

/// The protocol type of the groups whose members exchange these blobs.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The highest version of either blob.
pub const CONSUMER_PROTOCOL_MAX_VERSION: i16 = 3;

messages! {
    /// What a member subscribes to.
    ConsumerProtocolSubscription {
        topics: Vec<String>,
        user_data: Option<Bytes>,
        owned_partitions: Vec<ConsumerProtocolTopicPartition> [1.., else omitted],
        generation_id: i32 [2.., else omitted] = -1,
        rack_id: Option<String> [3.., else omitted],
    }

    /// What is assigned to a member.
    ConsumerProtocolAssignment {
        assigned_partitions: Vec<ConsumerProtocolTopicPartition>,
        user_data: Option<Bytes>,
    }

    /// Partitions of a topic.
    ConsumerProtocolTopicPartition {
        topic: String,
        partitions: Vec<i32>,
    }
}

macro_rules! blobs {
    ($($name:ident),*) => {$(
        impl $name {
            /// The version and the content of a blob. Whatever follows the fields that are known
            /// here belongs to a later version, and is passed over.
            ///
            /// # Errors
            /// See [`DecodeError`].
            pub fn decode(blob: Bytes) -> Result<(i16, Self), DecodeError> {
                let mut r = Reader::new(blob, 0, false);
                let version = i16::read(&mut r)?;
                if version < 0 {
                    return Err(r.fault(Fault::Version(version)));
                }
                r.version = version.min(CONSUMER_PROTOCOL_MAX_VERSION);
                Ok((version, Self::read(&mut r)?))
            }

            /// The blob, the version in front.
            ///
            /// # Errors
            /// See [`EncodeError`].
            pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
                if !(0..=CONSUMER_PROTOCOL_MAX_VERSION).contains(&version) {
                    return Err(EncodeError::Version(version));
                }
                let mut w = Writer::contiguous(version, false);
                version.write(&mut w)?;
                self.write(&mut w)?;
                Ok(w.finish().pop().unwrap_or_default())
            }
        }
    )*};
}

blobs!(ConsumerProtocolSubscription, ConsumerProtocolAssignment);
