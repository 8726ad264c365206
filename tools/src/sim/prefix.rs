//! Every prefix of the writes of a workload: the disk after each single change that reached
//! it, opened and checked.

use std::cell::RefCell;
use std::rc::Rc;

use millrace_model::LeaderEpoch;
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;

use super::history::{Kept, world};
use super::life::{Life, Plan, plans};
use super::trace::{Trace, Violation};
use super::world::{Allowed, Subject, World, trace};
use super::{producer, reader};

/// Batches that each producer of the workload sends.
const BATCHES: u64 = 12;

/// After so many changes of the disk so much was durable.
type Marks = Rc<RefCell<Vec<(usize, u64)>>>;

/// Runs the workload of `seed`, then opens every prefix. Returns how many there are.
pub(super) fn run(seed: u64, trace: Rc<Trace>) -> Result<usize, Violation> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = MemoryDisk::new(rng.u64(..));
    let world = world(trace, rng.fork());
    let mut log = Kept::new(0, &world);
    log.settings.get_mut().retention_ms = None;
    log.settings.get_mut().retention_bytes = None;
    disk.record();
    let marks = Marks::default();
    let first = life(&world, &disk, 0, rng.u64(..));
    let plan = plans(std::slice::from_ref(&log));
    finish(
        &first,
        workload(first.clone(), plan.clone(), Rc::clone(&marks)),
    )?;
    for changes in 0..=disk.recorded() {
        trace!(world, "the first {changes} changes");
        let life = life(&world, &disk.prefix(changes, rng.u64(..)), 1, rng.u64(..));
        let mut plan = plan.clone();
        let durable = marks
            .borrow()
            .iter()
            .rev()
            .find(|(at, _)| *at <= changes)
            .map_or(0, |m| m.1);
        let ledger = plan[0].ledger.borrow().as_of(durable);
        plan[0].ledger = Rc::new(RefCell::new(ledger));
        finish(&life, reopened(life.clone(), plan))?;
    }
    Ok(disk.recorded() + 1)
}

fn life(world: &World, disk: &MemoryDisk, epoch: u32, seed: u64) -> Life {
    Life {
        world: world.clone(),
        disk: disk.clone(),
        epoch: LeaderEpoch(epoch),
        tasks: LocalTasks::new(seed),
        allowed: Allowed::default(),
        last: true,
    }
}

fn finish(
    life: &Life,
    body: impl Future<Output = Result<(), Violation>> + 'static,
) -> Result<(), Violation> {
    let ran = life.tasks.block_on(body);
    life.tasks.kill_all();
    ran.map_err(|stalled| Violation(stalled.to_string()))?
}

async fn workload(life: Life, plans: Vec<Plan>, marks: Marks) -> Result<(), Violation> {
    let subjects = life.clone().open_all(plans.clone()).await?;
    let subject = subjects[0].clone();
    life.tasks
        .spawn(mark(subject.clone(), life.disk.clone(), marks));
    for producer in &plans[0].producers {
        producer.run(&subject, BATCHES).await?;
    }
    producer::run_plain(&subject, BATCHES).await?;
    life.settle(&subject).await
}

/// Notes how much is durable whenever that changes.
async fn mark(subject: Subject, disk: MemoryDisk, marks: Marks) {
    loop {
        let durable = subject.log.durable_end().0;
        marks.borrow_mut().push((disk.recorded(), durable));
        subject.log.changed().await;
    }
}

async fn reopened(life: Life, plans: Vec<Plan>) -> Result<(), Violation> {
    for subject in life.clone().open_all(plans).await? {
        life.settle(&subject).await?;
        reader::read_all(&subject).await?;
    }
    Ok(())
}
