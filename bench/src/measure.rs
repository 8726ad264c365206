//! What clients count while they run: latencies, and the same by the second. Everything adds up
//! over clients; histograms are added, never averaged.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies up to one minute are told apart; longer ones count as one minute, and the
/// true maximum is kept beside.
const HIGHEST_NANOS: u64 = 60_000_000_000;

/// Three digits: an error below 0.1 % at every latency.
const DIGITS: u8 = 3;

/// Two digits for one bucket of a series, of which there are many: an error below 1 %.
const SERIES_DIGITS: u8 = 2;

/// Buckets that a series has at most. A chart shows no more, and each holds a histogram.
const MAX_BUCKETS: usize = 600;

/// How long a bucket of a series is, as long as the run has no more than [`MAX_BUCKETS`].
const FIRST_WIDTH: Duration = Duration::from_secs(1);

/// A quantile as it is written: `p99.9`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile(f64);

impl Quantile {
    /// It, between 0 and 1.
    #[must_use]
    pub fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Quantile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_prefix('p').and_then(|of| of.parse().ok());
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        let wrong = || format!("{text:?} is not a percentile: p50, p99, p99.9");
        percent.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// Latencies of one kind over all clients, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    max: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_NANOS, DIGITS)
            .expect("the bounds are in order and the digits at most five");
        Self { histogram, max: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let nanos = as_nanos(latency);
        self.histogram.saturating_record(nanos);
        self.max = self.max.max(nanos);
    }

    /// Counts all of `other` too.
    pub fn merge(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("both have the same bounds");
        self.max = self.max.max(other.max);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency at a quantile between 0 and 1.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(quantile).min(self.max))
    }

    /// The longest, also where it is beyond what the histogram tells apart.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The histogram, in nanoseconds.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

/// What happened in one stretch of the measured time.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Records of that time.
    pub records: u64,
    /// Their value bytes.
    pub bytes: u64,
    latencies: Histogram<u32>,
    max: u64,
}

impl Default for Bucket {
    fn default() -> Self {
        let latencies = Histogram::new(SERIES_DIGITS).expect("the digits are at most five");
        Self {
            records: 0,
            bytes: 0,
            latencies,
            max: 0,
        }
    }
}

impl Bucket {
    fn record(&mut self, latency: Duration) {
        let nanos = as_nanos(latency);
        self.latencies
            .record(nanos.clamp(1, HIGHEST_NANOS))
            .expect("the histogram grows with its values");
        self.max = self.max.max(nanos);
    }

    fn merge(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.latencies
            .add(&other.latencies)
            .expect("the histogram grows with its values");
        self.max = self.max.max(other.max);
    }

    /// The latency at a quantile between 0 and 1, or `None` when none was measured.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let nanos = self.latencies.value_at_quantile(quantile).min(self.max);
        (!self.latencies.is_empty()).then(|| Duration::from_nanos(nanos))
    }

    /// The longest latency, or `None` when none was measured.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (!self.latencies.is_empty()).then(|| Duration::from_nanos(self.max))
    }
}

/// What happened by the second. A long run has buckets of 2, 4, 8 and so on seconds instead,
/// so that it never has more than [`MAX_BUCKETS`].
#[derive(Clone, Debug)]
pub struct Series {
    width: Duration,
    buckets: Vec<Bucket>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            width: FIRST_WIDTH,
            buckets: Vec::new(),
        }
    }
}

impl Series {
    /// How long each bucket is.
    #[must_use]
    pub fn width(&self) -> Duration {
        self.width
    }

    /// The buckets from the start of the measurement on, empty ones among them.
    #[must_use]
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// The bucket of a time since the start of the measurement.
    fn at(&mut self, time: Duration) -> &mut Bucket {
        while self.index(time) >= MAX_BUCKETS {
            self.coarsen();
        }
        let index = self.index(time);
        if index >= self.buckets.len() {
            self.buckets.resize_with(index + 1, Bucket::default);
        }
        &mut self.buckets[index]
    }

    fn index(&self, time: Duration) -> usize {
        usize::try_from(time.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX)
    }

    fn coarsen(&mut self) {
        self.width *= 2;
        let pairs = self.buckets.chunks(2).map(|pair| {
            let mut sum = pair[0].clone();
            pair[1..].iter().for_each(|bucket| sum.merge(bucket));
            sum
        });
        self.buckets = pairs.collect();
    }

    fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.width < other.width {
            self.coarsen();
        }
        while other.width < self.width {
            other.coarsen();
        }
        if self.buckets.len() < other.buckets.len() {
            self.buckets
                .resize_with(other.buckets.len(), Bucket::default);
        }
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.merge(more);
        }
    }
}

/// Records that reached one point of their way: the acknowledgement, or the consumer.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// From send (or schedule) to that point.
    pub latencies: Latencies,
    /// The same by the second.
    pub series: Series,
    /// Records.
    pub records: u64,
    /// Their value bytes.
    pub bytes: u64,
    /// When the last of them got there, since the start of the measurement.
    pub until: Duration,
    /// Records that got there while it was measured, whenever they were due: what was reached of
    /// a rate that is too high.
    pub arrived: u64,
}

impl Track {
    /// Counts records that belong to `time` since the start of the measurement; their
    /// latency is measured once, for they came as one batch.
    pub fn count(&mut self, time: Duration, records: u64, bytes: u64, latency: Option<Duration>) {
        self.records += records;
        self.bytes += bytes;
        let bucket = self.series.at(time);
        bucket.records += records;
        bucket.bytes += bytes;
        if let Some(latency) = latency {
            bucket.record(latency);
            self.latencies.record(latency);
        }
    }

