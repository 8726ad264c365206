//! Runs `scripts/*.txt`: lines that start with `>` are commands, those after them the full
//! trace of what the machine answered. `UPDATE_SCRIPTS=1` writes the trace anew, to be read
//! before it is committed.
//!
//! Scripts named `consumer_*` drive one group of the broker-driven protocol, the others a whole coordinator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "scripts/command.rs"]
mod command;
#[path = "scripts/consumer.rs"]
mod consumer;
#[path = "scripts/coordinator.rs"]
mod coordinator;
#[path = "scripts/show.rs"]
mod show;

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

macro_rules! scripts {
    ($machine:ty: $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                play(concat!(stringify!($name), ".txt"), <$machine>::default());
            }
        )*
    };
}

scripts! {
    consumer::Machine:
    consumer_join_and_leave
    consumer_three_members
    consumer_crash
    consumer_slow_revocation
    consumer_static_members
    consumer_regex
    consumer_topics
    consumer_fencing
    consumer_requests
    consumer_upgrade
    consumer_downgrade
}

scripts! {
    coordinator::Machine:
    classic_join_and_leave
    classic_eager_and_cooperative
    classic_slow_member
    classic_static
    classic_held_heartbeats
    classic_heartbeats_not_held
    classic_refusals
    offsets
    offsets_expiry
    migration
    durability
    too_large
}
