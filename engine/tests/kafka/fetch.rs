//! Fetch: limits, waits, and errors by their codes.

use std::time::{Duration, Instant};

use millrace_kafka::{ApiKey, FetchRequest, RecordSet};
use millrace_model::{Compression, ErrorCode};

use crate::client::{
    FETCH, Kafka, PRODUCE, batch, compressed, fetch_request, fetched, from, produce_request,
    records,
};
use crate::rig::Rig;

fn start(partitions: u32) -> (Rig, Kafka) {
    let rig = Rig::start_with(|config| config.num_partitions = partitions.try_into().unwrap());
    let mut kafka = connect(&rig);
    kafka.topic("t");
    (rig, kafka)
}

fn connect(rig: &Rig) -> Kafka {
    Kafka::connect(rig.broker().kafka().unwrap())
}

#[test]
fn every_version_is_served() {
    let (_rig, mut kafka) = start(1);
    let id = kafka.topic("t").topic_id;
    kafka.produce("t", 0, batch(&["x"]));
    for version in 4..=18 {
        let mut request = fetch_request("t", [(0, 0)]);
        if version >= 13 {
            request.topics[0].topic = String::new();
            request.topics[0].topic_id = id;
        }
        let response = fetched(kafka.ask(version, request));
        let data = &response.responses[0].partitions[0];
        assert_eq!((data.error_code, data.high_watermark), (0, 1));
        assert_eq!(records(data), from(0, &["x"]));
    }
}

#[test]
fn an_append_to_any_partition_on_any_shard_ends_a_wait() {
    let (rig, mut kafka) = start(4);
    let mut producer = connect(&rig);
    for partition in 0..4 {
        let all = (0..4).map(|index| (index, 0));
        let request = fetch_request("t", all.filter(|(index, _)| *index >= partition));
        let id = kafka.send(FETCH, request);
        std::thread::sleep(Duration::from_millis(20));
        producer.produce("t", partition, batch(&["x"]));
        let (received, response) = kafka.receive(ApiKey::Fetch, FETCH);
        assert_eq!(id, received);
        let found = fetched(response);
        let partitions = &found.responses[0].partitions;
        assert_eq!(partitions.len(), 4 - partition as usize);
        for data in partitions {
            let is_there = data.partition_index == partition;
            assert_eq!(data.records.is_empty(), !is_there);
            assert_eq!(data.high_watermark, i64::from(is_there));
        }
    }
}

#[test]
fn a_wait_lasts_until_there_are_enough_bytes() {
    let (rig, mut kafka) = start(2);
    let mut producer = connect(&rig);
    let one = batch(&["x"]).len();
    let request = FetchRequest {
        min_bytes: i32::try_from(3 * one).unwrap(),
        ..fetch_request("t", [(0, 0), (1, 0)])
    };
    kafka.send(FETCH, request);
    for partition in [0, 1, 0] {
        std::thread::sleep(Duration::from_millis(20));
        producer.produce("t", partition, batch(&["x"]));
    }
    let response = fetched(kafka.receive(ApiKey::Fetch, FETCH).1);
    let partitions = &response.responses[0].partitions;
    assert_eq!(records(&partitions[0]), from(0, &["x", "x"]));
    assert_eq!(records(&partitions[1]), from(0, &["x"]));
}

#[test]
fn a_wait_ends_with_its_time_and_without_one_there_is_none() {
    let (_rig, mut kafka) = start(1);
    let waiting = |max_wait_ms, min_bytes| FetchRequest {
        max_wait_ms,
        min_bytes,
        ..fetch_request("t", [(0, 0)])
    };
    for (max_wait_ms, min_bytes) in [(100, 1), (0, 1), (20_000, 0)] {
        let began = Instant::now();
        let response = fetched(kafka.ask(FETCH, waiting(max_wait_ms, min_bytes)));
        let data = &response.responses[0].partitions[0];
        // Null would make some clients drop the connection.
        assert_eq!((data.error_code, &data.records), (0, &RecordSet::default()));
        assert!(min_bytes == 0 || began.elapsed() >= Duration::from_millis(max_wait_ms as u64));
    }
}

#[test]
fn the_first_batch_comes_whole_and_the_limits_hold_for_the_rest() {
    let (_rig, mut kafka) = start(2);
    let long = "x".repeat(10_000);
    for partition in 0..2 {
        for _ in 0..5 {
            kafka.produce("t", partition, batch(&[&long]));
        }
    }
    let counts = |kafka: &mut Kafka, max_bytes, partition_max_bytes| {
        let mut request = FetchRequest {
            max_bytes,
            ..fetch_request("t", [(0, 0), (1, 0)])
        };
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max_bytes;
        }
        let response = fetched(kafka.ask(FETCH, request));
        let partitions = response.responses[0].partitions.iter();
        partitions
            .map(|data| records(data).len())
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&mut kafka, 1, 1), [1, 0]);
    assert_eq!(counts(&mut kafka, 1 << 20, 25_000), [2, 2]);
    assert_eq!(
        counts(&mut kafka, 35_000, 25_000),
        [2, 1],
        "whole batches only"
    );
    assert_eq!(counts(&mut kafka, 1 << 20, 1 << 20), [5, 5]);
}

