//! Offsets are kept, in every version of the protocol, over every kind of end.

use millrace_kafka::{
    OffsetCommitRequest, OffsetDeleteRequest, OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
    Response,
};
use millrace_model::ErrorCode;

use crate::client::{Kafka, commit};
use crate::rig::Rig;

/// Groups of many coordinators, on both shards.
fn groups() -> impl Iterator<Item = String> {
    (0..12).map(|number| format!("group-{number}"))
}

fn partitions(kafka: &mut Kafka) {
    kafka.make_topic("t");
}

#[test]
fn commits_survive_a_clean_end_and_a_kill() {
    let mut rig = Rig::start_with(&[("num.partitions", "3")]);
    let mut kafka = rig.kafka();
    partitions(&mut kafka);
    for (number, group) in (0..).zip(groups()) {
        kafka.commit(&group, "t", &[(0, number), (2, 100 + number)]);
    }
    for life in 0..3 {
        let mut kafka = rig.kafka();
        for (number, group) in (0..).zip(groups()) {
            let expected = vec![number, -1, 100 + number + life];
            assert_eq!(
                kafka.committed(&group, "t", &[0, 1, 2]),
                expected,
                "{group}"
            );
            kafka.commit(&group, "t", &[(2, 101 + number + life)]);
        }
        match life {
            0 => rig.stop(),
            _ => rig.kill(),
        }
        rig.start_again();
    }
}

#[test]
fn every_version_commits_and_fetches() {
    let rig = Rig::start_with(&[("num.partitions", "2")]);
    let mut kafka = rig.kafka();
    partitions(&mut kafka);
    for version in 2..=9 {
        let offset = i64::from(version);
        let request = commit("g", "t", &[(1, offset)], "words");
        let Response::OffsetCommit(response) = kafka.ask(version, request) else {
            panic!("another answer");
        };
        assert_eq!(response.topics[0].name, "t");
        assert_eq!(response.topics[0].partitions[0].partition_index, 1);
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
        assert_eq!(kafka.committed("g", "t", &[1]), [offset]);
    }
    for version in 1..=7 {
        let request = OffsetFetchRequest {
            group_id: "g".to_owned(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: "t".to_owned(),
                partition_indexes: vec![1, 0],
            }]),
            ..OffsetFetchRequest::default()
        };
        let Response::OffsetFetch(response) = kafka.ask(version, request) else {
            panic!("another answer");
        };
        let fetched = &response.topics[0].partitions;
        assert_eq!(fetched[0].committed_offset, 9);
        assert_eq!(fetched[0].metadata.as_deref(), Some("words"));
        assert_eq!(fetched[1].committed_offset, -1);
    }
    for version in 8..=9 {
        let group = |name: &str| OffsetFetchRequestGroup {
            group_id: name.to_owned(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        };
        let request = OffsetFetchRequest {
            groups: vec![group("g"), group("nobody")],
            require_stable: true,
            ..OffsetFetchRequest::default()
        };
        let Response::OffsetFetch(response) = kafka.ask(version, request) else {
            panic!("another answer");
        };
        assert_eq!(
            response.groups[0].topics[0].partitions[0].committed_offset,
            9
        );
        assert!(response.groups[1].topics.is_empty(), "nothing is committed");
    }
}

#[test]
fn what_is_no_offset_is_kept_as_it_was_said() {
    let mut rig = Rig::start_with(&[("num.partitions", "2")]);
    let mut kafka = rig.kafka();
    partitions(&mut kafka);
    // KafkaJS resets a group so, to the end and to the start, and reads its marks again.
    kafka.commit("g", "t", &[(0, -1), (1, -2)]);
    assert_eq!(kafka.committed("g", "t", &[0, 1]), [-1, -2]);
    rig.kill();
    rig.start_again();
    assert_eq!(rig.kafka().committed("g", "t", &[0, 1]), [-1, -2]);
}

#[test]
fn a_topic_that_was_just_made_takes_commits() {
    let rig = Rig::start();
    let mut kafka = rig.kafka();
    // Many in a row: a coordinator hears of topics with a pause between.
    for number in 0..12 {
        let topic = format!("t-{number}");
        kafka.make_topic(&topic);
        let codes = kafka.try_commit("g", &topic, &[(0, number)], "");
        assert_eq!(codes.unwrap(), [ErrorCode::None], "{topic}");
        assert_eq!(kafka.committed("g", &topic, &[0]), [number]);
    }
}

#[test]
fn what_does_not_exist_is_refused_and_the_rest_is_committed() {
    let rig = Rig::start();
    let mut kafka = rig.kafka();
    partitions(&mut kafka);
    let codes = kafka.try_commit("g", "t", &[(7, 1), (0, 5), (-1, 1)], "");
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes.unwrap(), [unknown, ErrorCode::None, unknown]);
    assert_eq!(
        kafka.try_commit("g", "u", &[(0, 1)], "").unwrap(),
        [unknown]
    );
    assert_eq!(kafka.committed("g", "t", &[0]), [5]);
    let too_long = "x".repeat(5_000);
    let codes = kafka.try_commit("g", "t", &[(0, 6)], &too_long).unwrap();
    assert_eq!(codes, [ErrorCode::OffsetMetadataTooLarge]);
    let Response::OffsetCommit(response) = kafka.ask(9, OffsetCommitRequest::default()) else {
        panic!("another answer");
    };
    assert!(response.topics.is_empty());
}

#[test]
fn deleted_offsets_are_gone_for_good() {
    let mut rig = Rig::start_with(&[("num.partitions", "2")]);
    let mut kafka = rig.kafka();
    partitions(&mut kafka);
    kafka.commit("g", "t", &[(0, 3), (1, 4)]);
    let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let request = OffsetDeleteRequest {
        group_id: "g".to_owned(),
        topics: vec![OffsetDeleteRequestTopic {
            name: "t".to_owned(),
            partitions: vec![partition(5), partition(1)],
        }],
    };
    let Response::OffsetDelete(response) = kafka.ask(0, request) else {
        panic!("another answer");
    };
    assert_eq!(response.error_code, 0);
    let codes: Vec<i16> = response.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    assert_eq!(codes, [ErrorCode::UnknownTopicOrPartition as i16, 0]);
    rig.kill();
    rig.start_again();
    assert_eq!(rig.kafka().committed("g", "t", &[0, 1]), [3, -1]);
}
