//! The records of `__consumer_offsets`, in Kafka's format: a key that starts with the number of its kind,
//! a value that starts with its version. Later records replace earlier ones of the same key, and a record
//! without a value removes what the key names.
//!
//! | kind | what | value's version written / read |
//! | --- | --- | --- |
//! | 1 (and 0) | a committed offset | 3, or 1 with a retention of its own / 0 to 4 |
//! | 2 | a classic group with its members | 3 / 0 to 4 |
//! | 3 | a group of the broker-driven protocol | 0 |
//! | 5 | a member of it | 0 |
//! | 6 | the epoch of its target assignment | 0 |
//! | 7 | a member's target | 0 |
//! | 8 | what a member reads | 0 |
//! | 16 | what a regular expression stands for | 0 |
//!
//! **Invariant:** decoding what was encoded gives the same record.
//!
//! Absent here: what records mean. `Coordinator::replay` says that.

mod bytes;
mod classic;
mod consumer;
mod offset;

pub(crate) use bytes::{Form, Reader, Writer};
pub use classic::{ClassicGroupValue, ClassicMemberValue};
pub use consumer::{
    ClassicWithinConsumer, ConsumerGroupValue, ConsumerMemberValue, CurrentMemberValue,
    MemberState, RegexValue, TargetMemberValue, TargetMetadataValue,
};
pub use offset::OffsetValue;

use crate::Record;

const OFFSET_KEY_LEGACY: i16 = 0;
const OFFSET_KEY: i16 = 1;
const CLASSIC_GROUP_KEY: i16 = 2;
const CONSUMER_GROUP_KEY: i16 = 3;
const CONSUMER_MEMBER_KEY: i16 = 5;
const TARGET_METADATA_KEY: i16 = 6;
const TARGET_MEMBER_KEY: i16 = 7;
const CURRENT_MEMBER_KEY: i16 = 8;
const REGEX_KEY: i16 = 16;

/// A record that was read, or one to write. A value of `None` removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// How far a group has come in one partition.
    Offset {
        /// The group.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: u32,
        /// What is committed.
        value: Option<OffsetValue>,
    },
    /// A classic group.
    ClassicGroup {
        /// The group.
        group: String,
        /// It and its members.
        value: Option<ClassicGroupValue>,
    },
    /// A group of the broker-driven protocol.
    ConsumerGroup {
        /// The group.
        group: String,
        /// Its epoch.
        value: Option<ConsumerGroupValue>,
    },
    /// A member of such a group.
    ConsumerMember {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// Who it is, and what it subscribes to.
        value: Option<ConsumerMemberValue>,
    },
    /// The epoch of a group's target assignment.
    TargetMetadata {
        /// The group.
        group: String,
        /// The epoch.
        value: Option<TargetMetadataValue>,
    },
    /// What a member shall read.
    TargetMember {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// Partitions.
        value: Option<TargetMemberValue>,
    },
    /// What a member reads.
    CurrentMember {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// Partitions and epochs.
        value: Option<CurrentMemberValue>,
    },
    /// What a regular expression stands for.
    Regex {
        /// The group.
        group: String,
        /// The expression.
        regex: String,
        /// The topics that match it.
        value: Option<RegexValue>,
    },
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The key's kind is none of ours. Kafka skips such records, and so does a replay.
    #[error("records of kind {0} are not known")]
    UnknownKind(i16),
    /// The value has a version of a later time.
    #[error("version {version} of the value of a record of kind {kind} is not known")]
    UnknownVersion {
        /// The key's kind.
        kind: i16,
        /// The value's version.
        version: i16,
    },
    /// A length, a number or a text is wrong.
    #[error("a record is damaged: its lengths or numbers do not hold")]
    Malformed,
}

