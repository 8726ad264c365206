//! The bytes of the quorum's messages and of the cluster's commands and snapshots: what one
//! version writes the next has to read. `golden/*.txt` holds a name and the bytes on each
//! line; `UPDATE_GOLDEN=1` writes them anew, to be read before they are committed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use millrace_model::{
    BrokerEpoch, BrokerId, ClusterId, ErrorCode, IncarnationId, LeaderEpoch, LogId, PartitionEpoch,
    PartitionId, ProducerId, Timestamp, TopicId,
};
use millrace_replication::cluster::{
    Acquaintance, AlterPartition, Answer, Ask, Cluster, ClusterRequest, ClusterSnapshotError,
    Command, ConfigChange, ConfigOwner, ElectionKind, Endpoint, FeatureRange, Heartbeat,
    InSyncMember, Introduction, LeaderRecovery, NewTopic, Partition, PartitionOutcome, PeerAnswer,
    PeerRequest, Registration, Resignation, VoterChange,
};
use millrace_replication::quorum::{
    Appended, Body, Effect, Entry, HardState, Index, Input, MemberReport, Membership, Message,
    Payload, Quorum, QuorumReport, QuorumSettings, Recovered, SnapshotMeta, Term, WireError,
};
use millrace_replication::{CommandError, Override, Refusal, Topic};

fn check(file: &str, found: &[(&str, Vec<u8>)]) {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let mut text = String::new();
    for (name, bytes) in found {
        writeln!(text, "{name} {}", hex(bytes)).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stated = std::fs::read_to_string(&path).unwrap();
    for (found, stated) in text.lines().zip(stated.lines()) {
        assert_eq!(found, stated);
    }
    assert_eq!(text.lines().count(), stated.lines().count());
}

fn membership() -> Membership {
    Membership {
        voters: [1, 2, 3].map(BrokerId).into(),
        learners: [7].map(BrokerId).into(),
    }
}

fn entries() -> Vec<Entry> {
    let payloads = [
        Payload::Noop,
        Payload::Command(Bytes::from_static(b"command")),
        Payload::Membership(membership()),
    ];
    let entry = |(index, payload)| Entry {
        index: Index(index),
        term: Term(4),
        payload,
    };
    (11..).zip(payloads).map(entry).collect()
}

fn messages() -> Vec<(&'static str, Message)> {
    let (last_index, last_term) = (Index(10), Term(3));
    let meta = SnapshotMeta {
        index: Index(9),
        term: Term(3),
        membership: membership(),
    };
    let bodies = [
        (
            "pre-vote",
            Body::PreVote {
                last_index,
                last_term,
            },
        ),
        ("pre-vote-answer", Body::PreVoteAnswer { granted: true }),
        (
            "vote",
            Body::Vote {
                last_index,
                last_term,
                transfer: true,
            },
        ),
        ("vote-answer", Body::VoteAnswer { granted: false }),
        (
            "append",
            Body::Append {
                previous: Index(10),
                previous_term: Term(3),
                commit: Index(8),
                entries: entries(),
            },
        ),
        ("matched", Body::AppendAnswer(Appended::Matched(Index(13)))),
        (
            "mismatch",
            Body::AppendAnswer(Appended::Mismatch {
                previous: Index(10),
                hint: Index(6),
                hint_term: Term(2),
            }),
        ),
        (
            "snapshot-part",
            Body::SnapshotPart {
                meta,
                total: 100,
                offset: 40,
                data: Bytes::from_static(b"part"),
            },
        ),
        (
            "snapshot-answer",
            Body::SnapshotAnswer {
                index: Index(9),
                received: 44,
            },
        ),
        ("campaign-now", Body::CampaignNow),
    ];
    let message = |(name, body)| {
        let message = Message {
            from: BrokerId(1),
            to: BrokerId(2),
            term: Term(4),
            body,
        };
        (name, message)
    };
    bodies.into_iter().map(message).collect()
}

#[test]
fn messages_are_as_they_were() {
    let mut found: Vec<(&str, Vec<u8>)> = Vec::new();
    for (name, message) in messages() {
        let bytes = message.to_bytes();
        assert_eq!(Message::from_bytes(&bytes), Ok(message));
        found.push((name, bytes.to_vec()));
    }
    let hard = HardState {
        term: Term(4),
        vote: Some(BrokerId(2)),
    };
    assert_eq!(HardState::from_bytes(&hard.to_bytes()), Ok(hard));
    found.push(("hard-state", hard.to_bytes().to_vec()));
    for entry in entries() {
        assert_eq!(Entry::from_bytes(&entry.to_bytes()), Ok(entry.clone()));
        found.push(("entry", entry.to_bytes().to_vec()));
    }
    check("quorum.txt", &found);
}

#[test]
fn other_messages_are_refused() {
    let good = messages()[4].1.to_bytes();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Message::from_bytes(&bytes.into())
    };
    assert_eq!(changed(0, 0), Err(WireError::Magic));
    assert_eq!(changed(4, 2), Err(WireError::Version(2)));
    assert_eq!(changed(6, 99), Err(WireError::Kind(99)));
    // The count of entries: 2^24 of them.
    assert!(matches!(changed(51, 1), Err(WireError::TooMany { .. })));
    let mut longer = good.to_vec();
    longer.push(0);
    assert_eq!(
        Message::from_bytes(&longer.into()),
        Err(WireError::Trailing(1))
    );
    assert!(matches!(
        Message::from_bytes(&good.slice(..good.len() - 1)),
        Err(WireError::Short { .. })
    ));
}

