//! What a producer does, without doing it: which batch goes out when, and what its answer counts
//! for. Time comes in as an argument, so the same code runs against a broker and, in the tests,
//! against a synthetic one on a clock that nobody waits for.
//!
//! A batch is measured from when its records were due, whatever held it up: the places of those in
//! flight, the transport, the broker. What is never answered is not left out: it counts as lost,
//! and when the run ends before the answer, with the time that it had waited.
//!
//! **Invariant:** each batch that is offered is answered, lost, or still here.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use millrace_model::ErrorCode;

use crate::measure::Tally;
use crate::pace::Parcel;
use crate::window::Window;

/// One producer. It has a lane for each of its partitions; batches take them in turn, and within
/// a lane answers come in the order of the batches.
#[derive(Debug)]
pub struct Flow {
    window: Window,
    /// Batches in flight at most, over all lanes.
    limit: usize,
    backlog: VecDeque<Parcel>,
    lanes: Vec<VecDeque<Parcel>>,
    in_flight: usize,
    tally: Tally,
}

impl Flow {
    /// A producer of this many partitions.
    #[must_use]
    pub fn new(window: Window, limit: usize, lanes: usize) -> Self {
        Self {
            window,
            limit,
            backlog: VecDeque::new(),
            lanes: vec![VecDeque::new(); lanes],
            in_flight: 0,
            tally: Tally::default(),
        }
    }

    /// A batch can be sent, as soon as there is a place for it.
    pub fn offer(&mut self, parcel: Parcel) {
        self.backlog.push_back(parcel);
    }

    /// Whether a batch may be sent at once.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight < self.limit
    }

    /// Batches of a lane that are sent and not answered.
    #[must_use]
    pub fn in_flight_on(&self, lane: usize) -> usize {
        self.lanes.get(lane).map_or(0, VecDeque::len)
    }

    /// The batch that is sent now, and its lane.
    pub fn send_next(&mut self) -> Option<(usize, Parcel)> {
        if !self.has_room() {
            return None;
        }
        let parcel = self.backlog.pop_front()?;
        let lane = (parcel.number % self.lanes.len() as u64) as usize;
        self.lanes[lane].push_back(parcel);
        self.in_flight += 1;
        Some((lane, parcel))
    }

    /// The first batch in flight on a lane was answered. Says how many records of it count, or
    /// nothing when there was none.
    pub fn answered(&mut self, lane: usize, now: Duration, code: ErrorCode) -> Option<u64> {
        let parcel = self.take(lane)?;
        if code != ErrorCode::None {
            self.tally.error(code);
            return Some(0);
        }
        Some(self.count(&parcel, now, |due| Some(now.saturating_sub(due))))
    }

    /// The first batch in flight on a lane has left, and nobody will answer.
    pub fn left(&mut self, lane: usize, now: Duration) -> Option<u64> {
        let parcel = self.take(lane)?;
        Some(self.count(&parcel, now, |_| None))
    }

    /// The connection broke: what is here is lost, and nothing can be said of how long it would
    /// have taken.
    pub fn broken(&mut self, now: Duration, reason: impl fmt::Display) {
        self.tally.error(reason);
        let at = now.as_secs_f64() - self.window.from.as_secs_f64();
        self.tally.lost.broken_at.get_or_insert(at);
        self.lose(|_, _| {});
    }

    /// The run waits no longer: what is here is lost, after it waited at least until now.
    pub fn give_up(&mut self, now: Duration) {
        let from = self.window.from;
        self.lose(|tally, due| {
            let waited = now.saturating_sub(due);
            tally.acked.overdue(due - from, waited);
        });
    }

    /// What it did.
    #[must_use]
    pub fn into_tally(self) -> Tally {
        self.tally
    }

    fn take(&mut self, lane: usize) -> Option<Parcel> {
        let parcel = self.lanes.get_mut(lane)?.pop_front()?;
        self.in_flight -= 1;
        Some(parcel)
    }

    fn count(
        &mut self,
        parcel: &Parcel,
        now: Duration,
        latency: impl Fn(Duration) -> Option<Duration>,
    ) -> u64 {
        let (from, mut counted) = (self.window.from, 0);
        let track = &mut self.tally.acked;
        if self.window.counts(now) {
            track.arrived += u64::from(parcel.records);
        }
        for (due, records, bytes) in due_together(parcel) {
            if self.window.counts(due) {
                track.count(due - from, records, bytes, latency(due));
                track.until = track.until.max(now.saturating_sub(from));
                counted += records;
            }
        }
        counted
    }

    fn lose(&mut self, each: impl Fn(&mut Tally, Duration)) {
        let sent: Vec<Parcel> = self.lanes.iter_mut().flat_map(std::mem::take).collect();
        self.in_flight = 0;
        let waiting = std::mem::take(&mut self.backlog);
        let sent = sent.into_iter().map(|parcel| (true, parcel));
        let unsent = waiting.into_iter().map(|parcel| (false, parcel));
        for (sent, parcel) in sent.chain(unsent) {
            for (due, records, _) in due_together(&parcel) {
                if self.window.counts(due) {
                    each(&mut self.tally, due);
                    match sent {
                        true => self.tally.lost.unanswered += records,
                        false => self.tally.lost.unsent += records,
                    }
                }
            }
        }
    }
}

