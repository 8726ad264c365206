//! The surroundings: time that passes when nobody can go on, disks, and a network with cuts.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use millrace_model::{
    BrokerEpoch, BrokerId, ClusterId, ErrorCode, IncarnationId, LeaderEpoch, Timestamp, TopicId,
};
use millrace_replication::Refusal;
use millrace_replication::cluster::{ClusterRequest, Endpoint, LeaseSettings, VoterSettings};
use millrace_replication::quorum::QuorumSettings;
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;

use crate::controller::journal::tests::passing;
use crate::controller::{
    Controller, ControllerClient, ControllerError, ControllerIdentity, HEARTBEAT_INTERVAL_MS,
    LogJournal, PeerTransport, Published, Time,
};

/// A message takes this long.
const NETWORK_MS: u64 = 2;

pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Where a data directory has its metadata.
pub(super) fn metadata() -> PathBuf {
    PathBuf::from("/data/metadata")
}

pub(super) type Opened = Controller<LogJournal<MemoryDisk>, VirtualTime>;

/// Time that stands still until [`World`] moves it.
#[derive(Clone, Default)]
pub(super) struct VirtualTime(Rc<Clock>);

#[derive(Default)]
struct Clock {
    now: Cell<i64>,
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<(i64, u64), Waker>>,
}

