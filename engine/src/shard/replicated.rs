//! What the cluster's image means for the replicas of a shard: which of them are open, what each is
//! told, and how they reach the leaders on other brokers.

use std::num::NonZeroU64;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use millrace_model::{BrokerId, ClusterId, ErrorCode, LogId, ShardCount, ShardId, TopicId};
use millrace_net::pulse::{Work, named};
use millrace_replication::cluster::ClusterTopic;
use millrace_replication::partition::ReplicaSettings;
use quinn::{RecvStream, SendStream};

use super::Shard;
use super::opening::remove;
use crate::config::Unlimited;
use crate::partition::{DeviceWatch, Partition};
use crate::peers::{PeerConnection, Peers};
use crate::replicas::{Host, HostParts, Incoming, Link, Outgoing, StreamEnded, image};

impl Shard {
    /// What the replicas of this shard need of it.
    pub(crate) fn replicas(self: &Rc<Self>) -> &Rc<Host> {
        self.replicas.get_or_init(|| {
            let host = Host::new(self.host_parts());
            if let Some(peers) = self.peers.clone() {
                let shard = Rc::downgrade(self);
                host.link(PeerLink { peers, shard });
            }
            host
        })
    }

    fn host_parts(self: &Rc<Self>) -> HostParts {
        let shard = Rc::downgrade(self);
        let controller = self.controller.clone();
        let lag = self.config.replica_lag_time_max.0.as_millis();
        HostParts {
            broker: self.broker,
            shard: self.id,
            cluster: self
                .peers
                .as_ref()
                .map_or_else(ClusterId::default, Peers::cluster),
            settings: ReplicaSettings {
                max_lag_ms: i64::try_from(lag).unwrap_or(i64::MAX),
                ..ReplicaSettings::default()
            },
            catch_up_bytes_per_second: match self.config.replica_catch_up_bytes {
                Unlimited::Unlimited => None,
                Unlimited::Limit(bytes) => NonZeroU64::new(bytes.0),
            },
            foreground: self.queues.foreground,
            catch_up: self.queues.catch_up,
            metrics: self.metrics.clone(),
            device: DeviceWatch::new(Rc::clone(&self.spinner)),
            budget: self.budget.clone(),
            wake_for: Box::new(move |deadline| {
                if let Some(shard) = shard.upgrade() {
                    shard.wake_for(deadline);
                }
            }),
            propose: Box::new(move |command| {
                let controller = controller.clone();
                Box::pin(async move { controller.propose(command).await })
            }),
        }
    }

    /// Tells a partition what the image has of it. Before this uptime is registered, nothing is.
    pub(super) fn assign(&self, partition: &Partition) {
        let cluster = self.topics.cluster();
        let (Some(life), Some(state)) = (self.life.get(), cluster.partition(partition.id())) else {
            return;
        };
        let standings = image::standings(&cluster, state);
        partition.assigned(image::assignment(state), standings, life);
    }

    /// Notes that the broker serves in its cluster.
    pub(super) fn note_joined(&self) {
        let is_active = self.topics.cluster().is_active(self.broker);
        if self.life.get().is_some() && is_active && self.joined.raised().is_none() {
            self.joined.raise(());
        }
    }

    /// What is known of brokers has changed, and so who may be in sync.
    pub(super) fn standings_changed(&self) {
        let cluster = self.topics.cluster();
        for partition in self.partitions.all_open() {
            if let Some(state) = cluster.partition(partition.id()) {
                partition.standings(&image::standings(&cluster, state));
            }
        }
    }

    /// A partition is new to this broker, or has another leader, other replicas or another in-sync
    /// set.
    pub(super) fn partition_changed(self: &Rc<Self>, log: LogId) {
        if !self.owns(log) {
            return;
        }
        if let Some(partition) = self.partitions.open(log) {
            self.assign(&partition);
        }
        match self.topics.is_held(log) {
            true => self.open_if_replicated(log),
            // Most changes are of partitions that this broker never had.
            false if self.partitions.is_in_use(log) => self.let_go(log),
            false => {}
        }
        if self.topics.is_coordinators(log) {
            self.coordinators.leadership_changed(self, log);
        }
    }

