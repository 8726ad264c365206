//! The membership against a coordinator whose answers are written down.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::time::{Duration, Instant};

use millrace_model::{ErrorCode, LogId, PartitionId, TopicId};
use millrace_wire::{AssignedPartitions, GroupAssignment, GroupHeartbeat};

use super::membership::{Effect, Input, Membership};
use super::{GroupOptions, GroupPartition};
use crate::ClientError;

const INTERVAL_MS: u32 = 5_000;

fn log(partition: u32) -> LogId {
    LogId {
        topic: TopicId([7; 16]),
        partition: PartitionId(partition),
    }
}

fn assignment(epoch: i32, partitions: &[u32]) -> Input {
    let of_topic = AssignedPartitions {
        id: TopicId([7; 16]),
        topic: "orders".into(),
        partitions: partitions.to_vec(),
    };
    Input::Answered(Ok(GroupAssignment {
        epoch,
        heartbeat_interval_ms: INTERVAL_MS,
        partitions: Some(vec![of_topic]),
    }))
}

fn as_before(epoch: i32) -> Input {
    Input::Answered(Ok(GroupAssignment {
        epoch,
        heartbeat_interval_ms: INTERVAL_MS,
        partitions: None,
    }))
}

fn error(code: ErrorCode) -> Input {
    Input::Answered(Err(ClientError::Broker {
        code,
        message: "no".into(),
    }))
}

fn released(partitions: &[u32]) -> Input {
    Input::Released(partitions.iter().map(|&partition| log(partition)).collect())
}

/// A membership with a clock, whose effects are words.
struct Life {
    membership: Membership,
    begun: Instant,
    now: Instant,
}

impl Life {
    fn begin(options: &GroupOptions) -> Self {
        let now = Instant::now();
        Self {
            membership: Membership::new(now, options.heartbeat("m".into())),
            begun: now,
            now,
        }
    }

    fn give(&mut self, input: Input) -> Vec<String> {
        let mut effects = Vec::new();
        self.membership.handle(self.now, input, &mut effects);
        effects.iter().map(words).collect()
    }

    /// Lets time pass until something is due, and says when that was.
    fn wake(&mut self) -> (u128, Vec<String>) {
        self.now = self.membership.wake_at().expect("something is due");
        let effects = self.give(Input::Tick);
        (self.now.duration_since(self.begun).as_millis(), effects)
    }

    /// A member that reads these partitions and has told the coordinator so.
    fn reading(options: &GroupOptions, partitions: &[u32]) -> Self {
        let mut life = Self::begin(options);
        life.give(Input::Tick);
        life.give(assignment(1, partitions));
        life.give(as_before(1));
        life
    }
}

fn words(effect: &Effect) -> String {
    let numbers = |partitions: &[GroupPartition]| {
        let numbers: Vec<_> = partitions
            .iter()
            .map(|partition| partition.log.partition.to_string())
            .collect();
        numbers.join(" ")
    };
    match effect {
        Effect::Heartbeat(heartbeat) => said(heartbeat),
        Effect::Start(partitions) => format!("start {}", numbers(partitions)),
        Effect::Release(partitions) => format!("release {}", numbers(partitions)),
        Effect::Lose(partitions) => format!("lose {}", numbers(partitions)),
        Effect::Joined => "joined".into(),
        Effect::Failed(error) => format!("failed {}", error.code()),
        Effect::Left => "left".into(),
    }
}

fn said(heartbeat: &GroupHeartbeat) -> String {
    let owned: Vec<_> = heartbeat
        .owned
        .iter()
        .flat_map(|of_topic| of_topic.partitions.iter().map(ToString::to_string))
        .collect();
    format!("heartbeat {} owns [{}]", heartbeat.epoch, owned.join(" "))
}

fn options() -> GroupOptions {
    GroupOptions::new("g").topic("orders")
}

