//! A machine: its disk, its clocks, and the process that runs on it or does not.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millrace_engine::controller::{
    Controller, ControllerIdentity, HEARTBEAT_INTERVAL_MS, Published,
};
use millrace_model::{BrokerEpoch, BrokerId, ClusterId, IncarnationId, LeaderEpoch, LogId};
use millrace_replication::cluster::{Endpoint, VoterSettings};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;

use super::broker::{Broker, Line, data};
use super::checker::Checked;
use super::clock::{Clock, NodeTime, wall};
use super::disk::SimDisk;
use super::mirror::Mirror;
use super::settings::{lease_settings, quorum_settings};
use super::world::{World, trace};
use crate::sim::trace::{Violation, ensure};

const CLUSTER: ClusterId = ClusterId([7; 16]);

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The machine loses its power.
    PowerLoss,
    /// The process is killed, the machine goes on.
    Kill,
    /// It stops in good order, after it has given up what it leads.
    Clean,
}

/// See the module's documentation.
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) time: NodeTime,
    seed: u64,
    disk: RefCell<SimDisk>,
    tasks: RefCell<Option<LocalTasks>>,
    broker: RefCell<Option<Rc<Broker>>>,
    paused: Cell<bool>,
    lives: Cell<u32>,
    /// Its epoch, if it stopped cleanly.
    clean: Cell<Option<BrokerEpoch>>,
    /// What its logs must hold when they are opened next.
    expected: RefCell<BTreeMap<LogId, (Mirror, u64)>>,
    /// Logs in which a bit has turned.
    rotten: RefCell<BTreeSet<LogId>>,
    /// Operations of its disk may fail.
    may_fail: Cell<bool>,
    /// The process could not start.
    broken: Cell<bool>,
}

impl Node {
    pub(super) fn new(id: BrokerId, clock: &Rc<Clock>, rng: &mut fastrand::Rng) -> Rc<Self> {
        let memory = MemoryDisk::new(rng.u64(..));
        // Clocks of the same second are not the same, nor equally fast.
        let time = NodeTime::new(clock, rng.i64(0..5_000), rng.i64(970..=1030));
        let seed = rng.u64(..);
        Rc::new(Self {
            id,
            time,
            seed,
            disk: RefCell::new(SimDisk::new(memory, clock, seed)),
            tasks: RefCell::default(),
            broker: RefCell::default(),
            paused: Cell::new(false),
            lives: Cell::new(0),
            clean: Cell::new(None),
            expected: RefCell::default(),
            rotten: RefCell::default(),
            may_fail: Cell::new(false),
            broken: Cell::new(false),
        })
    }

    /// The process, once it has read its metadata.
    pub(super) fn broker(&self) -> Option<Rc<Broker>> {
        self.broker.borrow().clone()
    }

    /// Whether there is a process.
    pub(super) fn is_up(&self) -> bool {
        self.tasks.borrow().is_some()
    }

    /// Whether a process ever ran here.
    pub(super) fn has_lived(&self) -> bool {
        self.lives.get() > 0
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.set(paused);
    }

    pub(super) fn disk(&self) -> SimDisk {
        self.disk.borrow().clone()
    }

    pub(super) fn may_fail(&self) -> bool {
        self.may_fail.get()
    }

    pub(super) fn set_may_fail(&self) {
        self.may_fail.set(true);
    }

    pub(super) fn is_rotten(&self, log: LogId) -> bool {
        self.rotten.borrow().contains(&log)
    }

    pub(super) fn rot(&self, log: LogId, rotten: bool) {
        let mut all = self.rotten.borrow_mut();
        match rotten {
            true => all.insert(log),
            false => all.remove(&log),
        };
    }

