//! Everything that a broker refuses in a producer's frame, with the code that says so.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use millrace_model::{
    BatchSpec, ErrorCode, FRAME_HEADER_LEN, FrameHeader, LeaderEpoch, Offset, ProduceError,
    ProduceLimits, ProducedFrame, TopicSettings, frame_for_batch, frame_len_for,
};
use support::{LOG, NOW, batch_of, frame_of, random_records};

/// Where the fields of a batch lie.
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;

fn limits() -> ProduceLimits {
    TopicSettings::default().produce_limits()
}

/// A good batch with `value` written at `at`, and its CRC right again.
fn batch_with(at: usize, value: &[u8]) -> Vec<u8> {
    let records = random_records(&mut fastrand::Rng::with_seed(21), true);
    let mut batch = batch_of(&records, &BatchSpec::default());
    batch[at..at + value.len()].copy_from_slice(value);
    let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn produce(batch: &[u8], limits: &ProduceLimits) -> Result<(), ProduceError> {
    let mut frame = frame_for_batch(LOG, batch).unwrap();
    ProducedFrame::check(&mut frame, LOG.checksum_seed(), limits, NOW).map(|_| ())
}

fn refusal(at: usize, value: &[u8]) -> ProduceError {
    produce(&batch_with(at, value), &limits()).unwrap_err()
}

/// As [`refusal`], for what is refused before there is a frame: patched into a good one.
fn frame_refusal(at: usize, value: &[u8]) -> ProduceError {
    let records = random_records(&mut fastrand::Rng::with_seed(21), true);
    let mut frame = frame_of(&records, &BatchSpec::default());
    let batch = batch_with(at, value);
    frame[64..64 + batch.len()].copy_from_slice(&batch);
    ProducedFrame::check(&mut frame, LOG.checksum_seed(), &limits(), NOW).unwrap_err()
}

#[test]
fn a_good_batch_is_taken() {
    assert_eq!(produce(&batch_with(0, &[]), &limits()), Ok(()));
}

#[test]
fn attributes_of_brokers_and_of_nobody_are_refused() {
    for bit in 3..16 {
        let attributes: u16 = 1 << bit;
        let error = refusal(ATTRIBUTES, &attributes.to_be_bytes());
        assert!(
            matches!(error, ProduceError::Attribute(_)),
            "bit {bit}: {error}"
        );
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
}

#[test]
fn unknown_compressions_are_refused() {
    for bits in 5..8_u16 {
        let error = frame_refusal(ATTRIBUTES, &bits.to_be_bytes());
        assert_eq!(
            error.code(),
            ErrorCode::UnsupportedCompressionType,
            "{error}"
        );
    }
}

#[test]
fn other_versions_are_refused() {
    for magic in [0_u8, 1, 3, 0xff] {
        let error = frame_refusal(16, &[magic]);
        assert_eq!(error.code(), ErrorCode::CorruptMessage, "{error}");
    }
}

#[test]
fn offsets_with_gaps_are_refused() {
    let error = refusal(LAST_OFFSET_DELTA, &1_000_i32.to_be_bytes());
    assert!(
        matches!(
            error,
            ProduceError::Gaps {
                last_offset_delta: 1_000,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.code(), ErrorCode::InvalidRecord);
}

#[test]
fn impossible_counts_are_refused() {
    for count in [0, -1, i32::MIN, i32::MAX] {
        let error = frame_refusal(RECORD_COUNT, &count.to_be_bytes());
        assert_eq!(error.code(), ErrorCode::CorruptMessage, "{count}: {error}");
    }
    let error = frame_refusal(LAST_OFFSET_DELTA, &(-1_i32).to_be_bytes());
    assert_eq!(error.code(), ErrorCode::CorruptMessage, "{error}");
}

#[test]
fn a_producer_has_id_epoch_and_sequence_or_none() {
    let stamp = |id: i64, epoch: i16, sequence: i32| {
        [
            &id.to_be_bytes()[..],
            &epoch.to_be_bytes(),
            &sequence.to_be_bytes(),
        ]
        .concat()
    };
    assert_eq!(PRODUCER_ID + 8, PRODUCER_EPOCH);
    assert_eq!(PRODUCER_EPOCH + 2, BASE_SEQUENCE);
    for (id, epoch, sequence) in [(4, -1, 0), (4, 0, -1), (-2, 0, 0), (i64::MIN, 0, 0)] {
        let error = refusal(PRODUCER_ID, &stamp(id, epoch, sequence));
        assert!(matches!(error, ProduceError::Producer { .. }), "{error}");
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
    for (id, epoch, sequence) in [(4, 0, 0), (-1, -1, -1), (-1, 0, 0)] {
        let batch = batch_with(PRODUCER_ID, &stamp(id, epoch, sequence));
        assert_eq!(produce(&batch, &limits()), Ok(()));
    }
}

#[test]
fn timestamps_keep_within_their_bounds() {
    let limits = ProduceLimits {
        timestamp_before_max_ms: 500_000,
        ..limits()
    };
    let within_after = NOW.0 + limits.timestamp_after_max_ms;
    let within_before = NOW.0 - limits.timestamp_before_max_ms;
    let try_at = |at, timestamp: i64| produce(&batch_with(at, &timestamp.to_be_bytes()), &limits);
    assert_eq!(try_at(MAX_TIMESTAMP, within_after), Ok(()));
    assert_eq!(try_at(BASE_TIMESTAMP, within_before), Ok(()));
    assert_eq!(try_at(BASE_TIMESTAMP, -1), Ok(()), "-1 is no timestamp");
    let refused = [
        (MAX_TIMESTAMP, within_after + 1),
        (MAX_TIMESTAMP, i64::MAX),
        (BASE_TIMESTAMP, within_after + 1),
        (BASE_TIMESTAMP, within_before - 1),
        (BASE_TIMESTAMP, i64::MIN),
    ];
    for (at, timestamp) in refused {
        let error = try_at(at, timestamp).unwrap_err();
        assert_eq!(
            error.code(),
            ErrorCode::InvalidTimestamp,
            "{timestamp}: {error}"
        );
    }
}

#[test]
fn a_batch_over_the_limit_is_refused() {
    let batch = batch_with(0, &[]);
    let exact = ProduceLimits {
        max_message_bytes: batch.len(),
        ..limits()
    };
    assert_eq!(produce(&batch, &exact), Ok(()));
    let limit = batch.len() - 1;
    let error = produce(
        &batch,
        &ProduceLimits {
            max_message_bytes: limit,
            ..limits()
        },
    );
    let error = error.unwrap_err();
    assert_eq!(
        error,
        ProduceError::TooLarge {
            len: batch.len(),
            limit
        }
    );
    let header = FrameHeader::parse(&frame_for_batch(LOG, &batch).unwrap(), LOG.checksum_seed());
    let early = ProduceLimits {
        max_message_bytes: limit,
        ..limits()
    };
    assert_eq!(early.check_header(&header.unwrap()), Err(error.clone()));
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
}

#[test]
fn a_wrong_crc_is_refused() {
    let records = random_records(&mut fastrand::Rng::with_seed(22), true);
    let mut frame = frame_of(&records, &BatchSpec::default());
    frame[64 + 61] ^= 0x10;
    let error = ProducedFrame::check(&mut frame, LOG.checksum_seed(), &limits(), NOW).unwrap_err();
    assert_eq!(error.code(), ErrorCode::CorruptMessage);
}

/// Room for the frame of `batch`, full of rubbish but for the batch.
fn room_for(batch: &[u8]) -> Vec<u8> {
    let mut room = vec![0xEE; frame_len_for(batch.len()).unwrap()];
    room[FRAME_HEADER_LEN..FRAME_HEADER_LEN + batch.len()].copy_from_slice(batch);
    room
}

#[test]
fn a_batch_without_a_frame_becomes_the_frame_that_a_native_client_would_have_sent() {
    let seed = LOG.checksum_seed();
    for cut in 0..16 {
        let mut records = random_records(&mut fastrand::Rng::with_seed(cut), true);
        records.truncate(1 + cut as usize);
        let batch = batch_of(&records, &BatchSpec::default());
        let (mut framed, mut bare) = (frame_for_batch(LOG, &batch).unwrap(), room_for(&batch));
        let of_frame = ProducedFrame::check(&mut framed, seed, &limits(), NOW).unwrap();
        of_frame.assign(Offset(7), LeaderEpoch(3), NOW);
        let of_batch =
            ProducedFrame::check_batch(&mut bare, batch.len(), seed, &limits(), NOW).unwrap();
        of_batch.assign(Offset(7), LeaderEpoch(3), NOW);
        assert_eq!(framed, bare);
    }
}

#[test]
fn a_batch_without_a_frame_is_held_to_the_same_rules() {
    let check = |batch: &[u8], len: usize, limits: &ProduceLimits| {
        let mut room = room_for(batch);
        ProducedFrame::check_batch(&mut room, len, LOG.checksum_seed(), limits, NOW)
            .map(|_| ())
            .unwrap_err()
            .code()
    };
    let good = batch_with(0, &[]);
    let small = ProduceLimits {
        max_message_bytes: good.len() - 1,
        ..limits()
    };
    assert_eq!(check(&good, good.len(), &small), ErrorCode::MessageTooLarge);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(
        check(&damaged, good.len(), &limits()),
        ErrorCode::CorruptMessage
    );
    assert_eq!(
        check(&good, good.len() - 32, &limits()),
        ErrorCode::CorruptMessage
    );
    let control = batch_with(ATTRIBUTES, &(1_u16 << 5).to_be_bytes());
    assert_eq!(
        check(&control, control.len(), &limits()),
        ErrorCode::InvalidRecord
    );
    let late = batch_with(MAX_TIMESTAMP, &i64::MAX.to_be_bytes());
    assert_eq!(
        check(&late, late.len(), &limits()),
        ErrorCode::InvalidTimestamp
    );
}
