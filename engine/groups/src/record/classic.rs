//! The value of a classic group: a generation with all its members.

use ::bytes::Bytes;
use millrace_model::Timestamp;

use super::{Form, Reader, RecordError, Writer};
use crate::Client;

const KIND: i16 = super::CLASSIC_GROUP_KEY;
const WRITTEN: i16 = 3;
const FIRST_WITH_REBALANCE_TIMEOUT: i16 = 1;
const FIRST_WITH_STATE_TIMESTAMP: i16 = 2;
const FIRST_WITH_INSTANCE: i16 = 3;
const FIRST_FLEXIBLE: i16 = 4;

/// A generation of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicGroupValue {
    /// For example `consumer`; empty for a group that only has offsets.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The assignor that was chosen; `None` without members.
    pub protocol: Option<String>,
    /// The leader's member id; `None` without members.
    pub leader: Option<String>,
    /// When the group came into its state, which is Empty or Stable.
    pub state_timestamp: Timestamp,
    /// The members.
    pub members: Vec<ClassicMemberValue>,
}

/// A member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberValue {
    /// Its id.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Who it is.
    pub client: Client,
    /// Milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

impl ClassicGroupValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut value = Writer::new(WRITTEN, Form::Classic);
        value.string(&self.protocol_type);
        value.i32(self.generation);
        value.nullable_string(self.protocol.as_deref());
        value.nullable_string(self.leader.as_deref());
        value.i64(self.state_timestamp.0);
        value.count(self.members.len());
        for member in &self.members {
            value.string(&member.member);
            value.nullable_string(member.instance.as_deref());
            value.string(&member.client.id);
            value.string(&member.client.host);
            value.i32(member.rebalance_timeout_ms);
            value.i32(member.session_timeout_ms);
            value.blob(&member.subscription);
            value.blob(&member.assignment);
        }
        value.finish()
    }

    pub(super) fn decode((version, reader): (i16, Reader<'_>)) -> Result<Self, RecordError> {
        if !(0..=FIRST_FLEXIBLE).contains(&version) {
            return Err(RecordError::UnknownVersion {
                kind: KIND,
                version,
            });
        }
        let form = match version {
            FIRST_FLEXIBLE => Form::Compact,
            _ => Form::Classic,
        };
        let mut value = reader.with_form(form);
        let group = Self {
            protocol_type: value.string()?,
            generation: value.i32()?,
            protocol: value.nullable_string()?,
            leader: value.nullable_string()?,
            state_timestamp: match version {
                FIRST_WITH_STATE_TIMESTAMP.. => Timestamp(value.i64()?),
                _ => Timestamp::NONE,
            },
            members: value.array_of(|value| ClassicMemberValue::decode(version, value))?,
        };
        value.end()?;
        Ok(group)
    }
}

impl ClassicMemberValue {
    fn decode(version: i16, value: &mut Reader<'_>) -> Result<Self, RecordError> {
        let member = value.string()?;
        let instance = match version {
            FIRST_WITH_INSTANCE.. => value.nullable_string()?,
            _ => None,
        };
        let client = Client {
            id: value.string()?,
            host: value.string()?,
        };
        let rebalance_timeout_ms = match version {
            FIRST_WITH_REBALANCE_TIMEOUT.. => Some(value.i32()?),
            _ => None,
        };
        let session_timeout_ms = value.i32()?;
        let read = Self {
            member,
            instance,
            client,
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: value.blob()?,
            assignment: value.blob()?,
        };
        value.end()?;
        Ok(read)
    }
}
