//! The histogram that a shard records into.

use hdrhistogram::Histogram;

/// Latencies below this are recorded as this, and none is told more exactly: reading the clock takes longer.
pub const SHORTEST_NANOS: u64 = 16;

/// Latencies above this are recorded as this: 64 s, twice the longest time that a client
/// waits for an answer. Between the two, three digits take 8 KiB for every doubling beyond
/// the first eleven, 184 KiB in all, of which only the pages of values that occur are ever
/// touched.
pub const LONGEST_NANOS: u64 = 64_000_000_000;

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// Digits that are kept where there may be many histograms: an eighth of the memory.
const COARSE_DIGITS: u8 = 2;

/// Latencies of one stage.
#[derive(Clone, Debug)]
pub struct Latency {
    /// The values in nanoseconds, within [`SHORTEST_NANOS`] and [`LONGEST_NANOS`].
    pub histogram: Histogram<u64>,
    /// The exact sum of all values in nanoseconds.
    pub sum_nanos: u64,
}

impl Latency {
    /// An empty histogram that tells values apart that differ by a thousandth.
    #[must_use]
    pub fn fine() -> Self {
        Self::new(DIGITS)
    }

    /// An empty histogram that tells values apart that differ by a hundredth.
    #[must_use]
    pub fn coarse() -> Self {
        Self::new(COARSE_DIGITS)
    }

    fn new(digits: u8) -> Self {
        let histogram = Histogram::new_with_bounds(SHORTEST_NANOS, LONGEST_NANOS, digits)
            .expect("the bounds are constants that a histogram can have");
        Self {
            histogram,
            sum_nanos: 0,
        }
    }

    /// Records a latency so many times.
    #[inline]
    pub fn record(&mut self, nanos: u64, times: u64) {
        self.sum_nanos = self.sum_nanos.saturating_add(nanos.saturating_mul(times));
        self.histogram
            .saturating_record_n(nanos.clamp(SHORTEST_NANOS, LONGEST_NANOS), times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_outside_the_range_are_kept_at_its_ends() {
        let mut latency = Latency::fine();
        latency.record(0, 1);
        latency.record(u64::MAX, 1);
        assert_eq!(latency.histogram.len(), 2);
        assert_eq!(latency.sum_nanos, u64::MAX);
    }

    #[test]
    fn a_histogram_stays_as_small_as_its_documentation_says() {
        for (latency, most) in [(Latency::fine(), 184 << 10), (Latency::coarse(), 26 << 10)] {
            let counts = latency.histogram.distinct_values();
            assert!(counts * size_of::<u64>() <= most, "{counts} counts");
        }
    }
}
