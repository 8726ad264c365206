//! What a shard counts and times, and how it is shown.
//!
//! A [`ShardMetrics`] belongs to one shard: plain cells, no atomics, so counting costs an
//! addition. To be shown it is copied into a [`ShardSnapshot`], which may leave the shard;
//! [`render_prometheus`] turns the snapshots of all shards into text on whichever shard was
//! asked. Taking a snapshot is one copy of memory; the walk over the histograms happens at
//! the reader's.
//!
//! Latencies are recorded in HdrHistograms, so a quantile of any depth can be asked for and
//! histograms of shards and runs can be added without loss. `stages` keeps them, also for the last
//! minutes and by topic; `slow` keeps the slowest batches themselves.

mod groups;
mod prometheus;
mod slow;
mod stages;
mod table;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use millrace_latency::Counts;
use millrace_model::{ErrorCode, ShardId, TopicId};

pub use groups::{GroupProgress, GroupsInState, GroupsReport};
pub use millrace_latency::{Latency, Stage};
pub use prometheus::{CONTENT_TYPE, render_prometheus};
pub(crate) use slow::SlowBatch;
use slow::SlowBatches;
use stages::StageRecorder;
pub(crate) use stages::{MAX_WATCHED_TOPICS, MINUTE, Minute, TooManyWatched, WATCH_TIME};
pub use table::{Counter, Gauge, Unit};

/// Different error codes that refusals are counted by: every code there is, as no request
/// can invent one.
const MAX_REFUSAL_CODES: usize = 128;

/// The metrics of one shard. Clones share the counts.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shard: ShardId,
    counters: [Cell<u64>; Counter::COUNT],
    gauges: [Cell<u64>; Gauge::COUNT],
    refusals: RefCell<Vec<(ErrorCode, u64)>>,
    kafka_requests: RefCell<Vec<(&'static str, u64)>>,
    stages: StageRecorder,
    slow: SlowBatches,
}

impl ShardMetrics {
    /// Metrics of a shard, all zero.
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        let inner = Inner {
            shard,
            counters: std::array::from_fn(|_| Cell::new(0)),
            gauges: std::array::from_fn(|_| Cell::new(0)),
            refusals: RefCell::default(),
            kafka_requests: RefCell::default(),
            stages: StageRecorder::new(),
            slow: SlowBatches::default(),
        };
        Self {
            inner: Rc::new(inner),
        }
    }

    /// Adds one to a counter.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, amount: u64) {
        let cell = &self.inner.counters[counter as usize];
        cell.set(cell.get().wrapping_add(amount));
    }

    /// Brings a counter to the total that somebody else keeps. A total never falls.
    pub fn reach(&self, counter: Counter, total: u64) {
        let cell = &self.inner.counters[counter as usize];
        cell.set(cell.get().max(total));
    }

    /// States a gauge.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.inner.gauges[gauge as usize].set(value);
    }

    /// Adds to a gauge.
    pub fn raise(&self, gauge: Gauge, by: u64) {
        let cell = &self.inner.gauges[gauge as usize];
        cell.set(cell.get() + by);
    }

    /// Takes from a gauge.
    ///
    /// # Panics
    /// If more is taken than was added: something is counted twice.
    pub fn lower(&self, gauge: Gauge, by: u64) {
        let cell = &self.inner.gauges[gauge as usize];
        let rest = cell.get().checked_sub(by);
        cell.set(rest.expect("a gauge is lowered by what it was raised by"));
    }

    /// Counts an append that was refused.
    pub fn refused(&self, code: ErrorCode) {
        let mut refusals = self.inner.refusals.borrow_mut();
        match refusals.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => refusals.push((code, 1)),
        }
        debug_assert!(refusals.len() <= MAX_REFUSAL_CODES, "a code is listed once");
    }

    /// Counts a request of the Kafka protocol that was answered, by the name of its API.
    pub fn kafka_request(&self, api: &'static str) {
        let mut requests = self.inner.kafka_requests.borrow_mut();
        match requests.iter_mut().find(|(known, _)| *known == api) {
            Some((_, count)) => *count += 1,
            None => requests.push((api, 1)),
        }
    }

    /// Records how long a batch of a topic was in a stage, in nanoseconds.
    #[inline]
    pub fn record(&self, stage: Stage, topic: TopicId, nanos: u64) {
        self.inner.stages.record(stage, topic, nanos);
    }

    /// Keeps a batch that took `total` nanoseconds, if few of its minute took longer.
    #[inline]
    pub(crate) fn offer_slow(&self, now: Instant, total: u64, batch: impl FnOnce() -> SlowBatch) {
        self.inner.slow.offer(now, total, batch);
    }

    /// The slowest batches of the last minutes, slowest first.
    pub(crate) fn slow(&self, now: Instant) -> Vec<SlowBatch> {
        self.inner.slow.kept(now)
    }

    /// The latencies of a stage since the start.
    pub(crate) fn counts(&self, stage: Stage) -> Counts {
        self.inner.stages.counts(stage)
    }

    /// What had been recorded when a window of this length began, and how long it is really; `None` if it goes
    /// back to the start.
    pub(crate) fn window_base(
        &self,
        window: Duration,
        now: Instant,
    ) -> Option<(Rc<Minute>, Duration)> {
        self.inner.stages.base(window, now)
    }

    /// Records a topic on its own for [`WATCH_TIME`]. Gives how long it has been recorded.
    pub(crate) fn watch_topic(
        &self,
        topic: TopicId,
        now: Instant,
    ) -> Result<Duration, TooManyWatched> {
        self.inner.stages.watch(topic, now)
    }

    /// The latencies of a stage of a watched topic.
    pub(crate) fn topic_counts(&self, topic: TopicId, stage: Stage) -> Counts {
        self.inner.stages.topic_counts(topic, stage)
    }

    /// Waits until something was recorded since the last [`ShardMetrics::begin_copy`].
    pub(crate) async fn fresh(&self) {
        self.inner.stages.fresh().await;
    }

    /// A copy of what was recorded is about to be made.
    pub(crate) fn begin_copy(&self) {
        self.inner.stages.begin_copy();
    }

    /// Keeps a copy of what was recorded, for windows that begin now.
    pub(crate) fn turn_minute(&self, now: Instant, stages: [Counts; Stage::COUNT]) {
        self.inner.stages.turn_minute(now, stages);
    }

    /// The present value of a counter.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.inner.counters[counter as usize].get()
    }

    /// The present value of a gauge.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.inner.gauges[gauge as usize].get()
    }

    /// A copy of all, which may go to another thread.
    #[must_use]
    pub fn snapshot(&self) -> ShardSnapshot {
        ShardSnapshot {
            shard: self.inner.shard,
            counters: std::array::from_fn(|at| self.inner.counters[at].get()),
            gauges: std::array::from_fn(|at| self.inner.gauges[at].get()),
            refusals: self.inner.refusals.borrow().clone(),
            kafka_requests: self.inner.kafka_requests.borrow().clone(),
            stages: self.inner.stages.all(),
        }
    }
}

