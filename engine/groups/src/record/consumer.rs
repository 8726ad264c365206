//! The values of groups of the broker-driven protocol (KIP-848).

use ::bytes::Bytes;
use millrace_model::Timestamp;

use super::{Form, Reader, RecordError, Writer};
use crate::{Client, OwnedPartitions};

/// All values here have this version, in the compact form.
const VERSION: i16 = 0;

/// A group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerGroupValue {
    /// Rises whenever the target must be computed again.
    pub epoch: i32,
    /// A hash of what is known of the subscribed topics; 0 where none was computed.
    pub metadata_hash: i64,
}

/// A member, as it described itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberValue {
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// `client.rack`.
    pub rack: Option<String>,
    /// Who it is.
    pub client: Client,
    /// Names.
    pub subscribed_topics: Vec<String>,
    /// A regular expression.
    pub subscribed_regex: Option<String>,
    /// Milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it prefers.
    pub assignor: Option<String>,
    /// `Some` while it speaks the classic protocol.
    pub classic: Option<ClassicWithinConsumer>,
}

/// What is kept of a member that speaks the classic protocol in a group of the broker-driven one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicWithinConsumer {
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Assignors with the member's metadata for each.
    pub protocols: Vec<(String, Bytes)>,
}

/// The target assignment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetMetadataValue {
    /// The group epoch that it was computed for.
    pub epoch: i32,
}

/// What a member shall read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetMemberValue {
    /// By topic.
    pub partitions: Vec<OwnedPartitions>,
}

/// How far a member has come towards its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum MemberState {
    /// It reads what it shall read.
    Stable = 1,
    /// It has to give up partitions before it may have its next epoch.
    UnrevokedPartitions = 2,
    /// It waits for partitions that others have not given up yet.
    UnreleasedPartitions = 3,
}

/// What a member reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentMemberValue {
    /// Its epoch.
    pub epoch: i32,
    /// The epoch before, which it may still name when an answer was lost.
    pub previous_epoch: i32,
    /// How far it has come.
    pub state: MemberState,
    /// What is its own.
    pub assigned: Vec<OwnedPartitions>,
    /// What it has to give up.
    pub pending_revocation: Vec<OwnedPartitions>,
}

/// What a regular expression stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegexValue {
    /// The topics that match.
    pub topics: Vec<String>,
    /// The version of the topics' image that it was matched with.
    pub version: i64,
    /// When.
    pub timestamp: Timestamp,
}

impl ConsumerGroupValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut value = writer();
        value.i32(self.epoch);
        match self.metadata_hash {
            0 => value.end(),
            hash => value.tagged(&[(0, Bytes::copy_from_slice(&hash.to_be_bytes()))]),
        }
        value.finish()
    }

    pub(super) fn decode(versioned: (i16, Reader<'_>)) -> Result<Self, RecordError> {
        let mut value = reader(super::CONSUMER_GROUP_KEY, versioned)?;
        let epoch = value.i32()?;
        let mut metadata_hash = 0;
        value.tagged(|tag, mut content| {
            if tag == 0 {
                metadata_hash = content.i64()?;
            }
            Ok(())
        })?;
        Ok(Self {
            epoch,
            metadata_hash,
        })
    }
}

impl ConsumerMemberValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut value = writer();
        value.nullable_string(self.instance.as_deref());
        value.nullable_string(self.rack.as_deref());
        value.string(&self.client.id);
        value.string(&self.client.host);
        strings(&mut value, &self.subscribed_topics);
        value.nullable_string(self.subscribed_regex.as_deref());
        value.i32(self.rebalance_timeout_ms);
        value.nullable_string(self.assignor.as_deref());
        match &self.classic {
            None => value.end(),
            Some(classic) => value.tagged(&[(0, classic.encode())]),
        }
        value.finish()
    }

    pub(super) fn decode(versioned: (i16, Reader<'_>)) -> Result<Self, RecordError> {
        let mut value = reader(super::CONSUMER_MEMBER_KEY, versioned)?;
        let mut member = Self {
            instance: value.nullable_string()?,
            rack: value.nullable_string()?,
            client: Client {
                id: value.string()?,
                host: value.string()?,
            },
            subscribed_topics: value.array_of(Reader::string)?,
            subscribed_regex: value.nullable_string()?,
            rebalance_timeout_ms: value.i32()?,
            assignor: value.nullable_string()?,
            classic: None,
        };
        value.tagged(|tag, content| {
            if tag == 0 {
                member.classic = ClassicWithinConsumer::decode(content)?;
            }
            Ok(())
        })?;
        Ok(member)
    }
}

