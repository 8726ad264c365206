//! From the birth of a shard to its end.

use std::cell::{Cell, OnceCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_model::{BrokerId, LeaderEpoch, ShardCount, ShardId, Timestamp};
use millrace_net::pulse::{self, Pulse, Work, named};
use millrace_net::{
    ConnectionLimits, EndpointOptions, Forwarding, PeerIdentity, ServerIdentity, ShardEndpoint,
    Spinner, TransportLimits,
};
use millrace_storage::disk::glommio::{DirectIo, GlommioDisk, prepare, quiesce};
use millrace_storage::{Storage, StorageLimits};

use super::budget::MemoryBudget;
use super::notice::{Notice, Signal};
use super::partitions::Partitions;
use super::presence::Presence;
use super::producer_ids::ProducerIds;
use super::{MAX_BUDGET_WAITERS, Queues, Shard, Topics, clock, inbox, maintenance};
use crate::broker::StartError;
use crate::config::{Config, DiskMode};
use crate::controller::{
    Controller, ControllerClient, ControllerIdentity, LogJournal, NoPeers, Published, ShardTime,
};
use crate::coordinator::{self, Coordinators};
use crate::kafka::{self, KafkaShard};
use crate::mesh::{Mesh, MeshSeat, Message};
use crate::metrics::ShardMetrics;
use crate::peers::{ControllerPeers, Peers};
use crate::session;
use crate::session::lent::Lender;

/// Where shard 0 keeps the metadata, inside the data directory.
const METADATA_DIR: &str = "metadata";

/// The longest silence of a QUIC connection, whatever `connections.max.idle.ms` allows: a client
/// that lives breaks it several times in this time, so the state of one that vanished need not
/// stay as long as that of an idle Kafka client, which says nothing.
const MAX_QUIC_IDLE: std::time::Duration = std::time::Duration::from_secs(60);

/// How long the endpoint waits, after every stream has ended, for clients to learn that the
/// connection is closed.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(500);

/// How long the end of a shard waits for the removal of files that is under way. What is left
/// is removed at the next start.
const QUIESCENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// What a shard is made of.
pub(crate) struct Birth {
    pub(crate) id: ShardId,
    pub(crate) shards: ShardCount,
    pub(crate) broker: BrokerId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) cluster_id: Arc<str>,
    pub(crate) config: Arc<Config>,
    pub(crate) seat: MeshSeat,
    pub(crate) socket: std::net::UdpSocket,
    pub(crate) forwarding: Forwarding,
    pub(crate) identity: ServerIdentity,
    /// What the broker is to the others of its cluster, if it has any.
    pub(crate) peer: Option<PeerIdentity>,
    /// Where Kafka clients connect, if they can.
    pub(crate) kafka: Option<TcpListener>,
    /// On shard 0 only.
    pub(crate) http: Option<TcpListener>,
    /// How the others come to know what shard 0 has read.
    pub(crate) founding: FoundingSeat,
    /// Where the shard shows what it is doing.
    pub(crate) pulse: Arc<Pulse>,
    /// Says once whether the shard serves.
    pub(crate) ready: flume::Sender<Result<(), StartError>>,
}

/// What shard 0 has read at start and the others need.
#[derive(Clone)]
pub(crate) struct Founding {
    pub(crate) published: Arc<Published>,
    pub(crate) controller: ControllerClient,
}

/// A shard's part in the founding.
pub(crate) enum FoundingSeat {
    /// Shard 0 reads, and tells the others.
    Founder(Box<ControllerIdentity>, Vec<flume::Sender<Founding>>),
    /// The others wait.
    Member(flume::Receiver<Founding>),
}

/// Runs a shard to its end. Returns how many of its logs have taken what is not on the device.
pub(crate) async fn run(birth: Birth) -> usize {
    pulse::install(Arc::clone(&birth.pulse));
    let ready = birth.ready.clone();
    match start(birth).await {
        Ok((shard, endpoint)) => {
            // The broker's thread waits for it as long as it lives.
            let _ = ready.send(Ok(()));
            live(shard, endpoint).await
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            0
        }
    }
}

