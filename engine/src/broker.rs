//! A broker from start to shutdown, as the binary, the benchmark and the tests run it.
//!
//! The caller's thread opens the data directory, binds the sockets in shard order, and starts
//! one executor a core. It keeps nothing but the handle: a [`RunningBroker`]. There is no
//! global state, so several brokers can run in one process.
//!
//! **Invariant:** no half-alive broker. A shard that panics ends the process, after the panic's
//! message: its partitions would otherwise be gone while others pretend to serve.

mod cores;

use std::cell::Cell;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, Placement};
use millrace_model::{BrokerId, ShardCount, ShardId};
use millrace_net::pulse::Pulse;
use millrace_net::tls::TlsError;
use millrace_net::{
    BindError, Forwarding, PeerIdentity, ServerIdentity, SocketOptions, Steering, bind_group,
    bind_tcp_group,
};
use millrace_replication::cluster::{Endpoint, LeaseSettings, VoterSettings};
use millrace_storage::disk::DiskError;

use crate::config::{Config, Period};
use crate::controller::{
    ControllerError, ControllerIdentity, KAFKA_LISTENER, QUIC_LISTENER, random_incarnation,
};
use crate::data_dir::{DataDir, DataDirError};
use crate::mesh::{self, Message, ask_blocking};
use crate::peers;
use crate::shard::{self, Birth, FoundingSeat};
use crate::watchdog::{self, Watchdog};

/// Memory that a shard's executor registers with its ring for buffers of direct I/O: enough
/// for the small reads of recovery. It counts against the limit of locked memory (8 MiB in
/// most systems, for all shards and rings together); larger buffers come from the heap.
const IO_MEMORY: usize = 256 << 10;

/// Entries of each ring of an executor: operations that one round submits. glommio has three
/// rings, each counts against the limit of locked memory.
const RING_DEPTH: usize = 128;

/// How often a shard is told to stop until it has.
const STOP_INTERVAL: Duration = Duration::from_millis(2);

/// Starts brokers.
#[derive(Debug)]
pub struct Broker;

/// What a broker is started with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The settings.
    pub config: Config,
    /// Whether its shards have cores of their own.
    pub placement: ShardPlacement,
}

/// Where the executors of the shards run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardPlacement {
    /// Each on a core of its own: for a broker.
    Pinned,
    /// Wherever the system puts them: beside other work in one process, as in tests.
    Unpinned,
}

impl From<Config> for BrokerConfig {
    /// Pinned, as a broker runs.
    fn from(config: Config) -> Self {
        Self {
            config,
            placement: ShardPlacement::Pinned,
        }
    }
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port of the native or of the Kafka protocol is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address for HTTP is not to be had.
    #[error("http {addr}: {source}")]
    Http {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An executor cannot be made: io_uring is missing or a limit too low.
    #[error("shard {shard} has no executor: {reason}")]
    Executor {
        /// The shard.
        shard: ShardId,
        /// The reason.
        reason: String,
    },
    /// The thread that watches the shards cannot be made.
    #[error("the watchdog has no thread: {0}")]
    Watchdog(std::io::Error),
    /// The cores of this process are not known.
    #[error("the cores that this process may use are not known: {0}")]
    Cores(std::io::Error),
    /// The file system has no direct I/O.
    #[error(
        "the file system of {} has no direct I/O ({source}); for development, disk.mode = \
         buffered does without", data_dir.display()
    )]
    NoDirectIo {
        /// The data directory.
        data_dir: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(std::io::Error),
    /// The metadata cannot be read: why, as text, for the cause stays on its shard.
    #[error("{0}")]
    Metadata(String),
    /// A shard's QUIC endpoint failed.
    #[error("the QUIC endpoint: {source}")]
    Endpoint {
        /// The system's reason.
        source: std::io::Error,
    },
    /// Shard 0, which reads the metadata, has failed, and says itself why.
    #[error("shard 0 did not start")]
    FounderFailed,
}

impl From<ControllerError> for StartError {
    fn from(error: ControllerError) -> Self {
        Self::Metadata(error.to_string())
    }
}

