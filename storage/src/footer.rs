//! The end of a sealed segment: a footer with everything that a reader and a recovery need to
//! know of it, and one trailer block that says where the footer is. Codec only.
//!
//! Both carry a checksum seeded with the log's identity, so that rot, or the remains of another
//! log in a recycled file, are never believed. The byte maps are in `storage/FORMAT.md`.

use crate::decoder::{DecodeError, Decoder};
use crate::disk::BLOCK_LEN;
use crate::index::{Index, IndexEntry};
use crate::position::Position;
use crate::producers::{self, Producers};
use millrace_model::{EpochStart, LeaderEpochs};
use millrace_model::{LeaderEpoch, Offset, Timestamp};

/// First bytes of a footer: `MRX1`.
pub(crate) const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"MRX1");

/// First bytes of a trailer block: `MRT1`.
pub(crate) const TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"MRT1");

/// Bytes before the checksummed part of both.
const SEALED_FROM: usize = 8;

/// The longest footer that is read: 256 MiB, above what any legal segment needs.
pub(crate) const MAX_FOOTER_LEN: u32 = 256 << 20;

/// Bytes of a footer before its lists.
const FIXED_LEN: usize = 48;

const INDEX_ENTRY_LEN: usize = 24;
const EPOCH_LEN: usize = 16;

/// What a sealed segment's footer holds.
#[derive(Debug)]
pub(crate) struct Footer {
    /// Offset of the segment's first record: tells the footer from that of an older segment
    /// in a recycled file.
    pub(crate) base: Offset,
    /// Offset after its last record.
    pub(crate) next: Offset,
    pub(crate) index: Index,
    /// All epochs of the log up to the segment's end, not only those of the segment.
    pub(crate) epochs: LeaderEpochs,
    /// Producer state at the segment's end, encoded.
    pub(crate) producers: Vec<u8>,
}

impl Footer {
    /// The footer as bytes, padded with zeros to whole device blocks.
    pub(crate) fn encode(&self, seed: u32) -> Vec<u8> {
        let mut out = vec![0; 16];
        put_count(&mut out, self.index.entries().len());
        put_count(&mut out, self.epochs.starts().len());
        put_count(&mut out, self.producers.len());
        put_count(&mut out, 0);
        out.extend(self.base.0.to_le_bytes());
        out.extend(self.next.0.to_le_bytes());
        self.index
            .entries()
            .iter()
            .for_each(|entry| put_index_entry(&mut out, entry));
        put_epochs(&mut out, &self.epochs);
        out.extend(&self.producers);
        let len = u32::try_from(out.len()).expect("a footer is far below 4 GiB");
        out[8..12].copy_from_slice(&len.to_le_bytes());
        seal(&mut out, FOOTER_MAGIC, seed);
        out.resize(out.len().next_multiple_of(BLOCK_LEN), 0);
        out
    }

    /// Reads what [`Footer::encode`] wrote for the segment `base..next`.
    ///
    /// # Errors
    /// [`DecodeError`] when it is damaged, another log's or another segment's.
    pub(crate) fn decode(
        bytes: &[u8],
        seed: u32,
        base: Offset,
        next: Offset,
    ) -> Result<Self, DecodeError> {
        let len = Decoder::new(bytes.get(8..).ok_or(DecodeError::Short)?).u32()? as usize;
        if Decoder::new(bytes).u32()? != FOOTER_MAGIC {
            return Err(DecodeError::Magic);
        }
        let body = bytes
            .get(..len)
            .filter(|b| b.len() >= FIXED_LEN)
            .ok_or(DecodeError::Short)?;
        check_seal(body, FOOTER_MAGIC, seed)?;
        if bytes[len..].iter().any(|&byte| byte != 0) {
            return Err(DecodeError::Content("the footer's padding is not zero"));
        }
        let footer = Self::decode_body(&mut Decoder::new(&body[16..]))?;
        match footer.base == base && footer.next == next {
            true => Ok(footer),
            false => Err(DecodeError::Content("the footer is another segment's")),
        }
    }

    fn decode_body(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let counts = [from.u32()?, from.u32()?, from.u32()?, from.u32()?];
        let [index, epochs, producers, _] = counts.map(|count| count as usize);
        let (base, next) = (Offset(from.u64()?), Offset(from.u64()?));
        let fits = index.saturating_mul(INDEX_ENTRY_LEN) <= from.remaining()
            && epochs.saturating_mul(EPOCH_LEN) <= from.remaining();
        if !fits {
            return Err(DecodeError::Short);
        }
        let entries = (0..index)
            .map(|_| index_entry(from))
            .collect::<Result<_, _>>()?;
        let starts = (0..epochs)
            .map(|_| epoch_start(from))
            .collect::<Result<_, _>>()?;
        let producers = from.bytes(producers)?.to_vec();
        if from.remaining() != 0 {
            return Err(DecodeError::Content("bytes behind the producers"));
        }
        Ok(Self {
            base,
            next,
            index: Index::from_entries(entries)
                .ok_or(DecodeError::Content("the index is out of order"))?,
            epochs: LeaderEpochs::from_starts(starts)
                .ok_or(DecodeError::Content("the epochs are out of order"))?,
            producers,
        })
    }

