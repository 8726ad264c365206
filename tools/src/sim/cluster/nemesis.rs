//! Makes things go wrong, one after the other and many at a time, and well again at the end.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_lite::future::or;
use millrace_model::{BrokerId, LogId};
use millrace_replication::cluster::{Command, ElectionKind};
use millrace_storage::disk::memory::{MemoryDisk, Operation};

use super::broker::{Broker, data};
use super::faults::Fault;
use super::history::Clients;
use super::network::{CALM, CLIENTS, Weather};
use super::node::{End, Node};
use super::world::{OFFSETS, PARTITIONS, World, orders, trace};

/// How long a broker that stops in good order may take for it.
const STOP_MS: i64 = 4_000;

/// What is chosen from; what is there twice is twice as likely.
const CHOICES: [Fault; 22] = [
    Fault::PowerLoss,
    Fault::PowerLoss,
    Fault::Kill,
    Fault::CleanStop,
    Fault::Pause,
    Fault::Pause,
    Fault::TwoWayCut,
    Fault::OneWayCut,
    Fault::OneWayCut,
    Fault::Isolation,
    Fault::ClientCut,
    Fault::Storm,
    Fault::SlowDisk,
    Fault::FailingDisk,
    Fault::FullDisk,
    Fault::BitRot,
    Fault::ClockStep,
    Fault::Reassignment,
    Fault::MovedLeader,
    Fault::AddedBroker,
    Fault::Deletion,
    Fault::LostMember,
];

/// Kinds of operations that a failing disk may refuse.
const OPERATIONS: [Operation; 5] = [
    Operation::Write,
    Operation::Write,
    Operation::Read,
    Operation::Sync,
    Operation::Open,
];

/// A bit that was turned.
struct Rot {
    broker: BrokerId,
    log: LogId,
    path: PathBuf,
    byte: u64,
    bit: u8,
    /// The byte's value since then.
    value: Option<u8>,
}

fn byte_at(disk: &MemoryDisk, path: &Path, byte: u64) -> Option<u8> {
    let content = disk.content(path).ok()?;
    content.get(usize::try_from(byte).ok()?).copied()
}

/// See the module's documentation. Clones are the same.
#[derive(Clone)]
pub(super) struct Nemesis {
    world: Rc<World>,
    clients: Rc<Clients>,
    rot: Rc<RefCell<Vec<Rot>>>,
}

impl Nemesis {
    pub(super) fn new(world: &Rc<World>, clients: &Rc<Clients>) -> Self {
        Self {
            world: Rc::clone(world),
            clients: Rc::clone(clients),
            rot: Rc::default(),
        }
    }

    /// Begins, and goes on until it is `end`.
    pub(super) fn begin(&self, end: i64) {
        let nemesis = self.clone();
        // A history has its own mean of pauses.
        let pause = self.world.between(150, 1_200);
        self.world.tasks.spawn(async move {
            loop {
                nemesis.sleep(20, pause).await;
                if nemesis.world.clock.now() >= end {
                    return;
                }
                nemesis.strike();
            }
        });
    }

    /// Makes all well.
    pub(super) fn end(&self) {
        let world = &self.world;
        world.calm.set(true);
        world.network.heal();
        for node in &world.nodes {
            node.pause(false);
            node.disk().slow_down(0);
            node.disk().memory().set_capacity(None);
            if node.is_up() && (node.may_fail() || node.is_broken() || self.has_rot(node)) {
                node.end(world, End::Kill);
            }
            self.turn_back(node);
            let belongs = world.voters.contains(&node.id) || node.has_lived();
            if belongs {
                node.start(world);
            }
        }
        let nemesis = self.clone();
        world.tasks.spawn(async move {
            loop {
                nemesis.sleep(300, 500).await;
                for node in &nemesis.world.nodes {
                    if node.is_up() && node.is_broken() {
                        // Its disk failed when it was about to be well.
                        node.end(&nemesis.world, End::Kill);
                        node.start(&nemesis.world);
                    }
                }
            }
        });
    }

