//! Runs `scripts/*.txt`: lines that start with `>` are commands, those after them the full
//! trace of what the machine answered. `UPDATE_SCRIPTS=1` writes the trace anew, to be read
//! before it is committed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "scripts/cluster.rs"]
mod cluster;
#[path = "scripts/leader.rs"]
mod leader;
#[path = "scripts/metadata.rs"]
mod metadata;
#[path = "scripts/replica.rs"]
mod replica;

use std::fmt::Write as _;
use std::path::Path;

/// A machine that scripts drive.
trait Scripted {
    /// Carries out one command and says what came of it, a line each.
    fn run(&mut self, words: &[&str]) -> Vec<String>;
}

fn play(name: &str, mut machine: impl Scripted) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name);
    let script = std::fs::read_to_string(&path).unwrap();
    let mut trace = String::new();
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(trace, "{line}").unwrap();
        } else if let Some(command) = line.strip_prefix("> ") {
            writeln!(trace, "{line}").unwrap();
            let words: Vec<&str> = command.split_whitespace().collect();
            for answer in machine.run(&words) {
                writeln!(trace, "{answer}").unwrap();
            }
        }
    }
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        std::fs::write(&path, &trace).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (at, (found, stated)) in trace.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, stated, "{name}, line {}", at + 1);
    }
    assert_eq!(trace.lines().count(), expected.lines().count(), "{name}");
}

/// The value of a word like `name=value`.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn topics() {
    play("topics.txt", metadata::Machine::default());
}

#[test]
fn producer_ids_and_epochs() {
    play("producer_ids_and_epochs.txt", metadata::Machine::default());
}

#[test]
fn leader_alone() {
    play("leader_alone.txt", leader::Machine::default());
}

#[test]
fn leader_high_watermark() {
    play("leader_high_watermark.txt", leader::Machine::default());
}

#[test]
fn leader_in_sync_set() {
    play("leader_in_sync_set.txt", leader::Machine::default());
}

#[test]
fn leader_streams() {
    play("leader_streams.txt", leader::Machine::default());
}

#[test]
fn follower_pulls() {
    play("follower_pulls.txt", replica::Machine::default());
}

#[test]
fn follower_truncates() {
    play("follower_truncates.txt", replica::Machine::default());
}

#[test]
fn replica_roles() {
    play("replica_roles.txt", replica::Machine::default());
}

#[test]
fn cluster_registration() {
    play("cluster_registration.txt", cluster::Machine::default());
}

#[test]
fn cluster_elections() {
    play("cluster_elections.txt", cluster::Machine::default());
}

#[test]
fn cluster_eligible_leaders() {
    play("cluster_eligible_leaders.txt", cluster::Machine::default());
}

#[test]
fn cluster_resignation() {
    play("cluster_resignation.txt", cluster::Machine::default());
}

#[test]
fn cluster_alter_partition() {
    play("cluster_alter_partition.txt", cluster::Machine::default());
}

#[test]
fn cluster_reassignment() {
    play("cluster_reassignment.txt", cluster::Machine::default());
}

#[test]
fn cluster_placement() {
    play("cluster_placement.txt", cluster::Machine::default());
}
