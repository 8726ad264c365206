//! Kafka's five compressions, with what they write and how much they may read out.
//!
//! Decompression writes into one buffer that is kept from batch to batch, and stops with
//! [`CompressionError::TooLarge`] at the caller's limit. What a decoder allocates besides
//! does not follow the data: gzip below 200 KiB, lz4 at most three blocks of the 4 MiB (8 in
//! the legacy format) that the frame's descriptor may ask for, snappy nothing, zstd some
//! 150 KiB, for it decodes straight into the buffer and needs no window of its own, whatever
//! window the frame declares.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, get_error_name, get_frame_content_size};

use super::BatchError;

/// How the records of a batch are compressed: Kafka's `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy, in the framing of `snappy-java` that Kafka's clients write.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// Zstandard (RFC 8878).
    Zstd = 4,
}

impl Compression {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The compression levels that it knows, for those that have levels.
    #[must_use]
    pub fn levels(self) -> Option<std::ops::RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(1..=9),
            Self::Zstd => Some(zstd::compression_level_range()),
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }

    /// The compression that the lowest three bits of a batch's attributes name.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`].
    pub(crate) fn from_bits(bits: u8) -> Result<Self, BatchError> {
        let known = Self::ALL.get(usize::from(bits)).copied();
        known.ok_or(BatchError::UnknownCompression(bits))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no compression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a compression is one of none, gzip, snappy, lz4 and zstd")]
pub struct UnknownCompressionName;

impl FromStr for Compression {
    type Err = UnknownCompressionName;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL
            .into_iter()
            .find(|compression| compression.name() == name);
        known.ok_or(UnknownCompressionName)
    }
}

/// Compressed records that cannot be had back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// They would be more than the caller accepts.
    #[error("the records decompress to more than {limit} bytes")]
    TooLarge {
        /// The caller's limit.
        limit: usize,
    },
    /// The compressed bytes are damaged.
    #[error("{compression}: {why}")]
    Malformed {
        /// By which compression they were read.
        compression: Compression,
        /// What its decoder says.
        why: String,
    },
}

/// Decompresses the records of one batch after the other, keeping its buffers.
#[derive(Default)]
pub struct Decompressor {
    out: Vec<u8>,
    zstd: Option<DCtx<'static>>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("capacity", &self.out.capacity())
            .finish()
    }
}

/// A buffer that grew beyond this for one batch is given back at the next.
const RETAINED_CAPACITY: usize = 8 << 20;

/// The first guess at how much is in compressed records that do not say.
const GUESSED_RATIO: usize = 4;

/// Snappy's densest element is a copy of 64 bytes in 3; a declared length beyond that
/// ratio cannot be reached.
const SNAPPY_MAX_RATIO: usize = 22;

/// What `snappy-java` writes before its blocks: its magic, a version and the oldest version
/// that can read it.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
const XERIAL_MAGIC_LEN: usize = 8;

/// Uncompressed bytes of one block, as `snappy-java` cuts them.
const XERIAL_BLOCK_LEN: usize = 32 << 10;

impl Decompressor {
    /// A decompressor that owns nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that the buffer holds at present.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.out.capacity()
    }

    /// Decompresses `stored` to at most `limit` bytes.
    ///
    /// # Errors
    /// [`CompressionError`]: too much, or damaged.
    pub fn decompress(
        &mut self,
        compression: Compression,
        stored: &[u8],
        limit: usize,
    ) -> Result<&[u8], CompressionError> {
        self.out.clear();
        if self.out.capacity() > RETAINED_CAPACITY {
            self.out = Vec::new();
        }
        match compression {
            Compression::None => self.append(stored, limit)?,
            Compression::Gzip => {
                self.read_all(
                    flate2::bufread::MultiGzDecoder::new(stored),
                    compression,
                    limit,
                )?;
            }
            Compression::Lz4 => self.read_all(FrameDecoder::new(stored), compression, limit)?,
            Compression::Snappy => self.snappy(stored, limit)?,
            Compression::Zstd => self.zstd(stored, limit)?,
        }
        Ok(&self.out)
    }

    fn append(&mut self, stored: &[u8], limit: usize) -> Result<(), CompressionError> {
        if stored.len() > limit {
            return Err(CompressionError::TooLarge { limit });
        }
        self.out.extend_from_slice(stored);
        Ok(())
    }

    fn read_all(
        &mut self,
        reader: impl Read,
        compression: Compression,
        limit: usize,
    ) -> Result<(), CompressionError> {
        let one_more = (limit as u64).saturating_add(1);
        let result = reader.take(one_more).read_to_end(&mut self.out);
        if self.out.len() > limit {
            return Err(CompressionError::TooLarge { limit });
        }
        result.map_err(|error| malformed(compression, error))?;
        Ok(())
    }

    fn snappy(&mut self, stored: &[u8], limit: usize) -> Result<(), CompressionError> {
        if !stored.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_LEN]) {
            return self.snappy_block(stored, limit);
        }
        let cut = || malformed(Compression::Snappy, "a block is cut off");
        let mut blocks = stored.get(XERIAL_HEADER.len()..).ok_or_else(cut)?;
        while !blocks.is_empty() {
            let len = blocks.split_off(..4).ok_or_else(cut)?;
            let len = u32::from_be_bytes(len.try_into().expect("four bytes were split off"));
            let block = blocks.split_off(..len as usize).ok_or_else(cut)?;
            self.snappy_block(block, limit)?;
        }
        Ok(())
    }

    fn snappy_block(&mut self, block: &[u8], limit: usize) -> Result<(), CompressionError> {
        let compression = Compression::Snappy;
        let len = snap::raw::decompress_len(block).map_err(|e| malformed(compression, e))?;
        if len > limit - self.out.len() {
            return Err(CompressionError::TooLarge { limit });
        }
        if len / SNAPPY_MAX_RATIO > block.len() {
            return Err(malformed(compression, "it declares more than it can hold"));
        }
        let start = self.out.len();
        self.out.resize(start + len, 0);
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut self.out[start..])
            .map_err(|error| malformed(compression, error))?;
        self.out.truncate(start + written);
        Ok(())
    }

    /// Decodes the whole frame into the buffer at once, and again into one of twice the
    /// size while it does not fit: at most twice the work, and no window to allocate.
    fn zstd(&mut self, stored: &[u8], limit: usize) -> Result<(), CompressionError> {
        let guess = match get_frame_content_size(stored) {
            Ok(Some(len)) if len > limit as u64 => {
                return Err(CompressionError::TooLarge { limit });
            }
            // Only reserved, never touched beyond what is decoded.
            Ok(Some(len)) => usize::try_from(len).unwrap_or(limit),
            Ok(None) | Err(_) => stored.len().saturating_mul(GUESSED_RATIO),
        };
        let mut capacity = guess.max(self.out.capacity()).clamp(1, limit.max(1));
        let context = self.zstd.get_or_insert_with(DCtx::create);
        loop {
            self.out.reserve_exact(capacity);
            let Err(code) = context.decompress(&mut self.out, stored) else {
                break;
            };
            let why = get_error_name(code);
            if why != ZSTD_NO_ROOM {
                return Err(malformed(Compression::Zstd, why));
            }
            if self.out.capacity() >= limit {
                return Err(CompressionError::TooLarge { limit });
            }
            capacity = self.out.capacity().saturating_mul(2).min(limit);
        }
        if self.out.len() > limit {
            return Err(CompressionError::TooLarge { limit });
        }
        Ok(())
    }
}

