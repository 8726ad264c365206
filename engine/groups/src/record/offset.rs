//! The value of a committed offset.

use ::bytes::Bytes;
use millrace_model::{LeaderEpoch, Timestamp};

use super::{Form, Reader, RecordError, Writer};
use crate::{CommittedOffset, SaidOffset};

const KIND: i16 = super::OFFSET_KEY;
/// The version with an expiry of its own, and without a leader epoch.
const WITH_EXPIRY: i16 = 1;
const FIRST_WITH_EPOCH: i16 = 3;
const FIRST_FLEXIBLE: i16 = 4;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// What the client committed.
    pub committed: CommittedOffset,
    /// When.
    pub commit_timestamp: Timestamp,
    /// When it expires, where the client said so (requests of old versions). Such a record has no
    /// room for a leader epoch, and such clients send none.
    pub expire_timestamp: Option<Timestamp>,
}

impl OffsetValue {
    pub(super) fn encode(&self) -> Bytes {
        let version = match self.expire_timestamp {
            Some(_) => WITH_EXPIRY,
            None => FIRST_WITH_EPOCH,
        };
        let mut value = Writer::new(version, Form::Classic);
        value.i64(self.committed.offset.0);
        if version >= FIRST_WITH_EPOCH {
            let epoch = self.committed.leader_epoch;
            value.i32(epoch.map_or(-1, |epoch| {
                i32::try_from(epoch.0).expect("leader epochs have 31 bits")
            }));
        }
        value.string(&self.committed.metadata);
        value.i64(self.commit_timestamp.0);
        if let Some(expiry) = self.expire_timestamp {
            value.i64(expiry.0);
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
        let offset = SaidOffset(value.i64()?);
        let leader_epoch = match version {
            FIRST_WITH_EPOCH.. => u32::try_from(value.i32()?).ok().map(LeaderEpoch),
            _ => None,
        };
        let metadata = value.string()?;
        let commit_timestamp = Timestamp(value.i64()?);
        let expire_timestamp = match version {
            WITH_EXPIRY => Some(value.i64()?)
                .filter(|expiry| *expiry >= 0)
                .map(Timestamp),
            _ => None,
        };
        value.end()?;
        Ok(Self {
            committed: CommittedOffset {
                offset,
                leader_epoch,
                metadata,
            },
            commit_timestamp,
            expire_timestamp,
        })
    }
}
