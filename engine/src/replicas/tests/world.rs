//! The world of the tests: brokers, each with a replica of the one partition, on one executor.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use glommio::timer::sleep;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use millrace_model::{
    BatchBuilder, BatchSpec, BrokerEpoch, BrokerId, ClusterId, ErrorCode, Header, IncarnationId,
    LeaderEpoch, LogId, Offset, PartitionId, ShardId, Timestamp, TopicId, TopicSettings,
};
use millrace_net::{PREEMPTION_TIMER, Spinner};
use millrace_replication::cluster::{
    Answer, Cluster, Command, FEATURE_LEVELS, NewTopic, Registration,
};
use millrace_replication::partition::{Acks, ReplicaSettings};
use millrace_replication::quorum::Index;
use millrace_replication::{Override, Refusal};
use millrace_storage::disk::glommio::GlommioDisk;
use millrace_storage::{Storage, StorageLimits};
use millrace_wire::ChunkQueue;

use super::super::serve::FindPartition;
use super::super::stream::{Incoming, Outgoing, StreamEnded};
use super::super::{Host, HostParts, Link, image, serve_replica_stream};
use crate::lane::{Outcome, Place, Settle};
use crate::metrics::ShardMetrics;
use crate::partition::{DeviceWatch, Partition, ProducedBatch};
use crate::shard::budget::MemoryBudget;

pub(super) const LOG: LogId = LogId {
    topic: TopicId([9; 16]),
    partition: PartitionId(0),
};

const CLUSTER: ClusterId = ClusterId([3; 16]);

/// Memory of each broker for frames on their way.
pub(super) const BUDGET: usize = 4 << 20;

/// Within this, what must happen has happened, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One half of a stream, in memory.
pub(super) type Chunks = (flume::Sender<Bytes>, flume::Receiver<Bytes>);

impl Incoming for flume::Receiver<Bytes> {
    async fn chunk(&mut self) -> Result<Bytes, StreamEnded> {
        self.recv_async().await.map_err(|_| StreamEnded)
    }
}

impl Outgoing for flume::Sender<Bytes> {
    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamEnded> {
        for chunk in chunks {
            let sent = self.send_async(std::mem::take(chunk)).await;
            sent.map_err(|_| StreamEnded)?;
        }
        Ok(())
    }

    fn finish(&mut self) {}
}

/// A stream that breaks when its two ends are cut off from each other.
pub(super) struct Breakable<T> {
    half: T,
    broken: Rc<Cell<bool>>,
}

impl Incoming for Breakable<flume::Receiver<Bytes>> {
    async fn chunk(&mut self) -> Result<Bytes, StreamEnded> {
        loop {
            if self.broken.get() {
                return Err(StreamEnded);
            }
            let tick = async {
                sleep(Duration::from_millis(5)).await;
                None
            };
            let chunk = async { Some(self.half.recv_async().await) };
            match futures_lite::future::or(chunk, tick).await {
                Some(chunk) => return chunk.map_err(|_| StreamEnded),
                None => continue,
            }
        }
    }
}

impl Outgoing for Breakable<flume::Sender<Bytes>> {
    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamEnded> {
        match self.broken.get() {
            true => Err(StreamEnded),
            false => self.half.write(chunks).await,
        }
    }

    fn finish(&mut self) {}
}

/// A broker with its replica.
pub(super) struct Broker {
    pub(super) id: BrokerId,
    pub(super) host: Rc<Host>,
    pub(super) partition: Rc<Partition>,
    life: BrokerEpoch,
}

/// Two brokers, and whether the stream between them is cut.
type Joined = ((BrokerId, BrokerId), Rc<Cell<bool>>);

/// The cluster.
pub(super) struct World {
    pub(super) brokers: RefCell<Vec<Rc<Broker>>>,
    cluster: RefCell<Cluster>,
    index: Cell<u64>,
    dir: tempfile::TempDir,
    /// Pairs of brokers that cannot reach each other.
    apart: RefCell<Vec<(BrokerId, BrokerId)>>,
    streams: RefCell<Vec<Joined>>,
    queues: (glommio::TaskQueueHandle, glommio::TaskQueueHandle),
    /// Who gets the streams that are opened, instead of their brokers.
    pub(super) liar: RefCell<Option<flume::Sender<Chunks>>>,
}

/// Runs a test's body on an executor of its own.
pub(super) fn run<F: Future<Output = ()> + 'static>(body: impl FnOnce() -> F + Send + 'static) {
    LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPTION_TIMER)
        .io_memory(256 << 10)
        .spawn(|| async move { body().await })
        .unwrap()
        .join()
        .unwrap();
}

