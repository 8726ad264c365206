//! How long something that comes again and again is worth waiting for awake. Pure.
//!
//! A thread that sleeps is told late of what it waits for: its core has to leave its idle state first, and the
//! thread to be scheduled. What usually comes soon is better waited for awake, a little longer than it usually takes.
//! What usually takes long is slept through, for there the sleep costs nothing in comparison.

use std::cell::Cell;
use std::time::Duration;

/// The longest wait is this many times as long as the executor spins after anything: with the default 0.4 ms, in which
/// a flash device has written a few blocks durably and a client on the same machine has answered. Being awake for
/// longer costs more than the sleep.
const SPINS: u32 = 4;

/// Of waits, one in so many decides over what is usual, so that a single long one changes little.
const WEIGHT: u32 = 8;

/// What is known of the waits for one thing.
#[derive(Debug)]
pub struct Patience {
    most: Duration,
    usual: Cell<Duration>,
}

impl Patience {
    /// Patience of an executor that spins for so long after anything has happened. It begins with that.
    #[must_use]
    pub fn new(spin: Duration) -> Self {
        Self {
            most: spin * SPINS,
            usual: Cell::new(spin),
        }
    }

    /// It took `time` to come. Nothing counts for more than what is too long anyway.
    pub fn took(&self, time: Duration) {
        let usual = self.usual.get() * (WEIGHT - 1) + time.min(self.most);
        self.usual.set(usual / WEIGHT);
    }

    /// How long the next one is waited for awake: half as long again as is usual, for they differ. `None` where that
    /// is too long.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        Some(self.usual.get() * 3 / 2).filter(|time| *time <= self.most)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    fn after(waits: impl IntoIterator<Item = u32>) -> Option<Duration> {
        let patience = Patience::new(100 * MICRO);
        waits
            .into_iter()
            .for_each(|micros| patience.took(micros * MICRO));
        patience.next()
    }

    #[test]
    fn what_comes_soon_is_waited_for_a_little_longer_than_it_takes() {
        let time = after([150; 64]).unwrap();
        assert!((200 * MICRO..=225 * MICRO).contains(&time), "{time:?}");
    }

    #[test]
    fn what_takes_long_is_slept_through_until_it_comes_soon_again() {
        assert_eq!(after([3000; 64]), None);
        assert!(after([3000; 64].into_iter().chain([120; 16])).is_some());
    }

    #[test]
    fn a_single_long_wait_changes_little() {
        assert!(after([120; 64].into_iter().chain([50_000])).is_some());
    }

    #[test]
    fn who_does_not_spin_waits_for_nothing() {
        let patience = Patience::new(Duration::ZERO);
        patience.took(100 * MICRO);
        assert_eq!(patience.next(), Some(Duration::ZERO));
    }
}
