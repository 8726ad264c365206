//! What the partitions of a shard need of it, in one place.

use std::cell::{Cell, OnceCell};
use std::num::NonZeroU64;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use glommio::TaskQueueHandle;
use millrace_model::{BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, LogId, ShardId, Timestamp};
use millrace_replication::partition::{
    FollowerInput, FollowerMessage, Input, Proposal, ReplicaSettings,
};

use super::alarm::Alarm;
use super::proposals::{Proposals, Propose};
use super::pull::{Link, Pullers};
use super::resignations::Resignations;
use super::throttle::Throttle;
use crate::metrics::ShardMetrics;
use crate::partition::{DeviceWatch, Partition};
use crate::shard::budget::MemoryBudget;

/// What a [`Host`] is made of.
pub(crate) struct HostParts {
    /// This broker.
    pub(crate) broker: BrokerId,
    /// This shard.
    pub(crate) shard: ShardId,
    /// The cluster that this broker belongs to.
    pub(crate) cluster: ClusterId,
    /// What replicas are set to, but for `min.insync.replicas`, which is the topic's.
    pub(crate) settings: ReplicaSettings,
    /// `replica.catch.up.bytes.per.second`.
    pub(crate) catch_up_bytes_per_second: Option<NonZeroU64>,
    /// Where clients' work runs.
    pub(crate) foreground: TaskQueueHandle,
    /// Where cold reads run.
    pub(crate) catch_up: TaskQueueHandle,
    /// The shard's metrics.
    pub(crate) metrics: ShardMetrics,
    /// How long it stays awake for its device.
    pub(crate) device: DeviceWatch,
    /// Its memory budget.
    pub(crate) budget: MemoryBudget,
    /// Told when a log has something to do, by the wall clock.
    pub(crate) wake_for: Box<dyn Fn(Timestamp)>,
    /// The way to the controller.
    pub(crate) propose: Propose,
}

/// See the module's documentation.
pub(crate) struct Host {
    pub(crate) broker: BrokerId,
    pub(crate) shard: ShardId,
    pub(crate) cluster: ClusterId,
    /// This broker's uptime, once it is known.
    pub(crate) life: Cell<BrokerEpoch>,
    pub(crate) settings: ReplicaSettings,
    pub(crate) foreground: TaskQueueHandle,
    pub(crate) catch_up: TaskQueueHandle,
    pub(crate) metrics: ShardMetrics,
    pub(crate) device: DeviceWatch,
    pub(crate) budget: MemoryBudget,
    pub(super) throttle: Throttle,
    wake_for: Box<dyn Fn(Timestamp)>,
    proposals: Rc<Proposals>,
    resignations: Rc<Resignations>,
    pullers: OnceCell<Pullers>,
    alarm: Alarm,
    begun: Instant,
}

impl Host {
    pub(crate) fn new(parts: HostParts) -> Rc<Self> {
        let proposals = Rc::new(Proposals::new(parts.broker, parts.propose));
        Rc::new(Self {
            broker: parts.broker,
            shard: parts.shard,
            cluster: parts.cluster,
            life: Cell::default(),
            settings: parts.settings,
            foreground: parts.foreground,
            catch_up: parts.catch_up,
            metrics: parts.metrics,
            device: parts.device,
            budget: parts.budget,
            throttle: Throttle::new(parts.catch_up_bytes_per_second),
            wake_for: parts.wake_for,
            resignations: Rc::new(Resignations::new(Rc::clone(&proposals))),
            proposals,
            pullers: OnceCell::new(),
            alarm: Alarm::default(),
            begun: Instant::now(),
        })
    }

    /// From now on leaders are reached by `link`. Only the first call counts.
    pub(crate) fn link(self: &Rc<Self>, link: impl Link + 'static) {
        // Whoever was first stays.
        let _ = self.pullers.set(Pullers::new(self, link));
    }

    /// The clock of the machines, in milliseconds: it never goes back.
    pub(crate) fn now(&self) -> Timestamp {
        since(self.begun)
    }

    /// A log has something to do at `deadline`, by the wall clock.
    pub(crate) fn wake_for(&self, deadline: Timestamp) {
        (self.wake_for)(deadline);
    }

    /// Has the partition told when it is `at`, by [`Host::now`].
    pub(crate) fn wake_at(&self, at: Timestamp, partition: &Weak<Partition>) {
        let begun = self.begun;
        self.alarm
            .set(at, partition, (move || since(begun), self.foreground));
    }

    /// Proposes an in-sync set; the partition hears the answer.
    pub(crate) fn propose(&self, partition: &Weak<Partition>, log: LogId, proposal: Proposal) {
        let from = (partition, log);
        self.proposals.add(self.foreground, from, proposal);
    }

    /// Gives up leading a partition in this epoch, for its log has failed.
    pub(crate) fn resign(&self, partition: &Weak<Partition>, log: LogId, epoch: LeaderEpoch) {
        let from = (partition, log);
        let life = self.life.get();
        self.resignations.add(self.foreground, from, epoch, life);
    }

    /// Says something to a leader as a follower. Where there is no way to it, the partition hears that
    /// its stream is lost.
    pub(crate) fn pull(
        &self,
        partition: &Weak<Partition>,
        log: LogId,
        to: BrokerId,
        message: FollowerMessage,
    ) {
        let said = match self.pullers.get() {
            Some(pullers) => pullers.say(to, (partition, log), message),
            None => false,
        };
        if !said && let Some(partition) = partition.upgrade() {
            let lost = FollowerInput::StreamLost(message.session());
            partition.hear(Input::Follower(lost));
        }
    }

    /// A partition is gone.
    pub(crate) fn forget(&self, log: LogId) {
        if let Some(pullers) = self.pullers.get() {
            pullers.forget(log);
        }
    }
}

fn since(begun: Instant) -> Timestamp {
    let elapsed: Duration = begun.elapsed();
    Timestamp(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
