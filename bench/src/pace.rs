//! When each batch is due. In an open loop a thread of its own keeps the schedule, so
//! that neither a late runtime timer nor a slow broker shifts it: a batch that could not
//! be sent in time is still measured from when it was due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::options::Load;
use crate::shape::{Shapes, apart};
use crate::window::{Clock, Window};

/// The wake-up of a sleeping thread comes about this late, so it sleeps that much less and
/// yields the rest.
const WAKE_UP_SLACK: Duration = Duration::from_micros(80);

const NANOS: u128 = 1_000_000_000;

/// A batch of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Which of its producer's it is, from 0 on.
    pub number: u64,
    /// When its first record was due.
    pub due: Duration,
    /// From one of its records to the next; zero when all were due together.
    pub apart: Duration,
    /// When it can be sent.
    pub ready: Duration,
    /// Its records.
    pub records: u32,
    /// Their value bytes.
    pub bytes: u64,
}

/// The batches of one producer: those of an open loop by their schedule, those of a closed one
/// whenever one is asked for.
#[derive(Clone, Debug)]
pub struct Supply {
    window: Window,
    shapes: Arc<Shapes>,
    schedule: Option<Schedule>,
    /// Records that still are to count; none when time ends the run.
    left: Option<u64>,
    next_batch: u64,
    next_record: u64,
}

/// The schedule of one producer's records.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    /// When the first one is due.
    first: Duration,
    /// Records per second of all producers, and how many those are.
    rate: u32,
    producers: usize,
    /// How long a batch waits for more, if its records become due one by one.
    linger: Option<Duration>,
}

impl Schedule {
    /// The schedule of producer `index`. Producers are spread evenly over the time between two
    /// batches of one, or between two records where those are due one by one.
    fn new(load: &Load, rate: u32, shapes: &Shapes, index: usize) -> Self {
        let at_once = match load.linger {
            Some(_) => 1,
            None => shapes.of(0).sizes.len() as u128,
        };
        let first = index as u128 * at_once * NANOS / u128::from(rate);
        Self {
            first: nanos(first),
            rate,
            producers: load.producers.get(),
            linger: load.linger,
        }
    }

    /// When record `number` is due.
    fn due(&self, number: u64) -> Duration {
        let after = u128::from(number) * NANOS * self.producers as u128 / u128::from(self.rate);
        self.first + nanos(after)
    }
}

impl Supply {
    /// The batches of producer `index` of this load.
    #[must_use]
    pub fn new(load: &Load, window: Window, shapes: Arc<Shapes>, index: usize) -> Self {
        let rate = load.rate.map(std::num::NonZeroU32::get);
        let producers = load.producers.get() as u64;
        let share = |count: u64| count / producers + u64::from((index as u64) < count % producers);
        Self {
            schedule: rate.map(|rate| Schedule::new(load, rate, &shapes, index)),
            window,
            shapes,
            left: load.count.map(|count| share(count.get())),
            next_batch: 0,
            next_record: 0,
        }
    }

    /// Whether it keeps a schedule, which does not depend on when it is asked.
    #[must_use]
    pub fn is_open_loop(&self) -> bool {
        self.schedule.is_some()
    }

    /// The next batch, or none after the last. `now` is when it is due in a closed loop.
    pub fn next(&mut self, now: Duration) -> Option<Parcel> {
        let shape = self.shapes.of(self.next_batch);
        let records = u32::try_from(shape.sizes.len()).expect("its limit is a u32");
        let at_once = |due| (due, Duration::ZERO, due);
        let (due, apart, ready) = match &self.schedule {
            None => at_once(now),
            Some(schedule) => {
                let due = schedule.due(self.next_record);
                match schedule.linger {
                    None => at_once(due),
                    Some(_) if shape.full => {
                        let last = self.next_record + u64::from(records) - 1;
                        (due, schedule.apart(), schedule.due(last))
                    }
                    Some(linger) => (due, schedule.apart(), due + linger),
                }
            }
        };
        if !self.window.open(due) || self.left == Some(0) {
            return None;
        }
        if let Some(left) = self.left.as_mut().filter(|_| self.window.from <= due) {
            *left = left.saturating_sub(u64::from(records));
        }
        let parcel = Parcel {
            number: self.next_batch,
            due,
            apart,
            ready,
            records,
            bytes: shape.bytes,
        };
        self.next_batch += 1;
        self.next_record += u64::from(records);
        Some(parcel)
    }
}