/// A node that is asked everything by strangers: it answers or refuses, and never panics.
#[test]
fn hostile_messages_never_panic() {
    let mut random = fastrand::Rng::with_seed(5);
    let voters = [1, 2, 3].map(BrokerId);
    for seed in 0..60 {
        let recovered = Recovered {
            hard_state: HardState {
                term: Term(3),
                vote: None,
            },
            entries: (2..=10)
                .map(|index| Entry {
                    index: Index(index),
                    term: Term(1 + index / 4),
                    payload: Payload::Noop,
                })
                .collect(),
            ..Recovered::default()
        };
        let mut first = Recovered::bootstrap(voters).entries;
        first.extend(recovered.entries);
        let recovered = Recovered {
            entries: first,
            ..recovered
        };
        let settings = QuorumSettings::default();
        let mut now = 0;
        let node = Quorum::new(BrokerId(2), settings, recovered, seed, Timestamp(now));
        let mut node = node.unwrap();
        for _ in 0..400 {
            let (_, message) = &messages()[random.usize(..messages().len())];
            let mut bytes = message.to_bytes().to_vec();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(8..bytes.len());
                bytes[at] = [0, 1, 2, 3, 4, 9, 10, 11, 255][random.usize(..9)];
            }
            let mut effects = Vec::new();
            if let Ok(message) = Message::from_bytes(&bytes.into()) {
                node.handle(Timestamp(now), Input::Message(message), &mut effects);
            }
            now += random.i64(0..300);
            node.handle(Timestamp(now), Input::Tick, &mut effects);
            for effect in std::mem::take(&mut effects) {
                if let Effect::Persist(write) = effect {
                    node.handle(Timestamp(now), Input::Persisted(write.id), &mut effects);
                }
            }
        }
    }
}