impl Broker {
    /// Starts a broker and returns when all its shards serve.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(config: BrokerConfig) -> Result<RunningBroker, StartError> {
        end_process_on_panic_of_a_shard();
        let BrokerConfig { config, placement } = config;
        let broker = BrokerId(config.node_id);
        let cluster = config.cluster().map(|cluster| cluster.id);
        let data_dir = DataDir::open_in(&config.data_dir, broker, cluster)?;
        let cores = cores::allowed().map_err(StartError::Cores)?;
        let shards = config.cores.shards(cores.len());
        let sockets = Sockets::bind(&config, shards)?;
        let (quic, kafka, http) = (sockets.quic, sockets.kafka_addr, sockets.http_addr);
        let births = Births {
            shards,
            broker,
            controller: controller_identity(&config, &data_dir, &sockets, shards)?,
            peer: peers::identity(&config)?,
            identity: identity(&config)?,
            data_dir: &data_dir,
            config: Arc::new(config),
            pulses: (0..shards.get()).map(|_| Arc::default()).collect(),
        };
        let watchdog = births.watchdog()?;
        let (births, inboxes, ready) = births.all(sockets);
        let mut threads = Threads(Vec::new());
        if let Err(error) = threads.start(births, placement, &cores) {
            return Err(give_up(threads, inboxes, error, &ready));
        }
        for _ in 0..shards.get() {
            match ready.recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(give_up(threads, inboxes, error, &ready)),
                Err(_) => return Err(give_up(threads, inboxes, StartError::FounderFailed, &ready)),
            }
        }
        tracing::info!(%quic, kafka = kafka.map(tracing::field::display), shards, epoch = %data_dir.epoch(), "serving");
        Ok(RunningBroker {
            quic,
            kafka,
            http,
            shards,
            data_dir,
            inboxes,
            threads,
            _watchdog: watchdog,
        })
    }
}

/// Ends the shards that did start.
fn give_up(
    threads: Threads,
    inboxes: Vec<flume::Sender<Message>>,
    error: StartError,
    ready: &flume::Receiver<Result<(), StartError>>,
) -> StartError {
    for inbox in &inboxes {
        // A shard that has failed has no inbox.
        let _ = inbox.try_send(Message::Stop);
    }
    drop(inboxes);
    threads.join();
    // The shard that failed first is the one to name, not those that failed with it.
    match error {
        StartError::FounderFailed => {
            let others = ready.drain().filter_map(Result::err);
            let mut others = others.filter(|other| !matches!(other, StartError::FounderFailed));
            others.next().unwrap_or(StartError::FounderFailed)
        }
        error => error,
    }
}

/// Who this broker is to the others, or to itself if it is alone.
fn controller_identity(
    config: &Config,
    data_dir: &DataDir,
    sockets: &Sockets,
    shards: ShardCount,
) -> Result<ControllerIdentity, StartError> {
    let cluster_id = data_dir.cluster_id().parse().map_err(|_| {
        StartError::Metadata(format!(
            "cluster.id `{}` in {} is not one: 32 hexadecimal digits",
            data_dir.cluster_id(),
            data_dir.path().display()
        ))
    })?;
    let incarnation = random_incarnation().map_err(StartError::Random)?;
    let endpoint = |listener: &str, (host, port)| Endpoint {
        listener: listener.to_owned(),
        host,
        port,
    };
    let quic = endpoint(QUIC_LISTENER, config.quic_endpoint(sockets.quic));
    let kafka = sockets.kafka_addr.map(|bound| {
        let advertised = config.advertised_listeners.0.clone();
        let (host, _) = config.quic_endpoint(sockets.quic);
        endpoint(KAFKA_LISTENER, advertised.unwrap_or((host, bound.port())))
    });
    let millis = |period: Period| u64::try_from(period.0.as_millis()).unwrap_or(u64::MAX);
    let cluster = config.cluster();
    let voters = cluster.iter().flat_map(|cluster| cluster.voters);
    Ok(ControllerIdentity {
        clean_from: data_dir.clean_from(),
        voters: voters.map(|voter| voter.broker).collect(),
        rack: config.broker_rack.0.clone(),
        endpoints: std::iter::once(quic).chain(kafka).collect(),
        shards: shards.get(),
        has_peers: cluster.is_some(),
        voter_settings: VoterSettings {
            target: usize::from(config.controller_quorum_voter_target.0),
            replace_after_ms: millis(config.controller_quorum_voter_replace),
        },
        leases: LeaseSettings {
            session_timeout_ms: millis(config.broker_session_timeout),
        },
        heartbeat_interval_ms: millis(config.broker_heartbeat_interval),
        ..ControllerIdentity::alone(BrokerId(config.node_id), cluster_id, incarnation)
    })
}

fn identity(config: &Config) -> Result<ServerIdentity, TlsError> {
    match (&config.tls_certificate.0, &config.tls_key.0) {
        (Some(certificate), Some(key)) => ServerIdentity::from_files(certificate, key),
        _ => ServerIdentity::in_data_dir(&config.data_dir),
    }
}

/// Everything that listens.
struct Sockets {
    quic: SocketAddr,
    shards: Vec<std::net::UdpSocket>,
    /// One a shard, or none at all.
    kafka: Vec<TcpListener>,
    kafka_addr: Option<SocketAddr>,
    http: Option<TcpListener>,
    http_addr: Option<SocketAddr>,
}

