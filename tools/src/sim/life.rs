//! One life of the process: the logs are opened and checked, actors work on them, and in the
//! end what should work must work.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use millrace_model::{LeaderEpoch, LogId, Offset, TopicSettings};
use millrace_storage::disk::memory::executor::{Join, LocalTasks, Stalled};
use millrace_storage::disk::memory::{MemoryDisk, Operation};
use millrace_storage::{OpenError, Storage, StorageLimits};

use super::history::{Kept, ROOT};
use super::ledger::Ledger;
use super::producer::Producer;
use super::trace::{Violation, ensure};
use super::world::{Allowed, Subject, World, trace};
use super::{admin, producer, reader};

/// Appends that are tried before a log without faults is said not to heal.
const HEALING_ATTEMPTS: u32 = 60;

/// What passes on the clock between two of them.
const HEALING_STEP_MS: i64 = 100;

/// I/O points within which a planned crash strikes; a life without one passes about as many.
const CRASH_WITHIN: u64 = 900;

/// One life of the process.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) world: World,
    pub(super) disk: MemoryDisk,
    pub(super) epoch: LeaderEpoch,
    pub(super) tasks: LocalTasks,
    pub(super) allowed: Allowed,
    /// The last life sees no faults, and everything must work in the end.
    pub(super) last: bool,
}

impl Life {
    pub(super) fn run(&self, logs: &[Kept]) -> Result<(), Violation> {
        trace!(self.world, "life {}: {:?}", self.epoch, self.allowed);
        self.disk.set_capacity(None);
        if !self.last {
            self.plan_faults();
        }
        for log in logs {
            if self.allowed.full {
                log.ledger.borrow_mut().was_full();
            }
            log.damaged.set(false);
        }
        let opened = self.tasks.block_on(self.clone().open_all(plans(logs)));
        let lived = match opened {
            Err(stalled) => Err(stalled),
            Ok(subjects) => self.work(&subjects?, logs),
        };
        if let Some(violation) = self.world.violation.take() {
            return Err(violation);
        }
        match lived {
            Ok(result) => result,
            Err(_) if self.disk.is_crashed() => Ok(()),
            Err(stalled) => Err(Violation(format!("everything waits for ever: {stalled}"))),
        }
    }

    /// Lets the actors work, and notes what of it outlives this life.
    fn work(&self, subjects: &[Subject], logs: &[Kept]) -> Result<Result<(), Violation>, Stalled> {
        let actors = self.clone().live(subjects.to_vec(), plans(logs));
        let lived = self.tasks.block_on(actors);
        for subject in subjects {
            subject.trace_positions();
            let log = logs.iter().find(|log| log.id == subject.id);
            let log = log.expect("each subject is one of the logs");
            log.damaged.set(subject.is_damaged());
            log.settings.replace(subject.settings.borrow().clone());
        }
        lived
    }

    /// What comes after this life: the disk as the next one finds it.
    pub(super) fn end(&self, rng: &mut fastrand::Rng) -> MemoryDisk {
        self.tasks.kill_all();
        let power = rng.u8(..3) > 0;
        trace!(
            self.world,
            "{}",
            if power {
                "the power goes"
            } else {
                "the process ends"
            }
        );
        if power {
            self.disk.crash(rng)
        } else {
            self.disk.kill(rng)
        }
    }

    fn plan_faults(&self) {
        let world = &self.world;
        if !world.one_in(4) {
            let points = world.below(CRASH_WITHIN);
            trace!(world, "crash after {points} points");
            self.disk.crash_after(points);
        }
        if self.allowed.errors {
            let operation = OPERATIONS[world.below(OPERATIONS.len() as u64) as usize];
            let after = world.below(30);
            trace!(world, "{operation:?} fails after {after}");
            self.disk.fail(operation, after);
        }
        if self.allowed.full {
            let room = world.below(80_000);
            trace!(world, "room for {room} more bytes");
            self.disk.set_capacity(Some(self.disk.allocated() + room));
        }
    }