impl World {
    /// So many brokers, all of them in sync, the first of which leads.
    pub(super) async fn new(brokers: u32, min_in_sync: u32) -> Rc<Self> {
        let executor = glommio::executor();
        let queue = |name| {
            let latency = Latency::NotImportant;
            executor.create_task_queue(Shares::Static(100), latency, name)
        };
        let world = Rc::new(Self {
            brokers: RefCell::default(),
            cluster: RefCell::default(),
            index: Cell::new(0),
            dir: tempfile::tempdir().unwrap(),
            apart: RefCell::default(),
            streams: RefCell::default(),
            queues: (queue("foreground"), queue("catch-up")),
            liar: RefCell::default(),
        });
        let level = FEATURE_LEVELS.most;
        let cluster = CLUSTER;
        let founded = world.apply(&Command::Found { cluster, level });
        founded.unwrap();
        for id in (1..=brokers).map(BrokerId) {
            let life = world.register(id);
            let settings = TopicSettings {
                min_insync_replicas: min_in_sync,
                segment_bytes: 64 << 10,
                retention_ms: None,
                ..TopicSettings::default()
            };
            let broker = world.start(id, life, settings).await;
            world.brokers.borrow_mut().push(broker);
        }
        let all = (1..=brokers).map(BrokerId).collect();
        let created = world.apply(&Command::CreateTopic(NewTopic {
            name: "topic".to_owned(),
            id: LOG.topic,
            overrides: vec![Override {
                name: "min.insync.replicas".to_owned(),
                value: min_in_sync.to_string(),
            }],
            assignments: vec![all],
        }));
        created.unwrap();
        world.publish();
        world
    }

    fn register(&self, id: BrokerId) -> BrokerEpoch {
        let registered = self.apply(&Command::Register(Registration {
            cluster: CLUSTER,
            id,
            incarnation: IncarnationId([u8::try_from(id.0).unwrap(); 16]),
            clean_from: None,
            rack: None,
            endpoints: Vec::new(),
            shards: 1,
            features: FEATURE_LEVELS,
        }));
        let Ok(Answer::Registered(epoch)) = registered else {
            panic!("{registered:?}")
        };
        self.apply(&Command::Unfence { broker: id, epoch }).unwrap();
        epoch
    }

    async fn start(
        self: &Rc<Self>,
        id: BrokerId,
        life: BrokerEpoch,
        settings: TopicSettings,
    ) -> Rc<Broker> {
        let limits = StorageLimits {
            tail_bytes: 128 << 10,
            read_cache_bytes: 1 << 20,
            ..StorageLimits::default()
        };
        let root: PathBuf = self.dir.path().join(id.to_string());
        let storage = Storage::new(GlommioDisk::buffered(), root, limits);
        let opened = storage.open_log(LOG, Rc::new(settings), LeaderEpoch(0), Timestamp(1));
        let (log, _) = opened.await.unwrap();
        let world = Rc::downgrade(self);
        let host = Host::new(HostParts {
            broker: id,
            shard: ShardId(0),
            cluster: CLUSTER,
            settings: ReplicaSettings {
                min_backoff_ms: 5,
                max_backoff_ms: 50,
                max_lag_ms: 300,
                subscribe_timeout_ms: 500,
                ..ReplicaSettings::default()
            },
            catch_up_bytes_per_second: None,
            foreground: self.queues.0,
            catch_up: self.queues.1,
            metrics: ShardMetrics::new(ShardId(0)),
            device: DeviceWatch::new(Spinner::new(Duration::ZERO, self.queues.0)),
            budget: MemoryBudget::new(BUDGET, 100),
            wake_for: Box::new(|_| {}),
            propose: Box::new(move |command| {
                let world = world.upgrade();
                Box::pin(async move {
                    // The controller is elsewhere.
                    sleep(Duration::from_millis(2)).await;
                    let answer = world.unwrap().propose(id, &command);
                    answer.map_err(|code| Refusal::new(code, "refused"))
                })
            }),
        });
        host.link(Paths {
            world: Rc::downgrade(self),
            from: id,
        });
        let partition = Partition::new(LOG, log, &host);
        Rc::new(Broker {
            id,
            host,
            partition,
            life,
        })
    }

    /// The `n`th broker, counted from 1.
    pub(super) fn broker(&self, n: usize) -> Rc<Broker> {
        Rc::clone(&self.brokers.borrow()[n - 1])
    }

    pub(super) fn apply(&self, command: &Command) -> Result<Answer, ErrorCode> {
        self.index.set(self.index.get() + 1);
        let index = Index(self.index.get());
        let applied = self.cluster.borrow_mut().apply(index, command);
        applied
            .map(|applied| applied.answer)
            .map_err(|refusal| refusal.code)
    }

