//! One shard: what a core owns, and the loops that run on it.
//!
//! Everything here is for one thread and shared by `Rc`. Work arrives as QUIC streams
//! ([`crate::session`]), as messages of other shards ([`crate::mesh`]) and as deadlines
//! ([`maintenance`]). An idle shard has no timer shorter than its retention check.

pub(crate) mod budget;
pub(crate) mod clock;
mod inbox;
mod life;
mod maintenance;
pub(crate) mod notice;
mod opening;
mod partitions;
pub(crate) mod presence;
mod producer_ids;
mod queues;
mod replicated;
mod snapshot;
pub(crate) mod stall;
mod topics;

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use millrace_model::{
    BrokerEpoch, BrokerId, ErrorCode, LogId, ShardCount, ShardId, Timestamp, TopicSettings,
};
use millrace_net::pulse::Pulse;
use millrace_net::{ShardEndpoint, Spinner};
use millrace_storage::Storage;
use millrace_storage::disk::DiskError;
use millrace_storage::disk::glommio::GlommioDisk;
use millrace_wire::WireError;

use crate::config::Config;
use crate::controller::ControllerClient;
use crate::coordinator::{Coordinators, Groups};
use crate::kafka::KafkaShard;
use crate::mesh::{Mesh, Message, Reply};
use crate::metrics::ShardMetrics;
use crate::peers::Peers;
use crate::replicas::Host;
use crate::session::lent::Lender;
use budget::MemoryBudget;
use notice::{Notice, Signal};
use partitions::Partitions;
use presence::Presence;
use producer_ids::ProducerIds;
use stall::StallWatches;

pub(crate) use life::{Birth, FoundingSeat, run};
pub(crate) use millrace_replication::Refusal;
pub(crate) use queues::{Queues, executor};
pub(crate) use topics::{
    Topics, default_replication, overrides, partition_count, settings_of as topic_settings_of,
};

/// Streams that wait for memory at a time. More are told to slow down.
const MAX_BUDGET_WAITERS: usize = 16 * 1024;

/// What a core owns. Shared by all its tasks.
pub(crate) struct Shard {
    id: ShardId,
    shards: ShardCount,
    broker: BrokerId,
    cluster_id: Arc<str>,
    config: Arc<Config>,
    storage: Storage<GlommioDisk>,
    partitions: Partitions,
    /// What the partitions need of the shard, once there is one.
    replicas: OnceCell<Rc<Host>>,
    topics: Topics,
    presence: Presence,
    controller: ControllerClient,
    /// This uptime of the broker, once it is registered.
    life: Cell<Option<BrokerEpoch>>,
    producer_ids: ProducerIds,
    coordinators: Coordinators,
    mesh: Mesh,
    lender: Lender,
    budget: MemoryBudget,
    stalls: Rc<StallWatches>,
    metrics: ShardMetrics,
    queues: Queues,
    /// Keeps the executor awake when something is about to happen.
    spinner: Rc<Spinner>,
    kafka: KafkaShard,
    /// The other brokers, where there are any.
    /// `None` for a broker alone.
    peers: Option<Peers>,
    /// Set once the shard serves.
    endpoint: OnceCell<ShardEndpoint>,
    /// Raised when the broker serves in its cluster for the first time: before that its image may lack
    /// what everybody else knows.
    joined: Signal<()>,
    /// Raised when the broker shuts down: nothing new is begun.
    draining: Signal<()>,
    /// Raised when every shard has drained: flush and end.
    stopping: Signal<()>,
    sessions: Cell<usize>,
    session_ended: Notice,
    /// A log has a nearer deadline than the maintenance sleeps for.
    nearer_deadline: Notice,
    /// Until when it sleeps.
    sleeps_until: Cell<Timestamp>,
    begun: Instant,
    pulse: Arc<Pulse>,
}

impl Shard {
    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    pub(crate) fn shards(&self) -> ShardCount {
        self.shards
    }

    /// Since when this shard is there.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Where foreground tasks run.
    pub(crate) fn foreground(&self) -> glommio::TaskQueueHandle {
        self.queues.foreground
    }

    /// A log has something to do at `deadline`.
    pub(crate) fn wake_for(&self, deadline: Timestamp) {
        if deadline < self.sleeps_until.get() {
            self.sleeps_until.set(deadline);
            self.nearer_deadline.notify();
        }
    }

    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Who has just gone.
    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Returns when what is known of who leads is likely to be true: at once for a broker alone.
    pub(crate) async fn settled(&self) {
        if self.peers.is_some() {
            self.presence.settled().await;
        }
    }

    /// Who changes the cluster.
    pub(crate) fn controller(&self) -> &ControllerClient {
        &self.controller
    }

    /// This uptime of the broker.
    ///
    /// # Errors
    /// It is not registered yet.
    pub(crate) fn life(&self) -> Result<BrokerEpoch, Refusal> {
        self.life.get().ok_or_else(|| {
            let message = "the broker is not registered with the cluster yet; try again";
            Refusal::new(ErrorCode::CoordinatorNotAvailable, message)
        })
    }

