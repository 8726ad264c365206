//! A broker's process while it runs: the real controller, the replicas that the image gives it, and what
//! clients ask of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use millrace_engine::controller::{ControllerClient, PeerTransport, Published, Time};
use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, LogId, Offset, ProducerId};
use millrace_replication::Refusal;
use millrace_replication::cluster::{Answer, BrokerState, Cluster, Command};
use millrace_replication::partition::{Acks, Assignment, Standing};
use millrace_storage::disk::memory::executor::LocalTasks;
use millrace_storage::{Latch, Storage};

use super::checker::{Checked, Checker, PartitionFacts};
use super::clock::NodeTime;
use super::coordinator::Groups;
use super::disk::SimDisk;
use super::mirror::{Mirror, Stored, read_frames};
use super::node::Node;
use super::partition::{Fate, Partition};
use super::settings::{storage_limits, topic_settings};
use super::slot::{Take, slot};
use super::world::{World, trace};
use crate::sim::trace::Violation;

/// Between two looks at what logs and groups have to do because of time.
const TEND: Duration = Duration::from_millis(100);

/// How often a removal looks whether the last user of a log has let go.
const REMOVAL_MS: i64 = 2;

/// Bytes of one fetch.
const FETCH_LEN: usize = 8192;

/// Bytes that are read at a time when a log is compared with what it must hold.
const AUDIT_LEN: usize = 64 << 10;

/// Where a data directory is on a broker's disk.
pub(super) fn data() -> PathBuf {
    PathBuf::from("/data")
}

/// What a leader answers to a fetch.
pub(super) struct Fetched {
    /// In which epoch it leads.
    pub(super) epoch: u32,
    /// Where its log starts.
    pub(super) start: u64,
    /// Where what consumers may read ends.
    pub(super) end: u64,
    /// Whole frames.
    pub(super) frames: Bytes,
}

/// Something that has arrived at a broker.
type Arrival = Box<dyn FnOnce(&Rc<Broker>)>;

enum Slot {
    Opening,
    Open(Rc<Partition>),
    Leaving,
}

/// See the module's documentation.
pub(super) struct Broker {
    world: Rc<World>,
    node: Weak<Node>,
    id: BrokerId,
    tasks: LocalTasks,
    time: NodeTime,
    controller: ControllerClient,
    image: RefCell<Published>,
    storage: Storage<SimDisk>,
    slots: RefCell<BTreeMap<LogId, Slot>>,
    arrivals: RefCell<VecDeque<Arrival>>,
    woken: RefCell<Option<Waker>>,
    pub(super) groups: Groups,
    /// A log could not be opened.
    broken: Cell<bool>,
}

impl Broker {
    pub(super) fn new(
        (world, node): (&Rc<World>, &Rc<Node>),
        (tasks, disk): (&LocalTasks, SimDisk),
        controller: ControllerClient,
        published: Published,
    ) -> Rc<Self> {
        let broker = Rc::new(Self {
            world: Rc::clone(world),
            node: Rc::downgrade(node),
            id: node.id,
            tasks: tasks.clone(),
            time: node.time.clone(),
            controller,
            image: RefCell::new(published),
            storage: Storage::new(disk, data(), storage_limits()),
            slots: RefCell::default(),
            arrivals: RefCell::default(),
            woken: RefCell::default(),
            groups: Groups::new(&node.time),
            broken: Cell::new(false),
        });
        let receiving = Rc::clone(&broker);
        broker.spawn(async move { receiving.receive().await });
        let tending = Rc::clone(&broker);
        broker.spawn(async move { tending.tend().await });
        broker
    }

    pub(super) fn id(&self) -> BrokerId {
        self.id
    }

    pub(super) fn world(&self) -> &Rc<World> {
        &self.world
    }

    pub(super) fn time(&self) -> &NodeTime {
        &self.time
    }

    pub(super) fn controller(&self) -> ControllerClient {
        self.controller.clone()
    }

    pub(super) fn image(&self) -> Published {
        self.image.borrow().clone()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn(task);
    }

    /// Puts something to the checkers.
    pub(super) fn check(&self, check: impl FnOnce(&mut Checker) -> Checked) {
        let checked = check(&mut self.world.checker.borrow_mut());
        self.world.note(checked);
    }

    pub(super) fn violated(&self, what: String) {
        self.world.note(Err(Violation(what)));
    }

