//! The metadata quorum and the cluster's state machine, three and five nodes in virtual time on
//! a network that loses, delays, repeats and reorders, with crashes that lose what was not
//! synced, with members that come and go, and snapshots. Everything follows from a seed.
//!
//! `MILLRACE_SEEDS=FROM..TO` runs other histories; a violation names its seed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "quorum/checks.rs"]
mod checks;
#[path = "quorum/disk.rs"]
mod disk;
#[path = "quorum/load.rs"]
mod load;
#[path = "quorum/world.rs"]
mod world;

use world::{Broken, Plan, World};

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("MILLRACE_SEEDS") else {
        return default;
    };
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

fn all_hold(plan: impl Fn(u64) -> Plan, range: std::ops::Range<u64>) {
    let (mut commands, mut accepted, mut snapshots, mut crashes) = (0, 0, 0, 0);
    for seed in seeds(range) {
        let report = World::run(seed, plan(seed));
        let report = report.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        commands += report.commands;
        accepted += report.accepted_in_sync_changes;
        snapshots += report.snapshots_installed;
        crashes += report.crashes;
    }
    eprintln!(
        "{commands} commands, {accepted} in-sync changes, {snapshots} snapshots, {crashes} crashes"
    );
    assert!(commands > 0 && accepted > 0 && snapshots > 0 && crashes > 0);
}

#[test]
fn three_nodes() {
    all_hold(|_| Plan::nodes(3), 0..150);
}

#[test]
fn five_nodes() {
    all_hold(|_| Plan::nodes(5), 1_000..1_080);
}

#[test]
fn members_come_and_go() {
    all_hold(|_| Plan::nodes(3).with_members_changing(2), 2_000..2_120);
}

#[test]
fn voters_are_judged() {
    all_hold(|_| Plan::nodes(3).with_voters_judged(2), 3_000..3_120);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in [7, 8, 2_007] {
        let plan = || Plan::nodes(3).with_members_changing(1);
        let first = World::run(seed, plan()).unwrap();
        assert_eq!(World::run(seed, plan()).unwrap(), first);
    }
}

#[test]
fn one_node_is_a_quorum() {
    let report = World::run(1, Plan::nodes(1)).unwrap();
    assert!(report.commands > 0);
}

/// Runs seeds until a violation is found.
fn is_caught(plan: impl Fn() -> Plan, seeds: u64) -> Option<String> {
    (0..seeds).find_map(|seed| World::run(seed, plan()).err())
}

#[test]
fn a_promise_before_it_is_durable_is_caught() {
    let caught = is_caught(|| Plan::nodes(3).broken(Broken::PersistsLater), 1_000);
    println!("{}", caught.expect("it is caught"));
}

#[cfg(feature = "planted-faults")]
mod planted {
    use millrace_replication::planted::{Planted, plant};

    use super::*;

    fn planted_is_caught(fault: Planted, seeds: u64) {
        plant(Some(fault));
        let caught = is_caught(|| Plan::nodes(5), seeds);
        plant(None);
        println!(
            "{}",
            caught.unwrap_or_else(|| panic!("{fault:?} is not caught"))
        );
    }

    #[test]
    fn a_vote_forgotten_in_a_crash_is_caught() {
        let caught = is_caught(|| Plan::nodes(3).broken(Broken::ForgetsVote), 1_000);
        println!("{}", caught.expect("it is caught"));
    }

    #[test]
    fn a_vote_for_a_shorter_log_is_caught() {
        planted_is_caught(Planted::VoteForShorterLog, 1_000);
    }

    #[test]
    fn an_in_sync_change_without_compare_is_caught() {
        planted_is_caught(Planted::BlindAlterPartition, 300);
    }

    #[test]
    fn a_fenced_replica_in_sync_is_caught() {
        planted_is_caught(Planted::FencedInSync, 300);
    }
}
