//! Bytes that are not what they should be: a typed error or a valid message, no panic.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

mod samples;

use std::num::Wrapping;

use bytes::{Bytes, BytesMut};
use millrace_model::{BatchBuilder, BatchSpec, ErrorCode, LogId, Timestamp};
use millrace_wire::{
    ChunkQueue, DecodeError, FollowerRecord, FrameReadError, FrameReader, LeaderRecord, LeaderSaid,
    MAX_MESSAGE_LEN, MAX_RUN_LEN, Message, MessageReader, PREFACE_LEN, Preface, PrefaceError,
    QuorumReader, Record, RecordReader, ReplicaMark, Request, Response, StreamKind, decode, encode,
    fuzz, put_quorum_message,
};

/// A small generator, so that a run is the same everywhere.
struct Random(Wrapping<u64>);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 += 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0;
        z = (z ^ (z >> 30)) * Wrapping(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)) * Wrapping(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

fn frame(log: LogId) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder
        .append(Some(b"k"), Some(b"value"), [], Timestamp(1))
        .unwrap();
    let mut out = bytes::BytesMut::new();
    builder
        .build_frame(log, &BatchSpec::default(), &mut out)
        .unwrap();
    out.to_vec()
}

#[test]
fn every_message_comes_back() {
    for (name, request) in samples::requests() {
        let bytes = encode(StreamKind::Control, &request).unwrap();
        assert_eq!(decode(&bytes), Ok((StreamKind::Control, request)), "{name}");
    }
    for (name, response) in samples::responses() {
        let bytes = encode(StreamKind::Control, &response).unwrap();
        assert_eq!(
            decode(&bytes),
            Ok((StreamKind::Control, response)),
            "{name}"
        );
    }
}

#[test]
fn every_truncation_is_an_error() {
    for (name, bytes) in samples::encoded() {
        for len in 0..bytes.len() {
            let cut = &bytes[..len];
            assert!(decode::<Request>(cut).is_err(), "{name} of {len} bytes");
            assert!(decode::<Response>(cut).is_err(), "{name} of {len} bytes");
            fuzz::opening(cut);
        }
    }
}

#[test]
fn every_bit_flip_is_an_error_or_a_message() {
    for (_, bytes) in samples::encoded() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fuzz::opening(&flipped);
            fuzz::messages(&flipped[PREFACE_LEN..]);
        }
    }
}

#[test]
fn a_short_run_of_each_fuzz_body() {
    let mut random = Random(Wrapping(1));
    let seeds: Vec<Vec<u8>> = samples::encoded()
        .into_iter()
        .map(|(_, bytes)| bytes)
        .chain([frame(LogId::default()), frame(samples::log())])
        .chain(samples::records().into_iter().map(|(_, bytes)| bytes))
        .collect();
    for _ in 0..20_000 {
        let mut data = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(8) {
            let at = random.below(data.len());
            data[at] = random.next().to_le_bytes()[0];
        }
        data.truncate(random.below(data.len() + 1));
        fuzz::opening(&data);
        fuzz::messages(data.get(PREFACE_LEN..).unwrap_or_default());
        fuzz::frames(&data);
        fuzz::acks(&data);
        fuzz::records(&data);
        fuzz::quorum(&data);
    }
}

#[test]
fn a_frame_is_read_from_pieces_of_any_size() {
    let log = samples::log();
    let one = frame(log);
    let stream = [one.clone(), one.clone(), one.clone()].concat();
    for piece in 1..=stream.len() {
        let mut reader = FrameReader::new(log.checksum_seed(), 1 << 20, ChunkQueue::default());
        let mut frames = 0;
        for chunk in stream.chunks(piece) {
            reader.push(Bytes::copy_from_slice(chunk));
            while reader.next_header().unwrap().is_some() {
                let Some(chunks) = reader.take_frame() else {
                    break;
                };
                assert_eq!(chunks.concat(), one);
                frames += 1;
            }
        }
        assert_eq!(
            (frames, reader.pending_bytes()),
            (3, 0),
            "pieces of {piece}"
        );
    }
}

#[test]
fn a_frame_of_another_log_or_too_long_is_refused() {
    let log = samples::log();
    let read = |seed, max| {
        let mut reader = FrameReader::new(seed, max, ChunkQueue::default());
        reader.push(frame(log).into());
        reader.next_header()
    };
    assert!(matches!(
        read(log.checksum_seed(), 64),
        Err(FrameReadError::TooLong { .. })
    ));
    let other = LogId::default().checksum_seed();
    assert!(matches!(
        read(other, 1 << 20),
        Err(FrameReadError::Frame(_))
    ));
}

#[test]
fn another_version_is_told_from_garbage() {
    let mut bytes = encode(StreamKind::Control, &Request::Metrics)
        .unwrap()
        .to_vec();
    bytes[4] = 3;
    let error = decode::<Request>(&bytes).unwrap_err();
    assert_eq!(error, DecodeError::Preface(PrefaceError::Version(3)));
    assert_eq!(error.code(), ErrorCode::UnsupportedVersion);
    bytes[0] = b'X';
    assert_eq!(
        decode::<Request>(&bytes).unwrap_err().code(),
        ErrorCode::InvalidRequest
    );
}

