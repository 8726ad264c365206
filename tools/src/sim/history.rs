//! One history: a few lives of a few logs on one disk, and the rot in between.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use millrace_model::{LeaderEpoch, LogId, PartitionId, TopicId, TopicSettings};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;

use super::ledger::Ledger;
use super::life::Life;
use super::producer::Producer;
use super::trace::{Trace, Violation};
use super::world::{Allowed, World, trace};

/// Where the logs are on the disk.
pub(super) const ROOT: &str = "/data";

/// The clock when a history begins.
const FIRST_MS: i64 = 1_700_000_000_000;

/// Runs the history of `seed`.
///
/// # Errors
/// The first thing that happened and must not.
pub(super) fn run(seed: u64, trace: Rc<Trace>) -> Result<(), Violation> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut disk = MemoryDisk::new(rng.u64(..));
    let world = world(trace, rng.fork());
    let logs: Vec<_> = (0..=world.below(3))
        .map(|name| Kept::new(name as usize, &world))
        .collect();
    let lives = 2 + world.below(4);
    for life in 0..lives {
        let life = Life {
            world: world.clone(),
            disk: disk.clone(),
            epoch: LeaderEpoch(life as u32),
            tasks: LocalTasks::new(rng.u64(..)),
            allowed: Allowed {
                errors: world.one_in(5),
                full: world.one_in(5),
            },
            last: life + 1 == lives,
        };
        life.run(&logs)?;
        disk = life.end(&mut rng);
        for log in &logs {
            log.turn_bits(&world, &disk);
        }
    }
    Ok(())
}

pub(super) fn world(trace: Rc<Trace>, rng: fastrand::Rng) -> World {
    World {
        trace,
        rng: Rc::new(RefCell::new(rng)),
        clock: Rc::new(Cell::new(FIRST_MS)),
        violation: Rc::default(),
    }
}

/// A segment length that makes segments roll every few batches.
pub(super) fn segment_bytes(world: &World) -> u64 {
    8192 + world.below(60_000)
}

/// What outlives a life: a log's ledger, its settings and its producers.
pub(super) struct Kept {
    pub(super) name: usize,
    pub(super) id: LogId,
    pub(super) ledger: Rc<RefCell<Ledger>>,
    pub(super) settings: RefCell<TopicSettings>,
    pub(super) producers: Vec<Rc<Producer>>,
    pub(super) rot: RefCell<Option<Rot>>,
    /// Whether it called itself damaged in the last life.
    pub(super) damaged: Cell<bool>,
}

/// A bit that was turned.
pub(super) struct Rot {
    path: PathBuf,
    byte: u64,
    bit: u8,
    /// The byte's value since then.
    value: u8,
}

impl Kept {
    pub(super) fn new(name: usize, world: &World) -> Self {
        let mut topic = [0; 16];
        topic.fill_with(|| world.below(256) as u8);
        let id = LogId {
            topic: TopicId(topic),
            partition: PartitionId(name as u32),
        };
        let settings = TopicSettings {
            segment_bytes: segment_bytes(world),
            write_caching: world.one_in(4),
            flush_bytes: 1 + world.below(30_000),
            flush_ms: 1 + world.below(100),
            segment_ms: 100 + world.below(2000),
            retention_ms: world.one_in(6).then(|| 100 + world.below(500)),
            retention_bytes: world.one_in(6).then(|| world.below(150_000)),
            ..TopicSettings::default()
        };
        let producers = (0..world.below(3)).map(|index| {
            let id = (name as i64 + 1) * 100 + index as i64;
            Rc::new(Producer::new(id))
        });
        Self {
            name,
            id,
            ledger: Rc::new(RefCell::new(Ledger::new(id))),
            settings: RefCell::new(settings),
            producers: producers.collect(),
            rot: RefCell::new(None),
            damaged: Cell::new(false),
        }
    }

    /// Between two lives: turns a bit somewhere in the log's files, at times, or turns an
    /// earlier one back, after which a log that refused to go on must be whole again.
    fn turn_bits(&self, world: &World, disk: &MemoryDisk) {
        if let Some(rot) = self.rot.take() {
            let content = disk.content(&rot.path).unwrap_or_default();
            let untouched = content.get(rot.byte as usize) == Some(&rot.value);
            if self.damaged.get() && untouched {
                disk.flip(&rot.path, rot.byte, rot.bit)
                    .expect("the file was just read");
                self.ledger.borrow_mut().healed();
                trace!(world, "{} the bit is turned back", self.name);
            }
            return;
        }
        if self.ledger.borrow().is_rotten() || !world.one_in(10) {
            return;
        }
        let dir = Path::new(ROOT).join("logs").join(self.id.to_string());
        let files = disk.files(&dir);
        let Some((path, len)) = files.get(world.below(files.len() as u64) as usize) else {
            return;
        };
        if *len == 0 {
            return;
        }
        let (byte, bit) = (world.below(*len), world.below(8) as u8);
        disk.flip(path, byte, bit)
            .expect("the file was just listed");
        let value = disk.content(path).expect("the file was just listed")[byte as usize];
        trace!(
            world,
            "{} bit {bit} of byte {byte} in {} turns",
            self.name,
            path.display()
        );
        self.ledger.borrow_mut().rot();
        self.rot.replace(Some(Rot {
            path: path.clone(),
            byte,
            bit,
            value,
        }));
    }
}
