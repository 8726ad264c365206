//! What is produced is consumed, byte for byte and in order.

use millrace_client::{
    Acks, Compression, ConsumerOptions, OffsetSpec, PartitionId, ProducerOptions, ProducerRecord,
};

use crate::rig::{Rig, consume_all, produce, producer, texts};

fn lines(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("record {number} {}", "x".repeat(number % 300)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_compression_comes_back_as_it_went_in() {
    let rig = Rig::start();
    let client = rig.client().await;
    let all = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for compression in all {
        let topic = format!("topic-{compression:?}");
        client.create_topic(&topic, Some(1), &[]).await.unwrap();
        let options = ProducerOptions {
            compression,
            ..ProducerOptions::new(&topic)
        };
        let producer = client.producer(options).await.unwrap();
        produce(&producer, lines(500)).await;
        assert_eq!(texts(&consume_all(&client, &topic).await), lines(500));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_consumer_is_handed_what_comes_and_that_is_timed() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let options = ConsumerOptions::new("t").from(OffsetSpec::Latest);
    let mut consumer = client.consumer(options).await.unwrap();
    let producer = producer(&client, "t").await;
    for line in lines(100) {
        produce(&producer, [line.clone()]).await;
        assert_eq!(texts(&[consumer.next().await.unwrap()]), [line]);
    }
    let metrics = client.metrics().await.unwrap();
    let delivered = metrics.lines().any(|line| {
        line.contains("_count") && line.contains("stage=\"deliver\"") && !line.ends_with(" 0")
    });
    assert!(delivered, "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_partition_has_its_own_order() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(7), &[]).await.unwrap();
    let producer = producer(&client, "t").await;
    let mut deliveries = Vec::new();
    for number in 0..700 {
        let record = ProducerRecord::new(number.to_string()).to_partition(PartitionId(number % 7));
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let records = consume_all(&client, "t").await;
    for partition in 0..7 {
        let of = records
            .iter()
            .filter(|record| record.partition == PartitionId(partition));
        let of: Vec<_> = of.cloned().collect();
        let sent: Vec<_> = (0..100)
            .map(|at| (at * 7 + partition).to_string())
            .collect();
        assert_eq!(texts(&of), sent);
        assert!(
            (0..)
                .zip(&of)
                .all(|(offset, record)| record.offset.0 == offset)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_acknowledgements_and_with_write_caching_it_arrives_too() {
    let rig = Rig::start();
    let client = rig.client().await;
    for (topic, acks, caching) in [("none", Acks::None, "false"), ("cached", Acks::All, "true")] {
        client
            .create_topic(topic, Some(1), &[("write.caching", caching)])
            .await
            .unwrap();
        let options = ConsumerOptions::new(topic).from(OffsetSpec::Earliest);
        let mut consumer = client.consumer(options).await.unwrap();
        let options = ProducerOptions {
            acks,
            ..ProducerOptions::new(topic)
        };
        let producer = client.producer(options).await.unwrap();
        produce(&producer, lines(300)).await;
        for line in lines(300) {
            assert_eq!(texts(&[consumer.next().await.unwrap()]), [line]);
        }
    }
}