    /// Whether only a restart helps.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get() || self.broker().is_some_and(|broker| broker.is_broken())
    }

    /// Runs what can run. Whether anything could.
    pub(super) fn run(&self) -> bool {
        let tasks = self.tasks.borrow().clone();
        match tasks {
            Some(tasks) if !self.paused.get() => tasks.run_until_stalled(),
            _ => false,
        }
    }

    /// Starts the process.
    pub(super) fn start(self: &Rc<Self>, world: &Rc<World>) {
        if self.is_up() {
            return;
        }
        self.lives.set(self.lives.get() + 1);
        self.broken.set(false);
        self.paused.set(false);
        let lives = self.lives.get();
        trace!(world, "{} starts, life {lives}", self.id);
        let tasks = LocalTasks::new(self.seed ^ u64::from(lives));
        *self.tasks.borrow_mut() = Some(tasks.clone());
        let (node, world) = (Rc::clone(self), Rc::clone(world));
        let of = tasks.clone();
        tasks.spawn(async move { node.live(&world, &of).await });
    }

    /// Starts the process after a while, unless that is done before.
    pub(super) fn start_after(self: &Rc<Self>, world: &Rc<World>, ms: i64) {
        let (node, world) = (Rc::clone(self), Rc::clone(world));
        let at = world.clock.now() + ms;
        world.clock.clone().call_at(at, move || node.start(&world));
    }

    async fn live(self: Rc<Self>, world: &Rc<World>, tasks: &LocalTasks) {
        let identity = self.identity(world);
        let disk = self.disk();
        let metadata = data().join("metadata");
        let epoch = LeaderEpoch(self.lives.get());
        let time = self.time.clone();
        let opened =
            Controller::open_on_disk(disk.clone(), &metadata, epoch, wall, identity, time).await;
        let controller = match opened {
            Ok(controller) => controller,
            Err(error) => {
                trace!(world, "{} cannot start: {error}", self.id);
                self.broken.set(true);
                if !self.may_fail() {
                    let what = format!("broker {} cannot start: {error}", self.id);
                    world.note(Err(Violation(what)));
                }
                return;
            }
        };
        let published = controller.published();
        let broker = Broker::new(
            (world, &self),
            (tasks, disk),
            controller.client(),
            published.clone(),
        );
        *self.broker.borrow_mut() = Some(Rc::clone(&broker));
        broker.apply(published);
        let line = Line {
            world: Rc::clone(world),
            from: self.id,
        };
        let told = Rc::clone(&broker);
        let publish = async |published: Published| {
            // Shards take a moment, in which the controller goes on.
            told.world().clock.sleep(1).await;
            told.apply(published);
        };
        controller.run(line, publish).await;
    }

    fn identity(&self, world: &World) -> ControllerIdentity {
        ControllerIdentity {
            broker: self.id,
            cluster: CLUSTER,
            incarnation: IncarnationId(world.number().to_le_bytes()),
            clean_from: self.clean.take(),
            voters: world.voters.clone(),
            rack: None,
            endpoints: vec![Endpoint {
                listener: "QUIC".to_owned(),
                host: "localhost".to_owned(),
                port: 9000,
            }],
            shards: 1,
            quorum: quorum_settings(),
            leases: lease_settings(),
            heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
            has_peers: true,
            voter_settings: VoterSettings::default(),
        }
    }

    /// The process ends.
    pub(super) fn end(self: &Rc<Self>, world: &Rc<World>, how: End) {
        let Some(tasks) = self.tasks.take() else {
            return;
        };
        trace!(world, "{} ends: {how:?}", self.id);
        let broker = self.broker.take();
        if let Some(broker) = &broker {
            let mut expected = self.expected.borrow_mut();
            for partition in broker.open_partitions() {
                match partition.promise() {
                    Some(promise) => drop(expected.insert(partition.id, promise)),
                    None => drop(expected.remove(&partition.id)),
                }
            }
        }
        let life = broker.as_ref().and_then(|broker| broker.image().life);
        self.clean.set(life.filter(|_| how == End::Clean));
        tasks.kill_all();
        if let Some(broker) = broker {
            broker.close();
        }
        world.break_streams(self.id);
        let mut rng = world.rng.borrow_mut();
        let memory = self.disk.borrow().memory().clone();
        let memory = match how {
            End::PowerLoss => memory.crash(&mut rng),
            End::Kill | End::Clean => memory.kill(&mut rng),
        };
        self.may_fail.set(false);
        *self.disk.borrow_mut() = SimDisk::new(memory, &world.clock, rng.u64(..));
    }

    /// The history is over.
    pub(super) fn close(&self) {
        let tasks = self.tasks.take();
        if let Some(broker) = self.broker.take() {
            broker.close();
        }
        if let Some(tasks) = tasks {
            tasks.kill_all();
        }
    }

    /// A log was opened and holds this. What was durable in it must still be there.
    pub(super) fn check_recovered(&self, log: LogId, found: &Mirror) -> Checked {
        let Some((before, durable)) = self.expected.borrow_mut().remove(&log) else {
            return Ok(());
        };
        let from = found.start();
        let (kept, is) = (before.between(from, durable), found.between(from, durable));
        ensure!(
            from <= durable || before.end() <= from,
            "broker {} lost {log} below {from}",
            self.id
        );
        ensure!(
            kept == is,
            "broker {} had {:?} of {log} durable up to {durable}, and has {:?}",
            self.id,
            kept.last(),
            is.last()
        );
        Ok(())
    }

    /// A log is removed.
    pub(super) fn forget(&self, log: LogId) {
        self.expected.borrow_mut().remove(&log);
    }
}
