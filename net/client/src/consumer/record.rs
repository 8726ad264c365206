//! Frames to records, by reference where the batch is not compressed.

use bytes::{Bytes, BytesMut};
use millrace_model::{
    Compression, Decompressor, Frame, LogId, Offset, PartitionId, Record, Timestamp,
};

use crate::ClientError;

/// A record as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Its partition.
    pub partition: PartitionId,
    /// Its place in the partition.
    pub offset: Offset,
    /// When it was made, or appended, as the topic's `message.timestamp.type` says.
    pub timestamp: Timestamp,
    /// Its key, or null.
    pub key: Option<Bytes>,
    /// Its value, or null.
    pub value: Option<Bytes>,
    /// Its headers in the producer's order.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name: UTF-8 by convention.
    pub key: Bytes,
    /// Its value, or null.
    pub value: Option<Bytes>,
}

/// The records of a frame from `position` on, and the offset after the frame.
pub(crate) fn decode(
    log: LogId,
    bytes: &Bytes,
    position: Offset,
    scratch: &mut Decompressor,
    limit: usize,
) -> Result<(Vec<ConsumerRecord>, Offset), ClientError> {
    let damaged = |reason: String| ClientError::Damaged {
        log,
        position,
        reason,
    };
    let frame = Frame::check_stored(bytes, log.checksum_seed())
        .map_err(|error| damaged(error.to_string()))?;
    let (batch, next) = (frame.batch(), frame.next_offset());
    if batch.header().attributes.is_control() || next <= position {
        return Ok((Vec::new(), next));
    }
    let records = batch
        .records(scratch, limit)
        .map_err(|error| damaged(error.to_string()))?;
    let mut wanted = Vec::new();
    for record in records {
        let record = record.map_err(|error| damaged(error.to_string()))?;
        if record.offset >= position {
            wanted.push(record);
        }
    }
    let records = match batch.compression() {
        Compression::None => wanted
            .iter()
            .map(|record| owned(log, record, |part| bytes.slice_ref(part)))
            .collect(),
        // The scratch is for the next batch, so what is wanted moves out of it.
        _ => copied_records(log, &wanted),
    };
    Ok((records, next))
}

fn owned(log: LogId, record: &Record<'_>, mut bytes: impl FnMut(&[u8]) -> Bytes) -> ConsumerRecord {
    ConsumerRecord {
        partition: log.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(&mut bytes),
        value: record.value.map(&mut bytes),
        headers: record
            .headers()
            .map(|header| RecordHeader {
                key: bytes(header.key),
                value: header.value.map(&mut bytes),
            })
            .collect(),
    }
}

/// All parts of the records in one allocation, in the order in which [`owned`] asks.
fn copy_out(records: &[Record<'_>]) -> Bytes {
    let mut copied = BytesMut::new();
    for record in records {
        copied.extend_from_slice(record.key.unwrap_or_default());
        copied.extend_from_slice(record.value.unwrap_or_default());
        for header in record.headers() {
            copied.extend_from_slice(header.key);
            copied.extend_from_slice(header.value.unwrap_or_default());
        }
    }
    copied.freeze()
}

fn copied_records(log: LogId, records: &[Record<'_>]) -> Vec<ConsumerRecord> {
    let mut rest = copy_out(records);
    records
        .iter()
        .map(|record| owned(log, record, |part| rest.split_to(part.len())))
        .collect()
}

#[cfg(test)]
mod tests {
    use millrace_model::{BatchBuilder, BatchSpec, Header};

    use super::*;

    fn frame(compression: Compression) -> Bytes {
        let mut builder = BatchBuilder::new();
        for index in 0..10 {
            let header = Header {
                key: b"h",
                value: Some(b"v"),
            };
            let value = format!("value {index}");
            builder
                .append(
                    Some(b"key"),
                    Some(value.as_bytes()),
                    [header],
                    Timestamp(index),
                )
                .unwrap();
        }
        let (mut out, spec) = (
            BytesMut::new(),
            BatchSpec {
                compression,
                ..BatchSpec::default()
            },
        );
        builder
            .build_frame(LogId::default(), &spec, &mut out)
            .unwrap();
        out.freeze()
    }

    #[test]
    fn compressed_or_not_the_records_are_the_same() {
        let (log, mut scratch) = (LogId::default(), Decompressor::new());
        let mut read = |compression| {
            decode(log, &frame(compression), Offset(4), &mut scratch, 1 << 20).unwrap()
        };
        let plain = read(Compression::None);
        assert_eq!(plain.0.len(), 6);
        assert_eq!(plain.0[0].value.as_deref(), Some(&b"value 4"[..]));
        assert_eq!(plain.1, Offset(10));
        for compression in Compression::ALL {
            assert_eq!(read(compression), plain);
        }
    }

    #[test]
    fn a_bomb_and_a_flipped_bit_are_damage() {
        let (log, mut scratch) = (LogId::default(), Decompressor::new());
        let zstd = frame(Compression::Zstd);
        let bomb = decode(log, &zstd, Offset(0), &mut scratch, 10).unwrap_err();
        assert!(matches!(bomb, ClientError::Damaged { .. }), "{bomb}");
        let mut flipped = zstd.to_vec();
        flipped[100] ^= 1;
        let flipped = decode(log, &flipped.into(), Offset(0), &mut scratch, 1 << 20).unwrap_err();
        assert!(matches!(flipped, ClientError::Damaged { .. }), "{flipped}");
    }
}