fn commands() -> Vec<(&'static str, Command)> {
    let (broker, epoch) = (BrokerId(7), BrokerEpoch(12));
    let id = TopicId([0xa5; 16]);
    let log = LogId {
        topic: id,
        partition: PartitionId(3),
    };
    let overrides = vec![Override {
        name: "retention.ms".to_owned(),
        value: "60000".to_owned(),
    }];
    let assignments = vec![
        vec![BrokerId(7), BrokerId(8)],
        vec![BrokerId(8), BrokerId(7)],
    ];
    let registration = Registration {
        cluster: ClusterId([1; 16]),
        id: broker,
        incarnation: IncarnationId([2; 16]),
        clean_from: Some(BrokerEpoch(5)),
        rack: Some("rack-a".to_owned()),
        endpoints: vec![Endpoint {
            listener: "KAFKA".to_owned(),
            host: "broker-7.example".to_owned(),
            port: 9092,
        }],
        shards: 4,
        features: FeatureRange { least: 1, most: 2 },
    };
    let adopted = Topic {
        name: "orders".to_owned(),
        id,
        partitions: 3,
        overrides: overrides.clone(),
    };
    let alter = AlterPartition {
        log,
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(9),
        in_sync: vec![InSyncMember { broker, epoch }],
        recovery: LeaderRecovery::Recovering,
    };
    vec![
        (
            "found",
            Command::Found {
                cluster: ClusterId([1; 16]),
                level: 1,
            },
        ),
        (
            "adopt",
            Command::Adopt {
                broker,
                epoch: LeaderEpoch(6),
                topics: vec![adopted],
                next_producer_id: 3000,
            },
        ),
        ("register", Command::Register(registration)),
        ("unfence", Command::Unfence { broker, epoch }),
        ("fence", Command::Fence { broker, epoch }),
        ("begin-shutdown", Command::BeginShutdown { broker, epoch }),
        (
            "cordon",
            Command::Cordon {
                broker,
                cordoned: true,
            },
        ),
        ("unregister", Command::Unregister { broker }),
        (
            "create-topic",
            Command::CreateTopic(NewTopic {
                name: "orders".to_owned(),
                id,
                overrides,
                assignments: assignments.clone(),
            }),
        ),
        ("delete-topic", Command::DeleteTopic { id }),
        (
            "create-partitions",
            Command::CreatePartitions {
                topic: id,
                present: 2,
                assignments,
            },
        ),
        (
            "alter-configs",
            Command::AlterConfigs {
                owner: ConfigOwner::Topic(id),
                changes: vec![ConfigChange {
                    name: "min.insync.replicas".to_owned(),
                    value: Some("2".to_owned()),
                }],
            },
        ),
        (
            "alter-partitions",
            Command::AlterPartitions {
                broker,
                epoch,
                partitions: vec![alter],
            },
        ),
        (
            "reassign",
            Command::Reassign {
                partition: log,
                target: Some(vec![broker]),
            },
        ),
        (
            "elect-leaders",
            Command::ElectLeaders {
                kind: ElectionKind::Unclean,
                partitions: vec![log],
            },
        ),
        (
            "allocate-producer-ids",
            Command::AllocateProducerIds { broker, epoch },
        ),
        ("set-feature-level", Command::SetFeatureLevel { level: 2 }),
        (
            "resign-leaders",
            Command::ResignLeaders {
                broker,
                epoch,
                partitions: vec![Resignation {
                    log,
                    leader_epoch: LeaderEpoch(4),
                }],
            },
        ),
    ]
}

/// A cluster of one broker that was alone before, with another that has just come.
fn peers() -> Vec<(&'static str, Vec<u8>)> {
    let unfence = Command::Unfence {
        broker: BrokerId(3),
        epoch: BrokerEpoch(9),
    };
    let delete = ClusterRequest::DeleteTopic {
        name: "orders".to_owned(),
    };
    let ask = |ask, again| PeerRequest::Ask { ask, again }.to_bytes();
    let beat = Heartbeat {
        broker: BrokerId(3),
        epoch: BrokerEpoch(9),
        applied: Index(77),
        wants_to_stop: true,
    };
    let told = |outcome| {
        let at = Index(5);
        PeerAnswer::Outcome { at, outcome }.to_bytes()
    };
    let changed = PartitionOutcome {
        code: ErrorCode::None,
        partition: Some(Partition {
            replicas: vec![BrokerId(3)],
            ..Partition::default()
        }),
    };
    let ids = Answer::ProducerIds {
        first: ProducerId(1000),
        count: 1000,
    };
    let refusal = Refusal::new(ErrorCode::TopicAlreadyExists, "topic `orders` exists");
    let answered = PeerAnswer::Heartbeat {
        code: ErrorCode::StaleBrokerEpoch,
        fenced: true,
        may_stop: false,
    };
    let report = QuorumReport {
        leader: BrokerId(1),
        term: 3,
        commit: 9,
        members: vec![MemberReport {
            id: BrokerId(1),
            votes: true,
            matched: 10,
            is_caught_up: true,
            silent_ms: 12,
        }],
    };
    let introduction = Introduction {
        leader: Some(BrokerId(2)),
        brokers: vec![Acquaintance {
            broker: BrokerId(2),
            host: "broker-2.example".to_owned(),
            port: 9644,
            shards: 4,
        }],
    };
    vec![
        ("ask-command", ask(Ask::Command(unfence), false)),
        ("ask-request", ask(Ask::Request(delete), true)),
        (
            "ask-voters",
            ask(Ask::Voters(VoterChange::Add(BrokerId(3))), false),
        ),
        ("heartbeat", PeerRequest::Heartbeat(beat).to_bytes()),
        ("introduce", PeerRequest::Introduce.to_bytes()),
        ("done", told(Ok(Answer::Done))),
        ("registered", told(Ok(Answer::Registered(BrokerEpoch(4))))),
        ("producer-ids", told(Ok(ids))),
        ("partitions", told(Ok(Answer::Partitions(vec![changed])))),
        ("refused", told(Err(refusal))),
        ("heartbeat-answer", answered.to_bytes()),
        ("status", PeerRequest::Status.to_bytes()),
        ("status-answer", PeerAnswer::Status(report).to_bytes()),
        (
            "introduction",
            PeerAnswer::Introduction(introduction).to_bytes(),
        ),
    ]
}