#[test]
fn a_member_joins_tells_what_it_reads_and_comes_again_in_the_interval() {
    let mut life = Life::begin(&options());
    assert_eq!(life.give(Input::Tick), ["heartbeat 0 owns []"]);
    assert_eq!(life.membership.epoch(), None);
    assert_eq!(
        life.give(assignment(1, &[0, 1])),
        ["start 0 1", "joined", "heartbeat 1 owns [0 1]"]
    );
    assert_eq!(life.membership.epoch(), Some(1));
    assert!(life.give(as_before(1)).is_empty());
    let interval = u128::from(INTERVAL_MS);
    assert_eq!(
        life.wake(),
        (interval, vec!["heartbeat 1 owns [0 1]".into()])
    );
    // The same assignment again changes nothing.
    assert!(life.give(assignment(1, &[0, 1])).is_empty());
    assert_eq!(life.wake().0, 2 * interval);
}

#[test]
fn a_partition_counts_as_owned_until_it_is_released() {
    let mut life = Life::reading(&options(), &[0, 1, 2]);
    life.wake();
    assert_eq!(life.give(assignment(1, &[0])), ["release 1 2"]);
    let (_, effects) = life.wake();
    assert_eq!(
        effects,
        ["heartbeat 1 owns [0 1 2]"],
        "it is not released yet"
    );
    // Not twice, although the coordinator says it again.
    assert!(life.give(assignment(1, &[0])).is_empty());
    assert_eq!(life.give(released(&[1, 2])), ["heartbeat 1 owns [0]"]);
    assert!(life.give(as_before(2)).is_empty());
    assert_eq!(life.membership.epoch(), Some(2));
}

#[test]
fn what_is_released_while_a_heartbeat_is_under_way_is_told_by_the_next_one() {
    let mut life = Life::reading(&options(), &[0, 1]);
    life.wake();
    life.give(assignment(1, &[0]));
    life.wake();
    assert!(life.give(released(&[1])).is_empty(), "one at a time");
    assert_eq!(life.give(as_before(1)), ["heartbeat 1 owns [0]"]);
}

#[test]
fn a_partition_that_comes_back_while_it_is_released_is_started_afterwards() {
    let mut life = Life::reading(&options(), &[0, 1]);
    life.wake();
    assert_eq!(life.give(assignment(1, &[0])), ["release 1"]);
    life.wake();
    assert!(life.give(assignment(1, &[0, 1])).is_empty());
    assert_eq!(
        life.give(released(&[1])),
        ["start 1", "heartbeat 1 owns [0 1]"]
    );
}

#[test]
fn a_fenced_member_loses_everything_and_joins_again_with_empty_hands() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut life = Life::reading(&options(), &[0, 1]);
        life.wake();
        assert_eq!(life.give(error(code)), ["lose 0 1", "heartbeat 0 owns []"]);
        assert_eq!(life.membership.epoch(), None);
        assert!(life.give(released(&[0])).is_empty(), "it is not its own");
        assert_eq!(
            life.give(assignment(5, &[1])),
            ["start 1", "joined", "heartbeat 5 owns [1]"]
        );
    }
}

#[test]
fn a_fence_that_follows_a_fence_waits() {
    let mut life = Life::begin(&options());
    life.give(Input::Tick);
    assert!(life.give(error(ErrorCode::UnknownMemberId)).is_empty());
    assert_eq!(life.wake(), (100, vec!["heartbeat 0 owns []".into()]));
    life.give(error(ErrorCode::UnknownMemberId));
    assert_eq!(life.wake().0, 300);
}

#[test]
fn what_a_retry_may_mend_is_tried_again_ever_more_slowly_and_keeps_the_partitions() {
    let mut life = Life::reading(&options(), &[0]);
    let (mut last, _) = life.wake();
    for wait in [100, 200, 400, 800, 1_000, 1_000] {
        assert!(
            life.give(error(ErrorCode::CoordinatorNotAvailable))
                .is_empty()
        );
        let (at, effects) = life.wake();
        assert_eq!(
            (at - last, effects),
            (wait, vec!["heartbeat 1 owns [0]".into()])
        );
        last = at;
    }
    // A release does not break through the wait, and one success ends it.
    assert!(life.give(assignment(1, &[])) == ["release 0"]);
    life.wake();
    life.give(error(ErrorCode::CoordinatorNotAvailable));
    assert!(life.give(released(&[0])).is_empty());
    assert_eq!(life.wake().1, ["heartbeat 1 owns []"]);
}

