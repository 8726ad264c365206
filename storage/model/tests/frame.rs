//! Frames: what is written reads back, and what is damaged in any bit is refused.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use fastrand::Rng;
use millrace_model::{
    BatchSpec, Compression, FRAME_HEADER_LEN, Frame, FrameError, FrameHeader, LeaderEpoch, LogId,
    Offset, PartitionId, ProduceError, ProducedFrame, RecordBatch, TopicSettings, WriteHeader,
    frame_for_batch,
};
use support::{LOG, NOW, Owned, batch_of, frame_of, random_records, random_spec, read_all};

/// A frame as it is stored: assigned offset 1000, epoch 4.
fn stored(records: &[Owned], spec: &BatchSpec) -> Vec<u8> {
    let mut bytes = frame_of(records, spec);
    let limits = TopicSettings::default().produce_limits();
    let produced = ProducedFrame::check(&mut bytes, LOG.checksum_seed(), &limits, NOW).unwrap();
    produced.assign(Offset(1000), LeaderEpoch(4), NOW);
    bytes
}

#[test]
fn frames_read_back_whatever_the_compression() {
    for compression in Compression::ALL {
        for seed in 0..100 {
            let mut rng = Rng::with_seed(seed);
            let mut records = random_records(&mut rng, true);
            let spec = random_spec(&mut rng, compression);
            let mut bytes = stored(&records, &spec);
            let len = bytes.len();
            bytes.extend_from_slice(b"the next frame");
            let frame = Frame::check_stored(&bytes, LOG.checksum_seed()).unwrap();
            assert_eq!(frame.len(), len);
            assert_eq!(frame.header().leader_epoch, LeaderEpoch(4));
            assert_eq!(frame.header().append_timestamp, NOW);
            assert_eq!(frame.next_offset(), Offset(1000 + records.len() as u64));
            assert_eq!(frame.batch().compression(), compression);
            assert_eq!(frame.batch().producer(), spec.producer);
            let largest = records.iter().map(|record| record.timestamp).max().unwrap();
            assert_eq!(frame.header().max_timestamp.0, largest);
            records.iter_mut().for_each(|record| record.offset += 1000);
            assert_eq!(read_all(frame.batch()), records, "{compression} {seed}");
        }
    }
}

#[test]
fn a_batch_is_framed_byte_for_byte() {
    let records = random_records(&mut Rng::with_seed(1), true);
    let spec = BatchSpec::default();
    let framed = frame_for_batch(LOG, &batch_of(&records, &spec)).unwrap();
    assert_eq!(framed, frame_of(&records, &spec));
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut rng = Rng::with_seed(3);
    for compression in Compression::ALL {
        let spec = random_spec(&mut rng, compression);
        let mut records = random_records(&mut rng, true);
        records.truncate(4);
        let mut bytes = stored(&records, &spec);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let checked = Frame::check_stored(&bytes, LOG.checksum_seed());
            assert!(
                checked.is_err(),
                "{compression}: bit {bit} was flipped unseen"
            );
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Frame::check_stored(&bytes, LOG.checksum_seed()).unwrap();
    }
}

#[test]
fn every_truncation_is_refused_and_says_what_is_needed() {
    let bytes = stored(
        &random_records(&mut Rng::with_seed(4), true),
        &BatchSpec::default(),
    );
    for len in 0..bytes.len() {
        let needed = if len < 64 { 64 } else { bytes.len() };
        let error = Frame::check_stored(&bytes[..len], LOG.checksum_seed()).unwrap_err();
        assert_eq!(error, FrameError::TooShort { needed }, "{len} bytes");
    }
}

#[test]
fn a_frame_of_another_log_is_refused() {
    let bytes = stored(
        &random_records(&mut Rng::with_seed(5), true),
        &BatchSpec::default(),
    );
    let other = LogId {
        partition: PartitionId(8),
        ..LOG
    };
    let error = Frame::check_stored(&bytes, other.checksum_seed()).unwrap_err();
    assert_eq!(error, FrameError::Checksum);
}

#[test]
fn a_stored_frame_names_its_offset_and_epoch_twice() {
    let mut bytes = stored(
        &random_records(&mut Rng::with_seed(6), true),
        &BatchSpec::default(),
    );
    let seed = LOG.checksum_seed();
    bytes[64 + 7] ^= 1;
    let error = Frame::check_stored(&bytes, seed).unwrap_err();
    assert_eq!(error, FrameError::Mismatch("base offset"));
    bytes[64 + 7] ^= 1;
    bytes[64 + 15] ^= 1;
    let error = Frame::check_stored(&bytes, seed).unwrap_err();
    assert_eq!(error, FrameError::Mismatch("leader epoch"));
}

#[test]
fn a_produced_frame_stands_alone() {
    let records = random_records(&mut Rng::with_seed(7), true);
    let mut bytes = frame_of(&records, &BatchSpec::default());
    let frame_len = bytes.len();
    bytes.push(0);
    let limits = TopicSettings::default().produce_limits();
    let error = ProducedFrame::check(&mut bytes, LOG.checksum_seed(), &limits, NOW).unwrap_err();
    assert_eq!(
        error,
        ProduceError::NotOneFrame {
            frame_len,
            given: frame_len + 1
        }
    );
    let mut assigned = stored(&records, &BatchSpec::default());
    let error = ProducedFrame::check(&mut assigned, LOG.checksum_seed(), &limits, NOW).unwrap_err();
    assert_eq!(error, ProduceError::Assigned);
}