impl ClassicWithinConsumer {
    /// As a nullable structure in a tagged field: a 1 before it says that it is there.
    fn encode(&self) -> Bytes {
        let mut value = Writer::bare(Form::Compact);
        value.varint(1);
        value.i32(self.session_timeout_ms);
        value.count(self.protocols.len());
        for (name, metadata) in &self.protocols {
            value.string(name);
            value.blob(metadata);
            value.end();
        }
        value.end();
        value.finish()
    }

    fn decode(mut value: Reader<'_>) -> Result<Option<Self>, RecordError> {
        if value.varint()? == 0 {
            return Ok(None);
        }
        let session_timeout_ms = value.i32()?;
        let protocols = value.array_of(|value| {
            let protocol = (value.string()?, value.blob()?);
            value.end()?;
            Ok(protocol)
        })?;
        value.end()?;
        Ok(Some(Self {
            session_timeout_ms,
            protocols,
        }))
    }
}

impl TargetMetadataValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut value = writer();
        value.i32(self.epoch);
        value.end();
        value.finish()
    }

    pub(super) fn decode(versioned: (i16, Reader<'_>)) -> Result<Self, RecordError> {
        let mut value = reader(super::TARGET_METADATA_KEY, versioned)?;
        let epoch = value.i32()?;
        value.end()?;
        Ok(Self { epoch })
    }
}

impl TargetMemberValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut value = writer();
        topics(&mut value, &self.partitions);
        value.end();
        value.finish()
    }

    pub(super) fn decode(versioned: (i16, Reader<'_>)) -> Result<Self, RecordError> {
        let mut value = reader(super::TARGET_MEMBER_KEY, versioned)?;
        let partitions = value.array_of(topic)?;
        value.end()?;
        Ok(Self { partitions })
    }
}

impl CurrentMemberValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut value = writer();
        value.i32(self.epoch);
        value.i32(self.previous_epoch);
        value.i8(self.state as i8);
        topics(&mut value, &self.assigned);
        topics(&mut value, &self.pending_revocation);
        value.end();
        value.finish()
    }

    pub(super) fn decode(versioned: (i16, Reader<'_>)) -> Result<Self, RecordError> {
        let mut value = reader(super::CURRENT_MEMBER_KEY, versioned)?;
        let member = Self {
            epoch: value.i32()?,
            previous_epoch: value.i32()?,
            state: match value.i8()? {
                1 => MemberState::Stable,
                2 => MemberState::UnrevokedPartitions,
                3 => MemberState::UnreleasedPartitions,
                _ => return Err(RecordError::Malformed),
            },
            assigned: value.array_of(topic)?,
            pending_revocation: value.array_of(topic)?,
        };
        value.end()?;
        Ok(member)
    }
}

impl RegexValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut value = writer();
        strings(&mut value, &self.topics);
        value.i64(self.version);
        value.i64(self.timestamp.0);
        value.end();
        value.finish()
    }

    pub(super) fn decode(versioned: (i16, Reader<'_>)) -> Result<Self, RecordError> {
        let mut value = reader(super::REGEX_KEY, versioned)?;
        let regex = Self {
            topics: value.array_of(Reader::string)?,
            version: value.i64()?,
            timestamp: Timestamp(value.i64()?),
        };
        value.end()?;
        Ok(regex)
    }
}

fn writer() -> Writer {
    Writer::new(VERSION, Form::Compact)
}

fn reader(kind: i16, (version, reader): (i16, Reader<'_>)) -> Result<Reader<'_>, RecordError> {
    match version {
        VERSION => Ok(reader.with_form(Form::Compact)),
        version => Err(RecordError::UnknownVersion { kind, version }),
    }
}

fn strings(value: &mut Writer, strings: &[String]) {
    value.count(strings.len());
    strings.iter().for_each(|string| value.string(string));
}

fn topics(value: &mut Writer, topics: &[OwnedPartitions]) {
    value.count(topics.len());
    for topic in topics {
        value.uuid(topic.topic);
        value.count(topic.partitions.len());
        for partition in &topic.partitions {
            value.i32(i32::try_from(*partition).expect("partitions are counted in 31 bits"));
        }
        value.end();
    }
}

fn topic(value: &mut Reader<'_>) -> Result<OwnedPartitions, RecordError> {
    let topic = OwnedPartitions {
        topic: value.uuid()?,
        partitions: value.array_of(Reader::index)?,
    };
    value.end()?;
    Ok(topic)
}