    /// Something has arrived; it is handled in order, when the process runs.
    pub(super) fn arrive(&self, arrival: impl FnOnce(&Rc<Self>) + 'static) {
        self.arrivals.borrow_mut().push_back(Box::new(arrival));
        if let Some(waker) = self.woken.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn receive(self: Rc<Self>) {
        loop {
            let next = poll_fn(|cx| match self.arrivals.borrow_mut().pop_front() {
                Some(arrival) => Poll::Ready(arrival),
                None => {
                    *self.woken.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                }
            });
            let arrival = next.await;
            arrival(&self);
        }
    }

    async fn tend(self: Rc<Self>) {
        loop {
            self.time.sleep(TEND).await;
            for partition in self.open_partitions() {
                partition.maintain(self.time.wall()).await;
            }
            self.groups.tend(&self);
        }
    }

    /// The image has changed.
    pub(super) fn apply(self: &Rc<Self>, published: Published) {
        self.check_image(&published.cluster);
        let before = self.image.replace(published.clone());
        if before.life != published.life {
            trace!(self.world, "{} lives as {:?}", self.id, published.life);
        }
        let Some(life) = published.life else { return };
        let cluster = &published.cluster;
        for topic in cluster.topics() {
            for (log, state) in topic.logs() {
                match state.replicas.contains(&self.id) {
                    true => self.hold(log, cluster.min_in_sync(topic)),
                    false => self.let_go(log),
                }
                if let Some(partition) = self.open_partition(log) {
                    partition.assigned(assignment(state), standings(cluster, state), life);
                }
            }
        }
        self.groups.tend(self);
    }

    fn check_image(&self, cluster: &Cluster) {
        for topic in cluster.topics() {
            for (log, state) in topic.logs() {
                let facts = facts(state);
                self.check(|checker| checker.metadata.told(self.id.0, log, &facts));
            }
        }
    }

    fn hold(self: &Rc<Self>, log: LogId, min_in_sync: usize) {
        if self.slots.borrow().contains_key(&log) {
            return;
        }
        self.slots.borrow_mut().insert(log, Slot::Opening);
        let broker = Rc::clone(self);
        let min_in_sync = u32::try_from(min_in_sync).unwrap_or(1);
        self.spawn(async move {
            if let Err(violation) = broker.open(log, min_in_sync).await {
                broker.world.note(Err(violation));
            }
        });
    }

    async fn open(self: &Rc<Self>, log: LogId, min_in_sync: u32) -> Result<(), Violation> {
        let settings = topic_settings(min_in_sync);
        let now = self.time.wall();
        let opened = self
            .storage
            .open_log(log, settings, LeaderEpoch(0), now)
            .await;
        let (opened, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                trace!(self.world, "{} cannot open {log}: {error}", self.id);
                self.broken.set(true);
                return self.excuse(format!("broker {} cannot open {log}: {error}", self.id));
            }
        };
        if let Some(Latch::Damaged { offset, .. }) = opened.latched() {
            trace!(self.world, "{} finds {log} damaged at {offset}", self.id);
            self.broken.set(true);
            return match self.node().is_some_and(|node| node.is_rotten(log)) {
                true => Ok(()),
                false => Err(Violation(format!(
                    "broker {} takes {log} for damaged",
                    self.id
                ))),
            };
        }
        let mirror = match read_all(&opened, log).await {
            Ok(mirror) => mirror,
            Err(violation) => {
                self.broken.set(true);
                return match self.node().is_some_and(|node| node.is_rotten(log)) {
                    true => Ok(()),
                    false => self.excuse(violation.0),
                };
            }
        };
        trace!(
            self.world,
            "{} opened {log}: {}..{}, cut {:?}",
            self.id,
            mirror.start(),
            mirror.end(),
            report.cut
        );
        if let Some(node) = self.node() {
            node.check_recovered(log, &mirror)?;
        }
        self.check(|checker| {
            checker.of(log).cut(self.id.0, 0);
            let all = mirror.between(mirror.start(), mirror.end());
            checker.of(log).became_durable(self.id.0, all)
        });
        let partition = Partition::new(log, opened, mirror, self);
        if matches!(self.slots.borrow().get(&log), Some(Slot::Leaving)) {
            self.remove(partition);
            return Ok(());
        }
        self.slots
            .borrow_mut()
            .insert(log, Slot::Open(Rc::clone(&partition)));
        let published = self.image();
        if let (Some(life), Some(state)) = (published.life, published.cluster.partition(log)) {
            let standings = standings(&published.cluster, state);
            partition.assigned(assignment(state), standings, life);
        }
        Ok(())
    }