/// The records of a batch by when they were due, with their value bytes: all of them at once, or
/// one by one.
fn due_together(parcel: &Parcel) -> impl Iterator<Item = (Duration, u64, u64)> {
    let records = u64::from(parcel.records);
    let groups = match parcel.apart.is_zero() {
        true => 1,
        false => parcel.records,
    };
    let (due, apart, bytes) = (parcel.due, parcel.apart, parcel.bytes);
    let upto = move |group: u32| u64::from(group) * bytes / u64::from(groups);
    (0..groups).map(move |group| {
        let bytes = upto(group + 1) - upto(group);
        (due + apart * group, records / u64::from(groups), bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn window() -> Window {
        Window {
            from: 100 * MILLI,
            to: Some(200 * MILLI),
        }
    }

    fn parcel(number: u64, due: u32) -> Parcel {
        Parcel {
            number,
            due: due * MILLI,
            apart: Duration::ZERO,
            ready: due * MILLI,
            records: 10,
            bytes: 1000,
        }
    }

    #[test]
    fn places_bound_what_is_in_flight_and_lanes_take_turns() {
        let mut flow = Flow::new(window(), 2, 2);
        (0..3).for_each(|number| flow.offer(parcel(number, 150)));
        let lane = |next: Option<(usize, Parcel)>| next.map(|(lane, of)| (lane, of.number));
        assert_eq!(lane(flow.send_next()), Some((0, 0)));
        assert_eq!(lane(flow.send_next()), Some((1, 1)));
        assert_eq!(lane(flow.send_next()), None, "there is no place");
        assert_eq!(flow.answered(1, 160 * MILLI, ErrorCode::None), Some(10));
        assert_eq!(lane(flow.send_next()), Some((0, 2)));
        assert_eq!(flow.answered(1, 160 * MILLI, ErrorCode::None), None);
    }

    #[test]
    fn only_what_was_due_in_the_window_counts_and_from_when_it_was_due() {
        let mut flow = Flow::new(window(), 9, 1);
        for (number, due) in [(0, 99), (1, 100), (2, 199), (3, 200)] {
            flow.offer(parcel(number, due));
            flow.send_next().unwrap();
        }
        for _ in 0..4 {
            flow.answered(0, 300 * MILLI, ErrorCode::None).unwrap();
        }
        let tally = flow.into_tally();
        assert_eq!((tally.acked.records, tally.acked.bytes), (20, 2000));
        assert_eq!(tally.acked.latencies.count(), 2, "once a batch");
        assert_eq!(tally.acked.latencies.max(), 200 * MILLI);
        assert_eq!(tally.acked.until, 200 * MILLI);
    }

    #[test]
    fn records_due_one_by_one_are_measured_one_by_one() {
        let mut flow = Flow::new(window(), 1, 1);
        let lingering = Parcel {
            apart: MILLI,
            ready: 204 * MILLI,
            ..parcel(0, 195)
        };
        flow.offer(lingering);
        flow.send_next().unwrap();
        assert_eq!(flow.answered(0, 210 * MILLI, ErrorCode::None), Some(5));
        let acked = flow.into_tally().acked;
        assert_eq!((acked.latencies.count(), acked.bytes), (5, 500));
        assert_eq!(acked.latencies.max(), 15 * MILLI);
    }

    #[test]
    fn what_a_dead_broker_took_is_counted_and_has_no_latency() {
        let mut flow = Flow::new(window(), 2, 1);
        (0..3).for_each(|number| flow.offer(parcel(number, 150)));
        flow.send_next().unwrap();
        flow.send_next().unwrap();
        flow.broken(170 * MILLI, "gone");
        let tally = flow.into_tally();
        assert_eq!((tally.lost.unanswered, tally.lost.unsent), (20, 10));
        assert!((tally.lost.broken_at.unwrap() - 0.07).abs() < 1e-9);
        assert_eq!(tally.acked.latencies.count(), 0);
        assert_eq!(tally.errors["gone"], 1);
    }

    #[test]
    fn what_is_given_up_has_waited_until_then() {
        let mut flow = Flow::new(window(), 1, 1);
        (0..2).for_each(|number| flow.offer(parcel(number, 150)));
        flow.send_next().unwrap();
        flow.give_up(5000 * MILLI);
        let tally = flow.into_tally();
        assert_eq!((tally.lost.unanswered, tally.lost.unsent), (10, 10));
        assert_eq!(tally.acked.records, 0);
        assert_eq!(tally.acked.latencies.count(), 2);
        assert_eq!(tally.acked.latencies.max(), 4850 * MILLI);
    }

    #[test]
    fn a_refusal_is_an_error_and_no_record() {
        let mut flow = Flow::new(window(), 1, 1);
        flow.offer(parcel(0, 150));
        flow.send_next().unwrap();
        flow.answered(0, 151 * MILLI, ErrorCode::MessageTooLarge);
        let tally = flow.into_tally();
        assert_eq!(tally.errors.values().sum::<u64>(), 1);
        assert_eq!(tally.acked.records, 0);
    }
}