    /// A replica that this broker no longer has: its files go.
    fn let_go(self: &Rc<Self>, log: LogId) {
        let ended = self
            .partitions
            .remove(move |id| id == log, ErrorCode::NotLeaderOrFollower);
        for partition in ended {
            self.replicas().forget(log);
            let removing = remove(Rc::clone(self), partition);
            self.queues
                .background(named(Work::RemoveLog.on(log), removing));
        }
    }

    /// Opens the replicas of this shard that others have too, of one topic or of all: a follower must
    /// fetch, and a leader be there for who does. Those that nobody else has wait for their first use.
    pub(super) fn open_replicas(self: &Rc<Self>, topic: Option<TopicId>) {
        if self.life.get().is_none() {
            return;
        }
        let logs: Vec<LogId> = {
            let cluster = self.topics.cluster();
            let wanted = cluster
                .topics()
                .filter(|known| topic.is_none_or(|id| known.id == id));
            let logs = wanted.flat_map(ClusterTopic::logs).map(|(log, _)| log);
            logs.filter(|log| self.owns(*log)).collect()
        };
        for log in logs.into_iter().filter(|log| self.topics.is_held(*log)) {
            self.open_if_replicated(log);
        }
    }

    fn open_if_replicated(self: &Rc<Self>, log: LogId) {
        let is_replicated = {
            let cluster = self.topics.cluster();
            let partition = cluster.partition(log);
            partition.is_some_and(|partition| partition.replicas.len() > 1)
        };
        let is_ready = self.life.get().is_some() && self.partitions.open(log).is_none();
        if is_replicated && is_ready {
            let shard = Rc::clone(self);
            self.queues.catch_up_detached(async move {
                // What cannot be opened was logged; the next change of it tries again.
                let _ = shard.replica(log).await;
            });
        }
    }
}

/// The way of a shard's replicas to the leaders on other brokers.
struct PeerLink {
    peers: Peers,
    shard: Weak<Shard>,
}

impl Link for PeerLink {
    type Incoming = PeerStream<RecvStream>;
    type Outgoing = PeerStream<SendStream>;

    fn shard_of(&self, broker: BrokerId, log: LogId) -> Option<ShardId> {
        let shard = self.shard.upgrade()?;
        let cluster = shard.topics.cluster();
        let shards = ShardCount::new(cluster.broker(broker)?.shards)?;
        Some(log.shard(shards))
    }

    async fn open(
        &self,
        broker: BrokerId,
        shard: ShardId,
    ) -> Result<(Self::Outgoing, Self::Incoming), String> {
        let connection = self.peers.connection(broker, shard).await;
        let connection = connection.map_err(|error| error.to_string())?;
        let (send, recv) = connection
            .open_bi()
            .await
            .map_err(|error| error.to_string())?;
        let connection = Rc::new(connection);
        Ok((
            PeerStream {
                stream: send,
                _connection: Rc::clone(&connection),
            },
            PeerStream {
                stream: recv,
                _connection: connection,
            },
        ))
    }
}

/// Half of a stream to a peer, whose connection stays as long as it is used.
struct PeerStream<S> {
    stream: S,
    _connection: Rc<PeerConnection>,
}

impl Incoming for PeerStream<RecvStream> {
    async fn chunk(&mut self) -> Result<Bytes, StreamEnded> {
        self.stream.chunk().await
    }
}

impl Outgoing for PeerStream<SendStream> {
    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamEnded> {
        Outgoing::write(&mut self.stream, chunks).await
    }

    fn finish(&mut self) {
        Outgoing::finish(&mut self.stream);
    }
}
