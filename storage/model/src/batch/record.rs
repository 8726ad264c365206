//! Reads records off the uncompressed bytes of a batch, one after the other, in place.
//!
//! A record is its length and then: attributes, timestamp delta, offset delta, key, value,
//! and headers, where lengths and counts are varints and a length of -1 is a null.

use std::fmt;
use std::iter::FusedIterator;

use super::varint::{read_int, read_long};
use super::{BatchError, BatchHeader, TimestampType};
use crate::{Offset, Timestamp};

/// Bytes of the smallest record: null key, null value, no headers, one byte a field.
pub const MIN_RECORD_LEN: usize = 7;

/// One record, borrowed from its batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// When it was made or appended, see [`TimestampType`].
    pub timestamp: Timestamp,
    /// Its key, or null.
    pub key: Option<&'a [u8]>,
    /// Its value, or null.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// Its headers in the producer's order. A key may occur more than once (KIP-82).
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field(
                "key",
                &self
                    .key
                    .map(<[u8]>::escape_ascii)
                    .map(|text| text.to_string()),
            )
            .field("value_len", &self.value.map(<[u8]>::len))
            .field("headers", &self.headers.len())
            .finish()
    }
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name: UTF-8 by convention, which nobody enforces.
    pub key: &'a [u8],
    /// Its value, or null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    left: u32,
    bytes: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(read_header(&mut self.bytes).expect("the headers were walked with their record"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl FusedIterator for Headers<'_> {}

/// The records of a batch, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    index: u32,
    count: u32,
    /// The smallest delta that the next record may have.
    next_delta: u32,
    last_delta: u32,
    base_offset: Offset,
    base_timestamp: Timestamp,
    append_time: Option<Timestamp>,
}

impl<'a> Records<'a> {
    pub(super) fn new(header: &BatchHeader, bytes: &'a [u8]) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Self {
            bytes,
            index: 0,
            count: header.record_count,
            next_delta: 0,
            last_delta: header.last_offset_delta,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time,
        }
    }

    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        let len = read_int(&mut self.bytes).ok_or("its length is cut off")?;
        let len = usize::try_from(len).map_err(|_| "its length is negative")?;
        let mut body = self
            .bytes
            .split_off(..len)
            .ok_or("it is longer than the batch")?;
        body.split_off_first().ok_or("its attributes are cut off")?;
        let timestamp_delta = read_long(&mut body).ok_or("its timestamp is cut off")?;
        let offset_delta = read_int(&mut body).ok_or("its offset is cut off")?;
        let offset = self.offset(offset_delta)?;
        let key = read_nullable(&mut body).ok_or("its key is cut off")?;
        let value = read_nullable(&mut body).ok_or("its value is cut off")?;
        let headers = read_headers(&mut body)?;
        if !body.is_empty() {
            return Err("bytes remain after its headers");
        }
        let created = Timestamp(self.base_timestamp.0.wrapping_add(timestamp_delta));
        let timestamp = self.append_time.unwrap_or(created);
        Ok(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        })
    }

    /// Offsets grow from record to record, inside of what the batch's header states.
    fn offset(&mut self, delta: i32) -> Result<Offset, &'static str> {
        let delta = u32::try_from(delta).map_err(|_| "its offset delta is negative")?;
        if delta < self.next_delta || delta > self.last_delta {
            return Err("its offset is out of order");
        }
        self.next_delta = delta + 1;
        Ok(self.base_offset.plus(u64::from(delta)))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.count {
            let left = std::mem::take(&mut self.bytes).len();
            return (left > 0).then_some(Err(BatchError::Trailing(left)));
        }
        let index = self.index;
        self.index += 1;
        let record = self.read();
        if record.is_err() {
            self.index = self.count;
            self.bytes = &[];
        }
        Some(record.map_err(|what| BatchError::Record { index, what }))
    }
}

impl FusedIterator for Records<'_> {}

/// Bytes with a length before them, where -1 stands for null.
fn read_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match read_int(bytes)? {
        -1 => Some(None),
        len => bytes.split_off(..usize::try_from(len).ok()?).map(Some),
    }
}

fn read_header<'a>(bytes: &mut &'a [u8]) -> Option<Header<'a>> {
    let key = read_nullable(bytes)??;
    let value = read_nullable(bytes)?;
    Some(Header { key, value })
}

fn read_headers<'a>(bytes: &mut &'a [u8]) -> Result<Headers<'a>, &'static str> {
    let count = read_int(bytes).ok_or("its header count is cut off")?;
    let count = u32::try_from(count).map_err(|_| "its header count is negative")?;
    let start = *bytes;
    for _ in 0..count {
        read_header(bytes).ok_or("a header is cut off")?;
    }
    Ok(Headers {
        left: count,
        bytes: &start[..start.len() - bytes.len()],
    })
}
