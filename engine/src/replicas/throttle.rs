//! How fast the followers of a shard's partitions catch up, together.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// What is not used is saved up for so long: a follower that was away is not slower for it.
const SAVED: Duration = Duration::from_millis(200);

/// Bytes a second, as a queue of times: who takes some moves the time at which the next may.
pub(super) struct Throttle {
    bytes_per_second: Option<NonZeroU64>,
    next: Cell<Option<Instant>>,
}

impl Throttle {
    /// `None` does not bound it.
    pub(super) fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self {
            bytes_per_second,
            next: Cell::new(None),
        }
    }

    /// Takes `bytes` at the time `now`, and tells how long to wait before they may go.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let earliest = now.checked_sub(SAVED).unwrap_or(now);
        let begins = self.next.get().map_or(earliest, |next| next.max(earliest));
        let nanos = (bytes as u128) * 1_000_000_000 / u128::from(rate.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.next.set(begins.checked_add(takes).or(Some(begins)));
        begins.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_bound_nobody_waits() {
        let throttle = Throttle::new(None);
        assert_eq!(throttle.take(usize::MAX, Instant::now()), Duration::ZERO);
    }

    #[test]
    fn in_a_second_goes_what_may() {
        let throttle = Throttle::new(NonZeroU64::new(1000));
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            now += throttle.take(100, now);
        }
        // The first 300 bytes go at once: what was saved up, and one more.
        assert_eq!(now - start, Duration::from_millis(9_700));
        let later = now + Duration::from_secs(60);
        assert_eq!(throttle.take(100, later), Duration::ZERO);
    }
}
