//! Golden bytes of every format: a layout cannot change unnoticed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use millrace_model::{
    BatchBuilder, BatchSpec, Compression, FrameHeader, Header, LeaderEpoch, Offset, ProducerEpoch,
    ProducerId, ProducerStamp, RecordBatch, Sequence, Timestamp, WriteHeader,
};
use support::{LOG, read_all};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn frame_header() -> FrameHeader {
    FrameHeader {
        magic: FrameHeader::MAGIC,
        checksum: 0,
        frame_len: 0x90,
        batch_len: 0x4a,
        base_offset: Offset(0x0102_0304_0506_0708),
        last_offset_delta: 1,
        record_count: 2,
        leader_epoch: LeaderEpoch(0x1112_1314),
        reserved_a: 0,
        max_timestamp: Timestamp(0x2122_2324_2526_2728),
        append_timestamp: Timestamp(0x3132_3334_3536_3738),
        reserved_b: 0,
    }
}

#[test]
fn the_frame_header() {
    let bytes = frame_header().seal(LOG.checksum_seed());
    let map = [
        "4d524631",
        "d4c6e99d", // checksum
        "90000000",
        "4a000000",
        "0807060504030201",
        "01000000",
        "02000000",
        "14131211",
        "00000000",
        "2827262524232221",
        "3837363534333231",
        "0000000000000000",
    ];
    assert_eq!(hex(&bytes), map.concat());
    let parsed = FrameHeader::parse(&bytes, LOG.checksum_seed()).unwrap();
    assert_eq!(
        FrameHeader {
            checksum: 0,
            ..parsed
        },
        frame_header()
    );
}

#[test]
fn the_write_header() {
    let header = WriteHeader {
        magic: WriteHeader::MAGIC,
        checksum: 0,
        frames_len: 0x0001_0000,
        leader_epoch: LeaderEpoch(0x1112_1314),
        next_offset: Offset(0x0102_0304_0506_0708),
        durable_end: Offset(0x0102_0304_0506_0700),
        log_start: Offset(0x41),
        timestamp: Timestamp(0x3132_3334_3536_3738),
        reserved: [0; 2],
    };
    let bytes = header.seal(LOG.checksum_seed());
    let map = [
        "4d525731",
        "99abf5d8", // checksum
        "00000100",
        "14131211",
        "0807060504030201",
        "0007060504030201",
        "4100000000000000",
        "3837363534333231",
        "00000000000000000000000000000000",
    ];
    assert_eq!(hex(&bytes), map.concat());
    let parsed = WriteHeader::parse(&bytes, LOG.checksum_seed()).unwrap();
    assert_eq!(
        WriteHeader {
            checksum: 0,
            ..parsed
        },
        header
    );
}

fn batch(compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let headers = [
        Header {
            key: b"h",
            value: Some(b"1"),
        },
        Header {
            key: b"h",
            value: None,
        },
    ];
    let time = 0x18b_cfe5_6800;
    builder
        .append(Some(b"key"), Some(b"value"), headers, Timestamp(time))
        .unwrap();
    builder
        .append(None, None, [], Timestamp(time + 300))
        .unwrap();
    let producer = Some(ProducerStamp {
        id: ProducerId(0x51),
        epoch: ProducerEpoch(2),
        base_sequence: Sequence(0x61),
    });
    builder
        .build(&BatchSpec {
            compression,
            level: None,
            producer,
        })
        .unwrap()
}

const GZIP: &str = "\
    000000000000000000000063000000000238adda6b0001000000010000018bcfe568000000018bcfe5692c00\
    00000000000051000200000061000000021f8b08000000000000ffd362606060cb4eade42a4bcc294d6561ca\
    603264ca60e463b8c1c2c4c8c80000bd1a810e1e000000";
const SNAPPY: &str = "\
    0000000000000000000000650000000002337d99560002000000010000018bcfe568000000018bcfe5692c00\
    000000000000510002000000610000000282534e41505059000000000100000001000000201e742a00000006\
    6b65790a76616c756504026802310268010e00d80402010100";
const LZ4: &str = "\
    00000000000000000000005e0000000002c440fb5c0003000000010000018bcfe568000000018bcfe5692c00\
    000000000000510002000000610000000204224d186040821e0000802a000000066b65790a76616c75650402\
    6802310268010e00d8040201010000000000";
const ZSTD: &str = "\
    00000000000000000000005800000000024a3e6c8d0004000000010000018bcfe568000000018bcfe5692c00\
    000000000000510002000000610000000228b52ffd201ef100002a000000066b65790a76616c756504026802\
    310268010e00d80402010100";

#[test]
fn the_uncompressed_batch() {
    let map = [
        "0000000000000000", // base offset
        "0000004f",         // length
        "00000000",         // partition leader epoch
        "02",               // magic
        "8ce21e6d",         // CRC
        "0000",             // attributes
        "00000001",         // last offset delta
        "0000018bcfe56800", // base timestamp
        "0000018bcfe5692c", // max timestamp
        "0000000000000051", // producer id
        "0002",             // producer epoch
        "00000061",         // base sequence
        "00000002",         // record count
        "2a",               // record 0: length
        "000000",           // attributes, timestamp delta, offset delta
        "066b6579",         // key
        "0a76616c7565",     // value
        "04",               // headers
        "02680231",         // h: 1
        "026801",           // h: null
        "0e",               // record 1: length
        "00d80402",         // attributes, timestamp delta, offset delta
        "0101",             // null key, null value
        "00",               // no headers
    ];
    assert_eq!(hex(&batch(Compression::None)), map.concat());
}

/// What compressors write may change with their versions; that yesterday's bytes are read
/// may not.
#[test]
fn batches_of_every_compression() {
    let records = read_all(RecordBatch::check(&batch(Compression::None)).unwrap());
    assert_eq!(records.len(), 2);
    for (golden, compression) in [GZIP, SNAPPY, LZ4, ZSTD]
        .into_iter()
        .zip(&Compression::ALL[1..])
    {
        let golden = unhex(golden);
        let golden = RecordBatch::check(&golden).unwrap();
        assert_eq!(golden.compression(), *compression);
        assert_eq!(read_all(golden), records);
        let written = batch(*compression);
        assert_eq!(read_all(RecordBatch::check(&written).unwrap()), records);
    }
}

/// RFC 3720, appendix B.4.
#[test]
fn the_published_vectors_of_crc_32c() {
    let ascending: Vec<u8> = (0..32).collect();
    let descending: Vec<u8> = (0..32).rev().collect();
    let read_command = unhex(
        "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018
         28000000 00000000 02000000 00000000",
    );
    let vectors: [(&[u8], u32); 6] = [
        (&[0; 32], 0x8a91_36aa),
        (&[0xff; 32], 0x62a8_ab43),
        (&ascending, 0x46dd_794e),
        (&descending, 0x113f_db5c),
        (&read_command, 0xd996_3a56),
        (b"123456789", 0xe306_9283),
    ];
    for (bytes, checksum) in vectors {
        assert_eq!(crc32c::crc32c(bytes), checksum, "{bytes:02x?}");
        let (front, back) = bytes.split_at(bytes.len() / 2);
        assert_eq!(crc32c::crc32c_append(crc32c::crc32c(front), back), checksum);
    }
}

#[test]
fn the_seed_of_a_log() {
    let bytes = [&LOG.topic.0[..], &LOG.partition.0.to_le_bytes()].concat();
    assert_eq!(LOG.checksum_seed(), crc32c::crc32c(&bytes));
}
