//! The registry's task over a journal that fails on purpose.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use futures_lite::future;
use millrace_model::TopicId;

use super::*;

/// What a journal did, and how the next appends end.
#[derive(Default)]
struct Script {
    commands: Vec<Vec<u8>>,
    snapshots: Vec<Vec<u8>>,
    failures: Vec<JournalError>,
}

#[derive(Clone, Default)]
struct FakeJournal(Rc<RefCell<Script>>);

impl Journal for FakeJournal {
    async fn append(&mut self, command: Vec<u8>) -> Result<(), JournalError> {
        let mut script = self.0.borrow_mut();
        match script.failures.pop() {
            Some(error) => Err(error),
            None => {
                script.commands.push(command);
                Ok(())
            }
        }
    }

    async fn save_snapshot(&mut self, snapshot: Vec<u8>) -> Result<(), JournalError> {
        let mut script = self.0.borrow_mut();
        script.commands.clear();
        script.snapshots.push(snapshot);
        Ok(())
    }
}

impl FakeJournal {
    fn recovered(&self) -> Recovered {
        let script = self.0.borrow();
        let snapshot = script.snapshots.last().cloned();
        Recovered {
            snapshot,
            commands: script.commands.clone(),
        }
    }

    fn open(&self, epoch: u32) -> Registry<Self> {
        let opened = Registry::open(
            self.clone(),
            self.recovered(),
            BrokerId(0),
            LeaderEpoch(epoch),
        );
        future::block_on(opened).unwrap()
    }
}

fn create(name: &str, id: u8) -> Request {
    Request::CreateTopic {
        name: name.to_owned(),
        id: TopicId([id; 16]),
        partitions: 1,
        overrides: Vec::new(),
    }
}

/// Runs the registry until `asking` is done, and says what was broadcast.
fn run<F: Future<Output = ()>>(
    registry: Registry<FakeJournal>,
    asking: impl FnOnce(RegistryClient) -> F,
) -> Vec<Command> {
    let broadcasts = RefCell::new(Vec::new());
    let client = registry.client();
    let broadcast = async |command: &Command, _: &Change| {
        future::yield_now().await;
        broadcasts.borrow_mut().push(command.clone());
    };
    future::block_on(future::zip(registry.run(broadcast), asking(client)));
    broadcasts.into_inner()
}

#[test]
fn a_change_is_durable_and_broadcast_before_it_is_answered() {
    let journal = FakeJournal::default();
    let durable = Rc::clone(&journal.0);
    let broadcasts = run(journal.open(1), async |client| {
        let change = client.submit(create("orders", 1)).await.unwrap();
        assert_eq!(change, Change::TopicCreated(TopicId([1; 16])));
        assert_eq!(
            durable.borrow().commands.len(),
            2,
            "the start and the topic"
        );
        let refusal = client.submit(create("orders", 2)).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::TopicAlreadyExists);
        assert_eq!(durable.borrow().commands.len(), 2);
    });
    assert_eq!(broadcasts.len(), 1);
    assert!(journal.open(2).metadata().topic_named("orders").is_some());
}

#[test]
fn a_client_that_goes_away_leaves_a_whole_change() {
    let journal = FakeJournal::default();
    let broadcasts = run(journal.open(1), async |client| {
        let mut submission = Box::pin(client.submit(create("orders", 1)));
        assert!(future::poll_once(&mut submission).await.is_none());
        drop(submission);
    });
    assert_eq!(broadcasts.len(), 1);
    assert!(journal.open(2).metadata().topic_named("orders").is_some());
}

#[test]
fn a_full_disk_refuses_until_there_is_space() {
    let journal = FakeJournal::default();
    let script = Rc::clone(&journal.0);
    run(journal.open(1), async |client| {
        script.borrow_mut().failures.push(JournalError::Full);
        let refusal = client.submit(create("orders", 1)).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::KafkaStorageError);
        client.submit(create("orders", 2)).await.unwrap();
    });
}

#[test]
fn after_any_other_failure_nothing_is_changed_until_a_restart() {
    let journal = FakeJournal::default();
    let script = Rc::clone(&journal.0);
    let broadcasts = run(journal.open(1), async |client| {
        script
            .borrow_mut()
            .failures
            .push(JournalError::Damaged("planted".to_owned()));
        for _ in 0..2 {
            let refusal = client.submit(create("orders", 1)).await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::KafkaStorageError);
            assert!(refusal.message.contains("restart the broker"), "{refusal}");
        }
    });
    assert_eq!(broadcasts, []);
}

#[test]
fn a_snapshot_replaces_the_commands_before_it() {
    let journal = FakeJournal::default();
    run(journal.open(1).snapshot_every(3), async |client| {
        for id in 1..=7 {
            client
                .submit(create(&format!("topic-{id}"), id))
                .await
                .unwrap();
        }
    });
    assert_eq!(journal.0.borrow().snapshots.len(), 2);
    assert_eq!(
        journal.0.borrow().commands.len(),
        2,
        "8 commands, 6 of them in snapshots"
    );
    assert_eq!(journal.open(2).metadata().topics().len(), 7);
}

#[test]
fn an_epoch_that_does_not_grow_is_refused() {
    let journal = FakeJournal::default();
    drop(journal.open(5));
    let opened = Registry::open(
        journal.clone(),
        journal.recovered(),
        BrokerId(0),
        LeaderEpoch(5),
    );
    assert!(matches!(
        future::block_on(opened),
        Err(RegistryError::Epoch(_))
    ));
}

#[test]
fn a_damaged_command_is_named() {
    let journal = FakeJournal::default();
    drop(journal.open(1));
    journal.0.borrow_mut().commands.push(vec![0; 40]);
    let opened = Registry::open(
        journal.clone(),
        journal.recovered(),
        BrokerId(0),
        LeaderEpoch(2),
    );
    assert!(matches!(
        future::block_on(opened),
        Err(RegistryError::Command { index: 1, .. })
    ));
    journal.0.borrow_mut().commands.pop();
    let twice = Command::DeleteTopic {
        id: TopicId([1; 16]),
    }
    .to_bytes();
    journal.0.borrow_mut().commands.push(twice);
    let opened = Registry::open(
        journal.clone(),
        journal.recovered(),
        BrokerId(0),
        LeaderEpoch(2),
    );
    assert!(matches!(
        future::block_on(opened),
        Err(RegistryError::Apply { index: 1, .. })
    ));
}

#[test]
fn random_topic_ids_differ() {
    assert_ne!(random_topic_id().unwrap(), random_topic_id().unwrap());
}