/// The metrics of one shard at one moment.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    shard: ShardId,
    counters: [u64; Counter::COUNT],
    gauges: [u64; Gauge::COUNT],
    refusals: Vec<(ErrorCode, u64)>,
    kafka_requests: Vec<(&'static str, u64)>,
    stages: [Latency; Stage::COUNT],
}

impl ShardSnapshot {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The value of a counter.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// The value of a gauge.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize]
    }

    /// Refused appends by error code, in the order in which the codes first occurred.
    #[must_use]
    pub fn refusals(&self) -> &[(ErrorCode, u64)] {
        &self.refusals
    }

    /// Requests of the Kafka protocol by API, in the order in which these first occurred.
    #[must_use]
    pub fn kafka_requests(&self) -> &[(&'static str, u64)] {
        &self.kafka_requests
    }

    /// The latencies of a stage.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> &Latency {
        &self.stages[stage as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_sendable_and_holds_what_was_counted() {
        fn assert_send<T: Send>(value: T) -> T {
            value
        }
        let metrics = ShardMetrics::new(ShardId(3));
        metrics.count(Counter::BatchesIn);
        metrics.add(Counter::BytesIn, 100);
        metrics.raise(Gauge::Connections, 2);
        metrics.lower(Gauge::Connections, 1);
        metrics.refused(ErrorCode::CorruptMessage);
        metrics.refused(ErrorCode::CorruptMessage);
        (0..4).for_each(|_| metrics.record(Stage::Device, TopicId([0; 16]), 83_000));
        let snapshot = assert_send(metrics.snapshot());
        metrics.count(Counter::BatchesIn);
        assert_eq!(snapshot.shard(), ShardId(3));
        assert_eq!(snapshot.counter(Counter::BatchesIn), 1);
        assert_eq!(snapshot.counter(Counter::BytesIn), 100);
        assert_eq!(snapshot.gauge(Gauge::Connections), 1);
        assert_eq!(snapshot.refusals(), &[(ErrorCode::CorruptMessage, 2)]);
        assert_eq!(snapshot.stage(Stage::Device).histogram.len(), 4);
        assert_eq!(snapshot.stage(Stage::Device).sum_nanos, 332_000);
    }

    #[test]
    #[should_panic(expected = "lowered by what it was raised by")]
    fn a_gauge_below_zero_is_a_bug() {
        ShardMetrics::new(ShardId(0)).lower(Gauge::Connections, 1);
    }
}
