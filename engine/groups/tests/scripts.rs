//! Runs `scripts/*.txt`: lines that start with `>` are commands, those after them the full
//! trace of what the coordinator did. `UPDATE_SCRIPTS=1` writes the trace anew, to be read
//! before it is committed.
//!
//! After each command the whole log is replayed into a new coordinator, whose snapshot must be that of
//! the one at work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "scripts/command.rs"]
mod command;
#[path = "scripts/machine.rs"]
mod machine;
#[path = "scripts/show.rs"]
mod show;

use std::fmt::Write as _;
use std::path::Path;

fn play(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name);
    let script = std::fs::read_to_string(&path).unwrap();
    let mut machine = machine::Machine::default();
    let mut trace = String::new();
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(trace, "{line}").unwrap();
        } else if let Some(command) = line.strip_prefix("> ") {
            writeln!(trace, "{line}").unwrap();
            for answer in machine.run(command) {
                writeln!(trace, "{answer}").unwrap();
            }
        }
    }
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        std::fs::write(&path, &trace).unwrap();
    }
    for (at, (found, stated)) in trace.lines().zip(script.lines()).enumerate() {
        if std::env::var_os("UPDATE_SCRIPTS").is_none() {
            assert_eq!(found, stated, "{name}, line {}", at + 1);
        }
    }
    let stated = std::fs::read_to_string(&path).unwrap();
    assert_eq!(trace.lines().count(), stated.lines().count(), "{name}");
}

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            play(concat!(stringify!($name), ".txt"));
        })*

        #[test]
        fn every_script_is_played() {
            let named = [$(concat!(stringify!($name), ".txt")),*];
            for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(named.contains(&name.as_str()), "{name}");
            }
        }
    };
}

scripts! {
    classic_join_and_leave
    classic_eager_and_cooperative
    classic_slow_member
    classic_static
    classic_refusals
    offsets
    offsets_expiry
    durability
}
