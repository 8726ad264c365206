//! The log of a coordinator stays short, and what it stands for is not touched by that.

use std::time::{Duration, Instant};

use crate::client::Kafka;
use crate::rig::Rig;

const PARTITIONS: i32 = 20;

/// Commits to all partitions with long words, 80 KB at a time.
fn commit_much(kafka: &mut Kafka, rounds: std::ops::Range<i64>) {
    let words = "x".repeat(4_000);
    for round in rounds {
        let offsets: Vec<_> = (0..PARTITIONS)
            .map(|p| (p, round * 1_000 + i64::from(p)))
            .collect();
        let codes = kafka.try_commit("g", "t", &offsets, &words).unwrap();
        assert!(codes.iter().all(|code| *code as i16 == 0), "{codes:?}");
    }
}

fn check(kafka: &mut Kafka, round: i64) {
    let partitions: Vec<i32> = (0..PARTITIONS).collect();
    let expected: Vec<i64> = partitions
        .iter()
        .map(|p| round * 1_000 + i64::from(*p))
        .collect();
    assert_eq!(kafka.committed("g", "t", &partitions), expected);
    assert_eq!(kafka.committed("other", "t", &[0]), [77]);
}

#[test]
fn a_long_log_is_replaced_by_a_checkpoint_and_a_kill_then_loses_nothing() {
    let mut rig = Rig::start_with(&[
        ("num.partitions", "20"),
        // Both groups are of one coordinator.
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.segment.bytes", "1MiB"),
    ]);
    let mut kafka = rig.kafka();
    kafka.make_topic("t");
    kafka.commit("other", "t", &[(0, 77)]);
    let mut round = 0;
    for life in 1..=3 {
        // More than the 4 MiB after which a checkpoint is made.
        commit_much(&mut kafka, round..round + 60);
        round += 60;
        let since = Instant::now();
        while rig.metric("millrace_group_checkpoints_total") == 0 {
            assert!(since.elapsed() < Duration::from_secs(20), "life {life}");
        }
        rig.kill();
        rig.start_again();
        kafka = rig.kafka();
        check(&mut kafka, round - 1);
        let records = rig.metric("millrace_group_records_replayed_total");
        assert!(
            records < 1_300,
            "{records} records are those of all commits"
        );
    }
}

#[test]
fn kills_around_a_checkpoint_lose_nothing() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut rig = Rig::start_with(&[
        ("num.partitions", "20"),
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.segment.bytes", "1MiB"),
    ]);
    let mut kafka = rig.kafka();
    kafka.make_topic("t");
    kafka.commit("other", "t", &[(0, 77)]);
    let mut round = 0;
    for _ in 0..6 {
        let rounds = random.i64(48..56);
        commit_much(&mut kafka, round..round + rounds);
        round += rounds;
        rig.kill();
        rig.start_again();
        kafka = rig.kafka();
        check(&mut kafka, round - 1);
    }
}