#[test]
fn offsets_inside_of_batches_and_at_the_end_are_served_and_others_are_out_of_range() {
    let (_rig, mut kafka) = start(1);
    kafka.produce("t", 0, batch(&["a", "b", "c"]));
    let data = kafka.fetch("t", 0, 2);
    assert_eq!(records(&data), from(0, &["a", "b", "c"]));
    for (offset, code) in [
        (-1, ErrorCode::OffsetOutOfRange),
        (3, ErrorCode::None),
        (4, ErrorCode::OffsetOutOfRange),
        (i64::MAX, ErrorCode::OffsetOutOfRange),
    ] {
        let request = FetchRequest {
            max_wait_ms: 0,
            ..fetch_request("t", [(0, offset)])
        };
        let response = fetched(kafka.ask(FETCH, request));
        let data = &response.responses[0].partitions[0];
        assert_eq!(ErrorCode::from_i16(data.error_code), code, "{offset}");
        assert!(data.records.is_empty());
    }
}

#[test]
fn errors_come_at_once_and_for_their_partition_only() {
    let (mut rig, _) = start(1);
    // So that there is an earlier epoch.
    rig.shut_down();
    rig.start_again();
    let mut kafka = connect(&rig);
    let fetch = |kafka: &mut Kafka, epoch: i32, last_fetched: i32| {
        let mut request = fetch_request("t", [(0, 0), (1, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        request.topics[0].partitions[0].last_fetched_epoch = last_fetched;
        let mut response = fetched(kafka.ask(FETCH, request));
        let other = response.responses[0].partitions.remove(1);
        let unknown = ErrorCode::UnknownTopicOrPartition as i16;
        assert_eq!(other.error_code, unknown);
        response.responses[0].partitions.remove(0)
    };
    let current = kafka.topic("t").partitions[0].leader_epoch;
    let code = |data: millrace_kafka::PartitionData| ErrorCode::from_i16(data.error_code);
    assert_eq!(code(fetch(&mut kafka, current, -1)), ErrorCode::None);
    assert_eq!(
        code(fetch(&mut kafka, current - 1, -1)),
        ErrorCode::FencedLeaderEpoch
    );
    assert_eq!(
        code(fetch(&mut kafka, current + 1, -1)),
        ErrorCode::UnknownLeaderEpoch
    );
    kafka.produce("t", 0, batch(&["x"]));
    let diverging = fetch(&mut kafka, current, current + 7);
    assert_eq!(diverging.error_code, 0);
    assert!(diverging.records.is_empty());
    assert_eq!(
        (
            diverging.diverging_epoch.epoch,
            diverging.diverging_epoch.end_offset
        ),
        (current, 1)
    );
}

/// As Kafka does where a topic does not ask for zstd itself: what a client makes of it is its own.
#[test]
fn zstd_is_sent_to_clients_of_every_version() {
    let (_rig, mut kafka) = start(1);
    kafka.produce("t", 0, compressed(&["x"], Compression::Zstd));
    for version in [9, 10] {
        let response = fetched(kafka.ask(version, fetch_request("t", [(0, 0)])));
        let data = &response.responses[0].partitions[0];
        assert_eq!(ErrorCode::from_i16(data.error_code), ErrorCode::None);
        assert!(!data.records.is_empty());
    }
}

#[test]
fn a_topic_that_is_deleted_ends_the_wait_of_its_consumers() {
    let (rig, mut kafka) = start(2);
    kafka.send(FETCH, fetch_request("t", [(0, 0), (1, 0)]));
    std::thread::sleep(Duration::from_millis(20));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = rig.client().await;
        client.delete_topic("t").await.unwrap();
    });
    let response = fetched(kafka.receive(ApiKey::Fetch, FETCH).1);
    let codes = response.responses[0].partitions.iter();
    assert!(codes.map(|data| data.error_code).any(|code| code != 0));
}

#[test]
fn requests_behind_a_waiting_fetch_are_answered_after_it() {
    let (rig, mut kafka) = start(1);
    let mut producer = connect(&rig);
    let fetch = kafka.send(FETCH, fetch_request("t", [(0, 0)]));
    let produce = kafka.send(PRODUCE, produce_request(1, "t", [(0, Some(batch(&["y"])))]));
    std::thread::sleep(Duration::from_millis(20));
    producer.produce("t", 0, batch(&["x"]));
    assert_eq!(kafka.receive(ApiKey::Fetch, FETCH).0, fetch);
    assert_eq!(kafka.receive(ApiKey::Produce, PRODUCE).0, produce);
}