impl Time for VirtualTime {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.now.get())
    }

    async fn sleep(&self, duration: Duration) {
        let clock = &self.0;
        let due = clock.now.get() + i64::try_from(duration.as_millis()).unwrap();
        let id = clock.next.replace(clock.next.get() + 1);
        let _forgets = Forgets(clock, (due, id));
        poll_fn(|cx| {
            if clock.now.get() >= due {
                return Poll::Ready(());
            }
            clock
                .waiting
                .borrow_mut()
                .insert((due, id), cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A timer that is dropped wakes nobody.
struct Forgets<'a>(&'a Clock, (i64, u64));

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.0.waiting.borrow_mut().remove(&self.1);
    }
}

/// Who reaches whom.
#[derive(Default)]
struct Network {
    running: RefCell<BTreeMap<BrokerId, ControllerClient>>,
    /// Brokers that reach nobody and are reached by nobody.
    cut: RefCell<BTreeSet<BrokerId>>,
    /// Hosts say that nobody has a port.
    tells: Cell<bool>,
}

impl Network {
    fn reach(&self, from: BrokerId, to: BrokerId) -> Option<ControllerClient> {
        let cut = self.cut.borrow();
        let whole = !cut.contains(&from) && !cut.contains(&to);
        whole.then(|| self.running.borrow().get(&to).cloned())?
    }
}

/// The network as one broker sees it.
struct Line {
    from: BrokerId,
    network: Rc<Network>,
    time: VirtualTime,
    tasks: LocalTasks,
}

impl PeerTransport for Line {
    fn send(&self, to: BrokerId, message: Bytes) {
        let (from, network, time) = (self.from, Rc::clone(&self.network), self.time.clone());
        self.tasks.spawn(async move {
            time.sleep(Duration::from_millis(NETWORK_MS)).await;
            if let Some(client) = network.reach(from, to) {
                client.deliver(from, message);
            }
        });
    }

    async fn call(&self, to: BrokerId, request: Bytes) -> Result<Bytes, Refusal> {
        let lost = || Refusal::new(ErrorCode::UnknownServerError, "the line is cut");
        self.time.sleep(Duration::from_millis(NETWORK_MS)).await;
        let client = self.network.reach(self.from, to).ok_or_else(lost)?;
        let answer = client.serve(self.from, request).await;
        self.time.sleep(Duration::from_millis(NETWORK_MS)).await;
        self.network.reach(self.from, to).ok_or_else(lost)?;
        answer
    }

    async fn is_gone(&self, broker: BrokerId) -> bool {
        self.time.sleep(Duration::from_millis(NETWORK_MS)).await;
        let network = &self.network;
        let is_cut = network.cut.borrow().contains(&broker);
        network.tells.get() && !is_cut && !network.running.borrow().contains_key(&broker)
    }
}

/// A broker that runs.
pub(super) struct Node {
    pub(super) client: ControllerClient,
    /// What its shards were told.
    pub(super) images: Rc<RefCell<Vec<Published>>>,
    tasks: LocalTasks,
}

impl Node {
    pub(super) fn image(&self) -> Published {
        self.images.borrow().last().unwrap().clone()
    }
}

/// All of it.
pub(super) struct World {
    pub(super) time: VirtualTime,
    pub(super) disks: BTreeMap<BrokerId, MemoryDisk>,
    pub(super) nodes: BTreeMap<BrokerId, Node>,
    pub(super) random: fastrand::Rng,
    voters: Vec<BrokerId>,
    /// What brokers are configured with that is other than the first voters.
    lists: BTreeMap<BrokerId, Vec<BrokerId>>,
    network: Rc<Network>,
    wire: LocalTasks,
    lives: u32,
    clean: BTreeMap<BrokerId, BrokerEpoch>,
}

impl World {
    /// Brokers 1 to `count`, none of which runs.
    pub(super) fn new(seed: u64, count: u32) -> Self {
        let voters: Vec<BrokerId> = (1..=count).map(BrokerId).collect();
        let disks = voters.iter().map(|id| (*id, MemoryDisk::new(seed)));
        Self {
            time: VirtualTime::default(),
            disks: disks.collect(),
            nodes: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            voters,
            lists: BTreeMap::new(),
            network: Rc::default(),
            wire: LocalTasks::new(seed),
            lives: 0,
            clean: BTreeMap::new(),
        }
    }

    /// A broker that is no voter.
    pub(super) fn add(&mut self, id: BrokerId) {
        self.disks.insert(id, MemoryDisk::new(u64::from(id.0)));
    }

    /// A broker is configured to be one of a cluster, with these voters.
    pub(super) fn configure(&mut self, id: BrokerId, voters: &[u32]) {
        let voters = voters.iter().copied().map(BrokerId).collect();
        self.lists.insert(id, voters);
    }

    pub(super) fn identity(&mut self, id: BrokerId) -> ControllerIdentity {
        let configured = self.lists.get(&id).cloned();
        let has_peers = configured.is_some() || self.voters.len() > 1;
        let voters = configured.unwrap_or_else(|| match self.voters.len() {
            1 => Vec::new(),
            _ => self.voters.clone(),
        });
        ControllerIdentity {
            broker: id,
            cluster: CLUSTER,
            incarnation: IncarnationId(self.random.u128(..).to_le_bytes()),
            clean_from: self.clean.get(&id).copied(),
            has_peers,
            voters,
            voter_settings: VoterSettings::default(),
            rack: None,
            endpoints: vec![Endpoint {
                listener: "QUIC".to_owned(),
                host: "localhost".to_owned(),
                port: 9000,
            }],
            shards: 1,
            quorum: QuorumSettings {
                entries_per_snapshot: 40,
                entries_kept: 5,
                ..QuorumSettings::default()
            },
            leases: LeaseSettings::default(),
            heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
        }
    }

    /// Opens a controller; the disk may stop it.
    pub(super) fn open(&mut self, id: BrokerId) -> Option<Result<Opened, ControllerError>> {
        let identity = self.identity(id);
        self.open_as(identity)
    }

    pub(super) fn open_as(
        &mut self,
        identity: ControllerIdentity,
    ) -> Option<Result<Opened, ControllerError>> {
        self.lives += 1;
        let (disk, time) = (self.disks[&identity.broker].clone(), self.time.clone());
        let epoch = LeaderEpoch(self.lives);
        let tasks = LocalTasks::new(self.random.u64(..));
        let opened = tasks.block_on(async move {
            Controller::open_on_disk(disk, &metadata(), epoch, passing, identity, time).await
        });
        tasks.kill_all();
        opened.ok()
    }

    pub(super) fn start(&mut self, id: BrokerId) {
        let controller = self.open(id).unwrap().unwrap();
        self.run(id, controller);
    }

    pub(super) fn run(&mut self, id: BrokerId, controller: Opened) {
        let tasks = LocalTasks::new(self.random.u64(..));
        let client = controller.client();
        let images = Rc::new(RefCell::new(vec![controller.published()]));
        let line = Line {
            from: id,
            network: Rc::clone(&self.network),
            time: self.time.clone(),
            tasks: self.wire.clone(),
        };
        let (told, time) = (Rc::clone(&images), self.time.clone());
        tasks.spawn(async move {
            controller
                .run(line, async |published: Published| {
                    // Shards take a moment, in which the controller goes on.
                    time.sleep(Duration::from_millis(1)).await;
                    told.borrow_mut().push(published);
                })
                .await;
        });
        self.network.running.borrow_mut().insert(id, client.clone());
        let node = Node {
            client,
            images,
            tasks,
        };
        self.nodes.insert(id, node);
    }

    /// The process ends at once; what was not durable may be lost.
    pub(super) fn kill(&mut self, id: BrokerId) {
        self.network.running.borrow_mut().remove(&id);
        if let Some(node) = self.nodes.remove(&id) {
            node.tasks.kill_all();
        }
        let disk = self.disks[&id].crash(&mut self.random);
        self.disks.insert(id, disk);
        self.clean.remove(&id);
    }

    /// The broker stops in good order.
    pub(super) fn stop(&mut self, id: BrokerId) {
        let client = self.nodes[&id].client.clone();
        self.ask(async move { client.prepare_to_stop().await });
        let life = self.nodes[&id].image().life;
        self.kill(id);
        self.clean.extend(life.map(|life| (id, life)));
    }

    /// From now on hosts say that nobody has a port; without that, a broker that ended is only silent.
    pub(super) fn tell_of_ports(&self) {
        self.network.tells.set(true);
    }

    /// The data directory is lost; the broker begins with an empty one.
    pub(super) fn wipe(&mut self, id: BrokerId) {
        self.kill(id);
        let seed = self.random.u64(..);
        self.disks.insert(id, MemoryDisk::new(seed));
    }

    pub(super) fn cut(&self, id: BrokerId) {
        self.network.cut.borrow_mut().insert(id);
    }

    pub(super) fn heal(&self) {
        self.network.cut.borrow_mut().clear();
    }

    /// Lets time pass.
    pub(super) fn pass(&self, ms: i64) {
        let end = self.time.0.now.get() + ms;
        while self.step(end) {}
        self.time.0.now.set(end);
    }

    /// Lets time pass until this holds.
    pub(super) fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = self.time.0.now.get();
        let end = begun + 30_000;
        loop {
            let moved = self.step(end);
            if holds(self) {
                return;
            }
            assert!(moved, "not within 30 s: {what}");
        }
    }

    /// Milliseconds since the world began.
    pub(super) fn now(&self) -> i64 {
        self.time.0.now.get()
    }

    /// Runs this beside the brokers.
    pub(super) fn begin<T: 'static>(
        &self,
        asking: impl Future<Output = T> + 'static,
    ) -> Rc<RefCell<Option<T>>> {
        let answer = Rc::new(RefCell::new(None));
        let into = Rc::clone(&answer);
        self.wire.spawn(async move {
            let value = asking.await;
            *into.borrow_mut() = Some(value);
        });
        answer
    }

    /// Runs this beside the brokers until it is done.
    pub(super) fn ask<T: 'static>(&self, asking: impl Future<Output = T> + 'static) -> T {
        let answer = self.begin(asking);
        self.until("an answer", |_| answer.borrow().is_some());
        answer.take().unwrap()
    }

    /// Runs everybody who can go on, then moves the clock to whoever wakes next.
    fn step(&self, end: i64) -> bool {
        // What one wakes in another, a few times there and back.
        for _ in 0..4 {
            self.wire.run_until_stalled();
            for node in self.nodes.values() {
                node.tasks.run_until_stalled();
            }
        }
        let clock = &self.time.0;
        let next = clock.waiting.borrow().keys().next().copied();
        let Some((due, _)) = next.filter(|(due, _)| *due <= end) else {
            return false;
        };
        clock.now.set(clock.now.get().max(due));
        let waker = clock.waiting.borrow_mut().pop_first();
        if let Some((_, waker)) = waker {
            waker.wake();
        }
        true
    }
}

pub(super) fn create(name: &str, id: u8, partitions: u32, replication: usize) -> ClusterRequest {
    ClusterRequest::CreateTopic {
        name: name.to_owned(),
        id: TopicId([id; 16]),
        partitions,
        replication,
        overrides: Vec::new(),
        internal: false,
    }
}
