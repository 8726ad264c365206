//! Reads the primitive forms of the protocol out of one frame, each check before what it protects.
//!
//! A count or a length is believed only as far as the bytes that remain bear it out, so a frame
//! cannot make its reader reserve more than [`FREE_MEMORY`] and [`MAX_MEMORY_PER_BYTE`] times the
//! frame's own length.

use bytes::Bytes;

use crate::field::Field;

/// Elements an array may have, as Kafka's own limit has it.
pub const MAX_ARRAY_LEN: usize = 1_000_000;

/// Tagged fields a structure may have, as Kafka's own limit has it.
pub const MAX_TAGGED_FIELDS: usize = 10_000;

/// Bytes a string may have: its length is a signed 16-bit number in the older versions, and the
/// newer ones keep that limit.
pub const MAX_STRING_LEN: usize = i16::MAX as usize;

/// Bytes of memory that a message may take for each byte of its frame. Real messages take one to
/// four; an array of the shortest strings would take two dozen.
pub const MAX_MEMORY_PER_BYTE: usize = 8;

/// Bytes of memory that a message may take whatever its frame's length, so that the bound never
/// meets a small message, however it is made.
pub const FREE_MEMORY: usize = 1 << 20;

/// Why bytes are no message, and where that showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {fault}")]
pub struct DecodeError {
    /// Offset of the fault in the frame.
    pub at: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The frame ends inside a field.
    #[error("{needed} bytes are needed, {left} are left")]
    Truncated {
        /// Bytes that the field takes at least.
        needed: usize,
        /// Bytes that the frame still has.
        left: usize,
    },
    /// A length or a count is below the -1 that stands for null.
    #[error("a length of {0}")]
    NegativeLength(i32),
    /// Null where the version has no null.
    #[error("null in a field that cannot be null")]
    Null,
    /// A variable-length number has more bits than it may.
    #[error("a variable-length number of more than 32 bits")]
    VarInt,
    /// A string is longer than any may be.
    #[error("a string of {0} bytes is over the limit of {limit}", limit = MAX_STRING_LEN)]
    StringTooLong(usize),
    /// A string is not UTF-8.
    #[error("a string that is not UTF-8")]
    NotUtf8,
    /// An array has more elements than any may have.
    #[error("an array of {0} elements is over the limit of {limit}", limit = MAX_ARRAY_LEN)]
    ArrayTooLong(usize),
    /// The message would take more memory than the length of its frame allows.
    #[error("a message that takes more memory than a frame of its length may")]
    Memory,
    /// A structure has more tagged fields than any may have.
    #[error("{0} tagged fields are over the limit of {limit}", limit = MAX_TAGGED_FIELDS)]
    TooManyTaggedFields(usize),
    /// A tagged field takes another number of bytes than it says.
    #[error("a tagged field said to have {said} bytes has {found}")]
    TaggedFieldLength {
        /// Bytes it says.
        said: usize,
        /// Bytes its value has.
        found: usize,
    },
    /// The frame goes on after the message.
    #[error("{0} bytes after the message")]
    Trailing(usize),
    /// The version is none that the message has here.
    #[error("version {0} is not supported")]
    Version(i16),
}