impl Sockets {
    fn bind(config: &Config, shards: ShardCount) -> Result<Self, StartError> {
        let group = bind_group(config.quic, shards, &SocketOptions::default())?;
        if let Steering::Refused(error) = &group.steering {
            tracing::warn!(%error, "the kernel does not steer datagrams; shards forward them");
        }
        let kafka = match config.kafka.0 {
            Some(addr) => Some(bind_tcp_group(addr, shards)?),
            None => None,
        };
        let kafka_addr = kafka.as_ref().map(|group| group.addr);
        let mut http = None;
        let mut http_addr = None;
        if let Some(addr) = config.http.0 {
            let refuse = |source| StartError::Http { addr, source };
            let listener = TcpListener::bind(addr).map_err(refuse)?;
            http_addr = Some(listener.local_addr().map_err(refuse)?);
            http = Some(listener);
        }
        Ok(Self {
            quic: group.addr,
            shards: group.sockets,
            kafka: kafka.map_or_else(Vec::new, |group| group.listeners),
            kafka_addr,
            http,
            http_addr,
        })
    }
}

/// What all shards are made of.
struct Births<'a> {
    shards: ShardCount,
    broker: BrokerId,
    peer: Option<PeerIdentity>,
    identity: ServerIdentity,
    data_dir: &'a DataDir,
    controller: ControllerIdentity,
    config: Arc<Config>,
    pulses: Vec<Arc<Pulse>>,
}

type Ready = flume::Receiver<Result<(), StartError>>;

impl Births<'_> {
    /// A broker of a cluster shows peers and clients the same certificate, and asks for one.
    fn serving_identity(&self) -> ServerIdentity {
        match &self.peer {
            Some(peer) => peer.server().clone(),
            None => self.identity.clone(),
        }
    }

    /// Watches all shards, unless the configuration says that nobody does.
    fn watchdog(&self) -> Result<Option<Watchdog>, StartError> {
        let bound = self.config.shard_stall.0;
        if bound.is_zero() {
            return Ok(None);
        }
        let watchdog = Watchdog::start(self.pulses.clone(), bound, watchdog::log);
        watchdog.map(Some).map_err(StartError::Watchdog)
    }

    fn all(self, sockets: Sockets) -> (Vec<Birth>, Vec<flume::Sender<Message>>, Ready) {
        let (say_ready, ready) = flume::unbounded();
        let seats = mesh::mesh(self.shards.get());
        let inboxes = seats
            .first()
            .map(mesh::MeshSeat::inboxes)
            .unwrap_or_default();
        let mut founding = founding_seats(self.shards, self.controller.clone());
        let mut http = sockets.http;
        let mut kafka = sockets.kafka.into_iter();
        let cluster_id: Arc<str> = self.data_dir.cluster_id().into();
        let parts = seats
            .into_iter()
            .zip(sockets.shards)
            .zip(Forwarding::between(self.shards));
        let births = (0..)
            .zip(parts)
            .map(|(id, ((seat, socket), forwarding))| Birth {
                id: ShardId(id),
                shards: self.shards,
                broker: self.broker,
                epoch: self.data_dir.epoch(),
                cluster_id: Arc::clone(&cluster_id),
                config: Arc::clone(&self.config),
                seat,
                socket,
                forwarding,
                identity: self.serving_identity(),
                peer: self.peer.clone(),
                kafka: kafka.next(),
                http: http.take(),
                founding: founding.remove(0),
                pulse: Arc::clone(&self.pulses[usize::from(id)]),
                ready: say_ready.clone(),
            });
        (births.collect(), inboxes, ready)
    }
}

fn founding_seats(shards: ShardCount, identity: ControllerIdentity) -> Vec<FoundingSeat> {
    let (tell, told): (Vec<_>, Vec<_>) = (1..shards.get()).map(|_| flume::bounded(1)).unzip();
    let members = told.into_iter().map(FoundingSeat::Member);
    std::iter::once(FoundingSeat::Founder(Box::new(identity), tell))
        .chain(members)
        .collect()
}

/// The executors' threads, each with a channel that ends when its shard does. They return how many logs
/// could not write what they had taken.
struct Threads(Vec<(ExecutorJoinHandle<usize>, flume::Receiver<Infallible>)>);