#[test]
fn a_message_over_the_limit_is_refused_by_both_sides() {
    let long = Response::Text("x".repeat(MAX_MESSAGE_LEN + 1));
    assert!(long.to_archive().is_err());
    let message_len = u32::try_from(MAX_MESSAGE_LEN).unwrap() + 1;
    let preface = Preface {
        kind: StreamKind::Control,
        message_len,
    };
    let mut reader = MessageReader::default();
    reader.push(Bytes::copy_from_slice(&preface.to_bytes()));
    let refused = reader.preface().unwrap_err();
    assert_eq!(
        refused,
        DecodeError::Preface(PrefaceError::Length(message_len))
    );
}

#[test]
fn every_cut_and_every_bit_flip_of_a_record_is_an_error_or_a_record() {
    for (name, bytes) in samples::records() {
        for len in 0..bytes.len() {
            assert!(FollowerRecord::from_bytes(&bytes[..len]).is_err(), "{name}");
            assert!(LeaderRecord::from_bytes(&bytes[..len]).is_err(), "{name}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = FollowerRecord::from_bytes(&flipped);
            let _ = LeaderRecord::from_bytes(&flipped);
        }
    }
}

#[test]
fn a_replica_stream_is_read_from_pieces_of_any_size() {
    let log = samples::log();
    let frame = frame(log);
    let mark = ReplicaMark {
        high_watermark: Default::default(),
        log_start: Default::default(),
        end: Default::default(),
    };
    let said = LeaderSaid::Frames {
        len: u32::try_from(frame.len()).unwrap(),
        mark,
    };
    let records = [said, LeaderSaid::Watermark(mark)].map(|said| LeaderRecord {
        log,
        session: 1,
        said,
    });
    let mut stream = BytesMut::new();
    records[0].put(&mut stream);
    stream.extend_from_slice(&frame);
    records[1].put(&mut stream);
    for piece in 1..=stream.len() {
        let mut reader = RecordReader::default();
        let (mut found, mut run) = (Vec::new(), None);
        for chunk in stream.chunks(piece) {
            reader.push(Bytes::copy_from_slice(chunk));
            loop {
                if let Some(len) = run {
                    let Some(frames) = reader.take_run(len) else {
                        break;
                    };
                    assert!(len == 0 || frames.concat() == frame);
                    run = None;
                }
                let Some(record) = reader.next_record::<LeaderRecord>().unwrap() else {
                    break;
                };
                run = Some(record.said.run_len());
                found.push(record);
            }
        }
        assert_eq!(
            (&found[..], reader.pending_bytes()),
            (&records[..], 0),
            "pieces of {piece}"
        );
    }
}

#[test]
fn a_run_of_frames_over_the_limit_is_refused() {
    let mark = ReplicaMark {
        high_watermark: Default::default(),
        log_start: Default::default(),
        end: Default::default(),
    };
    let record = LeaderRecord {
        log: samples::log(),
        session: 1,
        said: LeaderSaid::Frames {
            len: u32::try_from(MAX_RUN_LEN).unwrap() + 1,
            mark,
        },
    };
    let mut bytes = BytesMut::new();
    record.put(&mut bytes);
    let refused = LeaderRecord::from_bytes(&bytes);
    assert_eq!(refused, Err(DecodeError::RunLength(MAX_RUN_LEN + 1)));
}

#[test]
fn a_quorum_stream_is_read_from_pieces_of_any_size() {
    let messages: [&[u8]; 4] = [b"vote", b"", b"a longer one", b"end"];
    let mut stream = BytesMut::new();
    for message in messages {
        put_quorum_message(&mut stream, message);
    }
    for piece in 1..=stream.len() {
        let (mut reader, mut found) = (QuorumReader::default(), Vec::new());
        for chunk in stream.chunks(piece) {
            reader.push(Bytes::copy_from_slice(chunk));
            while let Some(message) = reader.next_message().unwrap() {
                found.push(message);
            }
        }
        assert_eq!(found, messages, "pieces of {piece}");
        assert_eq!(reader.pending_bytes(), 0);
    }
    let mut cut = QuorumReader::default();
    cut.push(stream.freeze().slice(..7));
    assert!(cut.is_within_message());
    assert_eq!(cut.next_message(), Ok(None), "half a message is none");
    assert!(cut.is_within_message(), "its length was read");
}

#[test]
fn a_quorum_message_over_the_limit_is_refused_before_it_comes() {
    let len = u32::try_from(MAX_MESSAGE_LEN).unwrap() + 1;
    let mut reader = QuorumReader::default();
    reader.push(Bytes::copy_from_slice(&len.to_le_bytes()));
    let refused = reader.next_message();
    assert_eq!(
        refused,
        Err(DecodeError::MessageLength(MAX_MESSAGE_LEN + 1))
    );
}
