//! Messages, entries and the rest as bytes.
//!
//! A message: `MRQM`, version (u16), kind (u8), a zero byte, from, to (u32 each), term (u64),
//! then the kind's fields in the order of [`Body`]. Entries, the hard state and what describes
//! a snapshot have the same form in a message and on disk. Integers are little-endian; a list
//! is a count (u32) and its items; bytes are a length (u32) and themselves. What is left over
//! is an error, and so is a count or a length above what the bytes can hold: nothing
//! is allocated on a peer's word. `tests/quorum_golden.rs` pins it.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millrace_model::BrokerId;

use super::limits::{MAX_MESSAGE_ENTRIES, NOBODY};
use super::{
    Appended, Body, Entry, HardState, Index, MAX_COMMAND_LEN, MAX_MEMBERS, MAX_MESSAGE_LEN,
    Membership, Message, Payload, SnapshotMeta, Term,
};

const MAGIC: [u8; 4] = *b"MRQM";
const VERSION: u16 = 1;

/// Why bytes are no message, entry or state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They do not start as one.
    #[error("a message of the metadata quorum starts with MRQM")]
    Magic,
    /// A later version of Millrace sent it.
    #[error("message of version {0} of the metadata quorum, but this broker knows up to {VERSION}")]
    Version(u16),
    /// There is no such kind.
    #[error("{0} is no kind of message, entry or answer")]
    Kind(u8),
    /// They end too soon.
    #[error("{missing} bytes are missing")]
    Short {
        /// How many.
        missing: usize,
    },
    /// They go on.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// A count or length over its limit.
    #[error("a count or length of {found} is over the limit of {limit}")]
    TooMany {
        /// What they say.
        found: usize,
        /// What may be.
        limit: usize,
    },
    /// A list of members is not in order.
    #[error("members are sorted, each once")]
    Unsorted,
}

impl Message {
    /// The message as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        out.put_u8(self.body.kind());
        out.put_u8(0);
        out.put_u32_le(self.from.0);
        out.put_u32_le(self.to.0);
        out.put_u64_le(self.term.0);
        self.body.put(&mut out);
        out.freeze()
    }

    /// The message that these bytes are. Commands and parts of a snapshot share them.
    ///
    /// # Errors
    /// They are none, or of a later version.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, WireError> {
        if bytes.len() > MAX_MESSAGE_LEN {
            return Err(WireError::TooMany {
                found: bytes.len(),
                limit: MAX_MESSAGE_LEN,
            });
        }
        let mut reader = Reader(bytes.clone());
        if reader.take(4).map_err(|_| WireError::Magic)? != MAGIC[..] {
            return Err(WireError::Magic);
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let kind = reader.u8()?;
        reader.zero()?;
        let message = Self {
            from: BrokerId(reader.u32()?),
            to: BrokerId(reader.u32()?),
            term: Term(reader.u64()?),
            body: Body::take(kind, &mut reader)?,
        };
        reader.end()?;
        Ok(message)
    }
}

impl Entry {
    /// The entry as bytes, for a disk.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.put(&mut out);
        out.freeze()
    }

    /// The entry that these bytes are.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader(bytes.clone());
        let entry = Self::take(&mut reader)?;
        reader.end()?;
        Ok(entry)
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.term.0);
        match &self.payload {
            Payload::Noop => out.put_u8(0),
            Payload::Command(command) => {
                out.put_u8(1);
                put_bytes(out, command);
            }
            Payload::Membership(membership) => {
                out.put_u8(2);
                put_membership(out, membership);
            }
        }
    }

    fn take(reader: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            index: Index(reader.u64()?),
            term: Term(reader.u64()?),
            payload: match reader.u8()? {
                0 => Payload::Noop,
                1 => Payload::Command(reader.bytes(MAX_COMMAND_LEN)?),
                2 => Payload::Membership(reader.membership()?),
                kind => return Err(WireError::Kind(kind)),
            },
        })
    }
}

impl HardState {
    /// The state as bytes, for a disk.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.vote.unwrap_or(NOBODY).0.to_le_bytes());
        bytes
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader(Bytes::copy_from_slice(bytes));
        let term = Term(reader.u64()?);
        let vote = BrokerId(reader.u32()?);
        reader.end()?;
        let vote = (vote != NOBODY).then_some(vote);
        Ok(Self { term, vote })
    }
}

