//! The journal on a disk that loses power at any I/O, beside a model of what it must hold.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use millrace_model::BrokerId;
use millrace_replication::quorum::{
    Entry, Membership, Payload, Snapshot, SnapshotMeta, Term, WriteId,
};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;

use super::*;

const HISTORIES: u64 = 150;
const LIVES: u32 = 6;
const WRITES: usize = 12;

fn directory() -> PathBuf {
    PathBuf::from("/data/metadata/quorum")
}

/// A clock that moves, so that a full disk is probed again.
pub(in crate::controller) fn passing() -> Timestamp {
    thread_local! {
        static NOW: Cell<i64> = const { Cell::new(1_700_000_000_000) };
    }
    Timestamp(NOW.replace(NOW.get() + 100))
}

async fn open(disk: MemoryDisk, life: u32) -> (LogJournal<MemoryDisk>, RecoveredJournal) {
    LogJournal::open(disk, directory(), LeaderEpoch(life), passing)
        .await
        .unwrap()
}

fn entry(index: u64, term: u64, text: &str) -> Entry {
    Entry {
        index: Index(index),
        term: Term(term),
        payload: Payload::Command(Bytes::copy_from_slice(text.as_bytes())),
    }
}

/// What a journal holds, as a node sees it: entries that the snapshot covers do not count.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(Recovered);

impl Model {
    fn seen(mut recovered: Recovered) -> Self {
        let covered = recovered.snapshot.meta.index;
        recovered.entries.retain(|entry| entry.index > covered);
        Self(recovered)
    }

    fn end(&self) -> u64 {
        let snapshot = self.0.snapshot.meta.index;
        self.0.entries.last().map_or(snapshot, |it| it.index).0
    }

    /// The states that a crash in the middle of this write may leave, the last is all of it.
    fn steps(&self, write: &Write) -> Vec<Self> {
        let mut steps = vec![self.clone()];
        let mut state = self.clone();
        if let Some(hard) = write.hard_state {
            state.0.hard_state = hard;
            steps.push(state.clone());
        }
        if let Some(SnapshotWrite { snapshot, tail }) = &write.snapshot {
            if *tail == LogTail::Discard {
                state.0.entries.clear();
            }
            state.0.snapshot = snapshot.clone();
            state = Self::seen(state.0);
            steps.push(state.clone());
        }
        for entry in &write.entries {
            state.0.entries.retain(|it| it.index < entry.index);
            state.0.entries.push(entry.clone());
            steps.push(state.clone());
        }
        steps
    }
}

fn random_write(model: &Model, random: &mut fastrand::Rng) -> Write {
    let mut write = Write {
        id: WriteId(random.u64(..)),
        hard_state: random.bool().then(|| HardState {
            term: Term(model.0.hard_state.term.0 + random.u64(0..3)),
            vote: random.bool().then(|| BrokerId(random.u32(1..4))),
        }),
        snapshot: None,
        entries: Vec::new(),
    };
    let (base, end) = (model.0.snapshot.meta.index.0, model.end());
    let mut first = random.u64(base + 1..=end + 1);
    if random.u8(0..5) == 0 {
        let tail = match random.bool() && end > base {
            true => LogTail::Keep,
            false => LogTail::Discard,
        };
        let index = match tail {
            LogTail::Keep => random.u64(base + 1..=end),
            LogTail::Discard => end + random.u64(1..5),
        };
        let meta = SnapshotMeta {
            index: Index(index),
            term: Term(1),
            membership: Membership::of_voters([BrokerId(1), BrokerId(2)]),
        };
        let data = Bytes::from(vec![random.u8(..); random.usize(0..9_000)]);
        write.snapshot = Some(SnapshotWrite {
            snapshot: Snapshot { meta, data },
            tail,
        });
        first = index.max(first) + 1;
        if tail == LogTail::Keep {
            first = first.min(end + 1);
        } else {
            first = index + 1;
        }
    }
    for index in first..first + random.u64(0..6) {
        let text = "x".repeat(random.usize(0..3_000));
        write.entries.push(entry(index, random.u64(1..9), &text));
    }
    write
}

