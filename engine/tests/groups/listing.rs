//! Groups are listed over all shards, described, and deleted.

use millrace_kafka::{
    DeleteGroupsRequest, DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest, Response,
};
use millrace_model::ErrorCode;

use crate::client::Kafka;
use crate::rig::Rig;

fn list(kafka: &mut Kafka, states: &[&str], types: &[&str]) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let request = ListGroupsRequest {
        states_filter: owned(states),
        types_filter: owned(types),
    };
    let Response::ListGroups(response) = kafka.ask(5, request) else {
        panic!("another answer");
    };
    assert_eq!(response.error_code, 0);
    let mut groups: Vec<String> = response.groups.into_iter().map(|g| g.group_id).collect();
    groups.sort();
    groups
}

fn describe(kafka: &mut Kafka, version: i16, group: &str) -> DescribeGroupsResponse {
    let request = DescribeGroupsRequest {
        groups: vec![group.to_owned()],
        include_authorized_operations: false,
    };
    match kafka.ask(version, request) {
        Response::DescribeGroups(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn groups_of_all_shards_are_listed_also_after_a_restart() {
    let mut rig = Rig::start();
    let mut kafka = rig.kafka();
    assert!(list(&mut kafka, &[], &[]).is_empty());
    kafka.make_topic("t");
    let mut names: Vec<String> = (0..10).map(|number| format!("g{number}")).collect();
    names.sort();
    for name in &names {
        kafka.commit(name, "t", &[(0, 1)]);
    }
    let joined = kafka.join("member", "");
    kafka.sync("member", &joined).unwrap();
    names.push("member".to_owned());
    for _ in 0..2 {
        assert_eq!(list(&mut kafka, &[], &[]), names);
        assert_eq!(list(&mut kafka, &["stable"], &[]), ["member"]);
        assert_eq!(list(&mut kafka, &["Empty"], &["classic"]), names[..10]);
        assert!(list(&mut kafka, &[], &["consumer"]).is_empty());
        assert!(list(&mut kafka, &["no such state"], &[]).is_empty());
        rig.kill();
        rig.start_again();
        kafka = rig.kafka();
    }
}

#[test]
fn a_group_is_described_and_an_empty_one_deleted() {
    let rig = Rig::start();
    let mut kafka = rig.kafka();
    kafka.make_topic("t");
    kafka.commit("g", "t", &[(0, 1)]);
    let joined = kafka.join("g", "");
    kafka.sync("g", &joined).unwrap();
    for version in 0..=6 {
        let described = describe(&mut kafka, version, "g");
        let group = &described.groups[0];
        assert_eq!(
            (group.error_code, group.group_state.as_str()),
            (0, "Stable")
        );
        assert_eq!(group.protocol_type, "consumer");
        assert_eq!(group.protocol_data, "range");
        let member = &group.members[0];
        assert_eq!(member.member_id, joined.member_id);
        assert_eq!(member.client_id, "a-client");
        assert_eq!(member.client_host, "/127.0.0.1");
        assert_eq!(member.member_metadata, "metadata");
        assert_eq!(member.member_assignment, joined.member_id);
        let missing = &describe(&mut kafka, version, "nobody").groups[0];
        let code = match version {
            6 => ErrorCode::GroupIdNotFound,
            _ => ErrorCode::None,
        };
        assert_eq!(ErrorCode::from_i16(missing.error_code), code);
        assert_eq!(missing.group_state, "Dead");
    }
    let delete = || DeleteGroupsRequest {
        groups_names: vec!["g".to_owned(), "nobody".to_owned()],
    };
    let mut codes = || {
        let Response::DeleteGroups(response) = kafka.ask(2, delete()) else {
            panic!("another answer");
        };
        let codes = response.results.iter();
        let codes: Vec<_> = codes
            .map(|result| ErrorCode::from_i16(result.error_code))
            .collect();
        codes
    };
    let missing = ErrorCode::GroupIdNotFound;
    assert_eq!(codes(), [ErrorCode::NonEmptyGroup, missing]);
    let mut other = rig.kafka();
    assert_eq!(other.leave("g", &joined.member_id), ErrorCode::None);
    assert_eq!(codes(), [ErrorCode::None, missing]);
    assert_eq!(other.committed("g", "t", &[0]), [-1]);
}