impl SnapshotMeta {
    /// What describes a snapshot as bytes, for a disk.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_meta(&mut out, self);
        out.freeze()
    }

    /// What these bytes describe.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader(bytes.clone());
        let meta = reader.meta()?;
        reader.end()?;
        Ok(meta)
    }
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Self::PreVote { .. } => 1,
            Self::PreVoteAnswer { .. } => 2,
            Self::Vote { .. } => 3,
            Self::VoteAnswer { .. } => 4,
            Self::Append { .. } => 5,
            Self::AppendAnswer(Appended::Matched(_)) => 6,
            Self::AppendAnswer(Appended::Mismatch { .. }) => 7,
            Self::SnapshotPart { .. } => 8,
            Self::SnapshotAnswer { .. } => 9,
            Self::CampaignNow => 10,
        }
    }

    fn put(&self, out: &mut BytesMut) {
        let mut place = |index: &Index, term: &Term| {
            out.put_u64_le(index.0);
            out.put_u64_le(term.0);
        };
        match self {
            Self::PreVote {
                last_index,
                last_term,
            } => place(last_index, last_term),
            Self::PreVoteAnswer { granted } | Self::VoteAnswer { granted } => {
                out.put_u8(u8::from(*granted));
            }
            Self::Vote {
                last_index,
                last_term,
                transfer,
            } => {
                place(last_index, last_term);
                out.put_u8(u8::from(*transfer));
            }
            Self::Append {
                previous,
                previous_term,
                commit,
                entries,
            } => {
                place(previous, previous_term);
                out.put_u64_le(commit.0);
                put_count(out, entries.len());
                entries.iter().for_each(|entry| entry.put(out));
            }
            Self::AppendAnswer(Appended::Matched(index)) => out.put_u64_le(index.0),
            Self::AppendAnswer(Appended::Mismatch {
                previous,
                hint,
                hint_term,
            }) => {
                place(hint, hint_term);
                out.put_u64_le(previous.0);
            }
            Self::SnapshotPart {
                meta,
                total,
                offset,
                data,
            } => {
                put_meta(out, meta);
                out.put_u64_le(*total);
                out.put_u64_le(*offset);
                put_bytes(out, data);
            }
            Self::SnapshotAnswer { index, received } => {
                out.put_u64_le(index.0);
                out.put_u64_le(*received);
            }
            Self::CampaignNow => {}
        }
    }

    fn take(kind: u8, reader: &mut Reader) -> Result<Self, WireError> {
        Ok(match kind {
            1 => Self::PreVote {
                last_index: Index(reader.u64()?),
                last_term: Term(reader.u64()?),
            },
            2 => Self::PreVoteAnswer {
                granted: reader.flag()?,
            },
            3 => Self::Vote {
                last_index: Index(reader.u64()?),
                last_term: Term(reader.u64()?),
                transfer: reader.flag()?,
            },
            4 => Self::VoteAnswer {
                granted: reader.flag()?,
            },
            5 => Self::Append {
                previous: Index(reader.u64()?),
                previous_term: Term(reader.u64()?),
                commit: Index(reader.u64()?),
                entries: reader.entries()?,
            },
            6 => Self::AppendAnswer(Appended::Matched(Index(reader.u64()?))),
            7 => {
                let (hint, hint_term) = (Index(reader.u64()?), Term(reader.u64()?));
                Self::AppendAnswer(Appended::Mismatch {
                    previous: Index(reader.u64()?),
                    hint,
                    hint_term,
                })
            }
            8 => Self::SnapshotPart {
                meta: reader.meta()?,
                total: reader.u64()?,
                offset: reader.u64()?,
                data: reader.bytes(MAX_MESSAGE_LEN)?,
            },
            9 => Self::SnapshotAnswer {
                index: Index(reader.u64()?),
                received: reader.u64()?,
            },
            10 => Self::CampaignNow,
            kind => return Err(WireError::Kind(kind)),
        })
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("every count has a limit below 2^32"));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

fn put_membership(out: &mut BytesMut, membership: &Membership) {
    for members in [&membership.voters, &membership.learners] {
        put_count(out, members.len());
        members.iter().for_each(|member| out.put_u32_le(member.0));
    }
}

fn put_meta(out: &mut BytesMut, meta: &SnapshotMeta) {
    out.put_u64_le(meta.index.0);
    out.put_u64_le(meta.term.0);
    put_membership(out, &meta.membership);
}

/// Takes fields off the front; never more than there is.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, len: usize) -> Result<Bytes, WireError> {
        match len.checked_sub(self.0.len()) {
            None | Some(0) => Ok(self.0.split_to(len)),
            Some(missing) => Err(WireError::Short { missing }),
        }
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?.get_u8())
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        Ok(self.take(2)?.get_u16_le())
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(self.take(4)?.get_u32_le())
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(self.take(8)?.get_u64_le())
    }

    fn zero(&mut self) -> Result<(), WireError> {
        match self.u8()? {
            0 => Ok(()),
            other => Err(WireError::Kind(other)),
        }
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Kind(other)),
        }
    }

    /// A count of items that take at least `item` bytes each.
    fn count(&mut self, item: usize, limit: usize) -> Result<usize, WireError> {
        let found = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if found > limit {
            return Err(WireError::TooMany { found, limit });
        }
        match (found * item).checked_sub(self.0.len()) {
            None | Some(0) => Ok(found),
            Some(missing) => Err(WireError::Short { missing }),
        }
    }

    fn bytes(&mut self, limit: usize) -> Result<Bytes, WireError> {
        let len = self.count(1, limit)?;
        self.take(len)
    }

    fn members(&mut self) -> Result<BTreeSet<BrokerId>, WireError> {
        let count = self.count(4, MAX_MEMBERS)?;
        let mut members = BTreeSet::new();
        for _ in 0..count {
            let member = BrokerId(self.u32()?);
            if members.last().is_some_and(|last| *last >= member) {
                return Err(WireError::Unsorted);
            }
            members.insert(member);
        }
        Ok(members)
    }

    fn membership(&mut self) -> Result<Membership, WireError> {
        Ok(Membership {
            voters: self.members()?,
            learners: self.members()?,
        })
    }

    fn meta(&mut self) -> Result<SnapshotMeta, WireError> {
        Ok(SnapshotMeta {
            index: Index(self.u64()?),
            term: Term(self.u64()?),
            membership: self.membership()?,
        })
    }

    fn entries(&mut self) -> Result<Vec<Entry>, WireError> {
        // Index, term and kind.
        let count = self.count(17, MAX_MESSAGE_ENTRIES)?;
        (0..count).map(|_| Entry::take(self)).collect()
    }

    fn end(self) -> Result<(), WireError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(WireError::Trailing(left)),
        }
    }
}
