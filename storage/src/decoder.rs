//! Little-endian numbers out of bytes that may be damaged.

/// The bytes end too early, or what they say cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first bytes are not those of this structure.
    #[error("the magic number does not match")]
    Magic,
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Short,
    /// The checksum matches, and yet the content contradicts itself.
    #[error("the content contradicts itself: {0}")]
    Content(&'static str),
}

/// Takes numbers off the front of a slice.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self
            .bytes(N)?
            .try_into()
            .expect("a slice of N bytes is an array of N bytes"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A count of items of `item_len` bytes each, no more than the bytes that are left, so
    /// that memory for them can be reserved.
    pub(crate) fn count(&mut self, item_len: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        let bytes = count.checked_mul(item_len).ok_or(DecodeError::Short)?;
        if bytes > self.rest.len() {
            return Err(DecodeError::Short);
        }
        Ok(count)
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }
}
