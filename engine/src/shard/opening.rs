//! Partitions come into memory when somebody uses them, and leave with their topic.

use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;
use millrace_model::{ErrorCode, LogId, TopicId, TopicSettings};
use millrace_net::pulse::{Work, named};
use millrace_replication::Refusal;
use millrace_replication::cluster::Changed;
use millrace_storage::disk::DiskError;
use millrace_storage::{OpenError, RecoveryReport};

use super::partitions::Found;
use super::{Shard, clock};
use crate::controller::Published;
use crate::partition::Partition;

/// How often a removal looks whether the last user of a log has let go. Users are told first,
/// so this is a matter of a few rounds.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(2);

impl Shard {
    /// A partition that this broker leads, opened if need be.
    ///
    /// # Errors
    /// There is none, another broker leads it, or its log cannot be opened.
    pub(crate) async fn partition(self: &Rc<Self>, id: LogId) -> Result<Rc<Partition>, Refusal> {
        self.topics.led(id)?;
        self.replica(id).await
    }

    /// This broker's replica of a partition for consumers, who may read from any that is in sync.
    ///
    /// # Errors
    /// There is none, it is not in sync, or its log cannot be opened.
    pub(crate) async fn in_sync_replica(
        self: &Rc<Self>,
        id: LogId,
    ) -> Result<Rc<Partition>, Refusal> {
        self.topics.in_sync(id)?;
        self.replica(id).await
    }

    /// This broker's replica of a partition, opened if need be.
    ///
    /// # Errors
    /// There is no such partition, or its log cannot be opened.
    pub(crate) async fn replica(self: &Rc<Self>, id: LogId) -> Result<Rc<Partition>, Refusal> {
        assert!(self.owns(id), "only the owner opens a log");
        if let Some(partition) = self.partitions.open(id) {
            return Ok(partition);
        }
        loop {
            let settings = self.topics.settings(id)?;
            match self.partitions.find(id) {
                Found::Open(partition) => return Ok(partition),
                Found::Failed(refusal) => return Err(refusal),
                Found::Opening => self.partitions.settled(id).await,
                Found::ToOpen => {
                    // A task of its own: the caller may be cancelled, others may wait.
                    let opening = open(Rc::clone(self), id, settings);
                    let opening = named(Work::OpenLog.on(id), opening);
                    self.queues.catch_up_detached(opening);
                }
            }
        }
    }

    /// The partition if it is open.
    pub(crate) fn open_partition(&self, id: LogId) -> Option<Rc<Partition>> {
        self.partitions.open(id)
    }

    /// The bytes that a partition has on the disk. One that nobody uses is not opened for this.
    pub(crate) async fn disk_bytes(&self, id: LogId) -> Result<u64, DiskError> {
        match self.partitions.open(id) {
            Some(partition) => Ok(partition.log().stats().disk_bytes),
            None => self.storage.closed_log_bytes(id).await,
        }
    }

    /// Carries out a change of the cluster on this shard.
    pub(crate) fn apply(self: &Rc<Self>, published: &Published) {
        let begins = self.life.replace(published.life) != published.life;
        self.presence.learn(
            &self.topics.cluster(),
            &published.cluster,
            &published.changes,
        );
        self.topics
            .become_image(&published.cluster, &published.changes);
        if let Some(peers) = &self.peers {
            peers.learn(&published.cluster);
        }
        self.note_joined();
        let mut topics_changed = false;
        let mut brokers_changed = false;
        for change in &published.changes {
            match change {
                Changed::TopicDeleted { id, name, .. } => {
                    self.remove_topic(*id);
                    self.coordinators.topics_changed(self, Some(name.clone()));
                }
                Changed::TopicConfigs(id) => self.apply_settings(*id),
                Changed::TopicCreated(id) => {
                    topics_changed = true;
                    self.open_replicas(Some(*id));
                }
                Changed::Partition { log, .. } => {
                    topics_changed = true;
                    self.partition_changed(*log);
                }
                Changed::Broker(_) | Changed::BrokerGone(_) => brokers_changed = true,
                Changed::Cluster | Changed::BrokerConfigs(_) => {}
            }
        }
        if topics_changed {
            self.coordinators.topics_changed(self, None);
        }
        if begins {
            for partition in self.partitions.all_open() {
                self.assign(&partition);
            }
            self.open_replicas(None);
        } else if brokers_changed {
            self.standings_changed();
        }
    }

