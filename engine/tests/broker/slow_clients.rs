//! Clients that stand still hold up nobody.

use millrace_client::{Acks, ConsumerOptions, ErrorCode, OffsetSpec};
use millrace_engine::config::ByteSize;
use millrace_wire::ConsumeOpen;

use crate::raw::{Raw, frame};
use crate::rig::{Rig, drain, log_of, produce, producer, texts};

/// 64 MB, far beyond every window between the two, in records that do not repeat.
const RECORDS: usize = 64;
const RECORD_LEN: usize = 1_000_000;

fn value(number: usize) -> String {
    format!("{number:06}").repeat(RECORD_LEN / 6)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_never_reads_costs_nothing_and_can_start_reading() {
    let rig = Rig::start();
    let client = rig.client().await;
    client
        .create_topic("t", Some(1), &[("max.message.bytes", "2000000")])
        .await
        .unwrap();
    let options = ConsumerOptions::new("t").from(OffsetSpec::Earliest);
    let log = log_of(&client, "t", 0).await;
    let raw = Raw::connect(rig.addr(), log.shard(rig.broker().shards()).0, 2).await;
    let from = OffsetSpec::Earliest;
    let _never_read = raw.consume(ConsumeOpen { log, from }).await;
    let producer = producer(&client, "t").await;
    for number in 0..RECORDS {
        produce(&producer, [value(number)]).await;
    }
    let mut consumer = client.consumer(options).await.unwrap();
    let read = texts(&drain(&mut consumer).await);
    assert!((0..RECORDS).all(|number| read[number] == value(number)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_never_end_do_not_stop_others() {
    let rig = Rig::start_with(|config| config.shard_memory_bytes = ByteSize(8 << 20));
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    let raw = Raw::connect(rig.addr(), log.shard(rig.broker().shards()).0, 2).await;
    let half = frame(log, &[&"x".repeat(100_000)], None);
    // Together they promise three times the memory that there is.
    let mut held = Vec::new();
    for _ in 0..240 {
        let (mut stream, _) = raw.produce(log, Acks::All).await;
        stream.send.write_all(&half[..1_000]).await.unwrap();
        held.push(stream);
    }
    let other = Raw::connect(rig.addr(), log.shard(rig.broker().shards()).0, 2).await;
    let (mut stream, _) = other.produce(log, Acks::All).await;
    stream
        .send
        .write_all(&frame(log, &["through"], None))
        .await
        .unwrap();
    assert_eq!(stream.ack().await.unwrap().error(), ErrorCode::None);
}
