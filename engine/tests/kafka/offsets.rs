//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords, DescribeProducers, Metadata.

use millrace_kafka::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, DescribeProducersRequest,
    DescribeProducersTopicRequest, FindCoordinatorRequest, ListOffsetsPartition,
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic, MetadataRequest,
    MetadataRequestTopic, OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
    OffsetForLeaderTopic, Response,
};
use millrace_model::{ErrorCode, ProducerEpoch, ProducerId, ProducerStamp, Sequence};

use crate::client::{Kafka, base_time, batch, metadata, stamped};
use crate::rig::Rig;

fn start() -> (Rig, Kafka) {
    let rig = Rig::start_with(|config| config.num_partitions = 2.try_into().unwrap());
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    kafka.topic("t");
    (rig, kafka)
}

fn list(
    kafka: &mut Kafka,
    version: i16,
    timestamp: i64,
    epoch: i32,
) -> Vec<ListOffsetsPartitionResponse> {
    let partition = |partition_index| ListOffsetsPartition {
        partition_index,
        current_leader_epoch: epoch,
        timestamp,
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".to_owned(),
            partitions: (0..3).map(partition).collect(),
        }],
        ..Default::default()
    };
    match kafka.ask(version, request) {
        Response::ListOffsets(mut response) => response.topics.remove(0).partitions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn offsets_are_listed_by_place_and_by_time_in_every_version_of_every_shard() {
    let (_rig, mut kafka) = start();
    for partition in 0..2 {
        // Timestamps from the base to two above it, then again.
        kafka.produce("t", partition, batch(&["a", "b", "c"]));
        kafka.produce("t", partition, batch(&["d", "e"]));
    }
    for (first_version, timestamp, found) in [
        (1, -1, (5, -1)),
        (1, -2, (0, -1)),
        (1, base_time() + 1, (1, base_time() + 1)),
        (1, base_time() + 3, (-1, -1)),
        (1, 0, (0, base_time())),
        (7, -3, (2, base_time() + 2)),
        (8, -4, (0, -1)),
        (9, -5, (-1, -1)),
    ] {
        for version in 1..=10 {
            let answers = list(&mut kafka, version, timestamp, -1);
            let unknown = ErrorCode::UnknownTopicOrPartition as i16;
            assert_eq!(answers[2].error_code, unknown);
            for answer in &answers[..2] {
                if version < first_version {
                    let code = ErrorCode::UnsupportedVersion as i16;
                    assert_eq!(answer.error_code, code);
                } else {
                    assert_eq!(answer.error_code, 0);
                    assert_eq!((answer.offset, answer.timestamp), found);
                }
            }
        }
    }
}

#[test]
fn an_empty_log_has_no_largest_timestamp() {
    let (_rig, mut kafka) = start();
    let answer = &list(&mut kafka, 7, -3, -1)[0];
    assert_eq!(
        (answer.error_code, answer.offset, answer.timestamp),
        (0, -1, -1)
    );
}

#[test]
fn the_largest_timestamp_is_that_of_a_record_that_can_be_read() {
    let (_rig, mut kafka) = start();
    kafka.produce("t", 0, batch(&["a", "b", "c"]));
    kafka.produce("t", 0, batch(&["d", "e"]));
    delete(&mut kafka, 0, 3);
    let answer = &list(&mut kafka, 7, -3, -1)[0];
    assert_eq!((answer.offset, answer.timestamp), (4, base_time() + 1));
}

#[test]
fn leader_epochs_are_checked() {
    let (mut rig, _) = start();
    // So that there is an earlier epoch.
    rig.shut_down();
    rig.start_again();
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    let current = kafka.topic("t").partitions[0].leader_epoch;
    for (epoch, code) in [
        (current, ErrorCode::None),
        (current - 1, ErrorCode::FencedLeaderEpoch),
        (current + 1, ErrorCode::UnknownLeaderEpoch),
    ] {
        let answer = &list(&mut kafka, 4, -1, epoch)[0];
        assert_eq!(ErrorCode::from_i16(answer.error_code), code);
    }
}

fn end_of_epoch(kafka: &mut Kafka, leader_epoch: i32) -> (i32, i64) {
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "t".to_owned(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                leader_epoch,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    match kafka.ask(3, request) {
        Response::OffsetForLeaderEpoch(response) => {
            let found = &response.topics[0].partitions[0];
            assert_eq!(found.error_code, 0);
            (found.leader_epoch, found.end_offset)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn epochs_end_where_the_next_begins() {
    let (mut rig, mut kafka) = start();
    let first = kafka.topic("t").partitions[0].leader_epoch;
    assert_eq!(end_of_epoch(&mut kafka, first), (first, 0));
    kafka.produce("t", 0, batch(&["a", "b"]));
    rig.shut_down();
    rig.start_again();
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    let second = kafka.topic("t").partitions[0].leader_epoch;
    assert!(second > first);
    kafka.produce("t", 0, batch(&["c"]));
    assert_eq!(end_of_epoch(&mut kafka, first), (first, 2));
    assert_eq!(end_of_epoch(&mut kafka, second), (second, 3));
    assert_eq!(end_of_epoch(&mut kafka, second + 1), (-1, -1));
}

fn delete(kafka: &mut Kafka, partition_index: i32, offset: i64) -> (ErrorCode, i64) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index,
                offset,
            }],
        }],
        timeout_ms: 20_000,
    };
    match kafka.ask(2, request) {
        Response::DeleteRecords(response) => {
            let done = &response.topics[0].partitions[0];
            (ErrorCode::from_i16(done.error_code), done.low_watermark)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_are_deleted_up_to_an_offset_or_the_end() {
    let (_rig, mut kafka) = start();
    for partition in 0..2 {
        kafka.produce("t", partition, batch(&["a", "b", "c", "d"]));
        assert_eq!(delete(&mut kafka, partition, 2), (ErrorCode::None, 2));
        let above = delete(&mut kafka, partition, 5);
        assert_eq!(above, (ErrorCode::OffsetOutOfRange, -1));
        assert_eq!(delete(&mut kafka, partition, -1), (ErrorCode::None, 4));
        let gone = kafka.fetch("t", partition, 1);
        let code = ErrorCode::OffsetOutOfRange as i16;
        assert_eq!(gone.error_code, code);
    }
    let unknown = delete(&mut kafka, 2, 0);
    assert_eq!(unknown, (ErrorCode::UnknownTopicOrPartition, -1));
}

#[test]
fn idempotent_producers_are_described() {
    let (_rig, mut kafka) = start();
    let stamp = ProducerStamp {
        id: ProducerId(77),
        epoch: ProducerEpoch(3),
        base_sequence: Sequence(0),
    };
    kafka.produce("t", 1, stamped(&["a", "b"], stamp));
    let request = DescribeProducersRequest {
        topics: vec![DescribeProducersTopicRequest {
            name: "t".to_owned(),
            partition_indexes: vec![0, 1],
        }],
    };
    let Response::DescribeProducers(response) = kafka.ask(0, request) else {
        panic!("an answer to the request");
    };
    let partitions = &response.topics[0].partitions;
    assert!(partitions[0].active_producers.is_empty());
    let [producer] = &partitions[1].active_producers[..] else {
        panic!("{response:?}");
    };
    let (id, epoch) = (producer.producer_id, producer.producer_epoch);
    assert_eq!((id, epoch, producer.last_sequence), (77, 3, 1));
}

#[test]
fn metadata_lists_creates_and_refuses_topics() {
    let (_rig, mut kafka) = start();
    let topics = |names: &[&str]| {
        let topic = |name: &&str| MetadataRequestTopic {
            name: Some((*name).to_owned()),
            ..Default::default()
        };
        Some(names.iter().map(topic).collect())
    };
    let ask = |kafka: &mut Kafka, version, topics, allow_auto_topic_creation| {
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation,
            ..Default::default()
        };
        metadata(kafka.ask(version, request))
    };
    for version in 0..=13 {
        let all = if version == 0 { topics(&[]) } else { None };
        let response = ask(&mut kafka, version, all, true);
        let names = response.topics.iter().map(|topic| topic.name.as_deref());
        assert_eq!(names.collect::<Vec<_>>(), [Some("t")], "version {version}");
        assert_eq!(response.topics[0].partitions.len(), 2);
        let local = kafka.stream().peer_addr().unwrap();
        let told = (&response.brokers[0].host[..], response.brokers[0].port);
        assert_eq!(told, ("127.0.0.1", i32::from(local.port())));
        assert_eq!(version >= 2, response.cluster_id.is_some());
    }
    let none = ask(&mut kafka, 12, topics(&[]), true);
    assert!(none.topics.is_empty());
    let mixed = ask(&mut kafka, 12, topics(&["no", "not/legal"]), false);
    let codes = mixed.topics.iter().map(|topic| topic.error_code);
    let expected = [
        ErrorCode::UnknownTopicOrPartition as i16,
        ErrorCode::InvalidTopicException as i16,
    ];
    assert_eq!(codes.collect::<Vec<_>>(), expected);
    let made = ask(&mut kafka, 12, topics(&["new"]), true);
    assert_eq!(
        (made.topics[0].error_code, made.topics[0].partitions.len()),
        (0, 2)
    );
    let id = made.topics[0].topic_id;
    let by_id = |topic_id| {
        Some(vec![MetadataRequestTopic {
            topic_id,
            name: None,
        }])
    };
    let known = ask(&mut kafka, 12, by_id(id), false);
    assert_eq!(known.topics[0].name.as_deref(), Some("new"));
    let unknown = ask(
        &mut kafka,
        12,
        by_id(millrace_model::TopicId([3; 16])),
        false,
    );
    let code = ErrorCode::UnknownTopicId as i16;
    assert_eq!(unknown.topics[0].error_code, code);
}

#[test]
fn topics_are_not_created_where_the_policy_forbids_it_and_the_advertised_address_is_told() {
    let rig = Rig::start_with(|config| {
        config.auto_create_topics = false;
        config.advertised_listeners.0 = Some(("broker.example".to_owned(), 19_092));
    });
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    let code = ErrorCode::UnknownTopicOrPartition as i16;
    assert_eq!(kafka.topic("t").error_code, code);
    let response = metadata(kafka.ask(12, MetadataRequest::default()));
    let broker = &response.brokers[0];
    assert_eq!((&broker.host[..], broker.port), ("broker.example", 19_092));
}

#[test]
fn this_broker_coordinates_groups_and_nobody_transactions() {
    let (_rig, mut kafka) = start();
    for version in 0..=6 {
        for (key_type, code) in [
            (0, ErrorCode::None),
            (1, ErrorCode::TransactionalIdAuthorizationFailed),
        ] {
            let request = FindCoordinatorRequest {
                key: if version < 4 { "g" } else { "" }.to_owned(),
                key_type: if version == 0 { 0 } else { key_type },
                coordinator_keys: match version {
                    4.. => vec!["g".to_owned()],
                    _ => Vec::new(),
                },
            };
            let expected = if version == 0 { ErrorCode::None } else { code };
            let Response::FindCoordinator(response) = kafka.ask(version, request) else {
                panic!("an answer to the request");
            };
            let code = match response.coordinators.first() {
                Some(one) => one.error_code,
                None => response.error_code,
            };
            assert_eq!(ErrorCode::from_i16(code), expected);
        }
    }
}