    fn remove_topic(self: &Rc<Self>, topic: TopicId) {
        let gone = move |id: LogId| id.topic == topic;
        let ended = self.partitions.remove(gone, ErrorCode::UnknownTopicId);
        for partition in ended {
            let doing = Work::RemoveLog.on(partition.id());
            let removing = remove(Rc::clone(self), partition);
            self.queues.background(named(doing, removing));
        }
        self.remove_unopened(topic);
    }

    fn apply_settings(&self, topic: TopicId) {
        let of_topic = |partition: &Rc<Partition>| partition.id().topic == topic;
        for partition in self.partitions.all_open().into_iter().filter(of_topic) {
            if let Ok(settings) = self.topics.settings(partition.id()) {
                partition.apply_settings(settings);
            }
        }
        self.nearer_deadline.notify();
    }

    /// Removes the directories of a topic's partitions that are not open.
    fn remove_unopened(self: &Rc<Self>, topic: TopicId) {
        let shard = Rc::clone(self);
        self.queues.background(async move {
            shard.remove_directories(|id| id.topic == topic).await;
        });
    }

    /// Removes the directories of this shard that are of no topic, or not this broker's to hold, and that `which` names.
    /// Before the broker has joined its cluster, only what is known to be deleted may be named.
    pub(super) async fn remove_directories(self: &Rc<Self>, which: impl Fn(LogId) -> bool) {
        let found = match self.storage.directories().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "directories of deleted topics were not looked for");
                return;
            }
        };
        for id in found.into_iter().filter(|id| self.owns(*id) && which(*id)) {
            if !self.topics.is_held(id) && !self.partitions.is_in_use(id) {
                remove_files(self, id).await;
            }
        }
    }
}

async fn open(shard: Rc<Shard>, id: LogId, settings: Rc<TopicSettings>) {
    let epoch = shard.topics.partition(id).map(|state| state.leader_epoch);
    let epoch = epoch.unwrap_or_default();
    let result = shard
        .storage
        .open_log(id, settings, epoch, clock::timestamp())
        .await;
    let result = match result {
        Ok((log, report)) => {
            tell(id, &report);
            let partition = Partition::new(id, log, shard.replicas());
            shard.assign(&partition);
            Ok(partition)
        }
        Err(error) => Err(refuse(id, &error)),
    };
    if !shard.partitions.opened(id, result) {
        // The topic was deleted meanwhile; its log may have been made again by this.
        remove_files(&shard, id).await;
        return;
    }
    // Settings may have changed meanwhile.
    if let (Some(partition), Ok(settings)) = (shard.partitions.open(id), shard.topics.settings(id))
    {
        partition.apply_settings(settings);
    }
    shard.nearer_deadline.notify();
}

fn refuse(id: LogId, error: &OpenError) -> Refusal {
    tracing::error!(log = %id, %error, "a log cannot be opened");
    let message = format!("the log of {id} cannot be opened: {error}");
    Refusal::new(ErrorCode::KafkaStorageError, message)
}

fn tell(id: LogId, report: &RecoveryReport) {
    if let Some(offset) = report.damaged_at {
        tracing::error!(log = %id, %offset, "a log is damaged; what lies below is served read-only");
    }
    if let Some(bytes) = report.cut {
        tracing::warn!(log = %id, bytes, "a torn tail that was never acknowledged is cut");
    }
    for note in &report.notes {
        tracing::info!(log = %id, "{note}");
    }
}

/// Removes a partition's files once nobody uses its log.
pub(super) async fn remove(shard: Rc<Shard>, partition: Rc<Partition>) {
    let id = partition.id();
    while Rc::strong_count(&partition) > 1 {
        sleep(REMOVAL_INTERVAL).await;
    }
    drop(partition);
    remove_files(&shard, id).await;
    shard.partitions.left(id);
}

async fn remove_files(shard: &Shard, id: LogId) {
    match shard.storage.remove_log(id).await {
        Ok(()) => tracing::debug!(log = %id, "removed the log of a deleted topic"),
        // What is left is removed at the next start.
        Err(error) => tracing::warn!(log = %id, %error, "a deleted topic's log was not removed"),
    }
}