/// The bytes of one frame from the first to the last, read in one version of one message.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
    /// Bytes of memory that the message may still take.
    memory: usize,
    /// The version that the message is in.
    pub(crate) version: i16,
    /// Whether lengths are compact and structures end in tagged fields.
    pub(crate) flexible: bool,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes, version: i16, flexible: bool) -> Self {
        Self {
            memory: FREE_MEMORY.saturating_add(bytes.len().saturating_mul(MAX_MEMORY_PER_BYTE)),
            bytes,
            at: 0,
            version,
            flexible,
        }
    }

    /// Bytes that are not read yet.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Offset of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn fault(&self, fault: Fault) -> DecodeError {
        DecodeError { at: self.at, fault }
    }

    fn need(&self, needed: usize) -> Result<(), DecodeError> {
        let left = self.left();
        if needed > left {
            return Err(self.fault(Fault::Truncated { needed, left }));
        }
        Ok(())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.need(N)?;
        let array = *self.bytes[self.at..]
            .first_chunk()
            .expect("as many bytes are left");
        self.at += N;
        Ok(array)
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        self.need(len)?;
        let slice = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(slice)
    }

    pub(crate) fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        self.need(len)?;
        self.at += len;
        Ok(())
    }

    pub(crate) fn uvarint(&mut self) -> Result<usize, DecodeError> {
        let mut value: u32 = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value as usize);
            }
        }
        Err(self.fault(Fault::VarInt))
    }

    /// The length of a string: `None` for null.
    pub(crate) fn string_len(&mut self) -> Result<Option<usize>, DecodeError> {
        let len = if self.flexible {
            self.uvarint()?.checked_sub(1)
        } else {
            let len = i16::from_be_bytes(self.array()?);
            self.signed_len(i32::from(len))?
        };
        match len {
            Some(len) if len > MAX_STRING_LEN => Err(self.fault(Fault::StringTooLong(len))),
            len => Ok(len),
        }
    }

    /// The length of bytes or the count of an array: `None` for null.
    pub(crate) fn len(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1));
        }
        let len = i32::from_be_bytes(self.array()?);
        self.signed_len(len)
    }

    fn signed_len(&self, len: i32) -> Result<Option<usize>, DecodeError> {
        match len {
            -1 => Ok(None),
            len => usize::try_from(len)
                .map(Some)
                .map_err(|_| self.fault(Fault::NegativeLength(len))),
        }
    }

    pub(crate) fn string(&mut self, len: usize) -> Result<String, DecodeError> {
        self.need(len)?;
        self.charge(len)?;
        let text = std::str::from_utf8(&self.bytes[self.at..self.at + len])
            .map_err(|_| self.fault(Fault::NotUtf8))?;
        let text = text.to_owned();
        self.at += len;
        Ok(text)
    }

    /// Takes `len` bytes of memory out of what the message may take.
    fn charge(&mut self, len: usize) -> Result<(), DecodeError> {
        self.memory = self
            .memory
            .checked_sub(len)
            .ok_or_else(|| self.fault(Fault::Memory))?;
        Ok(())
    }

    /// `len` elements. What is reserved for them is borne out by the bytes that remain: each
    /// element takes its least length at the least.
    pub(crate) fn elements<T: Field>(&mut self, len: usize) -> Result<Vec<T>, DecodeError> {
        if len > MAX_ARRAY_LEN {
            return Err(self.fault(Fault::ArrayTooLong(len)));
        }
        let min_len = T::min_len(self.version, self.flexible).max(1);
        self.need(len * min_len)?;
        self.charge(len * size_of::<T>())?;
        let mut elements = Vec::with_capacity(len);
        for _ in 0..len {
            elements.push(T::read(self)?);
        }
        Ok(elements)
    }

    /// The count of the tagged fields that end a structure.
    pub(crate) fn tagged_fields(&mut self) -> Result<usize, DecodeError> {
        let count = self.uvarint()?;
        if count > MAX_TAGGED_FIELDS {
            return Err(self.fault(Fault::TooManyTaggedFields(count)));
        }
        // A tag and a length.
        self.need(count * 2)?;
        Ok(count)
    }

    /// The tag and the length of one tagged field, whose bytes are all there.
    pub(crate) fn tag(&mut self) -> Result<(usize, usize), DecodeError> {
        let (tag, len) = (self.uvarint()?, self.uvarint()?);
        self.need(len)?;
        Ok((tag, len))
    }

    /// Skips tagged fields of which none is known.
    pub(crate) fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.tagged_fields()? {
            let (_, len) = self.tag()?;
            self.skip(len)?;
        }
        Ok(())
    }

    /// That a tagged field whose value began at `began` took the `said` bytes.
    pub(crate) fn tag_ends(&self, began: usize, said: usize) -> Result<(), DecodeError> {
        let found = self.at - began;
        if found != said {
            return Err(self.fault(Fault::TaggedFieldLength { said, found }));
        }
        Ok(())
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.fault(Fault::Trailing(left))),
        }
    }
}
