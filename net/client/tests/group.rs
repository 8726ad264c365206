//! Members of a group against a coordinator that does as it is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

mod fake;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{FakeBroker, TOPIC};
use millrace_client::{
    ClientError, CommitMode, ErrorCode, GroupConsumer, GroupOptions, GroupPartition, GroupRecord,
    Offset, OffsetReset, PartitionId, ProducerOptions, ProducerRecord, RebalanceListener,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn options() -> GroupOptions {
    // Committed when partitions go and at the end, not in between.
    GroupOptions::new("billing")
        .topic(TOPIC)
        .commit(CommitMode::Every(Duration::from_secs(3_600)))
}

async fn member(broker: &FakeBroker, options: GroupOptions) -> GroupConsumer {
    let client = broker.client().await;
    client.group_consumer(options).await.unwrap()
}

/// Stores `count` records in each partition, a few in a batch.
async fn fill(broker: &FakeBroker, partitions: u32, count: usize) {
    let client = broker.client().await;
    let options = ProducerOptions {
        batch_bytes: 300,
        ..ProducerOptions::new(TOPIC)
    };
    let producer = client.producer(options).await.unwrap();
    for index in 0..count {
        for partition in 0..partitions {
            let record = ProducerRecord::new(format!("{partition}:{index}"));
            let record = record.to_partition(PartitionId(partition));
            producer.send(record).await.unwrap();
        }
    }
    producer.close().await;
}

async fn next(consumer: &mut GroupConsumer) -> GroupRecord {
    let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
    next.expect("a record comes").unwrap()
}

async fn drain(consumer: &mut GroupConsumer) -> Vec<(u32, u64)> {
    let mut read = Vec::new();
    let all = async {
        while let Some(record) = consumer.next_before_end().await.unwrap() {
            read.push((record.record.partition.0, record.record.offset.0));
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("an end");
    read
}

/// Asks for records, of which there are none, until this holds.
async fn run_until(consumer: &mut GroupConsumer, mut holds: impl FnMut(&GroupConsumer) -> bool) {
    let begun = std::time::Instant::now();
    while !holds(consumer) {
        assert!(begun.elapsed() < PATIENCE, "it never holds");
        let nothing = tokio::time::timeout(Duration::from_millis(10), consumer.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
}

fn numbers(consumer: &GroupConsumer) -> BTreeSet<u32> {
    let assignment = consumer.assignment();
    assignment.map(|one| one.partition().0).collect()
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn note(&self, what: &str, partitions: &[GroupPartition]) {
        let numbers: Vec<_> = partitions
            .iter()
            .map(|one| one.partition().to_string())
            .collect();
        let line = format!("{what} {}", numbers.join(" "));
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl RebalanceListener for Told {
    fn assigned(&mut self, partitions: &[GroupPartition]) {
        self.note("assigned", partitions);
    }

    fn revoked(&mut self, partitions: &[GroupPartition]) -> Vec<(GroupPartition, Offset)> {
        self.note("revoked", partitions);
        Vec::new()
    }

    fn lost(&mut self, partitions: &[GroupPartition]) {
        self.note("lost", partitions);
    }
}

#[tokio::test]
async fn a_member_reads_all_commits_when_it_is_closed_and_the_next_one_resumes() {
    let broker = FakeBroker::start(3);
    fill(&broker, 3, 100).await;
    let mut first = member(&broker, options()).await;
    for _ in 0..120 {
        next(&mut first).await;
    }
    let positions: HashMap<u32, u64> = first
        .positions()
        .map(|(of, position)| (of.partition().0, position.0))
        .collect();
    assert_eq!(positions.values().sum::<u64>(), 120);
    first.close().await.unwrap();
    assert_eq!(broker.state().group.committed, positions);
    assert!(broker.state().group.members.is_empty(), "it said goodbye");

    let mut second = member(&broker, options()).await;
    let read = drain(&mut second).await;
    assert_eq!(read.len(), 180);
    for (partition, offset) in read {
        assert!(offset >= positions[&partition]);
    }
    let lag: Vec<u64> = second
        .lag()
        .await
        .unwrap()
        .iter()
        .map(|l| l.lag())
        .collect();
    assert_eq!(lag, [0, 0, 0]);
    assert_eq!(second.position(TOPIC, PartitionId(0)), Some(Offset(100)));
    second.close().await.unwrap();
}

#[tokio::test]
async fn what_goes_to_another_member_is_processed_and_committed_before() {
    let broker = FakeBroker::start(4);
    fill(&broker, 4, 50).await;
    let told = Told::default();
    let mut first = member(&broker, options().listener(told.clone())).await;
    let mut seen: BTreeMap<(u32, u64), usize> = BTreeMap::new();
    for _ in 0..70 {
        let record = next(&mut first).await.record;
        *seen
            .entry((record.partition.0, record.offset.0))
            .or_default() += 1;
    }
    let mut second = member(&broker, options()).await;
    let begun = std::time::Instant::now();
    while seen.len() < 200 {
        assert!(begun.elapsed() < PATIENCE, "{} of 200", seen.len());
        for consumer in [&mut first, &mut second] {
            let record = tokio::time::timeout(Duration::from_millis(5), consumer.next()).await;
            if let Ok(record) = record {
                let record = record.unwrap().record;
                *seen
                    .entry((record.partition.0, record.offset.0))
                    .or_default() += 1;
            }
        }
    }
    run_until(&mut first, |first| numbers(first).len() == 2).await;
    run_until(&mut second, |second| numbers(second).len() == 2).await;
    assert!(numbers(&first).is_disjoint(&numbers(&second)));
    assert!(
        seen.values().all(|&times| times == 1),
        "none was seen twice"
    );
    assert_eq!(told.lines()[0], "assigned 0 1 2 3");
    assert!(told.lines()[1].starts_with("revoked"), "{:?}", told.lines());
    first.close().await.unwrap();
    run_until(&mut second, |second| numbers(second).len() == 4).await;
    second.close().await.unwrap();
    let committed = broker.state().group.committed.clone();
    assert!(committed.values().all(|&next| next == 50), "{committed:?}");
}

#[tokio::test]
async fn a_record_that_the_application_still_works_on_is_not_committed() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 10).await;
    let mut consumer = member(
        &broker,
        options().commit(CommitMode::Every(Duration::from_millis(1))),
    )
    .await;
    for offset in 0..10 {
        assert_eq!(next(&mut consumer).await.record.offset, Offset(offset));
        let commits = broker.state().group.commits.clone();
        assert!(
            commits.iter().all(|(_, _, next)| *next <= offset),
            "{commits:?}"
        );
    }
    drop(consumer);
    let committed = broker.state().group.committed.get(&0).copied();
    assert!(committed.is_none_or(|next| next < 10), "{committed:?}");
}

#[tokio::test]
async fn offsets_are_committed_in_the_interval_although_nothing_comes() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 3).await;
    let mut consumer = member(
        &broker,
        options().commit(CommitMode::Every(Duration::from_millis(20))),
    )
    .await;
    for _ in 0..3 {
        next(&mut consumer).await;
    }
    broker
        .state()
        .group
        .commit_errors
        .push_back(ErrorCode::CoordinatorNotAvailable);
    run_until(&mut consumer, |_| {
        broker.state().group.committed.get(&0) == Some(&3)
    })
    .await;
}

#[tokio::test]
async fn a_manual_commit_commits_what_it_says_and_nothing_else_is_committed() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 10).await;
    let mut consumer = member(&broker, options().commit(CommitMode::Manual)).await;
    for _ in 0..4 {
        next(&mut consumer).await;
    }
    let committed = || broker.state().group.committed.get(&0).copied();
    consumer.commit().await.unwrap();
    assert_eq!(committed(), Some(4));
    let partition = consumer.assignment().next().unwrap().clone();
    let stale = ErrorCode::StaleMemberEpoch;
    broker.state().group.commit_errors.push_back(stale);
    consumer
        .commit_offsets(&[(partition, Offset(2))])
        .await
        .unwrap();
    assert_eq!(committed(), Some(2));
    broker
        .state()
        .group
        .commit_errors
        .push_back(ErrorCode::FencedMemberEpoch);
    let error = consumer.commit().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::FencedMemberEpoch);
    next(&mut consumer).await;
    consumer.close().await.unwrap();
    assert_eq!(committed(), Some(2));
}