    /// Producer state at the segment's end.
    pub(crate) fn producers(&self) -> Result<Producers, DecodeError> {
        producers::decode(&self.producers)
    }
}

/// The last block of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Offset of the segment's first record, as in its file name.
    pub(crate) base: Offset,
    /// Offset after its last record.
    pub(crate) next: Offset,
    /// Behind the last frame.
    pub(crate) data_end: Position,
    /// Where the footer begins.
    pub(crate) footer_at: Position,
    /// Bytes of the footer with its padding.
    pub(crate) footer_len: u32,
    /// The latest leader epoch in the log at the segment's end.
    pub(crate) last_epoch: LeaderEpoch,
    /// No record of the segment has a larger timestamp.
    pub(crate) max_timestamp: Timestamp,
    /// The broker's clock when the segment was sealed.
    pub(crate) sealed_at: Timestamp,
}

impl Trailer {
    /// The trailer as one device block.
    pub(crate) fn encode(&self, seed: u32) -> Vec<u8> {
        let mut out = vec![0; SEALED_FROM];
        out.extend(self.base.0.to_le_bytes());
        out.extend(self.next.0.to_le_bytes());
        out.extend(self.data_end.0.to_le_bytes());
        out.extend(self.footer_at.0.to_le_bytes());
        out.extend(self.footer_len.to_le_bytes());
        out.extend(self.last_epoch.0.to_le_bytes());
        out.extend(self.max_timestamp.0.to_le_bytes());
        out.extend(self.sealed_at.0.to_le_bytes());
        out.resize(BLOCK_LEN, 0);
        seal(&mut out, TRAILER_MAGIC, seed);
        out
    }

    /// Reads the last block of a file of `file_len` bytes that is named `base`.
    ///
    /// # Errors
    /// [`DecodeError`] when the file does not end with the trailer of this segment.
    pub(crate) fn decode(
        block: &[u8],
        seed: u32,
        base: Offset,
        file_len: u64,
    ) -> Result<Self, DecodeError> {
        if block.len() != BLOCK_LEN {
            return Err(DecodeError::Short);
        }
        check_seal(block, TRAILER_MAGIC, seed)?;
        let mut from = Decoder::new(&block[SEALED_FROM..]);
        let trailer = Self {
            base: Offset(from.u64()?),
            next: Offset(from.u64()?),
            data_end: Position(from.u64()?),
            footer_at: Position(from.u64()?),
            footer_len: from.u32()?,
            last_epoch: LeaderEpoch(from.u32()?),
            max_timestamp: Timestamp(from.i64()?),
            sealed_at: Timestamp(from.i64()?),
        };
        let padding = &block[BLOCK_LEN - from.remaining()..];
        if padding.iter().any(|&byte| byte != 0) {
            return Err(DecodeError::Content("the trailer's padding is not zero"));
        }
        trailer.check(base, file_len)?;
        Ok(trailer)
    }

