//! What the broker does to each frame on its processor, beside the two things it cannot do
//! without: the checksum and the copy.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that fails should say so at once"
)]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millrace_model::{
    BatchBuilder, BatchSpec, Decompressor, Frame, FrameHeader, Header, LogId, Timestamp,
};

const RECORD_LEN: usize = 1024;
const BATCHES: [u32; 3] = [1, 64, 1024];

fn frame(log: LogId, records: u32) -> Vec<u8> {
    let (mut builder, value) = (BatchBuilder::new(), vec![7; RECORD_LEN]);
    for _ in 0..records {
        let none = std::iter::empty::<Header<'_>>();
        builder
            .append(None, Some(&value), none, Timestamp(1_700_000_000_000))
            .unwrap();
    }
    let mut out = BytesMut::new();
    builder
        .build_frame(log, &BatchSpec::default(), &mut out)
        .unwrap();
    out.to_vec()
}

fn frames(criterion: &mut Criterion) {
    let log = LogId::default();
    let seed = log.checksum_seed();
    for records in BATCHES {
        let bytes = frame(log, records);
        let mut group = criterion.benchmark_group("frame");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let id = |name: &str| BenchmarkId::new(name, records);
        group.bench_function(id("crc32c"), |b| {
            b.iter(|| crc32c::crc32c(black_box(&bytes)))
        });
        group.bench_function(id("copy"), |b| {
            let mut into = vec![0; bytes.len()];
            b.iter(|| into.copy_from_slice(black_box(&bytes)));
        });
        group.bench_function(id("header"), |b| {
            b.iter(|| FrameHeader::parse(black_box(&bytes), seed).unwrap());
        });
        group.bench_function(id("check"), |b| {
            b.iter(|| {
                Frame::check_stored(black_box(&bytes), seed)
                    .unwrap()
                    .next_offset()
            });
        });
        group.bench_function(id("walk records"), |b| {
            let (mut scratch, batch) = (
                Decompressor::new(),
                Frame::check_stored(&bytes, seed).unwrap().batch(),
            );
            b.iter(|| {
                batch
                    .records(&mut scratch, usize::MAX)
                    .unwrap()
                    .map(|r| r.unwrap().offset.0)
                    .sum::<u64>()
            });
        });
        group.bench_function(id("build"), |b| b.iter(|| frame(log, records)));
    }
}

criterion_group!(benches, frames);
criterion_main!(benches);