#[test]
fn what_controllers_say_is_as_it_was() {
    check("peer.txt", &peers());
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let commands: Vec<Command> = commands().into_iter().map(|(_, command)| command).collect();
    let Command::Register(registration) = &commands[2] else {
        unreachable!("the list begins so");
    };
    let other = Registration {
        id: BrokerId(8),
        ..registration.clone()
    };
    let epoch = BrokerEpoch(2);
    let unfence = Command::Unfence {
        broker: BrokerId(7),
        epoch,
    };
    let setting = Command::AlterConfigs {
        owner: ConfigOwner::AllBrokers,
        changes: vec![ConfigChange {
            name: "min.insync.replicas".to_owned(),
            value: Some("2".to_owned()),
        }],
    };
    let script = [
        commands[0].clone(),
        commands[2].clone(),
        unfence,
        commands[1].clone(),
        Command::Register(other),
        setting,
    ];
    for (index, command) in (1..).zip(&script) {
        cluster.apply(Index(index), command).unwrap();
    }
    cluster
}

#[test]
fn commands_and_snapshots_are_as_they_were() {
    let mut found: Vec<(&str, Vec<u8>)> = Vec::new();
    for (name, command) in commands() {
        let bytes = command.to_bytes();
        assert_eq!(Command::from_bytes(&bytes), Ok(command));
        found.push((name, bytes));
    }
    let snapshot = cluster().to_snapshot();
    assert_eq!(Cluster::from_snapshot(&snapshot), Ok(cluster()));
    found.push(("snapshot", snapshot));
    check("cluster.txt", &found);
}

#[test]
fn what_a_lone_broker_brings_goes_on_in_the_next_epoch() {
    let cluster = cluster();
    let topic = cluster.topic_named("orders").unwrap();
    assert_eq!(topic.partitions.len(), 3);
    assert_eq!(topic.partitions[0].leader, Some(BrokerId(7)));
    assert_eq!(topic.partitions[0].leader_epoch, LeaderEpoch(7));
    assert_eq!(cluster.next_producer_id().0, 3000);
}

#[test]
fn a_damaged_command_or_snapshot_is_refused() {
    let snapshot = cluster().to_snapshot();
    assert_eq!(Command::from_bytes(&snapshot), Err(CommandError::Magic));
    let mut later = snapshot.clone();
    later[4] = 9;
    assert_eq!(
        Cluster::from_snapshot(&later),
        Err(ClusterSnapshotError::Version(9))
    );
    for len in 0..snapshot.len() {
        assert!(
            Cluster::from_snapshot(&snapshot[..len]).is_err(),
            "cut at {len}"
        );
    }
    let mut random = fastrand::Rng::with_seed(3);
    let mut originals: Vec<Vec<u8>> = commands().iter().map(|(_, it)| it.to_bytes()).collect();
    originals.push(snapshot);
    for original in originals {
        for _ in 0..1_000 {
            let mut bytes = original.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            if let Ok(command) = Command::from_bytes(&bytes) {
                let _ = cluster().apply(Index(100), &command);
            }
            if let Ok(mut cluster) = Cluster::from_snapshot(&bytes)
                && cluster.applied() < Index(u64::MAX)
            {
                let index = Index(cluster.applied().0 + 1);
                let _ = cluster.apply(index, &commands()[3].1);
            }
        }
    }
}
