//! Produce: what is stored, what is refused and with which code, in which order.

use bytes::Bytes;
use millrace_kafka::{ApiKey, InitProducerIdRequest, ProduceRequest, Response};
use millrace_model::{Compression, ErrorCode, ProducerEpoch, ProducerId, ProducerStamp, Sequence};

use crate::client::{
    Kafka, PRODUCE, batch, compressed, from, only, produce_request, produced, records, stamped,
};
use crate::rig::Rig;

fn start() -> (Rig, Kafka) {
    let rig = Rig::start();
    let kafka = Kafka::connect(rig.broker().kafka().unwrap());
    (rig, kafka)
}

fn stamp(epoch: i16, sequence: i32) -> ProducerStamp {
    ProducerStamp {
        id: ProducerId(5),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
    }
}

#[test]
fn every_version_and_every_acks_stores_batches_that_are_fetched() {
    let (_rig, mut kafka) = start();
    let id = kafka.topic("t").topic_id;
    let mut expected = Vec::new();
    for version in 3..=13 {
        for acks in [1, -1] {
            let value = format!("{version} {acks}");
            let mut request = produce_request(acks, "t", [(0, Some(batch(&[&value])))]);
            if version >= 13 {
                request.topic_data[0].name = String::new();
                request.topic_data[0].topic_id = id;
            }
            let stored = only(kafka.ask(version, request));
            assert_eq!(
                (
                    stored.error_code,
                    stored.base_offset,
                    stored.log_append_time_ms
                ),
                (0, expected.len() as i64, -1),
            );
            expected.push(value);
        }
    }
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    assert_eq!(records(&kafka.fetch("t", 0, 0)), from(0, &expected));
}

