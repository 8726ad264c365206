//! Frames of the log as the records of a response: each batch without its frame's header and
//! padding.
//!
//! A batch is a slice of the page that it lies in. Only small ones are copied together, for each slice
//! costs a reference and an entry in the vector of the write.

use bytes::BytesMut;
use millrace_kafka::RecordSet;

use crate::session::consume::{Frames, Run};
use crate::session::home_bytes::share;

/// Batches of a run are copied together when they are shorter than this on average: about where a
/// copy costs as much as a slice.
const COPY_BELOW: usize = 2 << 10;

/// Where a batch says how many bytes of it follow.
const LENGTH_AT: usize = 8;

/// Adds the batches of a run.
pub(super) fn add(records: &mut RecordSet, run: Run) {
    let batches: Vec<_> = run.batches().collect();
    let bytes = run.as_bytes();
    if bytes.len() < batches.len() * COPY_BELOW {
        let mut copied = BytesMut::with_capacity(bytes.len());
        for batch in batches {
            copied.extend_from_slice(&bytes[batch]);
        }
        records.push(copied.freeze());
    } else {
        let page = share(Frames(run));
        for batch in batches {
            records.push(page.slice(batch));
        }
    }
}

/// The batches at the front that have at most `limit` bytes together.
pub(super) fn cut(records: &RecordSet, limit: usize) -> RecordSet {
    let mut cut = RecordSet::default();
    for chunk in records.chunks() {
        // Chunks hold whole batches.
        let mut end = 0;
        while let Some(len) = chunk.get(end + LENGTH_AT..end + LENGTH_AT + 4) {
            let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
            let next = end + LENGTH_AT + 4 + len;
            if cut.len() + next > limit {
                cut.push(chunk.slice(..end));
                return cut;
            }
            end = next;
        }
        cut.push(chunk.clone());
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn batch(len: usize) -> Vec<u8> {
        let mut bytes = vec![7; len];
        let rest = u32::try_from(len - LENGTH_AT - 4).unwrap();
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&rest.to_be_bytes());
        bytes
    }

    #[test]
    fn records_are_cut_between_batches() {
        let chunks = [
            [batch(20), batch(30)].concat(),
            batch(40),
            [batch(50), batch(60)].concat(),
        ];
        let records: RecordSet = chunks.into_iter().map(Bytes::from).collect();
        for (limit, len) in [
            (0, 0),
            (19, 0),
            (20, 20),
            (89, 50),
            (90, 90),
            (141, 140),
            (200, 200),
            (1000, 200),
        ] {
            assert_eq!(cut(&records, limit).len(), len, "{limit}");
        }
    }
}
