//! What a run found, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies up to one minute are told apart; longer ones count as one minute, and the
/// true maximum is kept beside.
const HIGHEST_NANOS: u64 = 60_000_000_000;

/// Three digits: an error below 0.1 % at every latency.
const DIGITS: u8 = 3;

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
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanos);
        self.max = self.max.max(nanos);
    }

    /// Counts all of `other` too: histograms are added, never averaged.
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

    fn summary(&self) -> Summary {
        let micros = |quantile| self.quantile(quantile).as_nanos() as f64 / 1e3;
        Summary {
            count: self.count(),
            mean_us: self.histogram.mean() / 1e3,
            min_us: self.histogram.min() as f64 / 1e3,
            p50_us: micros(0.5),
            p90_us: micros(0.9),
            p99_us: micros(0.99),
            p99_9_us: micros(0.999),
            p99_99_us: micros(0.9999),
            max_us: self.max as f64 / 1e3,
        }
    }
}

/// A histogram's figures, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    count: u64,
    mean_us: f64,
    min_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p99_9_us: f64,
    p99_99_us: f64,
    max_us: f64,
}

/// What one client did in the measured time; adds up over clients.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// From send (or schedule) to acknowledgement.
    pub ack: Latencies,
    /// From send (or schedule) to the consumer.
    pub deliver: Latencies,
    /// Records acknowledged, or read by `consume`.
    pub records: u64,
    /// Their value bytes.
    pub bytes: u64,
    /// Batches refused or lost, by reason.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds what another client did.
    pub fn merge(&mut self, other: &Self) {
        self.ack.merge(&other.ack);
        self.deliver.merge(&other.deliver);
        self.records += other.records;
        self.bytes += other.bytes;
        for (reason, count) in &other.errors {
            *self.errors.entry(reason.clone()).or_default() += count;
        }
    }

    /// Counts an error.
    pub fn error(&mut self, reason: impl fmt::Display) {
        *self.errors.entry(reason.to_string()).or_default() += 1;
    }
}

/// A run's report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `produce`, `consume` or `e2e`.
    pub mode: &'static str,
    /// `closed` or `open`.
    pub loop_kind: &'static str,
    /// Records per second that were asked for in an open loop.
    pub target_rate: Option<u32>,
    /// Wall time of the measurement, in seconds.
    pub seconds: f64,
    /// Records acknowledged (or read) in that time.
    pub records: u64,
    /// Value bytes of those records.
    pub bytes: u64,
    /// Records over wall time.
    pub records_per_second: f64,
    /// Value bytes over wall time, in units of 1,000,000.
    pub megabytes_per_second: f64,
    /// From send (or schedule) to acknowledgement.
    pub ack_latency: Option<Summary>,
    /// From send (or schedule) to the consumer.
    pub end_to_end_latency: Option<Summary>,
    /// Batches refused or lost, by reason.
    pub errors: BTreeMap<String, u64>,
}

impl Report {
    /// The report of what all clients did together.
    #[must_use]
    pub fn new(
        mode: &'static str,
        target_rate: Option<u32>,
        wall: Duration,
        tally: &Tally,
    ) -> Self {
        let seconds = wall.as_secs_f64();
        let summary = |latencies: &Latencies| (latencies.count() > 0).then(|| latencies.summary());
        Self {
            mode,
            loop_kind: if target_rate.is_some() {
                "open"
            } else {
                "closed"
            },
            target_rate,
            seconds,
            records: tally.records,
            bytes: tally.bytes,
            records_per_second: tally.records as f64 / seconds,
            megabytes_per_second: tally.bytes as f64 / seconds / 1e6,
            ack_latency: summary(&tally.ack),
            end_to_end_latency: summary(&tally.deliver),
            errors: tally.errors.clone(),
        }
    }

    /// Whether an open loop fell short of its rate by more than 5 %.
    #[must_use]
    pub fn fell_short(&self) -> bool {
        self.target_rate
            .is_some_and(|rate| self.records_per_second < f64::from(rate) * 0.95)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({} loop), {:.1} s",
            self.mode, self.loop_kind, self.seconds
        )?;
        writeln!(
            f,
            "  {:.0} records/s, {:.1} MB/s ({} records)",
            self.records_per_second, self.megabytes_per_second, self.records
        )?;
        if let (true, Some(rate)) = (self.fell_short(), self.target_rate) {
            writeln!(f, "  the rate of {rate} records/s was NOT reached")?;
        }
        for (what, summary) in [
            ("ack", self.ack_latency),
            ("end to end", self.end_to_end_latency),
        ] {
            if let Some(summary) = summary {
                write!(f, "  {what:<11}{summary}")?;
            }
        }
        for (reason, count) in &self.errors {
            writeln!(f, "  {count} x {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "us: min {:.0}  p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  p99.99 {:.0}  max {:.0}  mean {:.0}",
            self.min_us,
            self.p50_us,
            self.p90_us,
            self.p99_us,
            self.p99_9_us,
            self.p99_99_us,
            self.max_us,
            self.mean_us
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_merged_not_averaged() {
        let (mut fast, mut slow) = (Tally::default(), Tally::default());
        (0..99).for_each(|_| fast.ack.record(Duration::from_micros(100)));
        slow.ack.record(Duration::from_secs(100));
        fast.merge(&slow);
        assert_eq!(fast.ack.count(), 100);
        assert!(fast.ack.quantile(0.5) < Duration::from_micros(101));
        assert_eq!(
            fast.ack.max, 100_000_000_000,
            "the maximum is true beyond the range"
        );
    }

    #[test]
    fn a_rate_that_was_not_reached_is_said() {
        let tally = Tally {
            records: 900,
            ..Tally::default()
        };
        let report = Report::new("produce", Some(1000), Duration::from_secs(1), &tally);
        assert!(report.to_string().contains("NOT reached"));
    }
}