    pub(super) async fn open_all(self, plans: Vec<Plan>) -> Result<Vec<Subject>, Violation> {
        let limits = StorageLimits {
            read_cache_bytes: 1 + self.world.below(100_000) as usize,
            tail_bytes: 1 + self.world.below(60_000) as usize,
            open_files: 1 + self.world.below(6) as usize,
            recycled_bytes: self.world.below(2) * 100_000,
            append_buffer_bytes: (1 + self.world.below(16) as usize) * 4096,
            pending_bytes: 40_000 + self.world.below(100_000) as usize,
        };
        let storage = Storage::new(self.disk.clone(), PathBuf::from(ROOT), limits);
        let tasks = self.tasks.clone();
        storage.set_spawner(Rc::new(move |task| drop(tasks.spawn(task))));
        let mut subjects = Vec::new();
        for plan in plans {
            subjects.extend(self.open(&storage, plan).await?);
        }
        Ok(subjects)
    }

    /// Opens one log and checks everything that it holds.
    async fn open(
        &self,
        storage: &Storage<MemoryDisk>,
        plan: Plan,
    ) -> Result<Option<Subject>, Violation> {
        let settings = Rc::new(plan.settings.clone());
        let opened = storage
            .open_log(plan.id, settings, self.epoch, self.world.now())
            .await;
        let (log, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                trace!(self.world, "{} is not opened: {error}", plan.name);
                let OpenError::Disk(disk) = &error;
                let fine = if disk.is_full() {
                    self.allowed.full
                } else {
                    self.allowed.errors
                };
                ensure!(fine, "{} is not opened: {error}", plan.name);
                return Ok(None);
            }
        };
        let subject = Subject {
            world: self.world.clone(),
            name: plan.name,
            id: plan.id,
            epoch: self.epoch,
            disk: self.disk.clone(),
            log,
            ledger: plan.ledger,
            tasks: self.tasks.clone(),
            allowed: self.allowed,
            cached: Rc::new(Cell::new(plan.settings.write_caching)),
            settings: Rc::new(RefCell::new(plan.settings)),
            appending: Rc::default(),
            closed: Rc::default(),
            writing: Rc::default(),
        };
        let (start, end) = (subject.log.log_start(), subject.log.accepted_end());
        trace!(
            self.world,
            "{} opened: {start} to {end}, {report:?}", plan.name
        );
        if !Self::check_reopened(&subject).await? {
            return Ok(None);
        }
        subject.observe()?;
        reader::read_all(&subject).await?;
        Ok(Some(subject))
    }

    /// Finds out which of the batches that may have survived have, and checks that the others
    /// have. False if the disk does not let it be read, so that the log is left alone in this
    /// life.
    async fn check_reopened(subject: &Subject) -> Result<bool, Violation> {
        let (start, end) = (subject.log.log_start(), subject.log.accepted_end());
        let open = {
            let mut ledger = subject.ledger.borrow_mut();
            if subject.retains() {
                let limit = ledger.end();
                ledger.may_start_at(limit);
            }
            ledger.reopened(start.0, end.0, subject.is_damaged())?
        };
        let Some(open) = open else {
            return Ok(true);
        };
        if !reader::adopt(subject, Offset(open)).await? {
            return Ok(false);
        }
        let mut ledger = subject.ledger.borrow_mut();
        ledger.adopted()?;
        ledger.check_duplicates()?;
        Ok(true)
    }

    async fn live(self, subjects: Vec<Subject>, plans: Vec<Plan>) -> Result<(), Violation> {
        let mut actors = Vec::new();
        for subject in &subjects {
            let plan = plans.iter().find(|plan| plan.id == subject.id);
            let producers = &plan.expect("each subject is one of the logs").producers;
            actors.extend(self.actors_of(subject, producers));
        }
        if self.allowed.full && !self.last {
            let (world, disk) = (self.world.clone(), self.disk.clone());
            actors.push(self.tasks.spawn(async move {
                for _ in 0..world.below(40) {
                    world.pause().await;
                }
                trace!(world, "there is room again");
                disk.set_capacity(None);
            }));
        }
        for actor in actors {
            actor.await;
        }
        for subject in &subjects {
            self.settle(subject).await?;
        }
        Ok(())
    }

    fn actors_of(&self, subject: &Subject, producers: &[Rc<Producer>]) -> Vec<Join<()>> {
        let world = &self.world;
        let mut actors = Vec::new();
        for producer in producers {
            let (producer, subject) = (Rc::clone(producer), subject.clone());
            let batches = world.below(14);
            actors.push(self.act(async move { producer.run(&subject, batches).await }));
        }
        for _ in 0..world.below(3) {
            let (subject, batches) = (subject.clone(), world.below(14));
            actors.push(self.act(async move { producer::run_plain(&subject, batches).await }));
        }
        for _ in 0..world.below(3) {
            let (subject, times) = (subject.clone(), world.below(10));
            actors.push(self.act(async move { reader::run(&subject, times).await }));
        }
        let (subject, times) = (subject.clone(), world.below(8));
        actors.push(self.act(async move { admin::run(&subject, times).await }));
        actors
    }

    fn act(&self, actor: impl Future<Output = Result<(), Violation>> + 'static) -> Join<()> {
        let world = self.world.clone();
        self.tasks.spawn(async move { world.note(actor.await) })
    }

    /// The end of a calm life: what was accepted is made durable and read. Where no fault
    /// stands in the way, the log must still take appends.
    pub(super) async fn settle(&self, subject: &Subject) -> Result<(), Violation> {
        self.disk.set_capacity(None);
        if !subject.is_damaged() && !subject.ledger.borrow().is_rotten() && !subject.allowed.errors
        {
            self.must_append(subject).await?;
        }
        let flushed = subject.log.vouch().await;
        subject.observe()?;
        if flushed.is_ok() && subject.log.latched().is_none() {
            let (readable, end) = (subject.log.readable_end(), subject.log.accepted_end());
            ensure!(
                readable == end,
                "flushed up to {end}, readable only to {readable}"
            );
        }
        reader::read_all(subject).await
    }

    async fn must_append(&self, subject: &Subject) -> Result<(), Violation> {
        for _ in 0..HEALING_ATTEMPTS {
            if producer::append_one(subject).await? {
                return Ok(());
            }
            self.world.pause().await;
            let clock = &self.world.clock;
            clock.set(clock.get() + HEALING_STEP_MS);
            subject.log.maintain(self.world.now()).await;
            subject.kick();
        }
        Err(Violation(format!(
            "{} takes no appends: {:?}",
            subject.name,
            subject.log.latched()
        )))
    }
}

/// What a life needs of a log, for itself.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) name: usize,
    pub(super) id: LogId,
    pub(super) ledger: Rc<RefCell<Ledger>>,
    pub(super) settings: TopicSettings,
    pub(super) producers: Vec<Rc<Producer>>,
}

pub(super) fn plans(logs: &[Kept]) -> Vec<Plan> {
    let plan = |log: &Kept| Plan {
        name: log.name,
        id: log.id,
        ledger: Rc::clone(&log.ledger),
        settings: log.settings.borrow().clone(),
        producers: log.producers.clone(),
    };
    logs.iter().map(plan).collect()
}

/// What can be made to fail.
const OPERATIONS: [Operation; 11] = [
    Operation::Write,
    Operation::Write,
    Operation::Write,
    Operation::Read,
    Operation::Sync,
    Operation::Open,
    Operation::Allocate,
    Operation::Truncate,
    Operation::Rename,
    Operation::Remove,
    Operation::SyncDir,
];
