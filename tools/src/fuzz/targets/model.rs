//! Frames, batches, compression and settings.

use bytes::BytesMut;
use millrace_model::{
    BatchBuilder, BatchSpec, Compression, Header, LeaderEpoch, LogId, Offset, ProducerEpoch,
    ProducerId, ProducerStamp, Sequence, Timestamp, WriteHeader, batch::BATCH_HEADER_LEN, fuzz,
};

use super::super::Target;

/// The targets of `millrace-model`.
pub(super) fn targets() -> Vec<Target> {
    vec![
        Target::new("model::frame", fuzz::frame, frames()),
        Target::new("model::write_header", fuzz::write_header, write_headers()),
        Target::new("model::record_batch", fuzz::record_batch, batches()),
        Target::new("model::decompress", fuzz::decompress, compressed()),
        Target::new("model::settings", fuzz::settings, settings()),
    ]
}

/// A batch with a bit of everything: null, empty and repeated parts.
fn batch_of_everything() -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    let headers = [
        Header {
            key: b"trace",
            value: Some(b"1"),
        },
        Header {
            key: b"trace",
            value: None,
        },
        Header {
            key: b"",
            value: Some(b""),
        },
    ];
    type Parts<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a [Header<'a>]);
    let records: [Parts<'_>; 4] = [
        (None, None, &[]),
        (Some(b""), Some(b""), &headers),
        (
            Some(b"key"),
            Some(b"value value value value value"),
            &headers[..1],
        ),
        (None, Some(&[7; 200]), &[]),
    ];
    for (index, (key, value, headers)) in (0..).zip(records) {
        let timestamp = Timestamp(1_700_000_000_000 + index);
        builder
            .append(key, value, headers.iter().copied(), timestamp)
            .expect("four small records fit a batch");
    }
    builder
}

fn specs() -> impl Iterator<Item = BatchSpec> {
    let stamp = ProducerStamp {
        id: ProducerId(7),
        epoch: ProducerEpoch(1),
        base_sequence: Sequence(3),
    };
    let spec = move |compression| {
        [None, Some(stamp)].map(|producer| BatchSpec {
            compression,
            level: None,
            producer,
        })
    };
    Compression::ALL.into_iter().flat_map(spec)
}

fn batches() -> Vec<Vec<u8>> {
    specs()
        .map(|spec| {
            batch_of_everything()
                .build(&spec)
                .expect("the batch has records")
        })
        .collect()
}

pub(super) fn frames() -> Vec<Vec<u8>> {
    let frame = |spec| {
        let mut out = BytesMut::new();
        batch_of_everything()
            .build_frame(LogId::default(), &spec, &mut out)
            .expect("the batch has records");
        out.to_vec()
    };
    specs().map(frame).collect()
}

/// The number of the compression, and what it made of the records.
fn compressed() -> Vec<Vec<u8>> {
    let records = |batch: Vec<u8>| [&[batch[22] & 7], &batch[BATCH_HEADER_LEN..]].concat();
    batches().into_iter().map(records).collect()
}

fn write_headers() -> Vec<Vec<u8>> {
    let header = WriteHeader {
        magic: WriteHeader::MAGIC,
        checksum: 0,
        frames_len: 4096,
        leader_epoch: LeaderEpoch(2),
        next_offset: Offset(100),
        durable_end: Offset(90),
        log_start: Offset(3),
        timestamp: Timestamp(1_700_000_000_000),
        reserved: [0; 2],
    };
    vec![header.seal(LogId::default().checksum_seed()).to_vec()]
}

fn settings() -> Vec<Vec<u8>> {
    let texts = [
        "retention.ms=100\nsegment.bytes=1048576",
        "cleanup.policy=delete\nwrite.caching=true\nretention.bytes=-1",
        "message.timestamp.type=LogAppendTime\nmax.message.bytes=2048",
        "orders.v1_2-x",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