impl Schedule {
    fn apart(&self) -> Duration {
        apart(self.rate, self.producers)
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Sends each batch of the schedules into its producer's channel when it can be sent, until
/// there are no more.
pub(crate) fn run(clock: Clock, mut schedules: Vec<(Supply, flume::Sender<Parcel>)>) {
    let mut upcoming = BinaryHeap::with_capacity(schedules.len());
    let mut parcels = Vec::with_capacity(schedules.len());
    for (producer, (supply, _)) in schedules.iter_mut().enumerate() {
        let parcel = supply.next(Duration::ZERO);
        upcoming.extend(parcel.map(|parcel| Reverse((parcel.ready, producer))));
        parcels.push(parcel);
    }
    while let Some(Reverse((ready, producer))) = upcoming.pop() {
        sleep_until(clock, ready);
        let (supply, parcels_of) = &mut schedules[producer];
        let gone = parcels[producer]
            .take()
            .is_none_or(|parcel| parcels_of.send(parcel).is_err());
        if gone {
            continue; // the producer has given up
        }
        parcels[producer] = supply.next(Duration::ZERO);
        let next = parcels[producer].map(|parcel| Reverse((parcel.ready, producer)));
        upcoming.extend(next);
    }
}

fn sleep_until(clock: Clock, moment: Duration) {
    let left = moment.saturating_sub(clock.now());
    if left > WAKE_UP_SLACK {
        thread::sleep(left - WAKE_UP_SLACK);
    }
    while clock.now() < moment {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::load;

    const MILLI: Duration = Duration::from_millis(1);

    fn supply(line: &str, index: usize) -> Supply {
        let load = load(&line.split_ascii_whitespace().collect::<Vec<_>>());
        let shapes = Arc::new(Shapes::new(&load, 1));
        Supply::new(&load, Window::new(&load), shapes, index)
    }

    fn all(mut supply: Supply) -> Vec<Parcel> {
        std::iter::from_fn(|| supply.next(Duration::ZERO)).collect()
    }

    #[test]
    fn producers_share_the_rate_and_are_spread() {
        let line = "produce --rate 1000 --batch 10 --producers 2 --duration 1s --warm-up 1s";
        let (first, second) = (all(supply(line, 0)), all(supply(line, 1)));
        assert_eq!(first.len() + second.len(), 200, "2 s of 100 batches");
        assert_eq!(first[0].due, Duration::ZERO);
        assert_eq!(first[50].due, 1000 * MILLI);
        assert_eq!(second[0].due, 10 * MILLI);
        assert!(
            first
                .iter()
                .all(|of| of.apart.is_zero() && of.ready == of.due)
        );
    }

    #[test]
    fn a_rate_that_divides_badly_does_not_drift() {
        let line = "produce --rate 300007 --producers 3 --duration 100s --warm-up 0s --batch 1000";
        let parcels = all(supply(line, 0));
        let last = parcels.last().expect("there are many");
        let records = u128::from(last.number) * 1000;
        assert_eq!(last.due.as_nanos(), records * 3 * NANOS / 300_007);
    }

    #[test]
    fn lingering_records_are_due_one_by_one() {
        let line = "produce --rate 1000 --duration 100ms --warm-up 0s --linger 3ms --batch";
        let cut = all(supply(&format!("{line} 10"), 0));
        assert_eq!((cut[0].records, cut[0].ready), (4, 3 * MILLI));
        assert_eq!((cut[1].due, cut[1].ready), (4 * MILLI, 7 * MILLI));
        let full = all(supply(&format!("{line} 3"), 0));
        assert_eq!((full[0].records, full[0].ready), (3, 2 * MILLI));
        assert_eq!(full[1].apart, MILLI);
    }

    #[test]
    fn a_count_is_shared_and_starts_after_the_warm_up() {
        let line = "produce --count 10 --producers 3 --warm-up 1s --batch 2";
        let counted = |index| {
            let mut supply = supply(line, index);
            assert!(supply.next(Duration::ZERO).is_some(), "the warm-up");
            let after = std::iter::from_fn(|| supply.next(2000 * MILLI));
            after.map(|parcel| parcel.records).sum::<u32>()
        };
        assert_eq!([counted(0), counted(1), counted(2)], [4, 4, 4]);
    }

    #[test]
    fn the_schedule_does_not_wait_for_the_producer() {
        let (sender, receiver) = flume::unbounded();
        let line = "produce --rate 1000 --duration 20ms --warm-up 0s";
        run(Clock::start(), vec![(supply(line, 0), sender)]);
        let due: Vec<Duration> = receiver.drain().map(|parcel| parcel.due).collect();
        assert_eq!(due.len(), 20);
        assert_eq!(due[7], 7 * MILLI);
    }
}
