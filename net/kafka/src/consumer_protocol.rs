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
            /// here belongs to a later version, and is passed over. There are clients that name a
            /// version and leave out what it added: such a blob is read as the version that it
            /// is complete in.
            ///
            /// # Errors
            /// See [`DecodeError`].
            pub fn decode(blob: Bytes) -> Result<(i16, Self), DecodeError> {
                let mut r = Reader::new(blob.clone(), 0, false);
                let said = i16::read(&mut r)?;
                if said < 0 {
                    return Err(r.fault(Fault::Version(said)));
                }
                let mut version = said.min(CONSUMER_PROTOCOL_MAX_VERSION);
                loop {
                    let mut r = Reader::new(blob.clone(), version, false);
                    r.skip(size_of::<i16>())?;
                    match Self::read(&mut r) {
                        Ok(content) => return Ok((said, content)),
                        Err(DecodeError { fault: Fault::Truncated { .. }, .. }) if version > 0 => {
                            version -= 1;
                        }
                        Err(error) => return Err(error),
                    }
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> ConsumerProtocolSubscription {
        ConsumerProtocolSubscription {
            topics: vec!["orders".into()],
            user_data: Some(Bytes::from_static(b"u")),
            owned_partitions: vec![ConsumerProtocolTopicPartition {
                topic: "orders".into(),
                partitions: vec![0, 7],
            }],
            generation_id: 5,
            rack_id: Some("a".into()),
        }
    }

    #[test]
    fn each_version_comes_back_without_what_it_lacks() {
        for version in 0..=CONSUMER_PROTOCOL_MAX_VERSION {
            let blob = subscription().encode(version).expect("all can be left out");
            let mut expected = subscription();
            if version < 3 {
                expected.rack_id = None;
            }
            if version < 2 {
                expected.generation_id = -1;
            }
            if version < 1 {
                expected.owned_partitions.clear();
            }
            let decoded = ConsumerProtocolSubscription::decode(blob);
            assert_eq!(decoded, Ok((version, expected)));
        }
    }

    #[test]
    fn a_later_version_is_read_as_the_last_one_known() {
        let mut blob = subscription().encode(3).expect("a small blob").to_vec();
        blob[1] = 9;
        blob.extend_from_slice(b"what version 9 added");
        let decoded = ConsumerProtocolSubscription::decode(blob.into());
        assert_eq!(decoded, Ok((9, subscription())));
    }

    #[test]
    fn a_version_that_is_not_all_there_is_read_as_an_earlier_one() {
        let mut blob = subscription().encode(0).expect("a small blob").to_vec();
        blob[1] = 1;
        let (version, decoded) =
            ConsumerProtocolSubscription::decode(blob.into()).expect("a whole version 0");
        assert_eq!((version, decoded.topics), (1, subscription().topics));
    }

    #[test]
    fn what_is_no_blob_is_an_error() {
        for blob in [
            &b""[..],
            b"\0",
            b"\xff\xff\0\0\0\0",
            b"\0\0\x7f\xff\xff\xff",
        ] {
            let blob = Bytes::from_static(blob);
            assert!(ConsumerProtocolSubscription::decode(blob.clone()).is_err());
            assert!(ConsumerProtocolAssignment::decode(blob).is_err());
        }
    }
}