#[test]
fn log_append_time_is_the_brokers() {
    let mut settings = TopicSettings::default();
    settings
        .set("message.timestamp.type", "LogAppendTime")
        .unwrap();
    let records = random_records(&mut Rng::with_seed(8), true);
    let mut bytes = frame_of(&records, &BatchSpec::default());
    let (seed, limits) = (LOG.checksum_seed(), settings.produce_limits());
    let produced = ProducedFrame::check(&mut bytes, seed, &limits, NOW).unwrap();
    produced.assign(Offset(9), LeaderEpoch(1), NOW);
    let frame = Frame::check_stored(&bytes, seed).unwrap();
    assert_eq!(frame.header().max_timestamp, NOW);
    assert!(
        read_all(frame.batch())
            .iter()
            .all(|record| record.timestamp == NOW.0)
    );
    assert_eq!(frame.batch().header().attributes.0, 0b1000);
    RecordBatch::check(frame.batch().bytes()).unwrap();
}

/// Changes one field of a header.
type Change = fn(&mut FrameHeader);

/// A stored frame's header with one field changed, sealed again.
fn resealed(bytes: &[u8], change: Change) -> Vec<u8> {
    let seed = LOG.checksum_seed();
    let mut header = FrameHeader::parse(bytes, seed).unwrap();
    change(&mut header);
    [&header.seal(seed)[..], &bytes[FRAME_HEADER_LEN..]].concat()
}

#[test]
fn a_sealed_header_that_contradicts_its_batch_is_refused() {
    let mut records = random_records(&mut Rng::with_seed(9), true);
    records.truncate(5);
    assert_eq!(records.len(), 5);
    let bytes = stored(&records, &BatchSpec::default());
    let refused: [(Change, &str); 5] = [
        (|header| header.base_offset.0 += 1, "base offset"),
        (|header| header.leader_epoch.0 += 1, "leader epoch"),
        (|header| header.record_count -= 1, "record count"),
        (|header| header.last_offset_delta += 1, "last offset delta"),
        (|header| header.max_timestamp.0 += 1, "largest timestamp"),
    ];
    for (change, field) in refused {
        let bytes = resealed(&bytes, change);
        let error = Frame::check_stored(&bytes, LOG.checksum_seed()).unwrap_err();
        assert_eq!(error, FrameError::Mismatch(field));
    }
}

#[test]
fn a_sealed_header_that_contradicts_itself_is_refused() {
    let bytes = stored(
        &random_records(&mut Rng::with_seed(10), true),
        &BatchSpec::default(),
    );
    let refused: [Change; 7] = [
        |header| header.reserved_a = 1,
        |header| header.reserved_b = 1,
        |header| header.record_count = 0,
        |header| header.record_count = header.last_offset_delta + 2,
        |header| header.last_offset_delta = i32::MAX as u32,
        |header| header.base_offset.0 = i64::MAX as u64 - u64::from(header.last_offset_delta),
        |header| header.leader_epoch.0 = 1 << 31,
    ];
    for (at, change) in refused.into_iter().enumerate() {
        let error = FrameHeader::parse(&resealed(&bytes, change), LOG.checksum_seed()).unwrap_err();
        assert!(
            matches!(error, FrameError::Header(_)),
            "change {at}: {error}"
        );
    }
    let lengths: [Change; 5] = [
        |header| header.frame_len += 16,
        |header| header.frame_len -= 1,
        |header| header.batch_len = 60,
        |header| header.batch_len = u32::MAX,
        |header| header.frame_len = 0,
    ];
    for (at, change) in lengths.into_iter().enumerate() {
        let error = FrameHeader::parse(&resealed(&bytes, change), LOG.checksum_seed()).unwrap_err();
        assert!(
            matches!(error, FrameError::Length { .. }),
            "change {at}: {error}"
        );
    }
}

#[test]
fn a_write_header_that_contradicts_itself_is_refused() {
    let good = WriteHeader {
        magic: WriteHeader::MAGIC,
        checksum: 0,
        frames_len: 160,
        leader_epoch: LeaderEpoch(1),
        next_offset: Offset(10),
        durable_end: Offset(10),
        log_start: Offset(0),
        timestamp: NOW,
        reserved: [0; 2],
    };
    let seed = LOG.checksum_seed();
    let bytes = good.seal(seed);
    assert_eq!(
        WriteHeader::parse(&bytes, seed).unwrap().durable_end,
        Offset(10)
    );
    let error = FrameHeader::parse(&bytes, seed).unwrap_err();
    assert_eq!(
        error,
        FrameError::NotAFrame {
            magic: WriteHeader::MAGIC
        }
    );
    let refused = [
        WriteHeader {
            durable_end: Offset(11),
            ..good
        },
        WriteHeader {
            reserved: [0, 1],
            ..good
        },
        WriteHeader {
            frames_len: 161,
            ..good
        },
    ];
    for header in refused {
        let error = WriteHeader::parse(&header.seal(seed), seed).unwrap_err();
        assert!(
            matches!(error, FrameError::Header(_)),
            "{header:?}: {error}"
        );
    }
}
