//! Record batches against the codec of `kafka-protocol`, both ways: what Millrace writes
//! it must read, and what it writes Millrace must read, record by record.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use millrace_model::{Compression, RecordBatch};
use support::{Owned, batch_of, random_records, random_spec, read_all};

const ROUNDS: u64 = 60;

fn their_compression(compression: Compression) -> theirs::Compression {
    match compression {
        Compression::None => theirs::Compression::None,
        Compression::Gzip => theirs::Compression::Gzip,
        Compression::Snappy => theirs::Compression::Snappy,
        Compression::Lz4 => theirs::Compression::Lz4,
        Compression::Zstd => theirs::Compression::Zstd,
    }
}

fn their_record(record: &Owned) -> theirs::Record {
    let headers = record.headers.iter().map(|(key, value)| {
        (
            StrBytes::from_string(key.clone()),
            value.clone().map(Bytes::from),
        )
    });
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: 5,
        producer_epoch: 1,
        timestamp_type: theirs::TimestampType::Creation,
        offset: i64::try_from(record.offset).unwrap(),
        sequence: i32::try_from(record.offset).unwrap(),
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: headers.collect::<IndexMap<_, _>>(),
    }
}

fn our_record(record: &theirs::Record) -> Owned {
    let headers = record
        .headers
        .iter()
        .map(|(key, value)| (key.to_string(), value.as_ref().map(|value| value.to_vec())));
    Owned {
        offset: u64::try_from(record.offset).unwrap(),
        timestamp: record.timestamp,
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: record.value.as_ref().map(|value| value.to_vec()),
        headers: headers.collect(),
    }
}

#[test]
fn they_read_what_millrace_writes() {
    for compression in Compression::ALL {
        for seed in 0..ROUNDS {
            let mut rng = fastrand::Rng::with_seed(seed);
            let records = random_records(&mut rng, false);
            let spec = random_spec(&mut rng, compression);
            let mut batch = Bytes::from(batch_of(&records, &spec));
            let decoded = theirs::RecordBatchDecoder::decode(&mut batch).unwrap();
            assert!(batch.is_empty());
            assert_eq!(decoded.compression, their_compression(compression));
            let stamp = decoded
                .records
                .first()
                .map(|first| (first.producer_id, first.sequence));
            let expected = spec
                .producer
                .map_or((-1, -1), |stamp| (stamp.id.0, stamp.base_sequence.0));
            assert_eq!(stamp, Some(expected), "{compression} {seed}");
            let decoded: Vec<_> = decoded.records.iter().map(our_record).collect();
            assert_eq!(decoded, records, "{compression} {seed}");
        }
    }
}

#[test]
fn millrace_reads_what_they_write() {
    for compression in Compression::ALL {
        for seed in 0..ROUNDS {
            let records = random_records(&mut fastrand::Rng::with_seed(seed), false);
            let theirs: Vec<_> = records.iter().map(their_record).collect();
            let options = theirs::RecordEncodeOptions {
                version: 2,
                compression: their_compression(compression),
            };
            let mut out = BytesMut::new();
            theirs::RecordBatchEncoder::encode(&mut out, &theirs, &options).unwrap();
            let batch = RecordBatch::check(&out).unwrap();
            assert_eq!(batch.compression(), compression);
            let stamp = batch.producer().unwrap();
            assert_eq!(
                (stamp.id.0, stamp.epoch.0, stamp.base_sequence.0),
                (5, 1, 0)
            );
            assert_eq!(read_all(batch), records, "{compression} {seed}");
        }
    }
}

#[test]
fn both_write_the_same_bytes_uncompressed() {
    for seed in 0..ROUNDS {
        let mut records = random_records(&mut fastrand::Rng::with_seed(seed), false);
        // They count timestamps from the smallest, Millrace from the first.
        records
            .iter_mut()
            .for_each(|record| record.timestamp += 200_000 * record.offset as i64);
        let theirs = records.iter().map(|record| theirs::Record {
            producer_id: -1,
            producer_epoch: -1,
            sequence: i32::try_from(record.offset).unwrap() - 1,
            ..their_record(record)
        });
        let theirs: Vec<_> = theirs.collect();
        let options = theirs::RecordEncodeOptions {
            version: 2,
            compression: theirs::Compression::None,
        };
        let mut out = BytesMut::new();
        theirs::RecordBatchEncoder::encode(&mut out, &theirs, &options).unwrap();
        let ours = batch_of(&records, &millrace_model::BatchSpec::default());
        assert_eq!(ours, out.to_vec(), "{seed}");
    }
}
