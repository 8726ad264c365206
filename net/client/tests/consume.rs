//! The consumer against a broker that cuts its streams.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

mod fake;

use std::collections::HashMap;
use std::time::Duration;

use fake::{FakeBroker, TOPIC, log};
use millrace_client::{
    ClientError, Compression, ConsumerOptions, ErrorCode, Offset, OffsetReset, OffsetSpec,
    PartitionId, ProducerOptions, ProducerRecord,
};

/// Stores `count` records in each partition, a few in a batch.
async fn fill(broker: &FakeBroker, partitions: u32, count: usize, compression: Compression) {
    let client = broker.client().await;
    let options = ProducerOptions {
        batch_bytes: 300,
        compression,
        ..ProducerOptions::new(TOPIC)
    };
    let producer = client.producer(options).await.unwrap();
    for index in 0..count {
        for partition in 0..partitions {
            let record = ProducerRecord::new(format!("{partition}:{index}"));
            producer
                .send(record.to_partition(PartitionId(partition)))
                .await
                .unwrap();
        }
    }
    producer.close().await;
}

#[tokio::test]
async fn all_partitions_are_read_in_order_up_to_their_ends() {
    let broker = FakeBroker::start(3);
    fill(&broker, 3, 200, Compression::Lz4).await;
    let client = broker.client().await;
    let mut consumer = client.consumer(ConsumerOptions::new(TOPIC)).await.unwrap();
    let mut next = HashMap::new();
    while let Some(record) = consumer.next_before_end().await.unwrap() {
        let next = next.entry(record.partition).or_insert(0_u64);
        assert_eq!(record.offset, Offset(*next));
        let expected = format!("{}:{next}", record.partition);
        assert_eq!(record.value.unwrap(), expected);
        *next += 1;
    }
    assert_eq!(next.len(), 3);
    assert!(next.values().all(|next| *next == 200), "{next:?}");
    assert!(consumer.positions().eq(consumer.end_offsets()));
}

#[tokio::test]
async fn a_cut_stream_goes_on_where_it_was() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 300, Compression::None).await;
    broker.state().cut_consumers_after = Some(3);
    let client = broker.client().await;
    let mut consumer = client.consumer(ConsumerOptions::new(TOPIC)).await.unwrap();
    for index in 0..300 {
        assert_eq!(consumer.next().await.unwrap().offset, Offset(index));
    }
    assert_eq!(
        broker.state().cut_consumers_after,
        None,
        "the stream was cut"
    );
}

#[tokio::test]
async fn records_before_the_wanted_offset_are_skipped_and_new_ones_come() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 50, Compression::Zstd).await;
    let client = broker.client().await;
    let options = ConsumerOptions::new(TOPIC).from(OffsetSpec::At(Offset(37)));
    let mut consumer = client.consumer(options).await.unwrap();
    for index in 37..50 {
        assert_eq!(consumer.next().await.unwrap().offset, Offset(index));
    }
    assert_eq!(consumer.next_before_end().await.unwrap(), None);
    fill(&broker, 1, 1, Compression::None).await;
    assert_eq!(consumer.next().await.unwrap().offset, Offset(50));
    assert_eq!(consumer.position(PartitionId(0)), Some(Offset(51)));
}

#[tokio::test]
async fn an_offset_out_of_range_is_an_error_or_a_reset() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 10, Compression::None).await;
    let client = broker.client().await;
    let options = ConsumerOptions::new(TOPIC).from(OffsetSpec::At(Offset(99)));
    let error = client.consumer(options.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OffsetOutOfRange);
    let options = ConsumerOptions {
        offset_reset: OffsetReset::Earliest,
        ..options
    };
    let mut consumer = client.consumer(options).await.unwrap();
    assert_eq!(consumer.next().await.unwrap().offset, Offset(0));
}

#[tokio::test]
async fn a_damaged_frame_is_an_error_with_its_place() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 100, Compression::None).await;
    broker.state().logs.get_mut(&0).unwrap()[1][100] ^= 1;
    let client = broker.client().await;
    let mut consumer = client.consumer(ConsumerOptions::new(TOPIC)).await.unwrap();
    let error = loop {
        match consumer.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, ClientError::Damaged { log, .. } if log == fake::log(0)),
        "{error}"
    );
}

/// A consumer that does not ask holds what it may hold; the broker is stopped by flow
/// control, and the rest comes when it is asked for.
#[tokio::test]
async fn a_consumer_that_stands_still_reads_nothing() {
    let broker = FakeBroker::start(1);
    let client = broker.client().await;
    let options = ProducerOptions {
        batch_bytes: 1 << 16,
        ..ProducerOptions::new(TOPIC)
    };
    let producer = client.producer(options).await.unwrap();
    for _ in 0..200 {
        let record = ProducerRecord::new(vec![7; 60_000]).to_partition(PartitionId(0));
        producer.send(record).await.unwrap();
    }
    producer.close().await;
    let options = millrace_client::ConnectOptions {
        stream_window_bytes: 1 << 17,
        ..broker.options()
    };
    let slow = millrace_client::Client::connect(options).await.unwrap();
    let options = ConsumerOptions {
        buffer_bytes: 1 << 17,
        ..ConsumerOptions::new(TOPIC)
    };
    let mut consumer = slow.consumer(options).await.unwrap();
    consumer.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut ready = 0;
    while consumer.try_next().unwrap().is_some() {
        ready += 1;
    }
    assert!(ready < 10, "{ready} records were read ahead");
    for _ in ready..199 {
        consumer.next().await.unwrap();
    }
}

#[tokio::test]
async fn raw_streams_carry_frames_as_they_are() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 5, Compression::None).await;
    let client = broker.client().await;
    let (mut frames, opened) = client
        .consume_stream(log(0), OffsetSpec::Earliest)
        .await
        .unwrap();
    assert_eq!(opened.high_watermark, Offset(5));
    let stored = broker.state().logs[&0][0].clone();
    let frame = frames.next().await.unwrap().unwrap();
    assert_eq!(frame.into_bytes(), stored);
}