async fn start(birth: Birth) -> Result<(Rc<Shard>, ShardEndpoint), StartError> {
    let queues = Queues::create();
    let disk = open_disk(&birth.config).await?;
    let (founding, controller) = found(&birth, disk.clone()).await?;
    let metrics = ShardMetrics::new(birth.id);
    let (mesh, messages) = birth.seat.sit(metrics.clone());
    let (lender, returned) = Lender::new();
    let others = Others { mesh, lender };
    let shard = Rc::new(compose(&birth, founding, disk, others, metrics, queues));
    shard.note_joined();
    let serving = inbox::serve(Rc::clone(&shard), messages);
    shard.spawn(named(Work::Inbox, serving));
    shard.spawn(named(Work::Returns, returned.serve()));
    if let Some(controller) = controller {
        let teller = Rc::clone(&shard);
        let publish = async move |published: Published| teller.publish(published).await;
        match shard.peers.clone() {
            None => shard.spawn(named(Work::Controller, controller.run(NoPeers, publish))),
            Some(peers) => {
                let asks = Rc::clone(&shard);
                let doubt = move |broker, is_doubted| asks.doubt(broker, is_doubted);
                let out = ControllerPeers::new(peers, doubt);
                shard.spawn(named(Work::Controller, controller.run(out, publish)));
            }
        }
    }
    let endpoint = open_to_clients(&shard, birth)?;
    Ok((shard, endpoint))
}

/// A shard's dealings with the others.
struct Others {
    mesh: Mesh,
    lender: Lender,
}

fn compose(
    birth: &Birth,
    founding: Founding,
    disk: GlommioDisk,
    others: Others,
    metrics: ShardMetrics,
    queues: Queues,
) -> Shard {
    let config = &birth.config;
    let storage = Storage::new(
        disk,
        config.data_dir.clone(),
        limits(config, u64::from(birth.shards.get())),
    );
    storage.set_spawner(Rc::new(move |task| queues.catch_up_detached(task)));
    let cluster = founding.published.cluster.clone();
    let peers = birth.peer.clone().map(|identity| {
        let voters = &config.controller_quorum_voters.0;
        let peers = Peers::new(identity, voters, queues.foreground, config.shard_spin.0);
        peers.learn(&cluster);
        peers
    });
    Shard {
        id: birth.id,
        shards: birth.shards,
        broker: birth.broker,
        cluster_id: Arc::clone(&birth.cluster_id),
        config: Arc::clone(config),
        storage,
        partitions: Partitions::default(),
        replicas: OnceCell::new(),
        presence: Presence::default(),
        topics: Topics::new(birth.broker, cluster, config.topic_defaults()),
        controller: founding.controller,
        life: Cell::new(founding.published.life),
        producer_ids: ProducerIds::default(),
        coordinators: Coordinators::default(),
        mesh: others.mesh,
        lender: others.lender,
        budget: MemoryBudget::new(config.shard_memory_bytes.as_usize(), MAX_BUDGET_WAITERS),
        stalls: Rc::default(),
        metrics,
        spinner: Spinner::new(config.shard_spin.0, queues.foreground),
        queues,
        kafka: KafkaShard::default(),
        peers,
        endpoint: OnceCell::new(),
        joined: Signal::default(),
        draining: Signal::default(),
        stopping: Signal::default(),
        sessions: Cell::new(0),
        session_ended: Notice::default(),
        nearer_deadline: Notice::default(),
        sleeps_until: Cell::new(Timestamp(i64::MAX)),
        begun: Instant::now(),
        pulse: Arc::clone(&birth.pulse),
    }
}

fn open_to_clients(shard: &Rc<Shard>, birth: Birth) -> Result<ShardEndpoint, StartError> {
    let transport = TransportLimits {
        idle_timeout: shard.config.connections_max_idle.0.min(MAX_QUIC_IDLE),
        ..TransportLimits::broker()
    };
    let endpoint = ShardEndpoint::start(EndpointOptions {
        socket: birth.socket,
        forwarding: birth.forwarding,
        identity: birth.identity,
        transport,
        limits: connection_limits(shard),
        queue: shard.queues.foreground,
        spin: shard.config.shard_spin.0,
    })
    .map_err(|source| StartError::Endpoint { source })?;
    // A clone of a handle; nobody else sets it.
    let _ = shard.endpoint.set(endpoint.clone());
    if let Some(listener) = birth.kafka {
        kafka::serve(shard, listener);
    }
    if let Some(listener) = birth.http {
        session::serve_http(shard, listener);
    }
    Ok(endpoint)
}

async fn open_disk(config: &Config) -> Result<GlommioDisk, StartError> {
    match (config.disk_mode, prepare(&config.data_dir).await?) {
        (DiskMode::Buffered, _) => Ok(GlommioDisk::buffered()),
        (DiskMode::Direct, DirectIo::Supported) => Ok(GlommioDisk::direct()),
        (DiskMode::Direct, DirectIo::Refused(source)) => {
            let data_dir = config.data_dir.clone();
            Err(StartError::NoDirectIo { data_dir, source })
        }
    }
}

type ShardController = Controller<LogJournal<GlommioDisk>, ShardTime>;