    /// What a disk that fails on purpose may bring about.
    fn excuse(&self, what: String) -> Result<(), Violation> {
        match self.node().is_some_and(|node| node.may_fail()) {
            true => Ok(()),
            false => Err(Violation(what)),
        }
    }

    fn let_go(self: &Rc<Self>, log: LogId) {
        let mut slots = self.slots.borrow_mut();
        match slots.get_mut(&log) {
            None | Some(Slot::Leaving) => {}
            Some(slot) => {
                trace!(self.world, "{} lets {log} go", self.id);
                if let Slot::Open(partition) = std::mem::replace(slot, Slot::Leaving) {
                    partition.end();
                    drop(slots);
                    self.remove(partition);
                }
            }
        }
    }

    /// Removes a partition's files once nobody uses its log.
    fn remove(self: &Rc<Self>, partition: Rc<Partition>) {
        let log = partition.id;
        if let Some(node) = self.node() {
            node.forget(log);
        }
        let broker = Rc::clone(self);
        self.spawn(async move {
            while Rc::strong_count(&partition) > 1 {
                broker.world.clock.sleep(REMOVAL_MS).await;
            }
            drop(partition);
            // What is left is found at the next start.
            let removed = broker.storage.remove_log(log).await;
            trace!(
                broker.world,
                "{} removed {log}: {}",
                broker.id,
                removed.is_ok()
            );
            broker.slots.borrow_mut().remove(&log);
            broker.check(|checker| {
                checker.of(log).cut(broker.id.0, 0);
                Ok(())
            });
            let published = broker.image();
            broker.apply(published);
        });
    }

    /// The process is gone: nothing of it may hold the world.
    pub(super) fn close(&self) {
        self.slots.borrow_mut().clear();
        self.arrivals.borrow_mut().clear();
        self.woken.borrow_mut().take();
        self.groups.close();
    }

    fn node(&self) -> Option<Rc<Node>> {
        self.node.upgrade()
    }

    pub(super) fn open_partition(&self, log: LogId) -> Option<Rc<Partition>> {
        match self.slots.borrow().get(&log) {
            Some(Slot::Open(partition)) => Some(Rc::clone(partition)),
            _ => None,
        }
    }

    pub(super) fn open_partitions(&self) -> Vec<Rc<Partition>> {
        let slots = self.slots.borrow();
        let open = slots.values().filter_map(|slot| match slot {
            Slot::Open(partition) => Some(Rc::clone(partition)),
            _ => None,
        });
        open.collect()
    }

    /// Whether it can only be helped by a restart.
    pub(super) fn is_broken(&self) -> bool {
        let failed = |partition: &Rc<Partition>| partition.has_failed();
        self.broken.get() || self.open_partitions().iter().any(failed)
    }

    // What clients ask.

    /// Who leads what, as far as this broker knows.
    pub(super) fn leaders(&self) -> BTreeMap<LogId, (u32, Option<BrokerId>)> {
        let image = self.image.borrow();
        let logs = image.cluster.topics().flat_map(|topic| topic.logs());
        logs.map(|(log, state)| (log, (state.leader_epoch.0, state.leader)))
            .collect()
    }

    /// Appends a batch, and says what becomes of it.
    pub(super) fn produce(&self, log: LogId, batch: &Bytes, acks: Acks) -> Take<Fate> {
        match self.open_partition(log) {
            Some(partition) => partition.produce(batch, acks),
            None => {
                let (teller, fate) = slot();
                teller.give(Err(ErrorCode::NotLeaderOrFollower));
                fate
            }
        }
    }

    /// Reads what is committed.
    pub(super) async fn fetch(self: Rc<Self>, log: LogId, from: u64) -> Result<Fetched, ErrorCode> {
        let partition = self.open_partition(log);
        let partition = partition.ok_or(ErrorCode::NotLeaderOrFollower)?;
        let epoch = partition.leads_in().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let end = partition
            .visible_end()
            .ok_or(ErrorCode::OffsetNotAvailable)?;
        let below = Offset(end.min(partition.log.readable_end().0));
        let start = partition.log.log_start().0;
        let mut frames = Vec::new();
        if from >= start && from < below.0 {
            let runs = partition.log.read(Offset(from), FETCH_LEN, below).await;
            for run in runs.map_err(|error| error.code())? {
                frames.extend_from_slice(run.as_bytes());
            }
        }
        // What was read after the leadership had ended is still what was committed in it.
        Ok(Fetched {
            epoch: epoch.0,
            start,
            end,
            frames: frames.into(),
        })
    }