/// What may be found after a crash.
type Possible = Rc<RefCell<Vec<Model>>>;

async fn live(disk: MemoryDisk, life: u32, possible: Possible, mut random: fastrand::Rng) {
    let (mut journal, recovered) = open(disk, life).await;
    let mut found = Model::seen(recovered);
    assert!(
        possible.borrow().contains(&found),
        "found {found:?}, possible {:?}",
        possible.borrow()
    );
    *possible.borrow_mut() = vec![found.clone()];
    for _ in 0..WRITES {
        let mut writes = Vec::new();
        for _ in 0..random.usize(1..4) {
            let write = random_write(&found, &mut random);
            let steps = found.steps(&write);
            found = steps.last().unwrap().clone();
            possible.borrow_mut().extend(steps);
            writes.push(write);
        }
        journal.persist(&writes).await.unwrap();
        *possible.borrow_mut() = vec![found.clone()];
    }
}

#[test]
fn a_crash_at_any_moment_leaves_the_first_parts_of_a_write() {
    let mut crashes = 0;
    for seed in 0..HISTORIES {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut disk = MemoryDisk::new(seed);
        let possible: Possible = Rc::new(RefCell::new(vec![Model::default()]));
        for life in 1..=LIVES {
            disk.crash_after(random.u64(1..250));
            let tasks = LocalTasks::new(random.u64(..));
            let life = live(disk.clone(), life, Rc::clone(&possible), random.fork());
            // An error says that the disk stopped in the middle, which is what it is for.
            crashes += usize::from(tasks.block_on(life).is_err());
            tasks.kill_all();
            disk = disk.crash(&mut random);
        }
    }
    assert!(
        crashes > HISTORIES as usize,
        "the disk does stop: {crashes}"
    );
}

#[test]
fn a_full_disk_takes_the_same_write_later() {
    let disk = MemoryDisk::new(1);
    let tasks = LocalTasks::new(1);
    let full = disk.clone();
    let write = Write {
        id: WriteId(1),
        hard_state: Some(HardState {
            term: Term(3),
            vote: None,
        }),
        snapshot: None,
        entries: vec![entry(1, 3, &"y".repeat(20_000))],
    };
    let again = write.clone();
    let persisted = async move {
        let (mut journal, _) = open(full.clone(), 1).await;
        full.set_capacity(Some(full.allocated()));
        let writes = [write];
        assert!(matches!(
            journal.persist(&writes).await,
            Err(JournalError::Full)
        ));
        full.set_capacity(None);
        while let Err(JournalError::Full) = journal.persist(&writes).await {}
    };
    tasks.block_on(persisted).unwrap();
    tasks.kill_all();
    let found = tasks
        .block_on(async move { open(disk, 2).await.1 })
        .unwrap();
    assert_eq!(found.hard_state.term, Term(3));
    assert_eq!(found.entries, again.entries);
}

#[test]
fn a_damaged_or_cut_snapshot_is_refused() {
    let disk = MemoryDisk::new(1);
    let tasks = LocalTasks::new(1);
    let snapshot = Snapshot {
        meta: SnapshotMeta {
            index: Index(9),
            term: Term(2),
            membership: Membership::of_voters([BrokerId(1)]),
        },
        data: Bytes::from_static(b"the state"),
    };
    let write = Write {
        id: WriteId(1),
        hard_state: None,
        snapshot: Some(SnapshotWrite {
            snapshot,
            tail: LogTail::Discard,
        }),
        entries: Vec::new(),
    };
    let written = disk.clone();
    let written = async move { open(written, 1).await.0.persist(&[write]).await };
    tasks.block_on(written).unwrap().unwrap();
    tasks.kill_all();
    disk.flip(&directory().join("snapshot"), 30, 3).unwrap();
    let refused = tasks
        .block_on(async move {
            let opened = LogJournal::open(disk, directory(), LeaderEpoch(2), passing).await;
            opened.err().unwrap().to_string()
        })
        .unwrap();
    assert!(
        refused.contains("snapshot") && refused.contains("restore it"),
        "{refused}"
    );
}
