//! Records and batches for the tests, from a seed.

#![allow(dead_code, reason = "each test file uses its part")]

use fastrand::Rng;
use millrace_model::{
    BatchBuilder, BatchSpec, Compression, Decompressor, Header, LogId, PartitionId, ProducerEpoch,
    ProducerId, ProducerStamp, RecordBatch, Sequence, Timestamp, TopicId,
};

/// The log of all tests.
pub(crate) const LOG: LogId = LogId {
    topic: TopicId(*b"0123456789abcdef"),
    partition: PartitionId(7),
};

/// The clock of all tests, in milliseconds.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// More than any batch of these tests holds.
pub(crate) const LIMIT: usize = 16 << 20;

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

pub(crate) fn random_records(rng: &mut Rng, duplicate_headers: bool) -> Vec<Owned> {
    let count = rng.u64(1..40);
    (0..count)
        .map(|offset| random_record(rng, offset, duplicate_headers))
        .collect()
}

fn random_record(rng: &mut Rng, offset: u64, duplicate_headers: bool) -> Owned {
    let header_count = if rng.u8(..3) == 0 { rng.usize(1..5) } else { 0 };
    let headers = (0..header_count).map(|at| {
        let name = if duplicate_headers {
            "trace".to_owned()
        } else {
            format!("trace-{at}")
        };
        (name, random_bytes(rng, 20))
    });
    let headers = headers.collect();
    let longest = if rng.u8(..20) == 0 { 5_000 } else { 100 };
    Owned {
        offset,
        timestamp: NOW.0 + rng.i64(-100_000..100_000),
        key: random_bytes(rng, 12),
        value: random_bytes(rng, longest),
        headers,
    }
}

fn random_bytes(rng: &mut Rng, longest: usize) -> Option<Vec<u8>> {
    // Few different bytes, so that there is something to compress.
    (rng.u8(..5) > 0).then(|| {
        let len = rng.usize(..=longest);
        (0..len).map(|_| rng.u8(b'a'..b'e')).collect()
    })
}

pub(crate) fn random_spec(rng: &mut Rng, compression: Compression) -> BatchSpec {
    let level = compression
        .levels()
        .filter(|_| rng.bool())
        .map(|_| rng.i32(1..=9));
    let producer = rng.bool().then(|| ProducerStamp {
        id: ProducerId(rng.i64(0..i64::MAX)),
        epoch: ProducerEpoch(rng.i16(0..i16::MAX)),
        base_sequence: Sequence(rng.i32(0..i32::MAX)),
    });
    BatchSpec {
        compression,
        level,
        producer,
    }
}

pub(crate) fn fill(builder: &mut BatchBuilder, records: &[Owned]) {
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header {
                key: key.as_bytes(),
                value: value.as_deref(),
            })
            .collect();
        builder
            .append(
                record.key.as_deref(),
                record.value.as_deref(),
                headers,
                Timestamp(record.timestamp),
            )
            .unwrap();
    }
}

pub(crate) fn batch_of(records: &[Owned], spec: &BatchSpec) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    fill(&mut builder, records);
    builder.build(spec).unwrap()
}

pub(crate) fn frame_of(records: &[Owned], spec: &BatchSpec) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    fill(&mut builder, records);
    let mut out = bytes::BytesMut::new();
    builder.build_frame(LOG, spec, &mut out).unwrap();
    out.to_vec()
}

pub(crate) fn read_all(batch: RecordBatch<'_>) -> Vec<Owned> {
    let mut scratch = Decompressor::new();
    let records = batch.records(&mut scratch, LIMIT).unwrap();
    let owned = records.map(|record| {
        let record = record.unwrap();
        let headers = record.headers().map(|header| {
            let key = String::from_utf8(header.key.to_vec()).unwrap();
            (key, header.value.map(<[u8]>::to_vec))
        });
        Owned {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    });
    owned.collect()
}