    fn propose(&self, from: BrokerId, command: &Command) -> Result<Answer, ErrorCode> {
        let fenced = !self.cluster.borrow().is_active(from);
        if fenced {
            // It does not reach the controller either.
            return Err(ErrorCode::RequestTimedOut);
        }
        let answer = self.apply(command);
        self.publish();
        answer
    }

    /// Tells the brokers that are not fenced what the metadata is.
    pub(super) fn publish(&self) {
        let cluster = self.cluster.borrow().clone();
        let Some(partition) = cluster.partition(LOG) else {
            return;
        };
        for broker in self.brokers.borrow().iter() {
            if cluster.is_active(broker.id) {
                let standings = image::standings(&cluster, partition);
                let assignment = image::assignment(partition);
                let told = Rc::clone(broker);
                let telling = async move {
                    told.partition.assigned(assignment, standings, told.life);
                };
                glommio::spawn_local_into(telling, self.queues.0)
                    .unwrap()
                    .detach();
            }
        }
    }

    /// The broker is out of reach of everybody.
    pub(super) fn lose(&self, n: usize) {
        let lost = self.broker(n);
        for other in self.brokers.borrow().iter() {
            self.apart.borrow_mut().push((lost.id, other.id));
            self.apart.borrow_mut().push((other.id, lost.id));
        }
        for ((one, other), broken) in self.streams.borrow().iter() {
            if [one, other].contains(&&lost.id) {
                broken.set(true);
            }
        }
        let (broker, epoch) = (lost.id, lost.life);
        self.apply(&Command::Fence { broker, epoch }).unwrap();
        self.publish();
    }

    /// It is back.
    pub(super) fn find_again(&self, n: usize) {
        let found = self.broker(n);
        let concerns = |pair: &(BrokerId, BrokerId)| pair.0 == found.id || pair.1 == found.id;
        self.apart.borrow_mut().retain(|pair| !concerns(pair));
        let (broker, epoch) = (found.id, found.life);
        self.apply(&Command::Unfence { broker, epoch }).unwrap();
        self.publish();
    }

    /// A stream to the replica of a broker, as another broker.
    pub(super) fn stream_to(
        self: &Rc<Self>,
        to: &Broker,
        from: BrokerId,
        open: millrace_wire::ReplicaOpen,
    ) -> Chunks {
        let ((to_server, at_server), (from_server, here)) = (flume::bounded(8), flume::bounded(8));
        let host = Rc::clone(&to.host);
        let found = Found(Rc::clone(&to.partition));
        let serving = async move {
            let halves = (at_server, from_server);
            serve_replica_stream((host, found), from, open, halves, ChunkQueue::default()).await;
        };
        glommio::spawn_local_into(serving, self.queues.0)
            .unwrap()
            .detach();
        (to_server, here)
    }

    /// The disk of a broker takes no more writes: each of its open files is put in place of one that
    /// was opened for reading.
    pub(super) fn fail_disk(&self, n: usize) {
        let root = self.dir.path().join(n.to_string());
        let mut failed = 0;
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let entry = entry.unwrap();
            let Ok(path) = entry.path().read_link() else {
                continue;
            };
            if !path.starts_with(&root) || !path.is_file() {
                continue;
            }
            let fd: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            let read_only = std::fs::File::open(&path).unwrap();
            // SAFETY: both are open descriptors of this process, and nobody relies on the former file but the
            // log whose writes are to fail.
            let replaced = unsafe { libc::dup2(read_only.as_raw_fd(), fd) };
            assert_eq!(replaced, fd);
            failed += 1;
        }
        assert!(failed > 0, "no file of broker {n} is open");
    }

    /// Who leads, as the metadata has it.
    pub(super) fn leader(&self) -> Option<u32> {
        let cluster = self.cluster.borrow();
        cluster
            .partition(LOG)
            .unwrap()
            .leader
            .map(|leader| leader.0)
    }

    /// The in-sync set, as the metadata has it.
    pub(super) fn in_sync(&self) -> Vec<u32> {
        let cluster = self.cluster.borrow();
        let partition = cluster.partition(LOG).unwrap();
        let mut in_sync: Vec<u32> = partition.in_sync.iter().map(|broker| broker.0).collect();
        in_sync.sort_unstable();
        in_sync
    }
}

/// The one partition.
#[derive(Clone)]
struct Found(Rc<Partition>);

impl FindPartition for Found {
    fn open(&self, log: LogId) -> Option<Rc<Partition>> {
        (log == self.0.id()).then(|| Rc::clone(&self.0))
    }

    async fn find(&self, _: LogId) -> Result<Rc<Partition>, Refusal> {
        Err(Refusal::new(ErrorCode::UnknownTopicId, "no such topic"))
    }
}

