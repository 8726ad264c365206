//! The simulator of clusters: nothing is lost and all heals, and the same seed is the same history. That machines
//! which are broken on purpose are caught is `planted_cluster_faults.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use millrace_tools::sim::cluster;

/// As many as run in some seconds without optimisation. The release binary runs thousands.
const HISTORIES: u64 = 12;

#[test]
fn every_history_keeps_what_was_promised_and_heals() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    match cluster::run_many(0, HISTORIES, jobs, || {}) {
        Ok(total) => assert!(total.sum.acknowledged > 100 * HISTORIES, "{total}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in [3, 14] {
        let first = cluster::run_history(seed, true).unwrap();
        let second = cluster::run_history(seed, true).unwrap();
        assert_eq!(first, second);
        assert!(first.0.lines.len() > 100);
        let other = cluster::run_history(seed + 1, false).unwrap();
        assert_ne!(first.0.hash, other.0.hash);
    }
}
