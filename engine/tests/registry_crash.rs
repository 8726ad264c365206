//! The registry on a disk that loses power at any I/O: each change is there as a whole or not
//! at all, and those that were answered are there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use millrace_engine::registry::{LogJournal, Registry, RegistryClient};
use millrace_model::{BrokerId, LeaderEpoch, Timestamp, TopicId};
use millrace_replication::{Change, Command, Metadata, Request};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;

/// Lives of a broker in one history, each ended by a crash.
const LIVES: u32 = 8;

/// Histories. Each crashes at other moments.
const HISTORIES: u64 = 150;

/// Requests of a life, if it lasts that long.
const REQUESTS: usize = 12;

/// What is known from outside.
#[derive(Clone, Default)]
struct Ledger {
    /// Commands that were applied, in their order.
    applied: Rc<RefCell<Vec<Command>>>,
    /// The request that was sent and not answered.
    in_flight: Rc<RefCell<Option<Request>>>,
}

fn random_request(random: &mut fastrand::Rng, names: &[String]) -> Request {
    let name = names[random.usize(..names.len())].clone();
    match random.u8(0..10) {
        0..5 => Request::CreateTopic {
            name,
            id: TopicId(random.u128(..).to_le_bytes()),
            partitions: random.u32(1..5),
            overrides: vec![("retention.ms".to_owned(), random.u32(1..9).to_string())],
        },
        5..7 => Request::DeleteTopic { name },
        7..9 => Request::AlterTopic {
            name,
            partitions: Some(random.u32(1..9)),
            overrides: vec![("retention.ms".to_owned(), None)],
        },
        _ => Request::AllocateProducerIds,
    }
}

async fn ask(client: RegistryClient, ledger: Ledger, mut random: fastrand::Rng) {
    let names: Vec<String> = (0..4).map(|at| format!("topic-{at}")).collect();
    for _ in 0..REQUESTS {
        let request = random_request(&mut random, &names);
        *ledger.in_flight.borrow_mut() = Some(request.clone());
        let applied = ledger.applied.borrow().len();
        let answer = client.submit(request).await;
        let expected = applied + usize::from(answer.is_ok());
        assert_eq!(
            ledger.applied.borrow().len(),
            expected,
            "answered as it was applied"
        );
        *ledger.in_flight.borrow_mut() = None;
    }
}

/// One life: opens, checks what is there, asks, until the disk stops or the requests end.
async fn live(disk: MemoryDisk, epoch: LeaderEpoch, ledger: Ledger, random: fastrand::Rng) {
    let directory = PathBuf::from("/data/metadata");
    let opened = LogJournal::open(disk, directory, epoch, || Timestamp(1_700_000_000_000)).await;
    let (journal, recovered) = opened.unwrap();
    let registry = Registry::open(journal, recovered, BrokerId(0), epoch)
        .await
        .unwrap();
    check(&registry.metadata(), epoch, &ledger);
    let client = registry.client();
    let applied = Rc::clone(&ledger.applied);
    let run = registry
        .snapshot_every(5)
        .run(async move |command: &Command, _: &Change| {
            applied.borrow_mut().push(command.clone());
        });
    futures_lite::future::zip(run, ask(client, ledger, random)).await;
}

/// The state is that of the applied commands, or of these and the request in flight.
fn check(found: &Metadata, epoch: LeaderEpoch, ledger: &Ledger) {
    let mut expected = Metadata::default();
    for command in ledger.applied.borrow().iter() {
        expected.apply(command).unwrap();
    }
    let in_flight = ledger.in_flight.borrow_mut().take();
    if topics(found) != topics(&expected) || found.next_producer_id() != expected.next_producer_id()
    {
        let command = expected.validate(in_flight.expect("a change that nobody asked for"));
        let command = command.expect("a change that was refused");
        expected.apply(&command).unwrap();
        ledger.applied.borrow_mut().push(command);
    }
    assert_eq!(topics(found), topics(&expected));
    assert_eq!(found.next_producer_id(), expected.next_producer_id());
    assert_eq!(found.broker_epoch(BrokerId(0)), Some(epoch));
}

fn topics(metadata: &Metadata) -> Vec<millrace_replication::Topic> {
    metadata.topics().cloned().collect()
}

fn history(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut disk = MemoryDisk::new(seed);
    let ledger = Ledger::default();
    for life in 1..=LIVES {
        disk.crash_after(random.u64(1..400));
        let tasks = LocalTasks::new(random.u64(..));
        let life = live(
            disk.clone(),
            LeaderEpoch(life),
            ledger.clone(),
            random.fork(),
        );
        // An error says that the disk stopped in the middle, which is what it is for.
        let _ = tasks.block_on(life);
        tasks.kill_all();
        disk = disk.crash(&mut random);
    }
    ledger.applied.borrow().len()
}

#[test]
fn a_crash_at_any_moment_leaves_each_change_whole_or_absent() {
    let applied: usize = (0..HISTORIES).map(history).sum();
    assert!(
        applied > HISTORIES as usize * 10,
        "the histories do something: {applied}"
    );
}
