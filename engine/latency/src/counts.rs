//! Latencies as they are kept and sent: the values that occurred, and how often.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{LONGEST_NANOS, Latency, SHORTEST_NANOS};

/// How often each latency occurred. Values are those that a [`Latency`] tells apart: each stands for those
/// around it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The exact sum of all values in nanoseconds.
    pub sum_ns: u64,
    /// Pairs of a value in nanoseconds and how often it occurred, by rising value.
    pub counts: Vec<(u64, u64)>,
}

/// The figures of a distribution that people look for, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many latencies.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: f64,
    /// The 90th percentile.
    pub p90_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p99_9_us: f64,
    /// The 99.99th percentile.
    pub p99_99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl From<&Latency> for Counts {
    fn from(latency: &Latency) -> Self {
        let histogram = &latency.histogram;
        let counts = histogram.iter_recorded().map(|step| {
            let middle = histogram.median_equivalent(step.value_iterated_to());
            (middle, step.count_at_value())
        });
        Self {
            sum_ns: latency.sum_nanos,
            counts: counts.collect(),
        }
    }
}

impl Counts {
    /// How many latencies there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Adds those of another shard, or of another time.
    pub fn merge(&mut self, other: &Self) {
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        let (mine, theirs) = (std::mem::take(&mut self.counts), &other.counts);
        let (mut mine, mut theirs) = (mine.into_iter().peekable(), theirs.iter().peekable());
        loop {
            let next = match (mine.peek().copied(), theirs.peek().copied().copied()) {
                (Some(a), Some(b)) if a.0 == b.0 => {
                    mine.next();
                    theirs.next();
                    (a.0, a.1.saturating_add(b.1))
                }
                (Some(a), b) if b.is_none_or(|b| a.0 < b.0) => {
                    mine.next();
                    a
                }
                (_, Some(b)) => {
                    theirs.next();
                    b
                }
                (_, None) => return,
            };
            self.counts.push(next);
        }
    }

    /// What has come since `before`, an earlier moment of the same counts. What is less than it was, because the
    /// broker began anew, counts as nothing.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut earlier = before.counts.iter().peekable();
        let mut counts = Vec::new();
        for &(value, count) in &self.counts {
            while earlier.next_if(|(at, _)| *at < value).is_some() {}
            let was = earlier.next_if(|(at, _)| *at == value);
            let more = count.saturating_sub(was.map_or(0, |(_, count)| *count));
            if more > 0 {
                counts.push((value, more));
            }
        }
        Self {
            sum_ns: self.sum_ns.saturating_sub(before.sum_ns),
            counts,
        }
    }

    /// The latency at a quantile between 0 and 1, in nanoseconds; 0 when there are none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> u64 {
        let wanted = (quantile.clamp(0.0, 1.0) * self.count() as f64)
            .ceil()
            .max(1.0);
        let mut below = 0;
        let found = self.counts.iter().find(|(_, count)| {
            below += count;
            below as f64 >= wanted
        });
        found.or(self.counts.last()).map_or(0, |(value, _)| *value)
    }

    /// The longest, in nanoseconds; 0 when there are none.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.counts.last().map_or(0, |(value, _)| *value)
    }

    /// The figures that people look for.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = self.count();
        let us = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| us(self.quantile(quantile));
        Summary {
            count,
            mean_us: match count {
                0 => 0.0,
                _ => us(self.sum_ns) / count as f64,
            },
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: us(self.longest()),
        }
    }

    /// The same as a histogram. Values beyond what a broker records stand at the ends of that range.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        let mut latency = Latency::fine();
        for (value, count) in &self.counts {
            let value = (*value).clamp(SHORTEST_NANOS, LONGEST_NANOS);
            latency.histogram.saturating_record_n(value, *count);
        }
        latency.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[u64]) -> Counts {
        let mut latency = Latency::fine();
        values.iter().for_each(|value| latency.record(*value, 1));
        Counts::from(&latency)
    }

    #[test]
    fn shards_add_up_to_what_one_would_have_recorded() {
        let (a, b) = ([100, 5_000, 5_000, 1 << 30], [64, 100, 7_000, 1 << 20]);
        let mut merged = counts(&a);
        merged.merge(&counts(&b));
        assert_eq!(merged, counts(&[a, b].concat()));
        let mut from_nothing = Counts::default();
        from_nothing.merge(&counts(&a));
        from_nothing.merge(&Counts::default());
        assert_eq!(from_nothing, counts(&a));
    }

    #[test]
    fn what_has_come_since_is_told_apart() {
        let before = counts(&[100, 200, 200, 900_000]);
        let now = counts(&[100, 200, 200, 900_000, 200, 300, 1_000_000]);
        assert_eq!(now.since(&before), counts(&[200, 300, 1_000_000]));
        assert_eq!(now.since(&Counts::default()), now);
        assert!(before.since(&now).is_empty(), "a broker that began anew");
    }

    #[test]
    fn quantiles_are_those_of_sorted_values() {
        let values: Vec<u64> = (1..=10_000).map(|n| n * 1_000).collect();
        let counts = counts(&values);
        for (quantile, nanos) in [
            (0.0, 1e3),
            (0.5, 5e6),
            (0.99, 9.9e6),
            (0.9999, 9.999e6),
            (1.0, 1e7),
        ] {
            let off = (counts.quantile(quantile) as f64 / nanos - 1.0).abs();
            assert!(off < 0.001, "{quantile}: {}", counts.quantile(quantile));
        }
        assert_eq!(Counts::default().quantile(0.5), 0);
        let summary = counts.summary();
        assert_eq!(summary.count, 10_000);
        assert!(
            (summary.mean_us - 5_000.5).abs() < 1e-9,
            "{}",
            summary.mean_us
        );
    }

    #[test]
    fn the_histogram_has_the_same_values() {
        let counts = counts(&[64, 100, 5_000, 5_001, 123_456_789]);
        let latency = Latency {
            histogram: counts.histogram(),
            sum_nanos: counts.sum_ns,
        };
        assert_eq!(Counts::from(&latency), counts);
    }
}