    fn has_rot(&self, node: &Node) -> bool {
        self.rot.borrow().iter().any(|rot| rot.broker == node.id)
    }

    /// Turns bits back, on a machine whose process is down.
    fn turn_back(&self, node: &Node) {
        let mut all = self.rot.borrow_mut();
        for rot in all.extract_if(.., |rot| rot.broker == node.id) {
            let disk = node.disk();
            // What was written anew since then is whole.
            if byte_at(disk.memory(), &rot.path, rot.byte) == rot.value {
                // A log that was taken from the broker meanwhile has no such file any more.
                let _ = disk.memory().flip(&rot.path, rot.byte, rot.bit);
            }
            node.rot(rot.log, false);
        }
    }

    async fn sleep(&self, from: i64, to: i64) {
        self.world.clock.sleep(self.world.between(from, to)).await;
    }

    fn pick<'a, T>(&self, all: &'a [T]) -> &'a T {
        let index = self.world.below(all.len() as u64);
        &all[usize::try_from(index).unwrap_or(0)]
    }

    /// Undoes something after a while, unless all was made well before.
    fn later(&self, from: i64, to: i64, undo: impl FnOnce(&Self) + 'static) {
        let nemesis = self.clone();
        self.world.tasks.spawn(async move {
            nemesis.sleep(from, to).await;
            if !nemesis.world.calm.get() {
                undo(&nemesis);
            }
        });
    }

    fn strike(&self) {
        let fault = *self.pick(&CHOICES);
        let node = Rc::clone(self.pick(&self.world.nodes));
        if !node.is_up() && fault != Fault::AddedBroker {
            return;
        }
        let id = node.id;
        trace!(self.world, "{fault:?} at {id}");
        let happened = match fault {
            Fault::PowerLoss => self.end_process(&node, End::PowerLoss),
            Fault::Kill => self.end_process(&node, End::Kill),
            Fault::CleanStop => self.stop(&node),
            Fault::Pause => self.pause(&node),
            Fault::TwoWayCut | Fault::OneWayCut | Fault::Isolation => self.cut(fault, id),
            Fault::ClientCut => self.hide(id),
            Fault::Storm => self.storm(),
            Fault::SlowDisk => self.slow_disk(&node),
            Fault::FailingDisk => self.failing_disk(&node),
            Fault::FullDisk => self.full_disk(&node),
            Fault::BitRot => self.turn_bit(&node),
            Fault::ClockStep => {
                node.time
                    .set_wall_ahead(self.world.between(-60_000, 60_000));
                true
            }
            Fault::Reassignment => self.reassign(id),
            Fault::MovedLeader => self.move_leaders(id),
            Fault::AddedBroker => self.add_broker(),
            Fault::Deletion => self.delete(),
            Fault::LostMember => self.lose_member(),
            Fault::Disordered | Fault::LostStream => false,
        };
        if happened {
            self.world.count(fault);
        }
    }

    fn end_process(&self, node: &Rc<Node>, how: End) -> bool {
        node.end(&self.world, how);
        self.restart(node);
        true
    }

    fn restart(&self, node: &Rc<Node>) {
        let node = Rc::clone(node);
        self.later(20, 2_500, move |nemesis| node.start(&nemesis.world));
    }

    fn stop(&self, node: &Rc<Node>) -> bool {
        let Some(broker) = node.broker() else {
            return false;
        };
        let (nemesis, node) = (self.clone(), Rc::clone(node));
        self.world.tasks.spawn(async move {
            let controller = broker.controller();
            let late = nemesis.world.clock.sleep(STOP_MS);
            or(controller.prepare_to_stop(), late).await;
            let is_same = node.broker().is_some_and(|now| Rc::ptr_eq(&now, &broker));
            if !is_same {
                return;
            }
            for partition in broker.open_partitions() {
                // What cannot be made durable is left to recovery.
                let closing = async {
                    let _ = partition.log.vouch().await;
                };
                or(closing, nemesis.world.clock.sleep(STOP_MS)).await;
            }
            drop(broker);
            // One that stands still is killed by whoever waits for it.
            let how = match node.is_paused() {
                true => End::Kill,
                false => End::Clean,
            };
            node.end(&nemesis.world, how);
            node.start_after(&nemesis.world, nemesis.world.between(20, 2_000));
        });
        true
    }

    fn pause(&self, node: &Rc<Node>) -> bool {
        node.pause(true);
        let node = Rc::clone(node);
        self.later(50, 2_500, move |_| node.pause(false));
        true
    }

    fn cut(&self, fault: Fault, id: BrokerId) -> bool {
        let others: Vec<BrokerId> = self.world.nodes.iter().map(|node| node.id).collect();
        let others: Vec<BrokerId> = others.into_iter().filter(|other| *other != id).collect();
        let mut cuts = Vec::new();
        match fault {
            Fault::Isolation => {
                for other in others {
                    cuts.extend([(id.0, other.0), (other.0, id.0)]);
                }
            }
            Fault::OneWayCut => cuts.push((id.0, self.pick(&others).0)),
            _ => {
                let other = *self.pick(&others);
                cuts.extend([(id.0, other.0), (other.0, id.0)]);
            }
        }
        for (from, to) in &cuts {
            self.world.network.cut(*from, *to);
        }
        self.later(100, 2_500, move |nemesis| {
            for (from, to) in cuts {
                nemesis.world.network.mend(from, to);
            }
        });
        true
    }

    fn hide(&self, id: BrokerId) -> bool {
        self.world.network.hide(id.0, true);
        self.later(100, 2_000, move |nemesis| {
            nemesis.world.network.hide(id.0, false);
        });
        true
    }

    fn storm(&self) -> bool {
        let share = |most| u32::try_from(self.world.below(most)).unwrap_or(0);
        self.world.network.set_weather(Weather {
            max_delay_ms: self.world.between(5, 120),
            loss: share(150),
            double: share(150),
            reorder: share(300),
        });
        self.later(200, 2_000, |nemesis| {
            nemesis.world.network.set_weather(CALM)
        });
        true
    }

    fn slow_disk(&self, node: &Rc<Node>) -> bool {
        node.disk().slow_down(self.world.between(10, 250));
        let node = Rc::clone(node);
        self.later(200, 2_000, move |_| node.disk().slow_down(0));
        true
    }

    fn failing_disk(&self, node: &Rc<Node>) -> bool {
        node.set_may_fail();
        let operation = *self.pick(&OPERATIONS);
        node.disk().memory().fail(operation, self.world.below(6));
        let node = Rc::clone(node);
        self.later(300, 2_500, move |nemesis| {
            if node.is_up() && node.is_broken() {
                node.end(&nemesis.world, End::Kill);
                nemesis.restart(&node);
            }
        });
        true
    }

    fn full_disk(&self, node: &Rc<Node>) -> bool {
        let disk = node.disk();
        let some = self.world.below(64 << 10);
        disk.memory()
            .set_capacity(Some(disk.memory().allocated() + some));
        let node = Rc::clone(node);
        self.later(200, 2_000, move |_| {
            node.disk().memory().set_capacity(None);
        });
        true
    }

    /// Turns a bit of something that was durable long ago, while the machine is down: the log must refuse to serve
    /// it, or not need it.
    fn turn_bit(&self, node: &Rc<Node>) -> bool {
        let log = orders(u32::try_from(self.world.below(u64::from(PARTITIONS))).unwrap_or(0));
        if self.has_rot(node) {
            return false;
        }
        node.end(&self.world, End::PowerLoss);
        self.restart(node);
        let disk = node.disk();
        let files = disk
            .memory()
            .files(&data().join("logs").join(log.to_string()));
        let segments: Vec<_> = files
            .into_iter()
            .filter(|(path, len)| path.extension().is_some_and(|it| it == "log") && *len > 0)
            .collect();
        // The last one holds the last write, damage of which looks like a torn one.
        let Some(((path, len), _)) = segments
            .split_last()
            .and_then(|(_, rest)| rest.split_first())
        else {
            return false;
        };
        let (byte, bit) = (self.world.below(*len), self.world.below(8));
        let bit = u8::try_from(bit).unwrap_or(0);
        if disk.memory().flip(path, byte, bit).is_err() {
            return false;
        }
        trace!(
            self.world,
            "bit {bit} of byte {byte} of {} turns",
            path.display()
        );
        node.rot(log, true);
        self.rot.borrow_mut().push(Rot {
            broker: node.id,
            log,
            path: path.clone(),
            byte,
            bit,
            value: byte_at(disk.memory(), path, byte),
        });
        true
    }

    /// Asks a broker's controller for something. What comes of it is seen in the images.
    fn propose(&self, to: BrokerId, command: Command) {
        let world = Rc::clone(&self.world);
        self.world.tasks.spawn(async move {
            let asked = world.ask(CLIENTS, to, move |broker: Rc<Broker>| async move {
                broker.controller().propose(command).await
            });
            if let Some(Err(refusal)) = asked.await {
                trace!(world, "refused: {refusal}");
            }
        });
    }

    fn some_log(&self) -> LogId {
        match self.world.below(u64::from(PARTITIONS) + 1) {
            0 => OFFSETS,
            number => orders(u32::try_from(number - 1).unwrap_or(0)),
        }
    }

    fn reassign(&self, at: BrokerId) -> bool {
        let mut ids: Vec<BrokerId> = self
            .world
            .nodes
            .iter()
            .filter(|node| self.world.voters.contains(&node.id) || node.is_up())
            .map(|node| node.id)
            .collect();
        self.world.rng.borrow_mut().shuffle(&mut ids);
        ids.truncate(3);
        let target = (!self.world.one_in(6)).then_some(ids);
        let partition = self.some_log();
        trace!(self.world, "{partition} goes to {target:?}");
        self.propose(at, Command::Reassign { partition, target });
        true
    }

    fn move_leaders(&self, at: BrokerId) -> bool {
        let partitions = (0..PARTITIONS).map(orders).chain([OFFSETS]).collect();
        let kind = ElectionKind::Preferred;
        self.propose(at, Command::ElectLeaders { kind, partitions });
        true
    }

    fn add_broker(&self) -> bool {
        let spare = self.world.nodes.last().expect("there is a spare machine");
        let is_new = !spare.has_lived();
        if is_new {
            spare.start(&self.world);
        }
        is_new
    }

    fn delete(&self) -> bool {
        let log = orders(u32::try_from(self.world.below(u64::from(PARTITIONS))).unwrap_or(0));
        let brokers = self.world.nodes.iter().filter_map(|node| node.broker());
        let leader = brokers
            .filter_map(|broker| Some((Rc::clone(&broker), broker.open_partition(log)?)))
            .find(|(_, partition)| partition.leads_in().is_some());
        let Some((broker, partition)) = leader else {
            return false;
        };
        let start = partition.log.log_start().0;
        let room = partition.high_watermark().saturating_sub(start);
        // At the start of a batch: a replica that starts anew inside of one is not served yet.
        let to = partition.batch_at(start + self.world.below(room));
        trace!(self.world, "{log} is deleted up to {to}");
        self.world.checker.borrow_mut().of(log).deleted(to);
        let (deleting, partition) = (Rc::clone(&broker), partition);
        broker.spawn(async move {
            partition.delete_before(to).await;
            drop(deleting);
        });
        true
    }

    fn lose_member(&self) -> bool {
        let lost = {
            let members = self.clients.members.borrow();
            let mut present = members.iter().filter(|member| !member.lost.get());
            let some = present.next().map(Rc::clone);
            some.inspect(|member| member.lost.set(true))
        };
        if lost.is_some() {
            let clients = Rc::clone(&self.clients);
            self.later(50, 2_000, move |nemesis| clients.add_member(&nemesis.world));
        }
        lost.is_some()
    }
}