#[test]
fn a_request_for_partitions_of_several_shards_is_split_and_gathered() {
    let rig = Rig::start_with(|config| config.num_partitions = 5.try_into().unwrap());
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    assert_eq!(kafka.topic("t").partitions.len(), 5);
    for round in 0..3 {
        let value = |index: i32| format!("{round} {index}");
        let batches = (0..6).map(|index| (index, Some(batch(&[&value(index)]))));
        let response = produced(kafka.ask(PRODUCE, produce_request(-1, "t", batches)));
        let outcomes = response.responses[0].partition_responses.iter();
        let outcomes: Vec<_> = outcomes
            .map(|one| (one.index, one.error_code, one.base_offset))
            .collect();
        let mut expected: Vec<_> = (0..5).map(|index| (index, 0, round)).collect();
        let unknown = ErrorCode::UnknownTopicOrPartition as i16;
        expected.push((5, unknown, -1));
        assert_eq!(outcomes, expected);
    }
    for index in 0..5 {
        let values: Vec<String> = (0..3).map(|round| format!("{round} {index}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        assert_eq!(records(&kafka.fetch("t", index, 0)), from(0, &values));
    }
}

#[test]
fn pipelined_requests_are_stored_and_answered_in_order_from_the_first_batch_on() {
    let rig = Rig::start_with(|config| config.num_partitions = 2.try_into().unwrap());
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    kafka.topic("t");
    // Both partitions, one of which another shard owns and both of which must be opened first.
    let mut ids = Vec::new();
    for sequence in 0..200 {
        let value = sequence.to_string();
        let batches = (0..2).map(|index| (index, Some(stamped(&[&value], stamp(0, sequence)))));
        ids.push(kafka.send(PRODUCE, produce_request(-1, "t", batches)));
    }
    for (expected, id) in ids.into_iter().enumerate() {
        let (correlation_id, response) = kafka.receive(ApiKey::Produce, PRODUCE);
        assert_eq!(correlation_id, id);
        for one in &produced(response).responses[0].partition_responses {
            assert_eq!((one.error_code, one.base_offset), (0, expected as i64));
        }
    }
}

#[test]
fn a_batch_that_is_sent_again_has_its_offset_and_gaps_and_old_epochs_are_refused() {
    let (_rig, mut kafka) = start();
    kafka.topic("t");
    let mut send = |epoch, sequence| {
        let batch = stamped(&["x", "y"], stamp(epoch, sequence));
        let stored = only(kafka.ask(PRODUCE, produce_request(-1, "t", [(0, Some(batch))])));
        (ErrorCode::from_i16(stored.error_code), stored.base_offset)
    };
    assert_eq!(send(1, 0), (ErrorCode::None, 0));
    assert_eq!(send(1, 2), (ErrorCode::None, 2));
    assert_eq!(send(1, 0), (ErrorCode::None, 0));
    assert_eq!(send(1, 6), (ErrorCode::OutOfOrderSequenceNumber, -1));
    assert_eq!(send(0, 4), (ErrorCode::InvalidProducerEpoch, -1));
    assert_eq!(send(1, 4), (ErrorCode::None, 4));
}

#[test]
fn what_is_no_single_sound_batch_is_refused_by_kafkas_codes() {
    let (_rig, mut kafka) = start();
    kafka.topic("t");
    let good = batch(&["good"]);
    let changed = |at: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = value;
        Some(Bytes::from(bytes))
    };
    let two = [&good[..], &good[..]].concat();
    let cases = [
        (None, ErrorCode::InvalidRecord),
        (Some(Bytes::new()), ErrorCode::InvalidRecord),
        (changed(good.len() - 1, 1), ErrorCode::CorruptMessage),
        (changed(16, 0), ErrorCode::UnsupportedForMessageFormat),
        (changed(16, 1), ErrorCode::UnsupportedForMessageFormat),
        (changed(16, 3), ErrorCode::CorruptMessage),
        (changed(22, 7), ErrorCode::UnsupportedCompressionType),
        (Some(good.slice(..40)), ErrorCode::CorruptMessage),
        (
            Some(good.slice(..good.len() - 1)),
            ErrorCode::CorruptMessage,
        ),
        (Some(two.into()), ErrorCode::InvalidRecord),
    ];
    for (records, code) in cases {
        let refused = only(kafka.ask(PRODUCE, produce_request(-1, "t", [(0, records)])));
        assert_eq!(ErrorCode::from_i16(refused.error_code), code);
        assert_eq!(refused.base_offset, -1);
        assert!(refused.error_message.is_some());
    }
    assert_eq!(
        kafka.produce("t", 0, good),
        0,
        "nothing of all that was stored"
    );
}

#[test]
fn batches_over_the_topics_limit_zstd_in_old_versions_and_odd_acks_are_refused() {
    let (_rig, mut kafka) = start();
    kafka.topic("t");
    let code = |response| ErrorCode::from_i16(only(response).error_code);
    let long = "x".repeat(1 << 20);
    let request = produce_request(-1, "t", [(0, Some(batch(&[&long])))]);
    assert_eq!(
        code(kafka.ask(PRODUCE, request)),
        ErrorCode::MessageTooLarge
    );
    let zstd = || produce_request(-1, "t", [(0, Some(compressed(&["x"], Compression::Zstd)))]);
    assert_eq!(
        code(kafka.ask(6, zstd())),
        ErrorCode::UnsupportedCompressionType
    );
    assert_eq!(code(kafka.ask(7, zstd())), ErrorCode::None);
    let odd = produce_request(2, "t", [(0, Some(batch(&["x"])))]);
    assert_eq!(
        code(kafka.ask(PRODUCE, odd)),
        ErrorCode::InvalidRequiredAcks
    );
    let request = ProduceRequest {
        transactional_id: Some("t".to_owned()),
        ..produce_request(-1, "t", [(0, Some(batch(&["x"])))])
    };
    assert_eq!(
        code(kafka.ask(PRODUCE, request)),
        ErrorCode::TransactionalIdAuthorizationFailed
    );
}

#[test]
fn unknown_topics_and_the_topic_of_offsets_are_not_written() {
    let (_rig, mut kafka) = start();
    let code = |response| ErrorCode::from_i16(only(response).error_code);
    let good = || [(0, Some(batch(&["x"])))];
    let unknown = produce_request(-1, "nowhere", good());
    assert_eq!(
        code(kafka.ask(PRODUCE, unknown)),
        ErrorCode::UnknownTopicOrPartition
    );
    let mut by_id = produce_request(-1, "", good());
    by_id.topic_data[0].topic_id = millrace_model::TopicId([9; 16]);
    assert_eq!(code(kafka.ask(13, by_id)), ErrorCode::UnknownTopicId);
    let topic = kafka.topic("__consumer_offsets");
    assert!(topic.is_internal);
    let internal = produce_request(-1, "__consumer_offsets", good());
    assert_ne!(code(kafka.ask(PRODUCE, internal)), ErrorCode::None);
}

#[test]
fn without_acknowledgements_nothing_is_answered_and_an_error_ends_the_connection() {
    let (rig, mut kafka) = start();
    kafka.topic("t");
    for value in ["a", "b", "c"] {
        kafka.send(
            PRODUCE,
            produce_request(0, "t", [(0, Some(batch(&[value])))]),
        );
    }
    // The next response is that of the next request.
    assert_eq!(kafka.produce("t", 0, batch(&["d"])), 3);
    kafka.send(
        PRODUCE,
        produce_request(0, "nowhere", [(0, Some(batch(&["x"])))]),
    );
    assert!(kafka.is_closed());
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    assert_eq!(
        records(&kafka.fetch("t", 0, 0)),
        from(0, &["a", "b", "c", "d"])
    );
}

#[test]
fn the_brokers_clock_is_told_where_the_topic_takes_it() {
    let rig = Rig::start_with(|config| {
        config.log_message_timestamp_type = "LogAppendTime".to_owned();
    });
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    kafka.topic("t");
    let request = produce_request(-1, "t", [(0, Some(batch(&["x", "y"])))]);
    let stored = only(kafka.ask(PRODUCE, request));
    assert!(stored.log_append_time_ms > 1_600_000_000_000);
    assert_eq!(records(&kafka.fetch("t", 0, 0)), from(0, &["x", "y"]));
}

#[test]
fn producer_ids_are_given_once_and_transactions_are_refused_for_good() {
    let (_rig, mut kafka) = start();
    let mut init = |transactional_id: Option<&str>| {
        let request = InitProducerIdRequest {
            transactional_id: transactional_id.map(str::to_owned),
            ..Default::default()
        };
        match kafka.ask(4, request) {
            Response::InitProducerId(response) => response,
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (init(None), init(None));
    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    assert!(first.producer_id >= 0 && first.producer_id != second.producer_id);
    let refused = init(Some("tx"));
    assert_eq!(
        ErrorCode::from_i16(refused.error_code),
        ErrorCode::TransactionalIdAuthorizationFailed
    );
}
