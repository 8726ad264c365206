//! Finds whole frames among frames that were checked before.

use millrace_model::{ArchivedFrameHeader, FRAME_HEADER_LEN, Offset, Timestamp};
use std::mem::offset_of;
use std::ops::Range;

/// Contiguous frames in some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) range: Range<usize>,
    pub(crate) base: Offset,
    pub(crate) next: Offset,
}

impl Run {
    /// The whole frames of this run from the one that holds `from`, none that reaches above
    /// `below`, up to `max_bytes` but at least one if `at_least_one`.
    pub(crate) fn part(
        &self,
        bytes: &[u8],
        from: Offset,
        below: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Self> {
        if from >= self.next || self.base >= below {
            return None;
        }
        if from <= self.base && self.next <= below && self.range.len() <= max_bytes {
            return Some(self.clone());
        }
        let mut part = Self {
            range: self.range.start..self.range.start,
            ..self.clone()
        };
        part.next = part.base;
        while part.range.end < self.range.end {
            let frame = peek(&bytes[part.range.end..self.range.end]);
            let frame_end = part.range.end + frame.len;
            if frame.next <= from {
                part = Self {
                    range: frame_end..frame_end,
                    base: frame.next,
                    next: frame.next,
                };
                continue;
            }
            let first = part.range.is_empty() && at_least_one;
            let fits = frame_end - part.range.start <= max_bytes;
            if frame.next > below || !(fits || first) {
                break;
            }
            part.range.end = frame_end;
            part.next = frame.next;
        }
        (!part.range.is_empty()).then_some(part)
    }
}

/// What is needed to walk over a frame.
struct Peek {
    len: usize,
    batch_len: usize,
    next: Offset,
}

const FRAME_LEN_AT: usize = offset_of!(ArchivedFrameHeader, frame_len);
const BATCH_LEN_AT: usize = offset_of!(ArchivedFrameHeader, batch_len);
const BASE_AT: usize = offset_of!(ArchivedFrameHeader, base_offset);
const DELTA_AT: usize = offset_of!(ArchivedFrameHeader, last_offset_delta);

/// Reads the header of a frame that was checked when it came into memory.
fn peek(bytes: &[u8]) -> Peek {
    let header: &[u8; FRAME_HEADER_LEN] =
        bytes.first_chunk().expect("a checked frame has a header");
    let u32_at = |at: usize| {
        u32::from_le_bytes(
            *header[at..]
                .first_chunk()
                .expect("the field lies in the header"),
        )
    };
    let base = u64::from_le_bytes(*header[BASE_AT..].first_chunk().expect("as above"));
    Peek {
        len: u32_at(FRAME_LEN_AT) as usize,
        batch_len: u32_at(BATCH_LEN_AT) as usize,
        next: Offset(base).plus(u64::from(u32_at(DELTA_AT)) + 1),
    }
}

/// Bytes of the frame that has this checked header.
pub(crate) fn len_of(header: &[u8; FRAME_HEADER_LEN]) -> usize {
    peek(header).len
}

/// The largest timestamp in a checked frame.
pub(crate) fn max_timestamp(frame: &[u8]) -> Timestamp {
    let at = offset_of!(ArchivedFrameHeader, max_timestamp);
    let bytes = frame[at..FRAME_HEADER_LEN].first_chunk();
    Timestamp(i64::from_le_bytes(
        *bytes.expect("the field lies in the header"),
    ))
}

/// The frames of a checked run, one by one.
pub(crate) fn each(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (frame, rest) = bytes.split_at(peek(bytes).len);
        bytes = rest;
        Some(frame)
    })
}

/// Where the record batches of a checked run lie.
pub(crate) fn batches(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let frame = peek(rest);
        let batch_at = at + FRAME_HEADER_LEN;
        at += frame.len;
        Some(batch_at..batch_at + frame.batch_len)
    })
}