    /// The other brokers; `None` for a broker alone.
    pub(crate) fn peers(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    /// Who lends pages of this shard to others.
    pub(crate) fn lender(&self) -> &Lender {
        &self.lender
    }

    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    pub(crate) fn stalls(&self) -> &Rc<StallWatches> {
        &self.stalls
    }

    pub(crate) fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    /// What keeps the executor awake when something is about to happen.
    pub(crate) fn spinner(&self) -> &Rc<Spinner> {
        &self.spinner
    }

    pub(crate) fn kafka(&self) -> &KafkaShard {
        &self.kafka
    }

    pub(crate) fn broker(&self) -> BrokerId {
        self.broker
    }

    /// Connections of one kind that this shard serves: its share of `max.connections`.
    pub(crate) fn connections_limit(&self) -> usize {
        let all = self.config.max_connections.get() as usize;
        all.div_ceil(usize::from(self.shards.get()))
    }

    pub(crate) fn joined(&self) -> &Signal<()> {
        &self.joined
    }

    /// Refuses who needs an image of the cluster that is up to date, before there is one.
    ///
    /// # Errors
    /// The broker has not joined its cluster yet.
    pub(crate) fn check_joined(&self) -> Result<(), Refusal> {
        match self.joined.raised() {
            Some(()) => Ok(()),
            None => {
                let message =
                    "this broker has not joined its cluster yet; ask another one, or later";
                Err(Refusal::new(ErrorCode::NotLeaderOrFollower, message))
            }
        }
    }

    pub(crate) fn draining(&self) -> &Signal<()> {
        &self.draining
    }

    /// The coordinators of groups that this shard owns.
    pub(crate) fn coordinators(&self) -> &Coordinators {
        &self.coordinators
    }

    /// Consumer groups, whichever shard owns them.
    pub(crate) fn groups(self: &Rc<Self>) -> Groups<'_> {
        Groups::of(self)
    }

    /// Every log that has a directory.
    pub(crate) async fn log_directories(&self) -> Result<Vec<LogId>, DiskError> {
        self.storage.directories().await
    }

    /// The shard that owns a partition.
    pub(crate) fn owner(&self, log: LogId) -> ShardId {
        log.shard(self.shards)
    }

    /// Whether this shard owns it.
    pub(crate) fn owns(&self, log: LogId) -> bool {
        self.owner(log) == self.id
    }

    /// The settings of a partition's topic.
    pub(crate) fn topic_settings(&self, log: LogId) -> Result<Rc<TopicSettings>, Refusal> {
        self.topics.settings(log)
    }

    /// Asks another shard, or this one.
    pub(crate) async fn ask<T>(
        &self,
        shard: ShardId,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Refusal> {
        let answer = self.mesh.ask(shard, message).await;
        answer.map_err(|ended| {
            let code = ErrorCode::NotLeaderOrFollower;
            Refusal::new(code, format!("{ended}; try again later"))
        })
    }

    /// Does `work` on another shard, or on this one, and waits for what it gives. Works of one task
    /// for one shard are begun in the order in which they were first polled.
    pub(crate) async fn on<T, F>(
        self: &Rc<Self>,
        shard: ShardId,
        work: impl FnOnce(Rc<Shard>) -> F + Send + 'static,
    ) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        if shard == self.id {
            return Ok(work(Rc::clone(self)).await);
        }
        let begin = |reply: Reply<T>| {
            Message::Work(Box::new(move |shard: &Rc<Shard>| {
                let work = work(Rc::clone(shard));
                shard.spawn(async move { reply.send(work.await) });
            }))
        };
        self.ask(shard, begin).await
    }

    /// Every shard of the broker.
    pub(crate) fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        self.mesh.shards()
    }

    /// Runs a task in the foreground, detached.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.queues.foreground(task);
    }

    /// Runs a task among the cold reads, detached.
    pub(crate) fn spawn_catch_up_detached(&self, task: impl Future<Output = ()> + 'static) {
        self.queues.catch_up_detached(task);
    }

    /// Runs a task in the background, detached.
    pub(crate) fn spawn_background(&self, task: impl Future<Output = ()> + 'static) {
        self.queues.background(task);
    }

    /// Runs a task among the cold reads and waits for it. Dropping the future cancels it.
    pub(crate) async fn spawn_catch_up<T: 'static>(
        &self,
        task: impl Future<Output = T> + 'static,
    ) -> T {
        self.queues.catch_up(task).await
    }

    /// Streams that are served now.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.get()
    }

    /// Runs a session's task and counts it until it ends.
    pub(crate) fn spawn_session(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let shard = Rc::clone(self);
        self.sessions.set(self.sessions.get() + 1);
        self.spawn(async move {
            task.await;
            shard.sessions.set(shard.sessions.get() - 1);
            shard.session_ended.notify();
        });
    }
}

/// A refusal as it travels.
pub(crate) fn wire_error(refusal: Refusal) -> WireError {
    WireError {
        code: refusal.code as i16,
        message: refusal.message,
    }
}
