//! The file `log-start`: where the log begins, and what would be lost with deleted segments.
//! Codec only; the shell replaces the file atomically.
//!
//! The file holds its content twice, each time from a device block's start, so that rot in
//! one place costs nothing. It is missing until the log start first moves.

use crate::decoder::{DecodeError, Decoder};
use crate::disk::BLOCK_LEN;
use crate::footer::{check_seal, epoch_start, put_epochs, seal};
use crate::producers::{self, Producers};
use millrace_model::LeaderEpochs;
use millrace_model::Offset;

/// First bytes of each copy: `MRS1`.
pub(crate) const START_MAGIC: u32 = u32::from_le_bytes(*b"MRS1");

/// Stands for "none" where an offset is optional.
const NO_OFFSET: u64 = u64::MAX;

/// Bytes of one copy without epochs and producers.
const FIXED_LEN: usize = 48;

/// The longest file that is read: 16 MiB, above what any state needs.
pub(crate) const MAX_START_FILE_LEN: u64 = 16 << 20;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StartFile {
    /// Log start offset.
    pub(crate) log_start: Offset,
    /// A truncation to this offset was begun and must be finished.
    pub(crate) truncate_to: Option<Offset>,
    /// The end of the segments that were deleted, with the state there, once no sealed
    /// segment is left to tell it.
    pub(crate) deleted: Option<Deleted>,
}

/// State of the log at the end of its deleted segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// Offset after the last deleted record.
    pub(crate) end: Offset,
    pub(crate) epochs: LeaderEpochs,
    /// Producer state, encoded.
    pub(crate) producers: Vec<u8>,
}

impl Deleted {
    /// Nothing is known of what lay before `end`.
    pub(crate) fn empty_until(end: Offset) -> Self {
        let mut producers = Vec::new();
        producers::encode(&Producers::default(), &mut producers);
        Self {
            end,
            epochs: LeaderEpochs::default(),
            producers,
        }
    }
}

impl StartFile {
    /// The whole file.
    pub(crate) fn encode(&self, seed: u32) -> Vec<u8> {
        let mut out = self.encode_copy(seed);
        out.resize(out.len().next_multiple_of(BLOCK_LEN), 0);
        out.extend_from_within(..);
        out
    }

    fn encode_copy(&self, seed: u32) -> Vec<u8> {
        let optional = |offset: Option<Offset>| offset.map_or(NO_OFFSET, |o| o.0);
        let none = Deleted::default();
        let deleted = self.deleted.as_ref().unwrap_or(&none);
        let count = |n: usize| u32::try_from(n).expect("the state of a log is below 4 GiB");
        let mut out = vec![0; 16];
        out.extend(self.log_start.0.to_le_bytes());
        out.extend(optional(self.truncate_to).to_le_bytes());
        out.extend(optional(self.deleted.as_ref().map(|d| d.end)).to_le_bytes());
        out.extend(count(deleted.epochs.starts().len()).to_le_bytes());
        out.extend(count(deleted.producers.len()).to_le_bytes());
        put_epochs(&mut out, &deleted.epochs);
        out.extend(&deleted.producers);
        let len = count(out.len());
        out[8..12].copy_from_slice(&len.to_le_bytes());
        seal(&mut out, START_MAGIC, seed);
        out
    }

    /// Reads the file, from whichever copy is sound.
    ///
    /// # Errors
    /// [`DecodeError`] of the first copy when neither is.
    pub(crate) fn decode(bytes: &[u8], seed: u32) -> Result<Self, DecodeError> {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        Self::decode_copy(first, seed)
            .or_else(|error| Self::decode_copy(second, seed).map_err(|_| error))
    }

    fn decode_copy(bytes: &[u8], seed: u32) -> Result<Self, DecodeError> {
        let len = Decoder::new(bytes.get(8..).ok_or(DecodeError::Short)?).u32()? as usize;
        let copy = bytes
            .get(..len)
            .filter(|b| b.len() >= FIXED_LEN)
            .ok_or(DecodeError::Short)?;
        check_seal(copy, START_MAGIC, seed)?;
        let mut from = Decoder::new(&copy[16..]);
        let optional = |value: u64| (value != NO_OFFSET).then_some(Offset(value));
        let log_start = Offset(from.u64()?);
        let truncate_to = optional(from.u64()?);
        let end = optional(from.u64()?);
        let (epochs, producers) = (from.u32()? as usize, from.u32()? as usize);
        if epochs > from.remaining() {
            return Err(DecodeError::Short);
        }
        let starts = (0..epochs)
            .map(|_| epoch_start(&mut from))
            .collect::<Result<_, _>>()?;
        let epochs = LeaderEpochs::from_starts(starts)
            .ok_or(DecodeError::Content("the epochs are out of order"))?;
        let producers = from.bytes(producers)?.to_vec();
        let deleted = end.map(|end| Deleted {
            end,
            epochs,
            producers,
        });
        Ok(Self {
            log_start,
            truncate_to,
            deleted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::LeaderEpoch;

    const SEED: u32 = 77;

    fn file() -> StartFile {
        let mut epochs = LeaderEpochs::default();
        epochs.assign(LeaderEpoch(1), Offset(2));
        let deleted = Deleted {
            end: Offset(9),
            epochs,
            producers: vec![0, 0, 0, 0],
        };
        StartFile {
            log_start: Offset(5),
            truncate_to: None,
            deleted: Some(deleted),
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = file().encode(SEED);
        let golden = [
            b"MRS1".as_slice(),
            &bytes[4..8],
            &[68, 0, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0],
            &[0xff; 8],
            &[9, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 4, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(&bytes[..68], golden);
        assert_eq!(bytes.len(), 2 * BLOCK_LEN);
        assert_eq!(bytes[..BLOCK_LEN], bytes[BLOCK_LEN..]);
        assert_eq!(StartFile::decode(&bytes, SEED), Ok(file()));
    }

    #[test]
    fn rot_in_one_copy_costs_nothing() {
        let bytes = file().encode(SEED);
        for at in 0..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[at] ^= 0x40;
            assert_eq!(StartFile::decode(&rotten, SEED), Ok(file()), "byte {at}");
        }
    }

    #[test]
    fn another_log_or_too_little_is_refused() {
        let bytes = file().encode(SEED);
        assert!(StartFile::decode(&bytes, SEED + 1).is_err());
        for len in [0, 1, 7, 47, 60] {
            assert!(
                StartFile::decode(&bytes[..len], SEED).is_err(),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn a_truncation_under_way_is_kept() {
        let file = StartFile {
            truncate_to: Some(Offset(3)),
            ..StartFile::default()
        };
        assert_eq!(StartFile::decode(&file.encode(SEED), SEED), Ok(file));
    }
}
