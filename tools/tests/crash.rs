//! The crash test of the real broker, as many cycles as a test run can afford. The command
//! `millrace-crash` runs a thousand.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use millrace_tools::broker::build_binary;
use millrace_tools::crash::churn::ChurnTest;
use millrace_tools::crash::{CrashTest, Failed, Options, Totals};

const PRODUCE_CYCLES: u64 = 24;
const CREATE_DELETE_CYCLES: u64 = 12;
const SEED: u64 = 20;

fn options(dir: PathBuf, cycles: u64) -> Options {
    Options {
        bin: build_binary().unwrap(),
        dir,
        cycles,
        seed: SEED,
        writers: 3,
    }
}

/// The totals; after a failure, keeps the directory and says where it is.
fn passed(dir: tempfile::TempDir, outcome: Result<Totals, Failed>) -> Totals {
    outcome.unwrap_or_else(|failed| {
        let kept = dir.keep();
        panic!(
            "{failed}\nthe data and the broker's log are kept in {}",
            kept.display()
        )
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_doubled_or_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let test = CrashTest::new(options(dir.path().into(), PRODUCE_CYCLES));
    let totals = passed(dir, test.run(|_| {}).await);
    assert_eq!(totals.cycles, PRODUCE_CYCLES);
    assert!(
        totals.kills > PRODUCE_CYCLES && totals.kills_during_start > 0,
        "{totals}"
    );
    assert!(
        totals.acknowledged > 0 && totals.records_checked >= totals.acknowledged,
        "{totals}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_whole_or_gone() {
    let dir = tempfile::tempdir().unwrap();
    let test = ChurnTest::new(options(dir.path().into(), CREATE_DELETE_CYCLES));
    let totals = passed(dir, test.run(|_| {}).await);
    assert_eq!(
        (totals.cycles, totals.checks),
        (CREATE_DELETE_CYCLES, CREATE_DELETE_CYCLES)
    );
    assert!(totals.acknowledged > 0, "{totals}");
}

/// A broker that forgets: before each start, a log of a single segment loses all but its
/// first 8 KiB, as if the rest had never been durable.
fn forgetful_broker(dir: &Path) -> PathBuf {
    let script = r#"#!/bin/sh
for log in "$3"/logs/*/; do
    segments=$(ls "$log" | grep -c '\.log$')
    if [ "$segments" = 1 ]; then truncate -s '<8192' "$log"*.log; fi
done
exec BROKER "$@"
"#;
    let bin = build_binary().unwrap();
    let path = dir.join("forgetful-millrace");
    fs::write(&path, script.replace("BROKER", bin.to_str().unwrap())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_loses_data_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path().into(), PRODUCE_CYCLES);
    options.bin = forgetful_broker(dir.path());
    let failed = CrashTest::new(options).run(|_| {}).await.unwrap_err();
    let found_out = [
        "is lost",
        "stands at",
        "OUT_OF_ORDER_SEQUENCE_NUMBER",
        "OFFSET_OUT_OF_RANGE",
    ];
    assert!(
        found_out.iter().any(|sign| failed.what.contains(sign)),
        "{failed}"
    );
}