#[tokio::test]
async fn without_a_committed_offset_it_starts_where_the_options_say() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 5).await;
    let mut latest = member(&broker, options().offset_reset(OffsetReset::Latest)).await;
    assert_eq!(drain(&mut latest).await, []);
    // Where it began is where the next one begins, although nothing was read.
    latest.close().await.unwrap();
    assert_eq!(broker.state().group.committed.get(&0), Some(&5));
    broker.state().group.committed.clear();
    let mut none = member(&broker, options().offset_reset(OffsetReset::None)).await;
    let error = none.next().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OffsetOutOfRange);
    none.close().await.unwrap();
}

#[tokio::test]
async fn a_fenced_member_joins_again_and_reads_on_from_what_was_committed() {
    let broker = FakeBroker::start(2);
    fill(&broker, 2, 20).await;
    let told = Told::default();
    let mut consumer = member(&broker, options().listener(told.clone())).await;
    assert_eq!(drain(&mut consumer).await.len(), 40);
    consumer.commit().await.unwrap();
    let id = consumer.member().to_owned();
    broker.state().group.fence(&id);
    run_until(&mut consumer, |_| told.lines().len() == 3).await;
    assert_eq!(told.lines(), ["assigned 0 1", "lost 0 1", "assigned 0 1"]);
    fill(&broker, 2, 1).await;
    let mut offsets = [next(&mut consumer).await, next(&mut consumer).await];
    offsets.sort_by_key(|record| record.record.partition);
    assert!(
        offsets
            .iter()
            .all(|record| record.record.offset == Offset(20))
    );
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn a_coordinator_that_is_away_for_a_while_is_waited_for() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 5).await;
    let away = [
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::NotCoordinator,
    ];
    broker.state().group.heartbeat_errors.extend(away);
    let mut consumer = member(&broker, options()).await;
    assert_eq!(drain(&mut consumer).await.len(), 5);
    broker.state().group.heartbeat_errors.extend(away);
    let seen = broker.state().group.epochs_seen.len();
    run_until(&mut consumer, |_| {
        broker.state().group.epochs_seen.len() > seen + 4
    })
    .await;
    assert_eq!(numbers(&consumer).len(), 1, "it kept its partition");
    let joins = |epochs: &[i32]| epochs.iter().filter(|&&epoch| epoch == 0).count();
    assert_eq!(joins(&broker.state().group.epochs_seen), 3);
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn a_join_that_is_refused_is_an_error_at_once() {
    let broker = FakeBroker::start(1);
    let refusals = [
        ErrorCode::InvalidRegularExpression,
        ErrorCode::UnreleasedInstanceId,
        ErrorCode::GroupMaxSizeReached,
    ];
    for code in refusals {
        broker.state().group.heartbeat_errors.push_back(code);
        let client = broker.client().await;
        let error = client.group_consumer(options()).await.unwrap_err();
        assert_eq!(error.code(), code);
    }
    let client = broker.client().await;
    for wrong in [GroupOptions::new("").topic(TOPIC), GroupOptions::new("g")] {
        let error = client.group_consumer(wrong).await.unwrap_err();
        assert!(matches!(error, ClientError::Options { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_application_that_never_comes_back_gives_its_partitions_to_the_others() {
    let broker = FakeBroker::start(2);
    fill(&broker, 2, 5).await;
    let options = |timeout| GroupOptions {
        rebalance_timeout: timeout,
        instance: None,
        ..options()
    };
    let mut slow = member(&broker, options(Duration::from_millis(100))).await;
    next(&mut slow).await;
    let mut other = member(&broker, options(PATIENCE)).await;
    let mut count = 0;
    while count < 10 {
        next(&mut other).await;
        count += 1;
    }
    assert_eq!(numbers(&other).len(), 2);
    // Back, it gets its share again. What it still holds of before is not handed out.
    let come_back = async {
        let mut first = None;
        while first.is_none() {
            fill(&broker, 2, 1).await;
            for consumer in [&mut slow, &mut other] {
                let soon = Duration::from_millis(10);
                let _ = tokio::time::timeout(soon, consumer.next()).await;
            }
            first = (numbers(&slow).len() == 1 && numbers(&other).len() == 1).then_some(());
        }
    };
    tokio::time::timeout(PATIENCE, come_back).await.unwrap();
}

#[tokio::test]
async fn a_static_member_says_that_it_comes_back() {
    let broker = FakeBroker::start(1);
    let consumer = member(&broker, options().instance("till-1")).await;
    let id = consumer.member().to_owned();
    let instance = broker.state().group.members[&id].last.instance.clone();
    assert_eq!(instance.as_deref(), Some("till-1"));
    consumer.close().await.unwrap();
    assert_eq!(broker.state().group.epochs_seen.last(), Some(&-2));
}

#[tokio::test]
async fn dropped_without_being_closed_it_leaves_and_commits_nothing() {
    let broker = FakeBroker::start(1);
    fill(&broker, 1, 5).await;
    let mut consumer = member(&broker, options()).await;
    assert_eq!(drain(&mut consumer).await.len(), 5);
    drop(consumer);
    let gone = async {
        while !broker.state().group.members.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert!(broker.state().group.commits.is_empty());
}
