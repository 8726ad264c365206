//! The simulator of crashes: the log passes, and the same seed is the same history. That a
//! log which is broken on purpose is caught is `planted_faults.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use millrace_tools::sim;

/// As many as run in a few seconds without optimisation. The release binary runs 10,000.
const HISTORIES: u64 = 400;

/// Workloads of which every prefix is opened.
const PREFIX_WORKLOADS: u64 = 10;

#[test]
fn every_history_keeps_what_was_promised() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    if let Err(failure) = sim::run_many(0, HISTORIES, jobs, || {}) {
        panic!("{failure}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..20 {
        let first = sim::run_history(seed, true).unwrap();
        let second = sim::run_history(seed, true).unwrap();
        assert_eq!(first, second);
        assert!(first.lines.len() > 10);
    }
    let hash = |seed| sim::run_history(seed, false).unwrap().hash;
    assert_ne!(hash(1), hash(2));
}

#[test]
fn every_prefix_of_the_writes_of_a_workload_can_be_opened() {
    let mut prefixes = 0;
    for seed in 0..PREFIX_WORKLOADS {
        prefixes += sim::run_every_prefix(seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
    assert!(
        prefixes > 20 * PREFIX_WORKLOADS as usize,
        "{prefixes} are too few to mean much"
    );
}
