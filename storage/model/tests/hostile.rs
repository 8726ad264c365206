//! Batches made to hurt: bombs, counts and lengths that the bytes do not back up.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::io::Write;

use millrace_model::batch::CompressionError;
use millrace_model::{
    BatchBuilder, BatchError, BatchSpec, Compression, Decompressor, RecordBatch, Timestamp,
};
use support::batch_of;

/// A bomb's payload, far above the limit that its reader sets.
const BOMB_LEN: usize = 32 << 20;
const LIMIT: usize = 64 << 10;

fn bomb(compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder
        .append(None, Some(&vec![0; BOMB_LEN]), [], Timestamp(0))
        .unwrap();
    builder
        .build(&BatchSpec {
            compression,
            ..BatchSpec::default()
        })
        .unwrap()
}

#[test]
fn bombs_end_at_the_limit() {
    for compression in &Compression::ALL[1..] {
        let batch = bomb(*compression);
        assert!(
            batch.len() < BOMB_LEN / 20,
            "{compression} is a bomb: {}",
            batch.len()
        );
        let batch = RecordBatch::check(&batch).unwrap();
        let mut scratch = Decompressor::new();
        let error = batch.records(&mut scratch, LIMIT).unwrap_err();
        let expected = CompressionError::TooLarge { limit: LIMIT };
        assert_eq!(error, BatchError::Compression(expected), "{compression}");
        let held = scratch.capacity();
        assert!(held <= 4 * LIMIT, "{compression} holds {held} bytes");
        assert_eq!(
            batch.records(&mut scratch, BOMB_LEN + 100).unwrap().count(),
            1
        );
    }
}

#[test]
fn the_limit_itself_is_allowed() {
    let payload = vec![b'x'; 1000];
    let mut builder = BatchBuilder::new();
    builder
        .append(None, Some(&payload), [], Timestamp(0))
        .unwrap();
    let uncompressed = builder.len() - 61;
    for compression in &Compression::ALL[1..] {
        let mut builder = BatchBuilder::new();
        builder
            .append(None, Some(&payload), [], Timestamp(0))
            .unwrap();
        let spec = BatchSpec {
            compression: *compression,
            ..BatchSpec::default()
        };
        let batch = builder.build(&spec).unwrap();
        let batch = RecordBatch::check(&batch).unwrap();
        let mut scratch = Decompressor::new();
        assert_eq!(
            batch.records(&mut scratch, uncompressed).unwrap().count(),
            1
        );
        assert!(
            batch.records(&mut scratch, uncompressed - 1).is_err(),
            "{compression}"
        );
    }
}

#[test]
fn a_declared_length_allocates_nothing_by_itself() {
    let mut scratch = Decompressor::new();
    // Snappy: a varint of 2^32 - 1, then one byte.
    let raw = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    assert!(
        scratch
            .decompress(Compression::Snappy, &raw, 1 << 30)
            .is_err()
    );
    // The same inside the framing, and a block that is longer than the bytes.
    let framing = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
    let block = [&framing[..], &[0, 0, 0, 6], &raw].concat();
    assert!(
        scratch
            .decompress(Compression::Snappy, &block, 1 << 30)
            .is_err()
    );
    let cut = [&framing[..], &[0xff, 0xff, 0xff, 0xff], &raw].concat();
    assert!(
        scratch
            .decompress(Compression::Snappy, &cut, 1 << 30)
            .is_err()
    );
    // Zstandard: single segment, content size of 2^62 in eight bytes.
    let zstd = [
        0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0,
    ];
    let error = scratch
        .decompress(Compression::Zstd, &zstd, LIMIT)
        .unwrap_err();
    assert_eq!(error, CompressionError::TooLarge { limit: LIMIT });
    // Zstandard: a window of 2^41 bytes, no content size, one empty last block.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 1, 0, 0];
    let _ = scratch.decompress(Compression::Zstd, &window, LIMIT);
}

#[test]
fn both_kinds_of_snappy_are_read() {
    let records = b"raw snappy, as some clients write it, without the framing of Java's";
    let raw = snap::raw::Encoder::new().compress_vec(records).unwrap();
    let mut scratch = Decompressor::new();
    assert_eq!(
        scratch
            .decompress(Compression::Snappy, &raw, LIMIT)
            .unwrap(),
        records
    );
}

#[test]
fn frames_that_stream_are_read() {
    let records = b"a stream whose length nobody knew when it began".repeat(5_000);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(&records).unwrap();
    let streamed = encoder.finish().unwrap();
    let mut scratch = Decompressor::new();
    assert_eq!(
        scratch
            .decompress(Compression::Zstd, &streamed, 1 << 20)
            .unwrap(),
        records
    );
    let info = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Linked)
        .block_checksums(true)
        .content_checksum(true)
        .block_size(lz4_flex::frame::BlockSize::Max256KB);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&records).unwrap();
    let linked = encoder.finish().unwrap();
    assert_eq!(
        scratch
            .decompress(Compression::Lz4, &linked, 1 << 20)
            .unwrap(),
        records
    );
}