/// How zstd names `ZSTD_error_dstSize_tooSmall`.
const ZSTD_NO_ROOM: &str = "Destination buffer is too small";

fn malformed(compression: Compression, why: impl ToString) -> CompressionError {
    CompressionError::Malformed {
        compression,
        why: why.to_string(),
    }
}

/// Compresses the records of one batch after the other, keeping its state.
#[derive(Default)]
pub(super) struct Compressor {
    zstd: Option<CCtx<'static>>,
    block: Vec<u8>,
}

impl Compressor {
    /// Appends `records`, compressed, to `out`. A level out of range is brought into it.
    pub(super) fn compress(
        &mut self,
        compression: Compression,
        level: Option<i32>,
        records: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        let level = compression
            .levels()
            .zip(level)
            .map(|(range, level)| level.clamp(*range.start(), *range.end()));
        match compression {
            Compression::None => out.extend_from_slice(records),
            Compression::Gzip => gzip(level, records, out)?,
            Compression::Snappy => self.snappy(records, out)?,
            Compression::Lz4 => lz4(records, out)?,
            Compression::Zstd => self.zstd(level, records, out)?,
        }
        Ok(())
    }

    fn snappy(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        out.extend_from_slice(&XERIAL_HEADER);
        self.block
            .resize(snap::raw::max_compress_len(XERIAL_BLOCK_LEN), 0);
        let mut encoder = snap::raw::Encoder::new();
        for block in records.chunks(XERIAL_BLOCK_LEN) {
            let compressed = encoder.compress(block, &mut self.block);
            let len = compressed.map_err(|e| malformed(Compression::Snappy, e))?;
            let stated = u32::try_from(len).expect("a block of 32 KiB stays below 4 GiB");
            out.extend_from_slice(&stated.to_be_bytes());
            out.extend_from_slice(&self.block[..len]);
        }
        Ok(())
    }

    fn zstd(
        &mut self,
        level: Option<i32>,
        records: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        let failed = |code| malformed(Compression::Zstd, get_error_name(code));
        let context = self.zstd.get_or_insert_with(CCtx::create);
        let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
        context
            .set_parameter(CParameter::CompressionLevel(level))
            .map_err(failed)?;
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(records.len()), 0);
        let written = context
            .compress2(&mut out[start..], records)
            .map_err(failed)?;
        out.truncate(start + written);
        Ok(())
    }
}

fn gzip(level: Option<i32>, records: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let level = match level {
        Some(level) => flate2::Compression::new(level.unsigned_abs()),
        None => flate2::Compression::default(),
    };
    let mut encoder = GzEncoder::new(out, level);
    let written = encoder
        .write_all(records)
        .and_then(|()| encoder.try_finish());
    written.map_err(|error| malformed(Compression::Gzip, error))
}

/// Independent blocks of 64 KiB without checksums, as Kafka's Java client writes them.
fn lz4(records: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder
        .write_all(records)
        .map_err(|error| malformed(Compression::Lz4, error))?;
    encoder
        .try_finish()
        .map_err(|error| malformed(Compression::Lz4, error))
}
