//! What lands on a shard that does not own the partition is served all the same, and counted.

use millrace_client::{Acks, ErrorCode, LogId, Offset, OffsetSpec};
use millrace_model::Frame;
use millrace_wire::{ConsumeOpen, Request, Response};

use crate::raw::{Raw, frame};
use crate::rig::{Rig, log_of};

/// A connection to the shard that does not own `log`.
async fn wrong(rig: &Rig, log: LogId) -> Raw {
    let shards = rig.broker().shards();
    let other = (log.shard(shards).0 + 1) % shards.get();
    Raw::connect(rig.addr(), other, shards.get()).await
}

async fn rig_with_topic() -> (Rig, LogId) {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    (rig, log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_cross_to_the_owner_and_back_in_order() {
    let (rig, log) = rig_with_topic().await;
    let raw = wrong(&rig, log).await;
    let (mut produce, opened) = raw.produce(log, Acks::All).await;
    assert!(!opened.on_owning_shard);
    let from = OffsetSpec::Earliest;
    let (mut consume, opened) = raw.consume(ConsumeOpen { log, from }).await;
    assert!(!opened.on_owning_shard);
    for number in 0..500_u64 {
        let value = format!("{number} {}", "y".repeat(900));
        produce
            .send
            .write_all(&frame(log, &[&value], None))
            .await
            .unwrap();
    }
    for number in 0..500 {
        let ack = produce.ack().await.unwrap();
        assert_eq!(
            (ack.error(), ack.base_offset),
            (ErrorCode::None, Offset(number))
        );
    }
    let len = frame(log, &[&format!("0 {}", "y".repeat(900))], None).len();
    let mut bytes = vec![0; len];
    consume.read(&mut bytes).await.unwrap();
    let first = Frame::check_stored(&bytes, log.checksum_seed()).unwrap();
    assert_eq!(first.header().base_offset, Offset(0));
    let text = rig.client().await.metrics().await.unwrap();
    let counted = text
        .lines()
        .any(|line| line.starts_with("millrace_streams_foreign_total") && line.ends_with(" 2"));
    assert!(counted, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_cross_too() {
    let (rig, log) = rig_with_topic().await;
    let raw = wrong(&rig, log).await;
    let (mut produce, _) = raw.produce(log, Acks::All).await;
    let mut broken = frame(log, &["broken"], None).to_vec();
    let last = broken.len() - 20;
    broken[last] ^= 1;
    produce.send.write_all(&broken).await.unwrap();
    produce
        .send
        .write_all(&frame(log, &["whole"], None))
        .await
        .unwrap();
    assert_eq!(
        produce.ack().await.unwrap().error(),
        ErrorCode::CorruptMessage
    );
    assert_eq!(produce.ack().await.unwrap().error(), ErrorCode::None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_by_the_owner() {
    let (rig, log) = rig_with_topic().await;
    let raw = wrong(&rig, log).await;
    let Response::Partition(state) = raw.request(&Request::DescribePartition { log }).await else {
        panic!("no state")
    };
    assert_eq!(state.shard, log.shard(rig.broker().shards()));
    let at = OffsetSpec::Latest;
    let Response::Offset { offset, .. } = raw.request(&Request::ListOffset { log, at }).await
    else {
        panic!("no offset")
    };
    assert_eq!(offset, Offset(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_topic_reaches_forwarded_streams() {
    let (rig, log) = rig_with_topic().await;
    let raw = wrong(&rig, log).await;
    let (mut produce, _) = raw.produce(log, Acks::All).await;
    let from = OffsetSpec::Earliest;
    let (mut consume, _) = raw.consume(ConsumeOpen { log, from }).await;
    rig.client().await.delete_topic("t").await.unwrap();
    assert_eq!(consume.ack().await.unwrap_err(), ErrorCode::UnknownTopicId);
    assert_eq!(
        produce.ack().await.unwrap_err(),
        ErrorCode::UnknownTopicOrPartition
    );
}
