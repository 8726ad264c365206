//! Kafka's primitives, as far as records of `__consumer_offsets` and the blobs of classic consumers use
//! them: big-endian numbers, and strings and arrays in the classic and in the compact form.
//!
//! **Invariant:** no count that is read reserves more memory than the bytes that are left.

use ::bytes::Bytes;
use millrace_model::TopicId;

use super::RecordError;

/// Which form lengths have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Two or four bytes.
    Classic,
    /// Variable length, plus one; tagged fields follow each structure.
    Compact,
}

/// Writes one key or value.
pub(crate) struct Writer {
    form: Form,
    buffer: Vec<u8>,
}

impl Writer {
    /// Starts with the version, as every key and value does.
    pub(crate) fn new(version: i16, form: Form) -> Self {
        let mut writer = Self::bare(form);
        writer.i16(version);
        writer
    }

    /// Starts with nothing.
    pub(crate) const fn bare(form: Form) -> Self {
        Self {
            form,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.buffer)
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn uuid(&mut self, value: TopicId) {
        self.buffer.extend_from_slice(&value.0);
    }

    pub(crate) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    /// # Panics
    /// Over 32,767 bytes in the classic form, which no request can bring: its strings have the same limit.
    pub(crate) fn string(&mut self, value: &str) {
        self.string_len(Some(value.len()));
        self.buffer.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.string_len(None),
        }
    }

    pub(crate) fn blob(&mut self, value: &[u8]) {
        self.count(value.len());
        self.buffer.extend_from_slice(value);
    }

    /// The length of an array, whose elements the caller writes next.
    pub(crate) fn count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("a request holds less than 4 GiB");
        match self.form {
            Form::Classic => self.i32(i32::try_from(count).expect("and less than 2 GiB")),
            Form::Compact => self.varint(count + 1),
        }
    }

    /// The end of a structure without tagged fields.
    pub(crate) fn end(&mut self) {
        if self.form == Form::Compact {
            self.varint(0);
        }
    }

    /// The end of a structure with these tagged fields, in the order of their tags.
    pub(crate) fn tagged(&mut self, fields: &[(u32, Bytes)]) {
        self.varint(u32::try_from(fields.len()).expect("a handful"));
        for (tag, content) in fields {
            self.varint(*tag);
            self.varint(u32::try_from(content.len()).expect("a request holds less than 4 GiB"));
            self.buffer.extend_from_slice(content);
        }
    }

    fn string_len(&mut self, len: Option<usize>) {
        match (self.form, len) {
            (Form::Classic, Some(len)) => {
                self.i16(i16::try_from(len).expect("strings of requests have 16-bit lengths"));
            }
            (Form::Classic, None) => self.i16(-1),
            (Form::Compact, Some(len)) => {
                self.varint(u32::try_from(len).expect("a request holds less than 4 GiB") + 1);
            }
            (Form::Compact, None) => self.varint(0),
        }
    }
}

/// Reads one key or value.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    form: Form,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads what follows the version, which is given too.
    pub(crate) fn versioned(bytes: &'a [u8]) -> Result<(i16, Self), RecordError> {
        let mut reader = Self::bare(bytes, Form::Classic);
        let version = reader.i16()?;
        Ok((version, reader))
    }

    pub(crate) const fn bare(bytes: &'a [u8], form: Form) -> Self {
        Self { form, rest: bytes }
    }

    pub(crate) const fn with_form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    pub(crate) fn i8(&mut self) -> Result<i8, RecordError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A number that may not be negative.
    pub(crate) fn index(&mut self) -> Result<u32, RecordError> {
        u32::try_from(self.i32()?).map_err(|_| RecordError::Malformed)
    }

    pub(crate) fn uuid(&mut self) -> Result<TopicId, RecordError> {
        Ok(TopicId(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            let part = u32::from(byte & 0x7f);
            if shift == 28 && part > 0x0f {
                return Err(RecordError::Malformed);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Malformed)
    }

    pub(crate) fn string(&mut self) -> Result<String, RecordError> {
        self.nullable_string()?.ok_or(RecordError::Malformed)
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<String>, RecordError> {
        let len = match self.form {
            Form::Classic => i64::from(self.i16()?),
            Form::Compact => i64::from(self.varint()?) - 1,
        };
        if len == -1 {
            return Ok(None);
        }
        let bytes = self.take(usize::try_from(len).map_err(|_| RecordError::Malformed)?)?;
        let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Malformed)?;
        Ok(Some(text.to_owned()))
    }

    /// A null one is empty.
    pub(crate) fn blob(&mut self) -> Result<Bytes, RecordError> {
        let len = self.len()?;
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }

    /// An array; each element must take a byte or more.
    pub(crate) fn array_of<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let count = self.len()?;
        if count > self.rest.len() {
            return Err(RecordError::Malformed);
        }
        (0..count).map(|_| element(self)).collect()
    }

    /// The end of a structure: hands out tagged fields, and skips them where the form has none.
    pub(crate) fn tagged(
        &mut self,
        mut field: impl FnMut(u32, Reader<'a>) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        if self.form == Form::Classic {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let len = self.varint()?;
            let content = self.take(usize::try_from(len).map_err(|_| RecordError::Malformed)?)?;
            field(tag, Reader::bare(content, self.form))?;
        }
        Ok(())
    }

    /// The end of a structure whose tagged fields do not matter.
    pub(crate) fn end(&mut self) -> Result<(), RecordError> {
        self.tagged(|_, _| Ok(()))
    }

    /// The length of an array or a blob; a null one is empty.
    fn len(&mut self) -> Result<usize, RecordError> {
        let len = match self.form {
            Form::Classic => i64::from(self.i32()?),
            Form::Compact => i64::from(self.varint()?) - 1,
        };
        match len {
            -1 => Ok(0),
            len => usize::try_from(len).map_err(|_| RecordError::Malformed),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(RecordError::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(RecordError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}
