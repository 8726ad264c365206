//! The blobs that consumers of the classic protocol hand each other through the broker: what they subscribe
//! to, and what they are assigned. Versions 0 to 3, a later one reads as 3.
//!
//! Absent here: the assignors' own data within them, which the broker only passes on.

use ::bytes::Bytes;

use super::limits::{MAX_SUBSCRIBED_TOPICS, MAX_TOPIC_NAME_LEN};
use crate::RecordError;
use crate::record::{Form, Reader, Writer};

const FIRST_WITH_OWNED: i16 = 1;
const FIRST_WITH_GENERATION: i16 = 2;
const FIRST_WITH_RACK: i16 = 3;
const LAST: i16 = 3;

/// What a member subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerProtocolSubscription {
    /// The blob's version. An assignment for this member has the same.
    pub version: i16,
    /// Names.
    pub topics: Vec<String>,
    /// What it reads now, by name (version 1 and later). Members of older versions give up all
    /// before they join.
    pub owned: Vec<(String, Vec<u32>)>,
    /// `client.rack` (version 3 and later).
    pub rack: Option<String>,
}

/// What a member is assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerProtocolAssignment {
    /// The blob's version.
    pub version: i16,
    /// Partitions by name.
    pub partitions: Vec<(String, Vec<u32>)>,
}

/// Why a blob cannot be read. The client is at fault, and a retry does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerProtocolError {
    /// A length, a number or a text is wrong.
    #[error("the consumer's metadata is damaged: its lengths or numbers do not hold")]
    Malformed,
    /// The version is below 0.
    #[error("the consumer's metadata has version {0}; versions start at 0")]
    Version(i16),
    /// More names than a member may subscribe to, or one that no topic can have.
    #[error(
        "a consumer names {MAX_SUBSCRIBED_TOPICS} topics at most, each of 1 to {MAX_TOPIC_NAME_LEN} bytes"
    )]
    Topics,
}

impl From<RecordError> for ConsumerProtocolError {
    fn from(_: RecordError) -> Self {
        Self::Malformed
    }
}

impl ConsumerProtocolSubscription {
    /// Reads a blob.
    ///
    /// # Errors
    /// See [`ConsumerProtocolError`].
    pub fn decode(blob: &[u8]) -> Result<Self, ConsumerProtocolError> {
        let (version, mut reader) = versioned(blob)?;
        let topics = reader.array_of(Reader::string)?;
        check_names(topics.iter())?;
        reader.blob()?;
        let mut subscription = Self {
            version,
            topics,
            ..Self::default()
        };
        if version >= FIRST_WITH_OWNED {
            subscription.owned = partitions(&mut reader)?;
        }
        if version >= FIRST_WITH_GENERATION {
            reader.i32()?;
        }
        if version >= FIRST_WITH_RACK {
            subscription.rack = reader.nullable_string()?.filter(|rack| !rack.is_empty());
        }
        Ok(subscription)
    }

    /// Writes a blob, without data of an assignor and with generation -1. For tests and clients.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(self.version, Form::Classic);
        writer.count(self.topics.len());
        self.topics.iter().for_each(|topic| writer.string(topic));
        writer.i32(-1);
        if self.version >= FIRST_WITH_OWNED {
            write_partitions(&mut writer, &self.owned);
        }
        if self.version >= FIRST_WITH_GENERATION {
            writer.i32(-1);
        }
        if self.version >= FIRST_WITH_RACK {
            writer.nullable_string(self.rack.as_deref());
        }
        writer.finish()
    }
}

impl ConsumerProtocolAssignment {
    /// Reads a blob. An empty one assigns nothing.
    ///
    /// # Errors
    /// See [`ConsumerProtocolError`].
    pub fn decode(blob: &[u8]) -> Result<Self, ConsumerProtocolError> {
        if blob.is_empty() {
            return Ok(Self::default());
        }
        let (version, mut reader) = versioned(blob)?;
        Ok(Self {
            version,
            partitions: partitions(&mut reader)?,
        })
    }

    /// Writes a blob.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(self.version, Form::Classic);
        write_partitions(&mut writer, &self.partitions);
        writer.i32(-1);
        writer.finish()
    }
}

fn versioned(blob: &[u8]) -> Result<(i16, Reader<'_>), ConsumerProtocolError> {
    match Reader::versioned(blob)? {
        (version @ 0.., reader) => Ok((version.min(LAST), reader)),
        (version, _) => Err(ConsumerProtocolError::Version(version)),
    }
}

fn partitions(reader: &mut Reader<'_>) -> Result<Vec<(String, Vec<u32>)>, ConsumerProtocolError> {
    let all = reader.array_of(|reader| Ok((reader.string()?, reader.array_of(Reader::index)?)))?;
    check_names(all.iter().map(|(name, _)| name))?;
    Ok(all)
}

fn check_names<'a>(
    mut names: impl ExactSizeIterator<Item = &'a String>,
) -> Result<(), ConsumerProtocolError> {
    let legal = |name: &String| (1..=MAX_TOPIC_NAME_LEN).contains(&name.len());
    match names.len() <= MAX_SUBSCRIBED_TOPICS && names.all(legal) {
        true => Ok(()),
        false => Err(ConsumerProtocolError::Topics),
    }
}

fn write_partitions(writer: &mut Writer, all: &[(String, Vec<u32>)]) {
    writer.count(all.len());
    for (topic, partitions) in all {
        writer.string(topic);
        writer.count(partitions.len());
        for partition in partitions {
            writer.i32(i32::try_from(*partition).expect("partitions are counted in 31 bits"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(version: i16) -> ConsumerProtocolSubscription {
        ConsumerProtocolSubscription {
            version,
            topics: vec!["a".into(), "bc".into()],
            owned: match version {
                0 => Vec::new(),
                _ => vec![("a".into(), vec![0, 2])],
            },
            rack: (version == 3).then(|| "r".into()),
        }
    }

    #[test]
    fn subscriptions_have_kafkas_bytes() {
        assert_eq!(
            &subscription(0).encode()[..],
            b"\0\0\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff"
        );
        assert_eq!(
            &subscription(3).encode()[..],
            b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x02\xff\xff\xff\xff\0\x01r"
        );
        for version in 0..=3 {
            let wanted = subscription(version);
            assert_eq!(
                ConsumerProtocolSubscription::decode(&wanted.encode()),
                Ok(wanted)
            );
        }
    }

    #[test]
    fn assignments_have_kafkas_bytes() {
        let assignment = ConsumerProtocolAssignment {
            version: 1,
            partitions: vec![("a".into(), vec![1])],
        };
        assert_eq!(
            &assignment.encode()[..],
            b"\0\x01\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff"
        );
        assert_eq!(
            ConsumerProtocolAssignment::decode(&assignment.encode()),
            Ok(assignment)
        );
        assert_eq!(
            ConsumerProtocolAssignment::decode(b""),
            Ok(ConsumerProtocolAssignment::default())
        );
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let whole = subscription(3).encode();
        for len in 0..whole.len() {
            assert!(
                ConsumerProtocolSubscription::decode(&whole[..len]).is_err(),
                "{len}"
            );
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] = byte;
                let _ = ConsumerProtocolSubscription::decode(&bytes);
                let _ = ConsumerProtocolAssignment::decode(&bytes);
            }
        }
        assert_eq!(
            ConsumerProtocolSubscription::decode(b"\xff\xff\0\0\0\0"),
            Err(ConsumerProtocolError::Version(-1))
        );
    }
}
