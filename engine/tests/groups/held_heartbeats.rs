//! The answer to a heartbeat waits for news of the group, for clients that are known to read on meanwhile. The hold is
//! longer than the patience of the tests: an answer that nothing has released fails them.

use std::time::{Duration, Instant};

use millrace_kafka::{ApiKey, JoinGroupRequest, JoinGroupResponse, Response};
use millrace_model::ErrorCode;

use crate::client::{Kafka, PATIENCE, join};
use crate::rig::Rig;

const HOLD: (&str, &str) = ("group.heartbeat.hold.max.ms", "10m");
const NO_DELAY: (&str, &str) = ("group.initial.rebalance.delay.ms", "0");

/// Enough for an answer that waits for nothing.
const A_WHILE: Duration = Duration::from_millis(300);

/// One whose client counts on a connection that nothing waits behind.
struct Member {
    kafka: Kafka,
    joined: JoinGroupResponse,
}

impl Member {
    /// The first of the group, of a client of this name.
    fn first(rig: &Rig, software: &str) -> Self {
        let mut kafka = connect(rig, software);
        let request = with_id(&mut kafka);
        let Response::JoinGroup(joined) = kafka.ask(7, request) else {
            panic!("another answer");
        };
        assert_eq!(joined.error_code, 0);
        kafka.sync("g", &joined).unwrap();
        Self { kafka, joined }
    }

    /// The next, while this one's heartbeat waits. It is told of the rebalance, and joins again.
    fn and_second(mut self, rig: &Rig) -> (Self, Self) {
        let mut second = connect(rig, "apache-kafka-java");
        let request = with_id(&mut second);
        self.kafka.send_heartbeat("g", &self.joined);
        second.send(7, request).unwrap();
        assert_eq!(
            self.kafka.receive_heartbeat(),
            ErrorCode::RebalanceInProgress
        );
        let again = long_join(&self.joined.member_id);
        let Response::JoinGroup(joined) = self.kafka.ask(7, again) else {
            panic!("another answer");
        };
        self.joined = joined;
        assert_eq!(self.joined.members.len(), 2, "it leads");
        let Ok(Response::JoinGroup(joined)) = second.receive(ApiKey::JoinGroup, 7) else {
            panic!("another answer");
        };
        self.kafka.sync("g", &self.joined).unwrap();
        second.sync("g", &joined).unwrap();
        let second = Self {
            kafka: second,
            joined,
        };
        (self, second)
    }
}

fn connect(rig: &Rig, software: &str) -> Kafka {
    let mut kafka = rig.kafka();
    kafka.introduce(software);
    kafka
}

/// A session that allows for the hold.
fn long_join(member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        session_timeout_ms: 30 * 60 * 1000,
        ..join("g", member)
    }
}

/// A join with the id that the broker gives.
fn with_id(kafka: &mut Kafka) -> JoinGroupRequest {
    let Response::JoinGroup(told) = kafka.ask(7, long_join("")) else {
        panic!("another answer");
    };
    long_join(&told.member_id)
}

#[test]
fn members_hear_of_a_rebalance_when_it_begins() {
    let rig = Rig::start_with(&[HOLD, NO_DELAY]);
    let (mut first, mut second) = Member::first(&rig, "apache-kafka-java").and_second(&rig);
    first.kafka.send_heartbeat("g", &first.joined);
    let id = second.joined.member_id.clone();
    assert_eq!(second.kafka.leave("g", &id), ErrorCode::None);
    assert_eq!(
        first.kafka.receive_heartbeat(),
        ErrorCode::RebalanceInProgress
    );
}

#[test]
fn a_member_that_is_removed_hears_of_it() {
    let rig = Rig::start_with(&[HOLD, NO_DELAY]);
    let mut member = Member::first(&rig, "apache-kafka-java");
    member.kafka.send_heartbeat("g", &member.joined);
    let id = member.joined.member_id.clone();
    assert_eq!(rig.kafka().leave("g", &id), ErrorCode::None);
    assert_eq!(member.kafka.receive_heartbeat(), ErrorCode::UnknownMemberId);
}

#[test]
fn nothing_waits_behind_a_heartbeat() {
    let rig = Rig::start_with(&[HOLD, NO_DELAY]);
    rig.kafka().make_topic("t");
    // Members on both shards, so that some are on another than the group.
    for round in 0..8 {
        let mut member = Member::first(&rig, "apache-kafka-java");
        member.kafka.send_heartbeat("g", &member.joined);
        member.kafka.send_heartbeat("g", &member.joined);
        assert_eq!(member.kafka.receive_heartbeat(), ErrorCode::None);
        let commit = crate::client::commit("h", "t", &[(0, round)], "");
        member.kafka.send(9, commit).unwrap();
        assert_eq!(member.kafka.receive_heartbeat(), ErrorCode::None);
        let committed = member.kafka.receive(ApiKey::OffsetCommit, 9).unwrap();
        assert!(matches!(committed, Response::OffsetCommit(_)));
        member.kafka.send_heartbeat("g", &member.joined);
        let id = member.joined.member_id.clone();
        member.kafka.send_leave("g", &id);
        // It hears that it is gone, if the leave was quicker.
        let told = member.kafka.receive_heartbeat();
        assert!(
            matches!(told, ErrorCode::None | ErrorCode::UnknownMemberId),
            "{told}"
        );
        assert_eq!(member.kafka.receive_leave(), ErrorCode::None);
    }
}

#[test]
fn a_heartbeat_waits_for_no_longer_than_it_may() {
    let rig = Rig::start_with(&[("group.heartbeat.hold.max.ms", "200"), NO_DELAY]);
    let mut member = Member::first(&rig, "apache-kafka-java");
    assert_eq!(member.kafka.heartbeat("g", &member.joined), ErrorCode::None);
}

#[test]
fn other_clients_are_answered_at_once() {
    let rig = Rig::start_with(&[HOLD, NO_DELAY]);
    for software in ["kafkajs", "librdkafka", "apache-kafka-java2"] {
        let mut member = Member::first(&rig, software);
        assert_eq!(
            member.kafka.heartbeat("g", &member.joined),
            ErrorCode::None,
            "{software}"
        );
        let id = member.joined.member_id.clone();
        assert_eq!(member.kafka.leave("g", &id), ErrorCode::None);
    }
}

#[test]
fn a_client_that_hung_up_on_a_heartbeat_is_answered_at_once() {
    let rig = Rig::start_with(&[HOLD, NO_DELAY]);
    // Members on both shards.
    for _ in 0..4 {
        let mut member = Member::first(&rig, "apache-kafka-java");
        member.kafka.send_heartbeat("g", &member.joined);
        let since = Instant::now();
        let is_answered = |kafka: &mut Kafka| kafka.answers_heartbeat_within(A_WHILE);
        while !is_answered(&mut member.kafka) {
            // Each time it loses patience its connection ends.
            member.kafka = connect(&rig, "apache-kafka-java");
            member.kafka.send_heartbeat("g", &member.joined);
            assert!(since.elapsed() < PATIENCE);
        }
        let id = member.joined.member_id.clone();
        assert_eq!(member.kafka.leave("g", &id), ErrorCode::None);
    }
}

#[test]
fn a_stop_does_not_wait_for_a_heartbeat() {
    let mut rig = Rig::start_with(&[HOLD, NO_DELAY]);
    let mut member = Member::first(&rig, "apache-kafka-java");
    member.kafka.send_heartbeat("g", &member.joined);
    rig.stop();
    assert_eq!(member.kafka.receive_heartbeat(), ErrorCode::None);
}
