//! A short, repeatable run of each fuzz body: mutations of valid inputs.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use fastrand::Rng;
use millrace_model::{BatchBuilder, Compression, LogId, Offset, Timestamp, WriteHeader, fuzz};
use support::{batch_of, fill, random_records, random_spec};

/// Mutations a body is tried on, unless `MILLRACE_FUZZ_ROUNDS` asks for more.
const ROUNDS: usize = 30_000;

fn rounds() -> usize {
    let asked = std::env::var("MILLRACE_FUZZ_ROUNDS").ok();
    asked.map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

/// Flips, overwrites, cuts, repeats or exchanges a few bytes.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..7) {
            0 | 1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => bytes[at] = rng.u8(..),
            3 => bytes[at] = *rng.choice([0_u8, 1, 0x7f, 0x80, 0xff].iter()).unwrap(),
            4 => bytes.truncate(at),
            5 => bytes.insert(at, rng.u8(..)),
            _ => {
                let end = (at + rng.usize(..32)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = rng.usize(..bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
}

/// Runs `body` on mutations of `seeds`, and on the seeds.
fn run(body: fn(&[u8]), seeds: &[Vec<u8>]) {
    seeds.iter().for_each(|seed| body(seed));
    let mut rng = Rng::with_seed(0x6d69_6c6c);
    for _ in 0..rounds() {
        let mut input = rng.choice(seeds).unwrap().clone();
        mutate(&mut rng, &mut input);
        body(&input);
    }
}

/// Small batches, so that a mutation often meets what matters.
fn batches() -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(11);
    let specs = Compression::ALL.into_iter().cycle().take(20);
    specs
        .map(|compression| {
            let mut records = random_records(&mut rng, true);
            records.truncate(3);
            batch_of(&records, &random_spec(&mut rng, compression))
        })
        .collect()
}

#[test]
fn frames() {
    let mut rng = Rng::with_seed(12);
    let frames: Vec<_> = Compression::ALL
        .into_iter()
        .map(|compression| {
            let mut builder = BatchBuilder::new();
            let mut records = random_records(&mut rng, true);
            records.truncate(3);
            fill(&mut builder, &records);
            let mut out = bytes::BytesMut::new();
            let spec = random_spec(&mut rng, compression);
            builder
                .build_frame(LogId::default(), &spec, &mut out)
                .unwrap();
            out.to_vec()
        })
        .collect();
    run(fuzz::frame, &frames);
}

#[test]
fn write_headers() {
    let header = WriteHeader {
        magic: WriteHeader::MAGIC,
        checksum: 0,
        frames_len: 4096,
        leader_epoch: millrace_model::LeaderEpoch(2),
        next_offset: Offset(100),
        durable_end: Offset(90),
        log_start: Offset(3),
        timestamp: Timestamp(1),
        reserved: [0; 2],
    };
    run(
        fuzz::write_header,
        &[header.seal(LogId::default().checksum_seed()).to_vec()],
    );
}

#[test]
fn record_batches() {
    run(fuzz::record_batch, &batches());
}

#[test]
fn decompression() {
    let seeds: Vec<_> = batches()
        .into_iter()
        .map(|batch| [&[batch[22] & 7], &batch[61..]].concat())
        .collect();
    run(fuzz::decompress, &seeds);
}

#[test]
fn settings() {
    let seeds = [
        b"retention.ms=100\nsegment.bytes=1048576".to_vec(),
        b"cleanup.policy=delete\nwrite.caching=true\nretention.bytes=-1".to_vec(),
        b"message.timestamp.type=LogAppendTime\nmax.message.bytes=2048".to_vec(),
    ];
    run(fuzz::settings, &seeds);
}