/// How one broker reaches the others.
struct Paths {
    world: std::rc::Weak<World>,
    from: BrokerId,
}

impl Link for Paths {
    type Incoming = Breakable<flume::Receiver<Bytes>>;
    type Outgoing = Breakable<flume::Sender<Bytes>>;

    fn shard_of(&self, _: BrokerId, _: LogId) -> Option<ShardId> {
        Some(ShardId(0))
    }

    async fn open(
        &self,
        broker: BrokerId,
        _: ShardId,
    ) -> Result<(Self::Outgoing, Self::Incoming), String> {
        let world = self.world.upgrade().ok_or("the world is gone")?;
        sleep(Duration::from_millis(1)).await;
        let pair = (self.from, broker);
        if world.apart.borrow().contains(&pair) {
            return Err("cut off".to_owned());
        }
        let target = world.broker(broker.0 as usize);
        let (out, at_server) = flume::bounded(8);
        let (from_server, here) = flume::bounded(8);
        let broken = Rc::new(Cell::new(false));
        world.streams.borrow_mut().push((pair, Rc::clone(&broken)));
        let outgoing = Breakable {
            half: out,
            broken: Rc::clone(&broken),
        };
        let incoming = Breakable {
            half: here,
            broken: Rc::clone(&broken),
        };
        let liar = world.liar.borrow().clone();
        if let Some(liar) = liar {
            liar.send_async((from_server, at_server)).await.unwrap();
            return Ok((outgoing, incoming));
        }
        let breakable = Rc::clone(&broken);
        let from = self.from;
        let serving = async move {
            let (host, found) = (Rc::clone(&target.host), Found(Rc::clone(&target.partition)));
            let mut incoming = Breakable {
                half: at_server,
                broken: Rc::clone(&breakable),
            };
            let outgoing = Breakable {
                half: from_server,
                broken: breakable,
            };
            // What `session` does before it hands the stream on.
            let mut reader = millrace_wire::MessageReader::default();
            let open = loop {
                match reader.message::<millrace_wire::ReplicaOpen>() {
                    Ok(Some(open)) => break open,
                    Ok(None) => {}
                    Err(error) => panic!("{error}"),
                }
                let Ok(chunk) = incoming.chunk().await else {
                    return;
                };
                reader.push(chunk);
            };
            let rest = reader.into_rest();
            serve_replica_stream((host, found), from, open, (incoming, outgoing), rest).await;
        };
        glommio::spawn_local_into(serving, world.queues.0)
            .unwrap()
            .detach();
        Ok((outgoing, incoming))
    }
}

/// Keeps what became of batches.
#[derive(Default)]
pub(super) struct Fates(RefCell<BTreeMap<u64, ErrorCode>>);

impl Settle for Fates {
    fn settle(&self, place: Place, outcome: Outcome) {
        let before = self.0.borrow_mut().insert(place.0, outcome.ack.error());
        assert_eq!(before, None, "a place is settled once");
    }
}

impl Fates {
    pub(super) fn of(&self, place: u64) -> Option<ErrorCode> {
        self.0.borrow().get(&place).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

impl Broker {
    /// Appends a batch of ten records, and tells what becomes of it.
    pub(super) fn produce(
        &self,
        (fates, place): (&Rc<Fates>, u64),
        acks: Acks,
        value: &str,
    ) -> Result<(), ErrorCode> {
        let mut builder = BatchBuilder::new();
        for _ in 0..10 {
            let none: [Header<'_>; 0] = [];
            let value = format!("{value} {place}");
            let now = Timestamp(1_000_000);
            builder
                .append(None, Some(value.as_bytes()), none, now)
                .unwrap();
        }
        let batch = Bytes::from(builder.build(&BatchSpec::default()).unwrap());
        let produced = ProducedBatch {
            batch: &batch,
            receive_nanos: 0,
            whole: Instant::now(),
            teller: Rc::clone(fates) as _,
            place: Place(place),
            acks,
        };
        let appended = self.partition.append_batch(produced);
        appended.map_err(|refusal| refusal.code)
    }

    pub(super) fn end(&self) -> u64 {
        self.partition.log().accepted_end().0
    }

    /// All the frames that its log has.
    pub(super) async fn bytes(&self) -> Vec<u8> {
        let log = self.partition.log();
        let (mut at, mut bytes) = (log.log_start(), BytesMut::new());
        while at < log.readable_end() {
            for run in log.read(at, 64 << 10, Offset(u64::MAX)).await.unwrap() {
                bytes.extend_from_slice(run.as_bytes());
                at = run.next;
            }
        }
        bytes.to_vec()
    }
}

/// Waits until something holds.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}