    /// A producer id that nobody else has.
    pub(super) async fn producer_id(self: Rc<Self>) -> Result<ProducerId, Refusal> {
        let life = self.image.borrow().life.unwrap_or_default();
        let command = Command::AllocateProducerIds {
            broker: self.id,
            epoch: life,
        };
        match self.controller.propose(command).await? {
            Answer::ProducerIds { first, .. } => Ok(first),
            _ => Err(Refusal::new(ErrorCode::UnknownServerError, "no ids")),
        }
    }
}

/// The way from one broker's controller to the others'.
pub(super) struct Line {
    pub(super) world: Rc<World>,
    pub(super) from: BrokerId,
}

impl PeerTransport for Line {
    fn send(&self, to: BrokerId, message: Bytes) {
        let (world, from) = (&self.world, self.from);
        for at in world.network.datagram(from.0, to.0, world.clock.now()) {
            let (arrives, message) = (Rc::clone(world), message.clone());
            world.clock.call_at(at, move || {
                if arrives.network.passes(from.0, to.0)
                    && let Some(broker) = arrives.running(to)
                {
                    broker.controller.deliver(from, message);
                }
            });
        }
    }

    async fn call(&self, to: BrokerId, request: Bytes) -> Result<Bytes, Refusal> {
        let from = self.from;
        let answer = self.world.ask(from.0, to, move |broker| {
            let controller = broker.controller();
            async move { controller.serve(from, request).await }
        });
        match answer.await {
            Some(answer) => answer,
            None => {
                self.world.clock.sleep(self.world.between(1, 3_000)).await;
                Err(Refusal::new(
                    ErrorCode::UnknownServerError,
                    "the line is cut",
                ))
            }
        }
    }

    /// The network knows who has ended where it carries anything, and is wrong now and then.
    async fn is_gone(&self, broker: BrokerId) -> bool {
        let world = &self.world;
        world.clock.sleep(world.between(1, 100)).await;
        let (from, to) = (self.from.0, broker.0);
        let is_carried = world.network.passes(from, to) && world.network.passes(to, from);
        let is_wrong = world.one_in(WRONG_REPORT);
        is_carried && (world.running(broker).is_none() || is_wrong)
    }
}

/// One report in so many of a broker that is gone is wrong.
const WRONG_REPORT: u64 = 400;

/// Reads a whole log with the simulator's own eyes.
pub(super) async fn read_all(
    log: &millrace_storage::Log<SimDisk>,
    id: LogId,
) -> Result<Mirror, Violation> {
    let mut mirror = Mirror::default();
    mirror.reset(log.log_start().0);
    let mut next = log.log_start();
    while next < log.readable_end() {
        let runs = log.read(next, AUDIT_LEN, log.readable_end()).await;
        let runs = runs.map_err(|error| Violation(format!("{id} cannot be read: {error}")))?;
        if runs.is_empty() {
            break;
        }
        for run in &runs {
            for batch in read_frames(run.as_bytes(), id)? {
                push_next(&mut mirror, batch, id)?;
            }
            next = run.next;
        }
    }
    Ok(mirror)
}

fn push_next(mirror: &mut Mirror, batch: Stored, id: LogId) -> Result<(), Violation> {
    let end = mirror.end();
    let follows = batch.base == end || batch.base < end && mirror.start() == end;
    if !follows {
        return Err(Violation(format!("{id} has {batch:?} behind {end}")));
    }
    mirror.push(batch);
    Ok(())
}

fn assignment(state: &millrace_replication::cluster::Partition) -> Assignment {
    Assignment {
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        replicas: state.replicas.iter().copied().collect(),
        in_sync: state.in_sync.iter().copied().collect(),
    }
}

fn standings(
    cluster: &Cluster,
    state: &millrace_replication::cluster::Partition,
) -> BTreeMap<BrokerId, Standing> {
    let brokers = state.replicas.iter().filter_map(|id| cluster.broker(*id));
    let standing = |broker: &millrace_replication::cluster::Broker| Standing {
        life: broker.epoch,
        eligible: broker.state == BrokerState::Active,
    };
    brokers
        .map(|broker| (broker.id, standing(broker)))
        .collect()
}

fn facts(state: &millrace_replication::cluster::Partition) -> PartitionFacts {
    let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    PartitionFacts {
        leader: state.leader.map(|id| id.0),
        leader_epoch: state.leader_epoch.0,
        version: state.partition_epoch.0,
        replicas: numbers(&state.replicas),
        in_sync: numbers(&state.in_sync),
        eligible: numbers(&state.eligible),
        is_moving: state.is_reassigning(),
    }
}