impl GroupRecord {
    /// The group that it belongs to.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Self::Offset { group, .. }
            | Self::ClassicGroup { group, .. }
            | Self::ConsumerGroup { group, .. }
            | Self::ConsumerMember { group, .. }
            | Self::TargetMetadata { group, .. }
            | Self::TargetMember { group, .. }
            | Self::CurrentMember { group, .. }
            | Self::Regex { group, .. } => group,
        }
    }

    /// Whether it removes what its key names.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        match self {
            Self::Offset { value, .. } => value.is_none(),
            Self::ClassicGroup { value, .. } => value.is_none(),
            Self::ConsumerGroup { value, .. } => value.is_none(),
            Self::ConsumerMember { value, .. } => value.is_none(),
            Self::TargetMetadata { value, .. } => value.is_none(),
            Self::TargetMember { value, .. } => value.is_none(),
            Self::CurrentMember { value, .. } => value.is_none(),
            Self::Regex { value, .. } => value.is_none(),
        }
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Record {
        let (kind, names, value) = match self {
            Self::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                let mut key = Writer::new(OFFSET_KEY, Form::Classic);
                key.string(group);
                key.string(topic);
                key.i32(i32::try_from(*partition).expect("partitions are counted in 31 bits"));
                return Record {
                    key: key.finish(),
                    value: value.as_ref().map(OffsetValue::encode),
                };
            }
            Self::ClassicGroup { group, value } => (
                CLASSIC_GROUP_KEY,
                [Some(group), None],
                value.as_ref().map(ClassicGroupValue::encode),
            ),
            Self::ConsumerGroup { group, value } => (
                CONSUMER_GROUP_KEY,
                [Some(group), None],
                value.as_ref().map(ConsumerGroupValue::encode),
            ),
            Self::ConsumerMember {
                group,
                member,
                value,
            } => (
                CONSUMER_MEMBER_KEY,
                [Some(group), Some(member)],
                value.as_ref().map(ConsumerMemberValue::encode),
            ),
            Self::TargetMetadata { group, value } => (
                TARGET_METADATA_KEY,
                [Some(group), None],
                value.as_ref().map(TargetMetadataValue::encode),
            ),
            Self::TargetMember {
                group,
                member,
                value,
            } => (
                TARGET_MEMBER_KEY,
                [Some(group), Some(member)],
                value.as_ref().map(TargetMemberValue::encode),
            ),
            Self::CurrentMember {
                group,
                member,
                value,
            } => (
                CURRENT_MEMBER_KEY,
                [Some(group), Some(member)],
                value.as_ref().map(CurrentMemberValue::encode),
            ),
            Self::Regex {
                group,
                regex,
                value,
            } => (
                REGEX_KEY,
                [Some(group), Some(regex)],
                value.as_ref().map(RegexValue::encode),
            ),
        };
        let mut key = Writer::new(kind, Form::Classic);
        names
            .into_iter()
            .flatten()
            .for_each(|name| key.string(name));
        Record {
            key: key.finish(),
            value,
        }
    }

    /// From the bytes of a key and a value.
    ///
    /// # Errors
    /// The record is of an unknown kind or version, or damaged.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let (kind, mut key) = Reader::versioned(key)?;
        let value = value.map(Reader::versioned).transpose()?;
        match kind {
            OFFSET_KEY_LEGACY | OFFSET_KEY => Ok(Self::Offset {
                group: key.string()?,
                topic: key.string()?,
                partition: key.index()?,
                value: value.map(OffsetValue::decode).transpose()?,
            }),
            CLASSIC_GROUP_KEY => Ok(Self::ClassicGroup {
                group: key.string()?,
                value: value.map(ClassicGroupValue::decode).transpose()?,
            }),
            CONSUMER_GROUP_KEY => Ok(Self::ConsumerGroup {
                group: key.string()?,
                value: value.map(ConsumerGroupValue::decode).transpose()?,
            }),
            CONSUMER_MEMBER_KEY => Ok(Self::ConsumerMember {
                group: key.string()?,
                member: key.string()?,
                value: value.map(ConsumerMemberValue::decode).transpose()?,
            }),
            TARGET_METADATA_KEY => Ok(Self::TargetMetadata {
                group: key.string()?,
                value: value.map(TargetMetadataValue::decode).transpose()?,
            }),
            TARGET_MEMBER_KEY => Ok(Self::TargetMember {
                group: key.string()?,
                member: key.string()?,
                value: value.map(TargetMemberValue::decode).transpose()?,
            }),
            CURRENT_MEMBER_KEY => Ok(Self::CurrentMember {
                group: key.string()?,
                member: key.string()?,
                value: value.map(CurrentMemberValue::decode).transpose()?,
            }),
            REGEX_KEY => Ok(Self::Regex {
                group: key.string()?,
                regex: key.string()?,
                value: value.map(RegexValue::decode).transpose()?,
            }),
            other => Err(RecordError::UnknownKind(other)),
        }
    }
}