    fn check(&self, base: Offset, file_len: u64) -> Result<(), DecodeError> {
        if self.base != base {
            return Err(DecodeError::Content("the trailer names another segment"));
        }
        let block = BLOCK_LEN as u64;
        let (data_end, at) = (self.data_end.0, self.footer_at.0);
        let ends = at
            .checked_add(u64::from(self.footer_len))
            .and_then(|e| e.checked_add(block));
        let placed = at % block == 0
            && data_end <= at
            && at - data_end < block
            && self.footer_len <= MAX_FOOTER_LEN
            && ends == Some(file_len);
        if !placed {
            return Err(DecodeError::Content("the trailer does not fit the file"));
        }
        if self.next < self.base {
            return Err(DecodeError::Content("the segment ends before it begins"));
        }
        Ok(())
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("the parts of a footer are far below 4 GiB");
    out.extend(count.to_le_bytes());
}

fn put_index_entry(out: &mut Vec<u8>, entry: &IndexEntry) {
    out.extend(entry.offset.0.to_le_bytes());
    out.extend(entry.position.0.to_le_bytes());
    out.extend(entry.max_timestamp.0.to_le_bytes());
}

fn index_entry(from: &mut Decoder<'_>) -> Result<IndexEntry, DecodeError> {
    Ok(IndexEntry {
        offset: Offset(from.u64()?),
        position: Position(from.u64()?),
        max_timestamp: Timestamp(from.i64()?),
    })
}

/// Writes the epochs as a footer and the log-start file hold them.
pub(crate) fn put_epochs(out: &mut Vec<u8>, epochs: &LeaderEpochs) {
    for start in epochs.starts() {
        out.extend(start.epoch.0.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        out.extend(start.start.0.to_le_bytes());
    }
}

/// Reads one epoch that [`put_epochs`] wrote.
pub(crate) fn epoch_start(from: &mut Decoder<'_>) -> Result<EpochStart, DecodeError> {
    let epoch = LeaderEpoch(from.u32()?);
    from.u32()?;
    Ok(EpochStart {
        epoch,
        start: Offset(from.u64()?),
    })
}

/// Writes magic and checksum into the first eight bytes.
pub(crate) fn seal(bytes: &mut [u8], magic: u32, seed: u32) {
    let checksum = crc32c::crc32c_append(seed, &bytes[SEALED_FROM..]);
    bytes[..4].copy_from_slice(&magic.to_le_bytes());
    bytes[4..SEALED_FROM].copy_from_slice(&checksum.to_le_bytes());
}

/// Checks what [`seal`] wrote.
pub(crate) fn check_seal(bytes: &[u8], magic: u32, seed: u32) -> Result<(), DecodeError> {
    let mut from = Decoder::new(bytes);
    if from.u32()? != magic {
        return Err(DecodeError::Magic);
    }
    let checksum = from.u32()?;
    match crc32c::crc32c_append(seed, &bytes[SEALED_FROM..]) == checksum {
        true => Ok(()),
        false => Err(DecodeError::Checksum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u32 = 0x1234_5678;

    fn footer() -> Footer {
        let mut index = Index::default();
        index.boundary(Position::ZERO, Offset(5));
        index.cover(Timestamp(77));
        let mut epochs = LeaderEpochs::default();
        epochs.assign(LeaderEpoch(2), Offset(5));
        Footer {
            base: Offset(5),
            next: Offset(9),
            index,
            epochs,
            producers: vec![0, 0, 0, 0],
        }
    }

    fn trailer() -> Trailer {
        Trailer {
            base: Offset(5),
            next: Offset(9),
            data_end: Position(4000),
            footer_at: Position(4096),
            footer_len: 4096,
            last_epoch: LeaderEpoch(2),
            max_timestamp: Timestamp(77),
            sealed_at: Timestamp(99),
        }
    }

    #[test]
    fn golden_footer() {
        let bytes = footer().encode(SEED);
        let golden = [
            b"MRX1".as_slice(),
            &bytes[4..8],
            &[92, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            &[
                5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0,
            ],
            &[2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(&bytes[..92], golden);
        assert_eq!(bytes.len(), BLOCK_LEN);
        let crc = crc32c::crc32c_append(SEED, &golden[8..]);
        assert_eq!(bytes[4..8], crc.to_le_bytes());
        let read = Footer::decode(&bytes, SEED, Offset(5), Offset(9)).unwrap();
        assert_eq!((read.index, read.epochs), (footer().index, footer().epochs));
    }

    #[test]
    fn golden_trailer() {
        let bytes = trailer().encode(SEED);
        let golden = [
            b"MRT1".as_slice(),
            &bytes[4..8],
            &[5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            &[0xa0, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0],
            &[0, 0x10, 0, 0, 2, 0, 0, 0],
            &[77, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(&bytes[..64], golden);
        let read = Trailer::decode(&bytes, SEED, Offset(5), 3 * 4096);
        assert_eq!(read, Ok(trailer()));
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let (footer, trailer) = (footer().encode(SEED), trailer().encode(SEED));
        for at in 0..BLOCK_LEN {
            let (mut f, mut t) = (footer.clone(), trailer.clone());
            f[at] ^= 0x10;
            t[at] ^= 0x10;
            assert!(
                Footer::decode(&f, SEED, Offset(5), Offset(9)).is_err(),
                "footer byte {at}"
            );
            assert!(
                Trailer::decode(&t, SEED, Offset(5), 3 * 4096).is_err(),
                "trailer byte {at}"
            );
        }
    }

    #[test]
    fn other_logs_segments_and_files_are_refused() {
        let bytes = trailer().encode(SEED);
        assert!(Trailer::decode(&bytes, SEED + 1, Offset(5), 3 * 4096).is_err());
        assert!(Trailer::decode(&bytes, SEED, Offset(6), 3 * 4096).is_err());
        assert!(Trailer::decode(&bytes, SEED, Offset(5), 4 * 4096).is_err());
        assert!(Footer::decode(&footer().encode(SEED), SEED + 1, Offset(5), Offset(9)).is_err());
    }
}
