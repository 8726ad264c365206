//! The bytes of commands and snapshots: what one version writes the next has to read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_model::{BrokerId, LeaderEpoch, ProducerId, TopicId};
use millrace_replication::{Command, CommandError, Metadata, Override, SnapshotError, Topic};

fn topic() -> Topic {
    let setting = Override {
        name: "retention.ms".to_owned(),
        value: "60000".to_owned(),
    };
    Topic {
        name: "orders".to_owned(),
        id: TopicId([0xa5; 16]),
        partitions: 3,
        overrides: vec![setting],
    }
}

fn commands() -> [(Command, &'static str); 5] {
    let Topic { id, overrides, .. } = topic();
    [
        (
            Command::CreateTopic(topic()),
            "4d524d4301000000726574656e74696f6e2e6d738c000000f4ffffff3630303030ffffff00000000000000006f7264657273ffffa5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a503000000ccffffff01000000",
        ),
        (
            Command::DeleteTopic { id },
            "4d524d430100000001a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a50000000000000000000000000000000000000000000000",
        ),
        (
            Command::AlterTopic {
                id,
                partitions: 6,
                overrides,
            },
            "4d524d4301000000726574656e74696f6e2e6d738c000000f4ffffff3630303030ffffff0000000002a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a500000006000000d4ffffff010000000000000000000000",
        ),
        (
            Command::AllocateProducerIds {
                first: ProducerId(2000),
                count: 1000,
            },
            "4d524d43010000000300000000000000d007000000000000e80300000000000000000000000000000000000000000000",
        ),
        (
            Command::BrokerStarted {
                broker: BrokerId(7),
                epoch: LeaderEpoch(12),
            },
            "4d524d430100000004000000070000000c00000000000000000000000000000000000000000000000000000000000000",
        ),
    ]
}

fn state() -> Metadata {
    let mut state = Metadata::default();
    for command in [
        Command::CreateTopic(topic()),
        Command::AllocateProducerIds {
            first: ProducerId(0),
            count: 1000,
        },
        Command::BrokerStarted {
            broker: BrokerId(7),
            epoch: LeaderEpoch(12),
        },
    ] {
        state.apply(&command).unwrap();
    }
    state
}

const SNAPSHOT: &str = "4d524d5301000000726574656e74696f6e2e6d738c000000f4ffffff3630303030ffffff6f7264657273ffffa5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a503000000d4ffffff01000000070000000c000000d4ffffff01000000e803000000000000e8ffffff01000000";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn commands_are_as_they_were() {
    for (command, golden) in commands() {
        assert_eq!(hex(&command.to_bytes()), golden, "{command:?}");
        assert_eq!(Command::from_bytes(&command.to_bytes()).unwrap(), command);
    }
}

#[test]
fn snapshots_are_as_they_were() {
    assert_eq!(hex(&state().to_snapshot()), SNAPSHOT);
    assert_eq!(
        Metadata::from_snapshot(&state().to_snapshot()).unwrap(),
        state()
    );
}

#[test]
fn other_versions_and_other_bytes_are_refused() {
    let mut bytes = Command::DeleteTopic {
        id: TopicId([1; 16]),
    }
    .to_bytes();
    bytes[4] = 2;
    assert_eq!(Command::from_bytes(&bytes), Err(CommandError::Version(2)));
    assert_eq!(Command::from_bytes(b"MRM"), Err(CommandError::Magic));
    assert_eq!(
        Command::from_bytes(&state().to_snapshot()),
        Err(CommandError::Magic)
    );
    let mut bytes = state().to_snapshot();
    bytes[4] = 9;
    assert_eq!(
        Metadata::from_snapshot(&bytes),
        Err(SnapshotError::Version(9))
    );
}

#[test]
fn hostile_bytes_never_panic() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut originals: Vec<Vec<u8>> = commands()
        .iter()
        .map(|(command, _)| command.to_bytes())
        .collect();
    originals.push(state().to_snapshot());
    for original in originals {
        for len in 0..original.len() {
            let _ = Command::from_bytes(&original[..len]);
            let _ = Metadata::from_snapshot(&original[..len]);
        }
        for _ in 0..2_000 {
            let mut bytes = original.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            let _ = Metadata::from_snapshot(&bytes);
            if let Ok(command) = Command::from_bytes(&bytes) {
                let _ = state().apply(&command);
            }
        }
    }
}

#[test]
fn a_command_that_does_not_fit_changes_nothing() {
    let mut state = state();
    let before = state.clone();
    for command in [
        Command::CreateTopic(topic()),
        Command::CreateTopic(Topic {
            id: TopicId([1; 16]),
            ..topic()
        }),
        Command::CreateTopic(Topic {
            name: "other".to_owned(),
            ..topic()
        }),
        Command::DeleteTopic {
            id: TopicId([1; 16]),
        },
        Command::AlterTopic {
            id: topic().id,
            partitions: 2,
            overrides: Vec::new(),
        },
        Command::AllocateProducerIds {
            first: ProducerId(999),
            count: 1,
        },
        Command::AllocateProducerIds {
            first: ProducerId(1000),
            count: 0,
        },
        Command::BrokerStarted {
            broker: BrokerId(7),
            epoch: LeaderEpoch(12),
        },
    ] {
        state.apply(&command).unwrap_err();
        assert_eq!(state, before, "{command:?}");
    }
}
