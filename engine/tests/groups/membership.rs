//! Members join, are assigned, leave, fall silent and die.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use millrace_kafka::{ApiKey, JoinGroupResponse, Response};
use millrace_model::ErrorCode;

use crate::client::{Kafka, join};
use crate::rig::Rig;

/// A member with its connection.
struct Member {
    kafka: Kafka,
    joined: JoinGroupResponse,
}

impl Member {
    fn is_leader(&self) -> bool {
        self.joined.leader == self.joined.member_id
    }

    fn heartbeat(&mut self) -> ErrorCode {
        self.kafka.heartbeat("g", &self.joined)
    }

    /// Joins again under the same id, which waits for the others, and syncs.
    fn rejoin(&mut self) {
        self.joined = self.kafka.join("g", &self.joined.member_id.clone());
        let assignment = self.kafka.sync("g", &self.joined).unwrap();
        assert_eq!(assignment, self.joined.member_id);
    }
}

/// Joins `count` members of group `g` at the same time, through different connections.
fn members(address: SocketAddr, count: usize) -> Vec<Member> {
    let barrier = Arc::new(Barrier::new(count));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                let mut kafka = Kafka::connect(address);
                barrier.wait();
                let mut joined = kafka.join("g", "");
                assert_eq!(joined.error_code, 0);
                // The generation is that of all when a sync does not tell to join again.
                loop {
                    match kafka.sync("g", &joined) {
                        Ok(assignment) => {
                            assert_eq!(assignment, joined.member_id);
                            return Member { kafka, joined };
                        }
                        Err(ErrorCode::RebalanceInProgress) => {
                            joined = kafka.join("g", &joined.member_id);
                        }
                        Err(code) => panic!("{code}"),
                    }
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

/// All of them at once.
fn rejoin(members: Vec<Member>) -> Vec<Member> {
    let threads: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            thread::spawn(move || {
                member.rejoin();
                member
            })
        })
        .collect();
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !happened() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A group forms within the initial delay; it is long enough for threads to start.
const DELAY: (&str, &str) = ("group.initial.rebalance.delay.ms", "500");

#[test]
fn three_members_agree_and_the_rest_goes_on_when_one_leaves() {
    let rig = Rig::start_with(&[DELAY]);
    let mut members = members(rig.kafka_address(), 3);
    assert_eq!(
        members.iter().filter(|member| member.is_leader()).count(),
        1
    );
    for member in &mut members {
        assert_eq!(member.heartbeat(), ErrorCode::None);
        let told = if member.is_leader() { 3 } else { 0 };
        assert_eq!(member.joined.members.len(), told);
    }
    let mut leaving = members.remove(0);
    let id = leaving.joined.member_id.clone();
    assert_eq!(leaving.kafka.leave("g", &id), ErrorCode::None);
    assert_eq!(leaving.kafka.leave("g", &id), ErrorCode::UnknownMemberId);
    for member in &mut members {
        assert_eq!(member.heartbeat(), ErrorCode::RebalanceInProgress);
    }
    let mut members = rejoin(members);
    let leader = members.iter().find(|member| member.is_leader()).unwrap();
    assert_eq!(leader.joined.members.len(), 2);
    for member in &mut members {
        assert_eq!(member.heartbeat(), ErrorCode::None);
    }
    assert!(rig.metric("millrace_group_rebalances_total") >= 2);
}

#[test]
fn a_silent_member_is_let_go() {
    let rig = Rig::start_with(&[DELAY, ("group.min.session.timeout.ms", "300")]);
    let mut silent = rig.kafka();
    let mut request = join("g", "");
    request.session_timeout_ms = 300;
    let Response::JoinGroup(told) = silent.ask(7, request.clone()) else {
        panic!("another answer");
    };
    request.member_id = told.member_id;
    let Response::JoinGroup(joined) = silent.ask(7, request) else {
        panic!("another answer");
    };
    silent.sync("g", &joined).unwrap();
    wait_for("its session is over", || {
        silent.heartbeat("g", &joined) == ErrorCode::UnknownMemberId || {
            // A heartbeat would keep it alive.
            thread::sleep(Duration::from_millis(800));
            false
        }
    });
}

#[test]
fn members_that_died_with_the_broker_are_let_go_without_being_asked_for() {
    let mut rig = Rig::start_with(&[DELAY, ("group.min.session.timeout.ms", "300")]);
    let mut kafka = rig.kafka();
    let mut request = join("g", "");
    request.session_timeout_ms = 1_000;
    let Response::JoinGroup(told) = kafka.ask(7, request.clone()) else {
        panic!("another answer");
    };
    request.member_id = told.member_id;
    let Response::JoinGroup(joined) = kafka.ask(7, request) else {
        panic!("another answer");
    };
    kafka.sync("g", &joined).unwrap();
    rig.kill();
    rig.start_again();
    // Nothing but the metrics is asked: the coordinator wakes by itself.
    let stable = "millrace_groups{type=\"classic\",state=\"Stable\"} 1";
    let empty = "millrace_groups{type=\"classic\",state=\"Empty\"} 1";
    wait_for("the group was loaded", || {
        let text = rig.metrics();
        text.contains(stable) || text.contains(empty)
    });
    wait_for("its member is gone", || rig.metrics().contains(empty));
}

#[test]
fn a_generation_goes_on_over_a_restart() {
    let mut rig = Rig::start_with(&[DELAY]);
    let mut member = members(rig.kafka_address(), 1).remove(0);
    rig.kill();
    rig.start_again();
    member.kafka = rig.kafka();
    assert_eq!(
        member.heartbeat(),
        ErrorCode::None,
        "nobody has to join again"
    );
    assert_eq!(
        member.kafka.sync("g", &member.joined).unwrap(),
        member.joined.member_id
    );
}

#[test]
fn a_join_whose_connection_is_gone_keeps_nobody_waiting() {
    let rig = Rig::start_with(&[("group.initial.rebalance.delay.ms", "300")]);
    let mut first = rig.kafka();
    let Response::JoinGroup(told) = first.ask(7, join("g", "")) else {
        panic!("another answer");
    };
    // Its join waits for the delay, and it goes away.
    first.send(7, join("g", &told.member_id)).unwrap();
    drop(first);
    let mut second = rig.kafka();
    let joined = second.join("g", "");
    assert_eq!(joined.error_code, 0);
    second.sync("g", &joined).unwrap();
}

#[test]
fn a_stop_does_not_wait_for_a_rebalance() {
    let mut rig = Rig::start_with(&[DELAY]);
    let mut member = members(rig.kafka_address(), 1).remove(0);
    let mut second = rig.kafka();
    let Response::JoinGroup(told) = second.ask(7, join("g", "")) else {
        panic!("another answer");
    };
    // Waits for the first member, which does not come.
    second.send(7, join("g", &told.member_id)).unwrap();
    wait_for("the rebalance has begun", || {
        member.heartbeat() == ErrorCode::RebalanceInProgress
    });
    rig.stop();
    // Whether the answer came or the connection went first: it is over, and not a success.
    if let Ok(Response::JoinGroup(answer)) = second.receive(ApiKey::JoinGroup, 7) {
        assert_eq!(
            ErrorCode::from_i16(answer.error_code),
            ErrorCode::NotCoordinator
        );
    }
}
