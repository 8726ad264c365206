//! Writes the primitive forms of the protocol into one frame: small fields gathered in one buffer,
//! long byte fields by reference between its parts.

use bytes::Bytes;

use crate::reader::MAX_STRING_LEN;

/// Byte fields up to this long are copied into the buffer: to copy them costs less than the
/// entry of a vectored write that refers to them.
pub const MAX_COPIED_LEN: usize = 256;

/// Why a message cannot be expressed in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The version is none that the message has here.
    #[error("version {0} is not supported")]
    Version(i16),
    /// A field holds something that the version has no place for and that must not be left out.
    #[error("{field} is not its default, and version {version} does not have it")]
    Absent {
        /// The field.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A field is null, which the version does not have.
    #[error("{field} is null, which version {version} does not have")]
    Null {
        /// The field.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A string is longer than any may be.
    #[error("a string of {0} bytes is over the limit of {limit}", limit = MAX_STRING_LEN)]
    StringTooLong(usize),
    /// A frame, an array or a byte field is over the 2 GiB that a length can say.
    #[error("a length of {0} is over the limit of {limit}", limit = i32::MAX)]
    TooLong(usize),
}

/// One frame in the making.
#[derive(Debug)]
pub(crate) struct Writer {
    buffer: Vec<u8>,
    /// What goes between the parts of the buffer: each at its offset in the buffer.
    inserts: Vec<(usize, Bytes)>,
    inserted_len: usize,
    max_copied_len: usize,
    /// The version that the message is in.
    pub(crate) version: i16,
    /// Whether lengths are compact and structures end in tagged fields.
    pub(crate) flexible: bool,
}

impl Writer {
    /// A writer whose frame refers to the long byte fields that it is given.
    pub(crate) fn rope(version: i16, flexible: bool) -> Self {
        Self {
            buffer: Vec::with_capacity(128),
            inserts: Vec::new(),
            inserted_len: 0,
            max_copied_len: MAX_COPIED_LEN,
            version,
            flexible,
        }
    }

    /// A writer that copies everything into one piece.
    pub(crate) fn contiguous(version: i16, flexible: bool) -> Self {
        Self {
            max_copied_len: usize::MAX,
            ..Self::rope(version, flexible)
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len() + self.inserted_len
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes themselves when they are few, else a reference to them.
    pub(crate) fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() <= self.max_copied_len {
            return self.put(bytes);
        }
        self.inserted_len += bytes.len();
        self.inserts.push((self.buffer.len(), bytes.clone()));
    }

    pub(crate) fn put_uvarint(&mut self, value: u32) {
        let (bytes, len) = uvarint(value);
        self.put(&bytes[..len]);
    }

    /// The length of a string: `None` for null.
    pub(crate) fn put_string_len(&mut self, len: Option<usize>) -> Result<(), EncodeError> {
        match len {
            Some(len) if len > MAX_STRING_LEN => return Err(EncodeError::StringTooLong(len)),
            _ if self.flexible => return self.put_len(len),
            None => self.put(&(-1i16).to_be_bytes()),
            Some(len) => {
                let len = i16::try_from(len).expect("the limit of a string fits");
                self.put(&len.to_be_bytes());
            }
        }
        Ok(())
    }

    /// The length of bytes or the count of an array: `None` for null.
    pub(crate) fn put_len(&mut self, len: Option<usize>) -> Result<(), EncodeError> {
        let signed = match len {
            None => -1,
            Some(len) => i32::try_from(len).map_err(|_| EncodeError::TooLong(len))?,
        };
        if self.flexible {
            self.put_uvarint(signed.wrapping_add(1).cast_unsigned());
        } else {
            self.put(&signed.to_be_bytes());
        }
        Ok(())
    }

    /// One tagged field: its tag, its length and what `value` writes.
    pub(crate) fn put_tagged(
        &mut self,
        tag: u32,
        value: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.put_uvarint(tag);
        let began = self.buffer.len();
        let max_copied_len = std::mem::replace(&mut self.max_copied_len, usize::MAX);
        value(self)?;
        self.max_copied_len = max_copied_len;
        let len = self.buffer.len() - began;
        let (prefix, prefix_len) =
            uvarint(u32::try_from(len).map_err(|_| EncodeError::TooLong(len))?);
        self.buffer
            .splice(began..began, prefix[..prefix_len].iter().copied());
        Ok(())
    }

    /// The frame in its pieces, with its length in the four bytes that it began with.
    pub(crate) fn finish_frame(mut self) -> Result<Vec<Bytes>, EncodeError> {
        let len = self.len() - FRAME_LEN_LEN;
        let signed = i32::try_from(len).map_err(|_| EncodeError::TooLong(len))?;
        self.buffer[..FRAME_LEN_LEN].copy_from_slice(&signed.to_be_bytes());
        Ok(self.finish())
    }

    /// What was written, in its pieces.
    pub(crate) fn finish(self) -> Vec<Bytes> {
        let buffer = Bytes::from(self.buffer);
        let mut pieces = Vec::with_capacity(self.inserts.len() * 2 + 1);
        let mut from = 0;
        for (at, insert) in self.inserts {
            if at > from {
                pieces.push(buffer.slice(from..at));
                from = at;
            }
            pieces.push(insert);
        }
        if from < buffer.len() {
            pieces.push(buffer.slice(from..));
        }
        pieces
    }
}

/// Bytes of the length that precedes each frame.
pub const FRAME_LEN_LEN: usize = 4;

fn uvarint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    (bytes, len + 1)
}
