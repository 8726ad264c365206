//! The machines of the broker's hot path, each alone: the plan of an append, the look-up in an index, the
//! decoding of what clients send, a question to another shard. Frames and their checksums are in
//! `frame.rs`.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that fails should say so at once"
)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millrace_bench::limits::{MeshBy, MeshRest, mesh_round_trips};
use millrace_kafka::{
    PartitionProduceData, ProduceRequest, RequestHeader, TopicProduceData, decode_request,
    encode_request_contiguous,
};
use millrace_model::{
    BatchBuilder, BatchSpec, Header, LogId, MAX_FRAME_LEN, PartitionId, Timestamp, TopicId,
};
use millrace_storage::micro::{AppendPlan, IndexLookup};
use millrace_wire::{
    Acks, ChunkQueue, FrameReader, ProduceOpen, Request, StreamKind, decode, encode,
};

const RECORD_LEN: usize = 1024;

/// What a packet brings of a stream.
const CHUNK_LEN: usize = 1400;

/// Frames in a write: alone, and as group commits gather.
const FRAMES_OF_A_WRITE: [usize; 2] = [1, 64];

/// Blocks of a segment of 128 MiB, and of 1 GiB.
const BLOCKS: [usize; 2] = [1024, 8192];

fn frame(log: LogId, records: u32) -> Bytes {
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
    out.freeze()
}

fn log() -> LogId {
    LogId {
        topic: TopicId::default(),
        partition: PartitionId(3),
    }
}

/// Staging, the copy, and the write that holds them.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append plan");
    let frame = frame(log(), 1);
    for frames in FRAMES_OF_A_WRITE {
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(BenchmarkId::new("frames of 1 KiB", frames), |b| {
            let mut plan = AppendPlan::default();
            b.iter(|| plan.write_of(frames, black_box(&frame)));
        });
    }
}

fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    for blocks in BLOCKS {
        let lookup = IndexLookup::of_blocks(blocks);
        let mut random = fastrand::Rng::with_seed(7);
        group.bench_function(BenchmarkId::new("find", blocks), |b| {
            b.iter(|| lookup.find(random.u64(..lookup.records())).unwrap());
        });
    }
}

fn native(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("native decode");
    let open = ProduceOpen {
        log: log(),
        acks: Acks::All,
    };
    let open = encode(StreamKind::Produce, &open).unwrap();
    group.bench_function("produce, open", |b| {
        b.iter(|| decode::<ProduceOpen>(black_box(&open)).unwrap());
    });
    let request = Request::Metadata {
        topics: Some(vec!["orders".to_owned(), "payments".to_owned()]),
    };
    let request = encode(StreamKind::Control, &request).unwrap();
    group.bench_function("control, metadata", |b| {
        b.iter(|| decode::<Request>(black_box(&request)).unwrap());
    });
    for records in [1, 64] {
        let frame = frame(log(), records);
        let chunks: Vec<Bytes> = (0..frame.len())
            .step_by(CHUNK_LEN)
            .map(|at| frame.slice(at..frame.len().min(at + CHUNK_LEN)))
            .collect();
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(BenchmarkId::new("frame out of packets", records), |b| {
            let seed = log().checksum_seed();
            let mut reader = FrameReader::new(seed, MAX_FRAME_LEN, ChunkQueue::default());
            b.iter(|| {
                chunks.iter().for_each(|chunk| reader.push(chunk.clone()));
                reader.next_header().unwrap().unwrap();
                reader.take_frame().unwrap()
            });
        });
    }
}

fn kafka(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kafka decode");
    for partitions in [1, 32] {
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: "orders".to_owned(),
                partition_data: (0..partitions)
                    .map(|index| PartitionProduceData {
                        index,
                        records: Some(Bytes::from(vec![7; 16 << 10])),
                    })
                    .collect(),
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let request = millrace_kafka::Request::Produce(request);
        let header = RequestHeader {
            api: request.api(),
            version: 9,
            correlation_id: 1,
            client_id: Some("bench".to_owned()),
        };
        let framed = encode_request_contiguous(&header, &request).unwrap();
        let frame = framed.slice(millrace_kafka::FRAME_LEN_LEN..);
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("produce, partitions", partitions), |b| {
            b.iter(|| decode_request(black_box(frame.clone())).unwrap());
        });
    }
}

fn mesh(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh, there and back");
    for by in [MeshBy::Flume, MeshBy::SharedChannels] {
        for rest in [MeshRest::Awake, MeshRest::Asleep] {
            group.bench_function(
                BenchmarkId::new(format!("{by:?}"), format!("{rest:?}")),
                |b| {
                    b.iter_custom(|count| mesh_round_trips(by, rest, count).unwrap());
                },
            );
        }
    }
}

criterion_group!(benches, append, index, native, kafka, mesh);
criterion_main!(benches);