/// Reads the metadata, or waits until shard 0 has.
async fn found(
    birth: &Birth,
    disk: GlommioDisk,
) -> Result<(Founding, Option<ShardController>), StartError> {
    match &birth.founding {
        FoundingSeat::Member(founder) => {
            let founding = founder.recv_async().await;
            Ok((founding.map_err(|_| StartError::FounderFailed)?, None))
        }
        FoundingSeat::Founder(identity, members) => {
            let directory = birth.config.data_dir.join(METADATA_DIR);
            let controller = Controller::open_on_disk(
                disk,
                &directory,
                birth.epoch,
                clock::timestamp,
                ControllerIdentity::clone(identity),
                ShardTime::new(),
            )
            .await?;
            let founding = Founding {
                published: Arc::new(controller.published()),
                controller: controller.client(),
            };
            for member in members {
                // A member that has failed says so itself.
                let _ = member.send(founding.clone());
            }
            Ok((founding, Some(controller)))
        }
    }
}

fn limits(config: &Config, shards: u64) -> StorageLimits {
    StorageLimits {
        read_cache_bytes: config.shard_cache_bytes.as_usize(),
        tail_bytes: config.shard_tail_bytes.as_usize(),
        open_files: crate::checks::open_segment_files(config, shards) as usize,
        recycled_bytes: config.shard_recycle_bytes.0,
        // The memory budget bounds what waits, whatever log it is for; with write.caching
        // what is acknowledged stays in it until it is written.
        pending_bytes: config.shard_memory_bytes.as_usize(),
        ..StorageLimits::default()
    }
}

fn connection_limits(shard: &Shard) -> ConnectionLimits {
    ConnectionLimits {
        connections: shard.connections_limit(),
        ..ConnectionLimits::default()
    }
}

async fn live(shard: Rc<Shard>, endpoint: ShardEndpoint) -> usize {
    shard.spawn(session::accept_connections(
        Rc::clone(&shard),
        endpoint.clone(),
    ));
    let open = maintenance::keep_open_logs(Rc::clone(&shard));
    shard.queues.background(named(Work::Retention, open));
    let unopened = maintenance::keep_unopened_logs(Rc::clone(&shard));
    shard.queues.background(named(Work::Retention, unopened));
    shard
        .queues
        .background(maintenance::sweep_stalled(Rc::clone(&shard)));
    let minutes = maintenance::keep_minutes(Rc::clone(&shard));
    shard.queues.background(named(Work::Latencies, minutes));
    shard
        .queues
        .background(coordinator::wake(Rc::clone(&shard)));
    shard.stopping.wait().await;
    endpoint
        .shut_down("the broker is shutting down", FAREWELL)
        .await;
    let unwritten = shard.flush().await;
    or(quiesce(), sleep(QUIESCENCE)).await;
    unwritten
}

impl Shard {
    /// Tells every shard what is new in the cluster, this one first.
    async fn publish(self: &Rc<Self>, published: Published) {
        self.apply(&published);
        let published = Arc::new(published);
        for other in self.all_shards().filter(|other| *other != self.id) {
            let asked = self.ask(other, |reply| Message::Image(Arc::clone(&published), reply));
            if let Err(refusal) = asked.await {
                tracing::error!(shard = %other, %refusal, "a shard was not told of a change");
            }
        }
    }

    /// Tells every shard that it is doubtful whether a broker is still there, or not any more.
    fn doubt(self: &Rc<Self>, broker: BrokerId, is_doubted: bool) {
        for shard in self.all_shards() {
            let telling = Rc::clone(self);
            self.spawn(async move {
                let tell = async move |shard: Rc<Shard>| shard.presence.doubt(broker, is_doubted);
                // One that has ended tells nobody anything.
                let _ = telling.on(shard, tell).await;
            });
        }
    }

    /// Begins nothing new, and waits until every stream has finished what it had received,
    /// or `shutdown.timeout.ms` is over.
    pub(super) async fn drain(&self) {
        self.draining.raise(());
        let drained = async {
            loop {
                let ended = self.session_ended.notified();
                if self.sessions.get() == 0 {
                    return;
                }
                ended.await;
            }
        };
        let timeout = async {
            sleep(self.config.shutdown_timeout.0).await;
            tracing::warn!(streams = self.sessions.get(), "streams did not end in time");
        };
        or(drained, timeout).await;
    }

    /// Writes what is left to write. Returns how many logs keep what they could not write: on a full
    /// disk, what was acknowledged from memory.
    async fn flush(&self) -> usize {
        let mut unwritten = 0;
        for partition in self.partitions.all_open() {
            let log = partition.log();
            if let Err(error) = log.vouch().await {
                tracing::error!(log = %partition.id(), %error, "a log was not closed in good order");
                unwritten += usize::from(log.durable_end() < log.accepted_end());
            }
        }
        unwritten
    }
}