/// A batch of one record whose body is `body`, with its length and the batch's CRC right.
fn batch_of_body(body: &[u8]) -> Vec<u8> {
    let records = support::random_records(&mut fastrand::Rng::with_seed(31), false);
    let mut batch = batch_of(&records[..1], &BatchSpec::default());
    batch.truncate(61);
    batch.push(u8::try_from(body.len() * 2).unwrap());
    batch.extend_from_slice(body);
    let len = u32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn records_that_lie_about_themselves_are_refused() {
    // attributes, timestamp, offset, key (null), value (null), no headers
    let good: &[u8] = &[0, 0, 0, 1, 1, 0];
    let refused: [(&[u8], &str); 10] = [
        (&[0, 0, 2, 1, 1, 0], "its offset is out of order"),
        (&[0, 0, 1, 1, 1, 0], "its offset delta is negative"),
        (&[0, 0, 0, 40, 1, 0], "its key is cut off"),
        (&[0, 0, 0, 3, 1, 0], "its key is cut off"),
        (&[0, 0, 0, 1, 40, 0], "its value is cut off"),
        (&[0, 0, 0, 1, 1, 2], "a header is cut off"),
        (
            &[0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f],
            "a header is cut off",
        ),
        (&[0, 0, 0, 1, 1, 1], "its header count is negative"),
        (&[0, 0, 0, 1, 1, 2, 1, 1], "a header is cut off"),
        (&[0, 0, 0, 1, 1, 0, 0], "bytes remain after its headers"),
    ];
    let mut scratch = Decompressor::new();
    let batch = batch_of_body(good);
    RecordBatch::check(&batch)
        .unwrap()
        .validate_records(&mut scratch, LIMIT)
        .unwrap();
    for (body, what) in refused {
        let batch = batch_of_body(body);
        let batch = RecordBatch::check(&batch).unwrap();
        let error = batch.validate_records(&mut scratch, LIMIT).unwrap_err();
        assert_eq!(error, BatchError::Record { index: 0, what }, "{body:?}");
        let read: Vec<_> = batch.records(&mut scratch, LIMIT).unwrap().collect();
        assert_eq!(read.len(), 1, "the walk ends after an error");
    }
}

#[test]
fn a_record_after_the_last_is_refused() {
    let mut batch = batch_of_body(&[0, 0, 0, 1, 1, 0]);
    batch.extend_from_slice(&[12, 0, 0, 0, 1, 1, 0]);
    let len = u32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let batch = RecordBatch::check(&batch).unwrap();
    let error = batch
        .validate_records(&mut Decompressor::new(), LIMIT)
        .unwrap_err();
    assert_eq!(error, BatchError::Trailing(7));
}

#[test]
fn two_records_at_one_offset_are_refused() {
    let mut batch = batch_of_body(&[0, 0, 0, 1, 1, 0]);
    batch.extend_from_slice(&[12, 0, 0, 0, 1, 1, 0]);
    batch[23..27].copy_from_slice(&1_i32.to_be_bytes());
    batch[57..61].copy_from_slice(&2_i32.to_be_bytes());
    let len = u32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let mut scratch = Decompressor::new();
    let records = RecordBatch::check(&batch)
        .unwrap()
        .records(&mut scratch, LIMIT)
        .unwrap();
    let read: Vec<_> = records
        .map(|record| record.map(|record| record.offset.0))
        .collect();
    let what = "its offset is out of order";
    assert_eq!(read, [Ok(0), Err(BatchError::Record { index: 1, what })]);
}

#[test]
fn offsets_above_a_signed_number_are_refused() {
    let mut batch = batch_of_body(&[0, 0, 0, 1, 1, 0]);
    for (base, legal) in [(i64::MAX - 1, true), (i64::MAX, false), (-1, false)] {
        batch[..8].copy_from_slice(&base.to_be_bytes());
        assert_eq!(RecordBatch::check(&batch).is_ok(), legal, "{base}");
    }
}

#[test]
fn lengths_of_batches_are_bounded() {
    let good = batch_of_body(&[0, 0, 0, 1, 1, 0]);
    for stated in [-1, 0, 48, i32::MIN, i32::MAX] {
        let mut batch = good.clone();
        batch[8..12].copy_from_slice(&stated.to_be_bytes());
        let error = RecordBatch::check(&batch).unwrap_err();
        assert!(
            matches!(error, BatchError::Length { .. } | BatchError::Header(_)),
            "{stated}: {error}"
        );
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(
        RecordBatch::check(&longer).unwrap_err(),
        BatchError::Length { stated: good.len() }
    );
}

#[test]
fn a_builder_refuses_what_no_frame_holds() {
    let mut builder = BatchBuilder::new();
    assert!(builder.build(&BatchSpec::default()).is_err());
    let half = vec![0; millrace_model::MAX_FRAME_LEN / 2];
    builder.append(None, Some(&half), [], Timestamp(0)).unwrap();
    let before = builder.len();
    assert!(builder.append(None, Some(&half), [], Timestamp(0)).is_err());
    assert_eq!((builder.len(), builder.record_count()), (before, 1));
}