    /// Counts a latency that is at least this long: what it is of never got there.
    pub fn overdue(&mut self, time: Duration, waited: Duration) {
        self.series.at(time).record(waited);
        self.latencies.record(waited);
    }

    /// Adds what another client counted.
    pub fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.series.merge(&other.series);
        self.records += other.records;
        self.bytes += other.bytes;
        self.until = self.until.max(other.until);
        self.arrived += other.arrived;
    }
}

/// Records that belong to the measurement and did not get where they should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Records that were sent and never answered.
    pub unanswered: u64,
    /// Records that were due and never sent.
    pub unsent: u64,
    /// Records that were to reach a consumer and did not.
    pub undelivered: u64,
    /// When the first connection broke, in seconds from the start of the measurement; negative
    /// in the warm-up.
    pub broken_at: Option<f64>,
    /// When the last answer came, where a connection broke: it may take long to notice.
    #[serde(default)]
    pub last_answer_at: Option<f64>,
}

impl Lost {
    /// Whether nothing was.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn merge(&mut self, other: &Self) {
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        self.undelivered += other.undelivered;
        let both = self.broken_at.into_iter().chain(other.broken_at);
        self.broken_at = both.reduce(f64::min);
    }
}

/// What one client did in the measured time; adds up over clients.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Records acknowledged.
    pub acked: Track,
    /// Records that reached a consumer.
    pub delivered: Track,
    /// Records that did not get there.
    pub lost: Lost,
    /// Batches refused and connections lost, by reason.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds what another client did.
    pub fn merge(&mut self, other: &Self) {
        self.acked.merge(&other.acked);
        self.delivered.merge(&other.delivered);
        self.lost.merge(&other.lost);
        for (reason, count) in &other.errors {
            *self.errors.entry(reason.clone()).or_default() += count;
        }
    }

    /// Counts an error.
    pub fn error(&mut self, reason: impl fmt::Display) {
        *self.errors.entry(reason.to_string()).or_default() += 1;
    }
}

fn as_nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn clients_are_merged_not_averaged() {
        let (mut fast, mut slow) = (Latencies::default(), Latencies::default());
        (0..99).for_each(|_| fast.record(Duration::from_micros(100)));
        slow.record(Duration::from_secs(100));
        fast.merge(&slow);
        assert_eq!(fast.count(), 100);
        assert!(fast.quantile(0.5) < Duration::from_micros(101));
        assert_eq!(
            fast.max(),
            Duration::from_secs(100),
            "the maximum is true beyond the range"
        );
    }

    #[test]
    fn quantiles_are_those_of_sorted_values() {
        let mut latencies = Latencies::default();
        let mut values: Vec<u64> = (1..=10_000).map(|n| n * 1_000).collect();
        fastrand::Rng::with_seed(7).shuffle(&mut values);
        for nanos in &values {
            latencies.record(Duration::from_nanos(*nanos));
        }
        for (quantile, nanos) in [
            (0.5, 5_000_000),
            (0.9, 9_000_000),
            (0.99, 9_900_000),
            (0.999, 9_990_000),
            (0.9999, 9_999_000),
            (1.0, 10_000_000),
        ] {
            let found = latencies.quantile(quantile).as_nanos() as f64;
            let off = (found / f64::from(nanos) - 1.0).abs();
            assert!(off < 0.001, "{quantile}: {found} is not {nanos}");
        }
    }

    #[test]
    fn each_second_has_its_own_records_and_latencies() {
        let mut track = Track::default();
        track.count(Duration::from_millis(999), 2, 20, Some(MILLI));
        track.count(Duration::from_millis(1000), 3, 30, Some(4 * MILLI));
        track.count(Duration::from_millis(1999), 3, 30, Some(8 * MILLI));
        track.count(Duration::from_millis(3500), 1, 10, None);
        let buckets = track.series.buckets();
        let records: Vec<u64> = buckets.iter().map(|bucket| bucket.records).collect();
        assert_eq!(records, [2, 6, 0, 1]);
        assert_eq!(buckets[1].bytes, 60);
        assert_eq!(buckets[1].max(), Some(8 * MILLI));
        let median = buckets[1].quantile(0.5).expect("two were measured");
        assert!(median.abs_diff(4 * MILLI) < MILLI / 20, "{median:?}");
        assert_eq!(buckets[2].quantile(0.5), None, "nothing was measured");
        assert_eq!(buckets[3].max(), None, "a latency was not given");
        assert_eq!((track.records, track.bytes), (9, 90));
    }

    #[test]
    fn a_long_run_has_longer_buckets_and_loses_nothing() {
        let mut long = Track::default();
        for second in 0..2_000 {
            long.count(Duration::from_secs(second), 1, 10, Some(MILLI));
        }
        assert_eq!(long.series.width(), Duration::from_secs(4));
        assert_eq!(long.series.buckets().len(), 500);
        assert!(long.series.buckets().iter().all(|b| b.records == 4));

        let mut short = Track::default();
        short.count(Duration::from_secs(5), 7, 70, Some(9 * MILLI));
        short.merge(&long);
        assert_eq!(short.series.width(), Duration::from_secs(4));
        assert_eq!(short.series.buckets()[1].records, 11);
        assert_eq!(short.series.buckets()[1].max(), Some(9 * MILLI));
        assert_eq!(short.records, 2_007);
    }
}
