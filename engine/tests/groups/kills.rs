//! No commit that was acknowledged is lost, however often the broker is killed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use millrace_model::ErrorCode;

use crate::client::Kafka;
use crate::rig::Rig;

const LIVES: usize = 10;
const GROUPS: usize = 4;
const PARTITIONS: i32 = 3;

/// Per group and partition: the highest offset that was acknowledged, and the highest that was sent.
type Ledger = HashMap<(usize, i32), (i64, i64)>;

fn name(group: usize) -> String {
    format!("group-{group}")
}

/// Commits rising offsets of one group until the broker is gone.
fn commit_on(mut kafka: Kafka, group: usize, mut next: i64, done: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::new();
    while !done.load(Ordering::Relaxed) {
        let partition = i32::try_from(next).unwrap() % PARTITIONS;
        let entry = ledger.entry((group, partition)).or_insert((-1, -1));
        entry.1 = next;
        match kafka.try_commit(&name(group), "t", &[(partition, next)], "") {
            Ok(codes) => {
                assert_eq!(codes, [ErrorCode::None]);
                entry.0 = next;
            }
            Err(_) => return ledger,
        }
        next += 1;
    }
    ledger
}

#[test]
fn acknowledged_commits_survive_ten_kills() {
    let mut random = fastrand::Rng::with_seed(20_261_124);
    let mut rig = Rig::start_with(&[
        ("num.partitions", "3"),
        ("offsets.topic.segment.bytes", "64KiB"),
    ]);
    rig.kafka().make_topic("t");
    let mut ledger = Ledger::new();
    let mut next = 0;
    for life in 0..LIVES {
        let done = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..GROUPS)
            .map(|group| {
                let (kafka, done) = (rig.kafka(), Arc::clone(&done));
                thread::spawn(move || commit_on(kafka, group, next, &done))
            })
            .collect();
        thread::sleep(Duration::from_millis(random.u64(20..200)));
        rig.kill();
        done.store(true, Ordering::Relaxed);
        for thread in threads {
            for (key, (acknowledged, sent)) in thread.join().unwrap() {
                let entry = ledger.entry(key).or_insert((-1, -1));
                *entry = (entry.0.max(acknowledged), entry.1.max(sent));
            }
        }
        rig.start_again();
        let mut kafka = rig.kafka();
        for (&(group, partition), &(acknowledged, sent)) in &ledger {
            let found = kafka.committed(&name(group), "t", &[partition])[0];
            assert!(
                (acknowledged..=sent).contains(&found),
                "life {life}, group {group}, partition {partition}: {found} is not within \
                 {acknowledged} and {sent}"
            );
            next = next.max(sent + 1);
        }
    }
    assert!(next > 100, "{next} commits are no test");
}
