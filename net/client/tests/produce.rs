//! The producer against a broker that loses, refuses and forgets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

mod fake;

use std::time::Duration;

use fake::{FakeBroker, Fault, TOPIC};
use millrace_client::{
    Acks, ClientError, Compression, ErrorCode, Offset, PartitionId, ProducerOptions, ProducerRecord,
};
use millrace_model::Sequence;

fn values(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("value {index}")).collect()
}

fn record(value: &str) -> ProducerRecord {
    ProducerRecord::new(value.to_owned()).to_partition(PartitionId(0))
}

/// Small batches, so that many are in flight.
fn options() -> ProducerOptions {
    ProducerOptions {
        batch_bytes: 200,
        ..ProducerOptions::new(TOPIC)
    }
}

/// Sends all, and gives what became of each.
async fn send_all(
    broker: &FakeBroker,
    options: ProducerOptions,
    values: &[String],
) -> Vec<Result<Option<Offset>, ClientError>> {
    let client = broker.client().await;
    let producer = client.producer(options).await.unwrap();
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(producer.send(record(value)).await.unwrap());
    }
    producer.close().await;
    let mut results = Vec::new();
    for delivery in deliveries {
        results.push(delivery.await.map(|stored| stored.offset));
    }
    results
}

#[tokio::test]
async fn records_arrive_in_order_in_batches() {
    let broker = FakeBroker::start(1);
    let values = values(1000);
    let results = send_all(&broker, ProducerOptions::new(TOPIC), &values).await;
    assert_eq!(broker.values(0), values);
    for (index, result) in (0..).zip(results) {
        assert_eq!(result, Ok(Some(Offset(index))));
    }
    let batches = broker.state().stamps.len();
    assert!(
        batches < 1000,
        "{batches} batches of one record each are no batches"
    );
}

#[tokio::test]
async fn every_compression_arrives() {
    for compression in Compression::ALL {
        let broker = FakeBroker::start(1);
        let options = ProducerOptions {
            compression,
            ..options()
        };
        send_all(&broker, options, &values(50)).await;
        assert_eq!(broker.values(0), values(50), "{compression:?}");
    }
}

/// Acknowledgements and frames are lost with the connection, again and again: what was
/// stored is recognised, what was not is stored, nothing overtakes.
#[tokio::test]
async fn lost_acknowledgements_and_frames_neither_lose_nor_double() {
    use Fault::{LoseAck, LoseFrame, None};
    let broker = FakeBroker::start(1);
    broker.state().faults.extend([
        None, LoseAck, LoseAck, None, LoseFrame, None, None, LoseAck, LoseFrame, LoseFrame, None,
    ]);
    let values = values(300);
    let results = send_all(&broker, options(), &values).await;
    assert_eq!(broker.values(0), values);
    assert!(results.iter().all(Result::is_ok));
    let stamps = broker.state().stamps.clone();
    let again = stamps
        .iter()
        .enumerate()
        .any(|(at, stamp)| stamps[..at].contains(stamp));
    assert!(
        again,
        "a batch whose acknowledgement was lost comes again as it was"
    );
}

/// A refusal for the moment: all that were in flight behind it are refused too, and go
/// again in order under the same numbers.
#[tokio::test]
async fn a_refusal_for_the_moment_keeps_order_and_numbers() {
    let broker = FakeBroker::start(1);
    let refusal = Fault::Refuse(ErrorCode::KafkaStorageError);
    broker.state().faults.extend([Fault::None, refusal]);
    let values = values(200);
    let results = send_all(&broker, options(), &values).await;
    assert_eq!(broker.values(0), values);
    assert!(results.iter().all(Result::is_ok));
    let producers: Vec<_> = broker
        .state()
        .stamps
        .iter()
        .map(|stamp| stamp.unwrap().id)
        .collect();
    assert!(
        producers.iter().all(|id| *id == producers[0]),
        "no new producer id is needed"
    );
}