impl Threads {
    fn start(
        &mut self,
        births: Vec<Birth>,
        placement: ShardPlacement,
        cores: &[usize],
    ) -> Result<(), StartError> {
        for birth in births {
            let id = birth.id;
            let core = cores[usize::from(id.0) % cores.len()];
            let placement = match placement {
                ShardPlacement::Pinned => Placement::Fixed(core),
                ShardPlacement::Unpinned => Placement::Unbound,
            };
            let (alive, ended) = flume::bounded(0);
            let executor = shard::executor(placement)
                .name(&format!("shard-{id}"))
                .io_memory(IO_MEMORY)
                .ring_depth(RING_DEPTH)
                .spawn(move || async move {
                    SHARD.set(Some(id));
                    let _alive: flume::Sender<Infallible> = alive;
                    shard::run(birth).await
                });
            let executor = executor.map_err(|error| StartError::Executor {
                shard: id,
                reason: error.to_string(),
            });
            // The births that are left are dropped, and with them what started shards wait for.
            self.0.push((executor?, ended));
        }
        Ok(())
    }

    fn have_ended(&self) -> bool {
        self.0.iter().all(|(_, ended)| ended.is_disconnected())
    }

    fn join(self) -> Vec<String> {
        let failed = self
            .0
            .into_iter()
            .filter_map(|(thread, _)| match thread.join() {
                Ok(0) => None,
                Ok(logs) => Some(format!(
                    "{logs} logs have records that could not be written"
                )),
                Err(error) => Some(error.to_string()),
            });
        failed.collect()
    }
}

thread_local! {
    /// The shard that this thread runs, if it does.
    static SHARD: Cell<Option<ShardId>> = const { Cell::new(None) };
}

/// Makes a panic on a shard's thread the end of the process, after its message. In the hook, for the
/// executor catches the unwinding of a task and would go on without it.
fn end_process_on_panic_of_a_shard() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            say(panic);
            if let Some(shard) = SHARD.get() {
                tracing::error!(%shard, "a shard has panicked, the broker ends");
                std::process::abort();
            }
        }));
    });
}

/// A broker that serves. Dropping it without [`RunningBroker::shutdown`] shuts it down too.
#[must_use = "the broker shuts down when this is dropped"]
pub struct RunningBroker {
    quic: SocketAddr,
    kafka: Option<SocketAddr>,
    http: Option<SocketAddr>,
    shards: ShardCount,
    data_dir: DataDir,
    inboxes: Vec<flume::Sender<Message>>,
    threads: Threads,
    _watchdog: Option<Watchdog>,
}

/// Why a shutdown was not clean. The next start recovers, as after a crash.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// A shard ended otherwise than asked.
    #[error("a shard did not end in good order: {0}")]
    Shard(String),
    /// The mark of a clean shutdown cannot be written.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

impl RunningBroker {
    /// Address of the native protocol.
    #[must_use]
    pub fn quic(&self) -> SocketAddr {
        self.quic
    }

    /// Address of the Kafka protocol.
    #[must_use]
    pub fn kafka(&self) -> Option<SocketAddr> {
        self.kafka
    }

    /// Address of metrics and health.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// How many shards it has.
    #[must_use]
    pub fn shards(&self) -> ShardCount {
        self.shards
    }

    /// Shuts down in good order: gives up what other brokers can lead, takes nothing new, finishes and acknowledges what was
    /// received, flushes every log, marks the data directory as clean.
    ///
    /// # Errors
    /// [`ShutdownError`]. The broker has ended all the same.
    pub fn shutdown(mut self) -> Result<(), ShutdownError> {
        let first = self.inboxes.first();
        let life = first.and_then(|inbox| ask_blocking(inbox, Message::PrepareToStop));
        self.end()?;
        match life.flatten() {
            Some(life) => self.data_dir.mark_clean_of(life)?,
            None => self.data_dir.mark_clean()?,
        }
        Ok(())
    }

    /// Tells every shard to stop, and again until it has ended. Once should do, but an
    /// executor that was told while it fell asleep has been seen to sleep on.
    fn stop_shards(&mut self) {
        let inboxes = std::mem::take(&mut self.inboxes);
        while !self.threads.have_ended() {
            for inbox in &inboxes {
                // A full inbox wakes its shard as well; one that is gone needs no telling.
                let _ = inbox.try_send(Message::Stop);
            }
            std::thread::sleep(STOP_INTERVAL);
        }
    }

    fn end(&mut self) -> Result<(), ShutdownError> {
        // All drain at the same time, for streams may run over two of them.
        std::thread::scope(|scope| {
            for inbox in &self.inboxes {
                scope.spawn(|| ask_blocking(inbox, Message::Drain));
            }
        });
        self.stop_shards();
        let failed = std::mem::replace(&mut self.threads, Threads(Vec::new())).join();
        failed
            .into_iter()
            .next()
            .map_or(Ok(()), |reason| Err(ShutdownError::Shard(reason)))
    }
}

impl Drop for RunningBroker {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the broker was dropped and did not end in good order");
        }
    }
}

impl std::fmt::Debug for RunningBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningBroker")
            .field("quic", &self.quic)
            .finish_non_exhaustive()
    }
}
