//! The records of the quorum's log, and the snapshot beside it.
//!
//! A record's value: kind (u8: 1 the hard state, 2 an entry), then its bytes as in a message of
//! the quorum. A snapshot: the hard state (12 bytes), the length of what describes it (u32,
//! little-endian), that, then the state machine.

use bytes::{BufMut, Bytes, BytesMut};
use millrace_replication::quorum::{Entry, HardState, Snapshot, SnapshotMeta};

use super::JournalError;

const HARD_STATE: u8 = 1;
const ENTRY: u8 = 2;

/// Bytes of a hard state.
const HARD_STATE_LEN: usize = 12;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Term and vote from here on.
    HardState(HardState),
    /// An entry, in place of everything from its index on.
    Entry(Entry),
}

impl Record {
    pub(super) fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::HardState(hard) => {
                out.put_u8(HARD_STATE);
                out.put_slice(&hard.to_bytes());
            }
            Self::Entry(entry) => {
                out.put_u8(ENTRY);
                out.put_slice(&entry.to_bytes());
            }
        }
        out.freeze()
    }

    pub(super) fn from_bytes(bytes: &Bytes) -> Result<Self, JournalError> {
        let Some(kind) = bytes.first() else {
            return Err(JournalError::Damaged("an empty record".to_owned()));
        };
        let body = bytes.slice(1..);
        match *kind {
            HARD_STATE => Ok(Self::HardState(HardState::from_bytes(&body)?)),
            ENTRY => Ok(Self::Entry(Entry::from_bytes(&body)?)),
            kind => Err(JournalError::Damaged(format!(
                "a record of kind {kind}, which no version up to this one writes"
            ))),
        }
    }
}

/// A snapshot with the hard state by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredSnapshot {
    pub(super) hard_state: HardState,
    pub(super) snapshot: Snapshot,
}

impl StoredSnapshot {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let meta = self.snapshot.meta.to_bytes();
        let len = u32::try_from(meta.len()).expect("members are bounded");
        let mut out =
            Vec::with_capacity(HARD_STATE_LEN + 4 + meta.len() + self.snapshot.data.len());
        out.extend_from_slice(&self.hard_state.to_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&meta);
        out.extend_from_slice(&self.snapshot.data);
        out
    }

    pub(super) fn from_bytes(bytes: &Bytes) -> Result<Self, JournalError> {
        let short = || JournalError::Damaged("the snapshot is too short".to_owned());
        let (hard, rest) = bytes.split_at_checked(HARD_STATE_LEN).ok_or_else(short)?;
        let len = rest.first_chunk::<4>().ok_or_else(short)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| short())?;
        let start = HARD_STATE_LEN + 4;
        let end = start.checked_add(len).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(short)?;
        Ok(Self {
            hard_state: HardState::from_bytes(hard)?,
            snapshot: Snapshot {
                meta: SnapshotMeta::from_bytes(&bytes.slice(start..end))?,
                data: bytes.slice(end..),
            },
        })
    }
}