/// A refusal for good fails its records and no others; those behind it go under a new id.
#[tokio::test]
async fn a_refusal_for_good_fails_its_batch_only() {
    let broker = FakeBroker::start(1);
    broker
        .state()
        .faults
        .extend([Fault::None, Fault::Refuse(ErrorCode::InvalidRecord)]);
    let values = values(200);
    let results = send_all(&broker, options(), &values).await;
    let failed: Vec<_> = results.iter().filter(|result| result.is_err()).collect();
    let error = failed[0].as_ref().unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRecord);
    let stored = broker.values(0);
    assert_eq!(stored.len() + failed.len(), values.len());
    let mut expected = values.clone();
    expected.retain(|value| stored.contains(value));
    assert_eq!(stored, expected, "the order is kept");
    let last = broker.state().stamps.last().unwrap().unwrap();
    assert_ne!(
        Some(last.id),
        broker.state().stamps[0].map(|stamp| stamp.id)
    );
}

#[tokio::test]
async fn a_reset_stream_is_opened_again() {
    let broker = FakeBroker::start(1);
    broker
        .state()
        .faults
        .extend([Fault::None, Fault::Reset(ErrorCode::NotLeaderOrFollower)]);
    send_all(&broker, options(), &values(100)).await;
    assert_eq!(broker.values(0), values(100));
}

#[tokio::test]
async fn without_idempotence_there_is_no_stamp() {
    let broker = FakeBroker::start(1);
    let options = ProducerOptions {
        idempotent: false,
        ..options()
    };
    send_all(&broker, options, &values(20)).await;
    assert_eq!(broker.values(0), values(20));
    assert!(broker.state().stamps.iter().all(Option::is_none));
}

#[tokio::test]
async fn without_acknowledgements_the_offset_is_unknown() {
    let broker = FakeBroker::start(1);
    let options = ProducerOptions {
        acks: Acks::None,
        ..options()
    };
    let results = send_all(&broker, options, &values(20)).await;
    assert!(
        results.iter().all(|result| *result == Ok(None)),
        "{results:?}"
    );
}

#[tokio::test]
async fn a_delivery_that_takes_too_long_fails() {
    let broker = FakeBroker::start(1);
    broker.state().faults.push_back(Fault::Hang);
    let options = ProducerOptions {
        delivery_timeout: Duration::from_millis(200),
        ..ProducerOptions::new(TOPIC)
    };
    let results = send_all(&broker, options, &values(1)).await;
    assert_eq!(
        results[0].as_ref().unwrap_err().code(),
        ErrorCode::RequestTimedOut
    );
}

#[tokio::test]
async fn a_full_buffer_makes_send_wait() {
    let broker = FakeBroker::start(1);
    broker.state().faults.push_back(Fault::Hang);
    let client = broker.client().await;
    let options = ProducerOptions {
        buffer_bytes: 100,
        ..ProducerOptions::new(TOPIC)
    };
    let producer = client.producer(options).await.unwrap();
    let _first = producer
        .send(record("the first record of some size"))
        .await
        .unwrap();
    let second = producer.send(record("the second record of some size"));
    assert!(
        tokio::time::timeout(Duration::from_millis(100), second)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_record_that_no_broker_would_take_is_refused_at_once() {
    let broker = FakeBroker::start(1);
    let client = broker.client().await;
    let producer = client.producer(ProducerOptions::new(TOPIC)).await.unwrap();
    let large = "x".repeat(fake::MAX_MESSAGE_BYTES as usize);
    let error = producer.send(record(&large)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    let elsewhere = record("x").to_partition(PartitionId(1));
    let error = producer.send(elsewhere).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnknownTopicOrPartition);
    producer.send(record("small")).await.unwrap().await.unwrap();
    assert_eq!(broker.values(0), ["small"]);
}

#[tokio::test]
async fn an_unknown_topic_is_an_error_by_kafkas_name() {
    let broker = FakeBroker::start(1);
    let client = broker.client().await;
    let error = client
        .producer(ProducerOptions::new("nowhere"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn a_key_goes_where_kafka_puts_it_and_numbers_count_records() {
    let broker = FakeBroker::start(16);
    let client = broker.client().await;
    let producer = client.producer(ProducerOptions::new(TOPIC)).await.unwrap();
    let send = |value| producer.send(ProducerRecord::new(value).with_key("foobar"));
    let first = send("a").await.unwrap().await.unwrap();
    let second = send("b").await.unwrap().await.unwrap();
    let hash = (-790_332_482_i32).cast_unsigned() & 0x7fff_ffff;
    assert_eq!(first.partition, PartitionId(hash % 16));
    assert_eq!(second.offset, Some(Offset(1)));
    assert_eq!(broker.state().stamps[1].unwrap().base_sequence, Sequence(1));
}
