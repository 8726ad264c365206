//! When each batch is due. In an open loop a thread of its own keeps the schedule, so
//! that neither a late runtime timer nor a slow broker shifts it: a batch that could not
//! be sent in time is still measured from when it was due.

use std::thread;
use std::time::{Duration, Instant};

/// The wake-up of a sleeping thread comes about this late, so it sleeps that much less and
/// yields the rest.
const WAKE_UP_SLACK: Duration = Duration::from_micros(80);

/// The due times of one producer's batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When the first batch is due.
    first: Instant,
    /// From one batch to the next.
    interval: Duration,
}

impl Schedule {
    /// The schedule of producer `index` of `producers` that together send `rate` records a
    /// second in batches of `batch`. Producers are spread evenly over the interval.
    pub(crate) fn new(
        start: Instant,
        rate: u32,
        batch: u32,
        index: usize,
        producers: usize,
    ) -> Self {
        let batches_per_second = f64::from(rate) / f64::from(batch) / producers as f64;
        let interval = Duration::from_secs_f64(1.0 / batches_per_second);
        Self {
            first: start + interval.mul_f64(index as f64 / producers as f64),
            interval,
        }
    }

    /// When batch `number` is due.
    pub(crate) fn due(&self, number: u64) -> Instant {
        self.first + self.interval.mul_f64(number as f64)
    }
}

/// Sends each due time into the producer's channel at that time, until `end`.
pub(crate) fn run(schedules: Vec<(Schedule, flume::Sender<Instant>)>, end: Instant) {
    let mut next: Vec<u64> = vec![0; schedules.len()];
    loop {
        let earliest = (0..schedules.len()).min_by_key(|&i| schedules[i].0.due(next[i]));
        let Some(producer) = earliest else { return };
        let due = schedules[producer].0.due(next[producer]);
        if due >= end {
            return;
        }
        sleep_until(due);
        next[producer] += 1;
        if schedules[producer].1.send(due).is_err() {
            return; // the run was given up
        }
    }
}

fn sleep_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > WAKE_UP_SLACK {
        thread::sleep(left - WAKE_UP_SLACK);
    }
    while Instant::now() < due {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_share_the_rate_and_are_spread() {
        let start = Instant::now();
        let first = Schedule::new(start, 1000, 10, 0, 2);
        let second = Schedule::new(start, 1000, 10, 1, 2);
        assert_eq!(first.due(0), start);
        assert_eq!(first.due(50), start + Duration::from_secs(1));
        assert_eq!(second.due(0), start + Duration::from_millis(10));
    }

    #[test]
    fn the_schedule_does_not_wait_for_the_producer() {
        let start = Instant::now();
        let (sender, receiver) = flume::unbounded();
        let schedule = Schedule::new(start, 1000, 1, 0, 1);
        run(vec![(schedule, sender)], start + Duration::from_millis(20));
        let due: Vec<Instant> = receiver.drain().collect();
        assert_eq!(due.len(), 20);
        assert_eq!(due[7], start + Duration::from_millis(7));
    }
}