#[test]
fn an_answer_that_is_lost_is_made_up_for() {
    let mut life = Life::reading(&options(), &[0, 1]);
    life.wake();
    // The coordinator has moved the member to epoch 2 with [0]; the answer does not arrive.
    let broken = ClientError::Disconnected {
        broker: "127.0.0.1:1".parse().unwrap(),
        reason: "gone".into(),
    };
    assert!(life.give(Input::Answered(Err(broken))).is_empty());
    assert_eq!(life.wake().1, ["heartbeat 1 owns [0 1]"]);
    assert_eq!(life.give(assignment(1, &[0])), ["release 1"]);
}

#[test]
fn what_no_retry_mends_is_told_and_ends_it() {
    let mut life = Life::begin(&options());
    life.give(Input::Tick);
    assert_eq!(
        life.give(error(ErrorCode::UnsupportedAssignor)),
        ["failed UNSUPPORTED_ASSIGNOR"]
    );
    assert_eq!(life.membership.wake_at(), None);
    assert!(life.give(Input::Leave).is_empty());
}

#[test]
fn a_topic_without_a_name_yet_is_asked_for_again_soon() {
    let mut life = Life::begin(&options());
    life.give(Input::Tick);
    let nameless = AssignedPartitions {
        id: TopicId([7; 16]),
        topic: String::new(),
        partitions: vec![0],
    };
    let answer = GroupAssignment {
        epoch: 1,
        heartbeat_interval_ms: INTERVAL_MS,
        partitions: Some(vec![nameless]),
    };
    assert_eq!(life.give(Input::Answered(Ok(answer))), ["joined"]);
    assert_eq!(life.wake(), (100, vec!["heartbeat 1 owns []".into()]));
    assert_eq!(
        life.give(assignment(1, &[0])),
        ["start 0", "heartbeat 1 owns [0]"]
    );
}

#[test]
fn leaving_says_goodbye_once_the_answer_under_way_is_there() {
    let mut life = Life::reading(&options(), &[0]);
    assert_eq!(life.give(Input::Leave), ["heartbeat -1 owns []"]);
    assert_eq!(life.give(as_before(-1)), ["left"]);

    let mut life = Life::reading(&options(), &[0]);
    life.wake();
    assert!(life.give(Input::Leave).is_empty());
    assert_eq!(life.give(assignment(2, &[0])), ["heartbeat -1 owns []"]);
    // Even when nobody answers.
    assert_eq!(
        life.give(error(ErrorCode::CoordinatorNotAvailable)),
        ["left"]
    );

    let mut life = Life::reading(&options().instance("till-1"), &[0]);
    assert_eq!(life.give(Input::Leave), ["heartbeat -2 owns []"]);
}

#[test]
fn an_application_that_stalls_gives_everything_to_the_others_and_may_come_back() {
    let mut life = Life::reading(&options(), &[0, 1]);
    assert_eq!(
        life.give(Input::Stalled),
        ["lose 0 1", "heartbeat -1 owns []"]
    );
    assert!(life.give(as_before(-1)).is_empty());
    assert_eq!(life.membership.wake_at(), None, "away");
    life.now += Duration::from_secs(60);
    assert_eq!(life.give(Input::Resumed), ["heartbeat 0 owns []"]);
    assert_eq!(
        life.give(assignment(9, &[0])),
        ["start 0", "joined", "heartbeat 9 owns [0]"]
    );

    // Back before the goodbye is answered.
    life.give(as_before(9));
    life.give(Input::Stalled);
    assert!(life.give(Input::Resumed).is_empty());
    assert_eq!(life.give(as_before(-1)), ["heartbeat 0 owns []"]);

    // Or never.
    let mut life = Life::reading(&options(), &[0]);
    life.give(Input::Stalled);
    life.give(as_before(-1));
    assert_eq!(life.give(Input::Leave), ["left"]);
}
