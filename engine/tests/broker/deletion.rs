//! Topics and records go while they are in use.

use millrace_client::{
    ClientError, ConsumerOptions, ErrorCode, Offset, OffsetSpec, ProducerRecord,
};
use millrace_wire::ConsumeOpen;

use crate::raw::Raw;
use crate::rig::{Rig, consume_all, log_of, produce, producer, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_under_load_is_gone_and_its_name_is_free() {
    let rig = Rig::start();
    let client = rig.client().await;
    for round in 0..5 {
        client.create_topic("t", Some(4), &[]).await.unwrap();
        let old = log_of(&client, "t", 0).await;
        let producer = producer(&client, "t").await;
        let load = tokio::spawn(async move {
            // Until the topic's end is told.
            while let Ok(delivery) = producer.send(ProducerRecord::new("x".repeat(1_000))).await {
                drop(delivery);
                tokio::task::yield_now().await;
            }
        });
        produce(
            &crate::rig::producer(&client, "t").await,
            ["seen".to_owned()],
        )
        .await;
        client.delete_topic("t").await.unwrap();
        load.abort();
        assert!(
            client.metadata(None).await.unwrap().topics.is_empty(),
            "round {round}"
        );
        let shards = rig.broker().shards();
        let raw = Raw::connect(rig.addr(), old.shard(shards).0, shards.get()).await;
        let open = ConsumeOpen {
            log: old,
            from: OffsetSpec::Earliest,
        };
        let mut stream = raw.open(millrace_wire::StreamKind::Consume, &open).await;
        assert_eq!(stream.refusal().await, ErrorCode::UnknownTopicId);
    }
    client.create_topic("t", Some(1), &[]).await.unwrap();
    assert!(consume_all(&client, "t").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_deleted_topic_are_told() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    let shards = rig.broker().shards();
    let raw = Raw::connect(rig.addr(), log.shard(shards).0, shards.get()).await;
    let (mut produce, _) = raw.produce(log, millrace_client::Acks::All).await;
    let from = OffsetSpec::Earliest;
    let (mut consume, _) = raw.consume(ConsumeOpen { log, from }).await;
    client.delete_topic("t").await.unwrap();
    assert_eq!(produce.ack().await.unwrap_err(), ErrorCode::UnknownTopicId);
    assert_eq!(consume.ack().await.unwrap_err(), ErrorCode::UnknownTopicId);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_out_of_range() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    let producer = producer(&client, "t").await;
    produce(&producer, (0..100).map(|number| number.to_string())).await;
    let beyond = client
        .delete_records(log, Some(Offset(101)))
        .await
        .unwrap_err();
    assert_eq!(beyond.code(), ErrorCode::OffsetOutOfRange);
    assert_eq!(
        client.delete_records(log, Some(Offset(40))).await.unwrap(),
        Offset(40)
    );
    let read = texts(&consume_all(&client, "t").await);
    assert_eq!(read.first().unwrap(), "40");
    assert_eq!(read.len(), 60);
    let shards = rig.broker().shards();
    let raw = Raw::connect(rig.addr(), log.shard(shards).0, shards.get()).await;
    let open = ConsumeOpen {
        log,
        from: OffsetSpec::At(Offset(39)),
    };
    let mut stream = raw.open(millrace_wire::StreamKind::Consume, &open).await;
    assert_eq!(stream.refusal().await, ErrorCode::OffsetOutOfRange);
    assert_eq!(client.delete_records(log, None).await.unwrap(), Offset(100));
    assert!(consume_all(&client, "t").await.is_empty());
    let options = ConsumerOptions::new("t").from(OffsetSpec::Latest);
    let mut consumer = client.consumer(options).await.unwrap();
    produce(&producer, ["after".to_owned()]).await;
    let next: Result<_, ClientError> = consumer.next().await;
    assert_eq!(next.unwrap().offset, Offset(100));
}
