//! Bad input: a typed error for its sender, and nothing for the others.

use millrace_client::{Acks, ErrorCode, LogId, Offset, OffsetSpec, PartitionId, TopicId};
use millrace_wire::{ConsumeOpen, ProduceOpen, StreamKind};

use crate::raw::{Raw, Stream, frame};
use crate::rig::{Rig, consume_all, log_of, texts};

const UNKNOWN: LogId = LogId {
    topic: TopicId([9; 16]),
    partition: PartitionId(0),
};

async fn rig_with_topic(configs: &[(&str, &str)]) -> (Rig, Raw, LogId) {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), configs).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    let shards = rig.broker().shards();
    let raw = Raw::connect(rig.addr(), log.shard(shards).0, shards.get()).await;
    (rig, raw, log)
}

/// The broker still serves everyone else.
async fn assert_serves(rig: &Rig, raw: &Raw, log: LogId) {
    let (mut stream, _) = raw.produce(log, Acks::All).await;
    stream
        .send
        .write_all(&frame(log, &["alive"], None))
        .await
        .unwrap();
    assert_eq!(stream.ack().await.unwrap().error(), ErrorCode::None);
    let client = rig.client().await;
    assert_eq!(
        texts(&consume_all(&client, "t").await).last().unwrap(),
        "alive"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_topics_and_partitions_are_named() {
    let (rig, raw, log) = rig_with_topic(&[]).await;
    let beyond = LogId {
        partition: PartitionId(1),
        ..log
    };
    let refused = [
        (UNKNOWN, ErrorCode::UnknownTopicId),
        (beyond, ErrorCode::UnknownTopicOrPartition),
    ];
    for (log, code) in refused {
        let open = ProduceOpen {
            log,
            acks: Acks::All,
        };
        let mut stream = raw.open(StreamKind::Produce, &open).await;
        assert_eq!(stream.refusal().await, code);
        let open = ConsumeOpen {
            log,
            from: OffsetSpec::Earliest,
        };
        let mut stream = raw.open(StreamKind::Consume, &open).await;
        assert_eq!(stream.refusal().await, code);
    }
    assert_serves(&rig, &raw, log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_out_of_range_is_refused() {
    let (_rig, raw, log) = rig_with_topic(&[]).await;
    let open = ConsumeOpen {
        log,
        from: OffsetSpec::At(Offset(1)),
    };
    let mut stream = raw.open(StreamKind::Consume, &open).await;
    assert_eq!(stream.refusal().await, ErrorCode::OffsetOutOfRange);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openings_that_do_not_hold_are_refused() {
    let (rig, raw, log) = rig_with_topic(&[]).await;
    let good = millrace_wire::encode(
        StreamKind::Produce,
        &ProduceOpen {
            log,
            acks: Acks::All,
        },
    );
    let good = good.unwrap().to_vec();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut flipped = good.clone();
    // The last byte of the archive holds the acks, which have no such value.
    let tail = flipped.len() - 8..;
    flipped[tail].fill(0xFF);
    let refused = [
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            ErrorCode::InvalidRequest,
        ),
        (with(4, 3), ErrorCode::UnsupportedVersion),
        (with(6, 9), ErrorCode::InvalidRequest),
        (with(11, 0xFF), ErrorCode::InvalidRequest),
        (with(12, 1), ErrorCode::InvalidRequest),
        (flipped, ErrorCode::InvalidRequest),
    ];
    for (bytes, code) in refused {
        let mut stream = raw.open_with(&bytes).await;
        assert_eq!(stream.refusal().await, code, "{bytes:02x?}");
    }
    for cut in [0, 1, 15, good.len() - 1] {
        let mut stream = raw.open_with(&good[..cut]).await;
        stream.send.finish().unwrap();
        assert_eq!(
            stream.refusal().await,
            ErrorCode::InvalidRequest,
            "cut at {cut}"
        );
    }
    assert_serves(&rig, &raw, log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_frame_is_acknowledged_with_its_error_and_the_stream_goes_on() {
    let (rig, raw, log) = rig_with_topic(&[("max.message.bytes", "1024")]).await;
    let (mut stream, opened) = raw.produce(log, Acks::All).await;
    assert_eq!(opened.max_message_bytes, 1024);
    assert!(opened.on_owning_shard);
    let large = "x".repeat(5_000);
    let mut broken = frame(log, &["broken"], None).to_vec();
    let last = broken.len() - 20;
    broken[last] ^= 1;
    stream
        .send
        .write_all(&frame(log, &["first"], None))
        .await
        .unwrap();
    stream
        .send
        .write_all(&frame(log, &[&large], None))
        .await
        .unwrap();
    stream.send.write_all(&broken).await.unwrap();
    stream
        .send
        .write_all(&frame(log, &["second"], None))
        .await
        .unwrap();
    let codes = [
        ErrorCode::None,
        ErrorCode::MessageTooLarge,
        ErrorCode::CorruptMessage,
        ErrorCode::None,
    ];
    for code in codes {
        assert_eq!(stream.ack().await.unwrap().error(), code);
    }
    let client = rig.client().await;
    assert_eq!(texts(&consume_all(&client, "t").await), ["first", "second"]);
}

async fn reset_of(mut stream: Stream) -> ErrorCode {
    loop {
        if let Err(code) = stream.ack().await {
            return code;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_header_ends_the_stream() {
    let (rig, raw, log) = rig_with_topic(&[]).await;
    let other = LogId {
        partition: PartitionId(7),
        ..log
    };
    let mut flipped = frame(log, &["a"], None).to_vec();
    flipped[9] ^= 1;
    let mut endless = frame(log, &["a"], None).to_vec();
    endless[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let garbage = vec![0xAA; 500];
    let of_another_log = frame(other, &["a"], None).to_vec();
    for bytes in [flipped, endless, garbage, of_another_log] {
        let (mut stream, _) = raw.produce(log, Acks::All).await;
        stream.send.write_all(&bytes).await.unwrap();
        assert_eq!(reset_of(stream).await, ErrorCode::CorruptMessage);
    }
    assert_serves(&rig, &raw, log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_within_a_frame_has_lost_it() {
    let (rig, raw, log) = rig_with_topic(&[]).await;
    let bytes = frame(log, &["half"], None);
    for cut in [1, 64, bytes.len() - 1] {
        let (mut stream, _) = raw.produce(log, Acks::All).await;
        stream.send.write_all(&bytes[..cut]).await.unwrap();
        stream.send.finish().unwrap();
        assert_eq!(reset_of(stream).await, ErrorCode::CorruptMessage);
    }
    assert_serves(&rig, &raw, log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_acknowledgements_an_error_resets_the_stream() {
    let (_rig, raw, log) = rig_with_topic(&[("max.message.bytes", "1024")]).await;
    let (mut stream, _) = raw.produce(log, Acks::None).await;
    stream
        .send
        .write_all(&frame(log, &["fine"], None))
        .await
        .unwrap();
    stream
        .send
        .write_all(&frame(log, &[&"x".repeat(2_000)], None))
        .await
        .unwrap();
    assert_eq!(reset_of(stream).await, ErrorCode::MessageTooLarge);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_names_are_checked_before_a_topic_exists() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", None, &[]).await.unwrap();
    let refused = [
        ("t", Some(1), &[][..], ErrorCode::TopicAlreadyExists),
        ("a b", Some(1), &[][..], ErrorCode::InvalidTopicException),
        ("n", Some(0), &[][..], ErrorCode::InvalidPartitions),
        (
            "n",
            Some(1),
            &[("retention.ns", "1")][..],
            ErrorCode::InvalidConfig,
        ),
        (
            "n",
            Some(1),
            &[("retention.ms", "soon")][..],
            ErrorCode::InvalidConfig,
        ),
    ];
    for (name, partitions, configs, code) in refused {
        let error = client
            .create_topic(name, partitions, configs)
            .await
            .unwrap_err();
        assert_eq!(
            error.code(),
            code,
            "{name} {partitions:?} {configs:?}: {error}"
        );
    }
    assert_eq!(client.metadata(None).await.unwrap().topics.len(), 1);
}
