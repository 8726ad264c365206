//! What a shard counts and times, and how it is shown.
//!
//! A [`ShardMetrics`] belongs to one shard: plain cells, no atomics, so counting costs an
//! addition. To be shown it is copied into a [`ShardSnapshot`], which may leave the shard;
//! [`render_prometheus`] turns the snapshots of all shards into text on whichever shard was
//! asked. Taking a snapshot is one copy of memory; the walk over the histograms happens at
//! the reader's.
//!
//! Latencies are recorded in HdrHistograms, so a quantile of any depth can be asked for and
//! histograms of shards and runs can be added without loss.

mod groups;
mod prometheus;
mod table;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hdrhistogram::Histogram;
use millrace_model::{ErrorCode, ShardId};

pub use groups::{GroupProgress, GroupsInState, GroupsReport};
pub use prometheus::{CONTENT_TYPE, render_prometheus};
pub use table::{Counter, Gauge, Stage, Unit};

/// Latencies below this are recorded as this: reading the clock costs about as much.
pub const SHORTEST_NANOS: u64 = 64;

/// Latencies above this are recorded as this: 64 s, twice the longest time that a client
/// waits for an answer. Between the two, three digits take 24 KiB for every doubling beyond
/// the first eleven, 168 KiB in all, of which only the pages of values that occur are ever
/// touched.
pub const LONGEST_NANOS: u64 = 64_000_000_000;

/// Digits of a latency that are kept.
pub const SIGNIFICANT_DIGITS: u8 = 3;

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
    stages: RefCell<[Latency; Stage::COUNT]>,
}

/// Latencies of one stage.
#[derive(Clone, Debug)]
pub struct Latency {
    /// The values in nanoseconds, within [`SHORTEST_NANOS`] and [`LONGEST_NANOS`].
    pub histogram: Histogram<u64>,
    /// The exact sum of all values in nanoseconds.
    pub sum_nanos: u64,
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
            stages: RefCell::new(std::array::from_fn(|_| Latency::new())),
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

    /// Records how long a stage took, in nanoseconds.
    pub fn record(&self, stage: Stage, nanos: u64) {
        self.inner.stages.borrow_mut()[stage as usize].record(nanos, 1);
    }

    /// Records the same latency for many batches, as a group commit shares one write.
    pub fn record_many(&self, stage: Stage, nanos: u64, times: u64) {
        self.inner.stages.borrow_mut()[stage as usize].record(nanos, times);
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
            stages: self.inner.stages.borrow().clone(),
        }
    }
}

impl Latency {
    fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(SHORTEST_NANOS, LONGEST_NANOS, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants that a histogram can have");
        Self {
            histogram,
            sum_nanos: 0,
        }
    }

    fn record(&mut self, nanos: u64, times: u64) {
        self.sum_nanos = self.sum_nanos.saturating_add(nanos.saturating_mul(times));
        self.histogram
            .saturating_record_n(nanos.clamp(SHORTEST_NANOS, LONGEST_NANOS), times);
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
        metrics.record_many(Stage::Device, 83_000, 4);
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
    fn latencies_outside_the_range_are_kept_at_its_ends() {
        let metrics = ShardMetrics::new(ShardId(0));
        metrics.record(Stage::Ack, 0);
        metrics.record(Stage::Ack, u64::MAX);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.stage(Stage::Ack).histogram.len(), 2);
        assert_eq!(snapshot.stage(Stage::Ack).sum_nanos, u64::MAX);
    }

    #[test]
    fn a_histogram_stays_as_small_as_its_documentation_says() {
        let counts = Latency::new().histogram.distinct_values();
        assert!(counts * size_of::<u64>() <= 180 << 10, "{counts} counts");
    }

    #[test]
    #[should_panic(expected = "lowered by what it was raised by")]
    fn a_gauge_below_zero_is_a_bug() {
        ShardMetrics::new(ShardId(0)).lower(Gauge::Connections, 1);
    }
}
