//! Replicas of a partition under faults: thousands of histories, each from a seed, in virtual
//! time. `MILLRACE_REPLICA_HISTORIES=20000` runs more of them (with `--nocapture` to see what
//! they met), `MILLRACE_REPLICA_SEED=17` one with its whole trace.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and prints what it met"
)]

#[path = "partition_simulation/checker.rs"]
mod checker;
#[path = "partition_simulation/controller.rs"]
mod controller;
#[path = "partition_simulation/faults.rs"]
mod faults;
#[path = "partition_simulation/log.rs"]
mod log;
#[path = "partition_simulation/network.rs"]
mod network;
#[path = "partition_simulation/node.rs"]
mod node;
#[path = "partition_simulation/planted.rs"]
#[cfg(feature = "planted-faults")]
mod planted;
#[path = "partition_simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use checker::Violation;
use faults::Counts;
use world::{Report, World};

/// Histories of an ordinary test run.
const HISTORIES: u64 = 60;

/// Lines of the trace that are shown of a history that fails.
const TAIL_LINES: usize = 120;

/// Runs the history of a seed. A panic of a machine is a violation, too.
fn run(seed: u64) -> Result<Report, Violation> {
    catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Violation(text.unwrap_or_else(|| "a panic".to_owned())))
    })
}

/// The trace of a seed, as far as it comes.
fn trace(seed: u64) -> Vec<String> {
    let mut world = World::new(seed, true);
    let _ = catch_unwind(AssertUnwindSafe(|| world.run()));
    world.trace.take().unwrap_or_default()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_acknowledged_is_lost_and_everything_heals() {
    if let Some(seed) = number("MILLRACE_REPLICA_SEED") {
        trace(seed).iter().for_each(|line| println!("{line}"));
        println!("{:?}", run(seed));
        return;
    }
    let histories = number("MILLRACE_REPLICA_HISTORIES").unwrap_or(HISTORIES);
    let (mut total, mut faults) = (Report::default(), Counts::default());
    for seed in 0..histories {
        match run(seed) {
            Ok(report) => {
                total.virtual_ms += report.virtual_ms;
                total.acknowledged += report.acknowledged;
                total.read += report.read;
                total.epochs += report.epochs;
                faults.merge(&report.faults);
            }
            Err(Violation(what)) => {
                let lines = trace(seed);
                let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
                panic!("{}\nseed {seed}: {what}", tail.join("\n"));
            }
        }
    }
    println!(
        "{histories} histories, {:.1} virtual hours: {} batches acknowledged, {} records read, {} leader epochs; {faults}",
        total.virtual_ms as f64 / 3_600_000.0,
        total.acknowledged,
        total.read,
        total.epochs,
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 14] {
        let lines = trace(seed);
        assert!(lines.len() > 1_000, "a history has something to tell");
        assert!(lines == trace(seed), "seed {seed}");
        assert!(lines != trace(seed + 1), "another seed, another history");
    }
}
