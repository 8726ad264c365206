//! The latencies of a shard by stage: since the start, of the last minutes, and of topics that somebody watches.
//!
//! A batch is recorded once a stage, into one histogram. The last minutes are told from copies of it that
//! [`StageRecorder::turn_minute`] keeps, a minute apart while there is something to record; what lies between two
//! copies is their difference. A copy has only the values that occur, some 20 KiB.
//!
//! A topic is recorded beside that from when it is first asked for until nobody has asked for
//! [`WATCH_TIME`]. Histograms of topics are coarser, and few.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use millrace_latency::{Counts, Latency, Stage};
use millrace_model::TopicId;

use crate::shard::notice::Notice;

/// Topics that are watched at a time: each costs a shard some 200 KiB and each batch a comparison.
pub(crate) const MAX_WATCHED_TOPICS: usize = 8;

/// How long a topic is watched after it was last asked for.
pub(crate) const WATCH_TIME: Duration = Duration::from_secs(10 * 60);

/// Time between two copies.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Copies that are kept: enough for the longest window, which may begin just after one was taken.
const MAX_MINUTES: usize = 11;

/// Everything that a shard has recorded at one moment.
#[derive(Debug)]
pub(crate) struct Minute {
    at: Instant,
    stages: [Counts; Stage::COUNT],
}

#[derive(Debug)]
struct WatchedTopic {
    topic: TopicId,
    since: Instant,
    until: Instant,
    stages: [Latency; Stage::COUNT],
}

/// Why a topic is not watched: as many are as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyWatched;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct StageRecorder {
    stages: RefCell<[Latency; Stage::COUNT]>,
    watched: RefCell<Vec<WatchedTopic>>,
    minutes: RefCell<VecDeque<Rc<Minute>>>,
    /// Something was recorded since the last copy.
    is_fresh: Cell<bool>,
    became_fresh: Notice,
}

impl StageRecorder {
    pub(super) fn new() -> Self {
        Self {
            stages: RefCell::new(std::array::from_fn(|_| Latency::fine())),
            watched: RefCell::default(),
            minutes: RefCell::default(),
            is_fresh: Cell::new(false),
            became_fresh: Notice::default(),
        }
    }

    #[inline]
    pub(super) fn record(&self, stage: Stage, topic: TopicId, nanos: u64) {
        self.stages.borrow_mut()[stage as usize].record(nanos, 1);
        if !self.is_fresh.replace(true) {
            self.became_fresh.notify();
        }
        for watched in self.watched.borrow_mut().iter_mut() {
            if watched.topic == topic {
                watched.stages[stage as usize].record(nanos, 1);
            }
        }
    }

    pub(super) fn all(&self) -> [Latency; Stage::COUNT] {
        self.stages.borrow().clone()
    }

    pub(super) fn counts(&self, stage: Stage) -> Counts {
        Counts::from(&self.stages.borrow()[stage as usize])
    }

    /// The copy that a window of this length begins at, and how long ago it was taken; `None` for a window
    /// from the start.
    pub(super) fn base(&self, window: Duration, now: Instant) -> Option<(Rc<Minute>, Duration)> {
        let minutes = self.minutes.borrow();
        let age = |minute: &Minute| now.saturating_duration_since(minute.at);
        let mut newest_first = minutes.iter().rev();
        let base = newest_first.find(|minute| age(minute) >= window)?;
        // While nothing happens no copies are made, and the time does not count.
        let seconds = age(base).min(window + MINUTE);
        Some((Rc::clone(base), seconds))
    }

    /// Waits until there is something to copy.
    pub(super) async fn fresh(&self) {
        loop {
            let became_fresh = self.became_fresh.notified();
            if self.is_fresh.get() {
                return;
            }
            became_fresh.await;
        }
    }

    /// Keeps a copy, which the caller has made stage by stage, and forgets topics that nobody asks for.
    pub(super) fn turn_minute(&self, now: Instant, stages: [Counts; Stage::COUNT]) {
        let mut minutes = self.minutes.borrow_mut();
        if minutes.len() == MAX_MINUTES {
            minutes.pop_front();
        }
        minutes.push_back(Rc::new(Minute { at: now, stages }));
        self.forget_unwatched(now);
    }

    /// What is recorded from now on is for the next copy.
    pub(super) fn begin_copy(&self) {
        self.is_fresh.set(false);
    }

    /// Records a topic for some time from now on. Gives how long it has been recorded.
    pub(super) fn watch(&self, topic: TopicId, now: Instant) -> Result<Duration, TooManyWatched> {
        self.forget_unwatched(now);
        let mut watched = self.watched.borrow_mut();
        let until = now + WATCH_TIME;
        if let Some(known) = watched.iter_mut().find(|known| known.topic == topic) {
            known.until = until;
            return Ok(now.saturating_duration_since(known.since));
        }
        if watched.len() == MAX_WATCHED_TOPICS {
            return Err(TooManyWatched);
        }
        watched.push(WatchedTopic {
            topic,
            since: now,
            until,
            stages: std::array::from_fn(|_| Latency::coarse()),
        });
        Ok(Duration::ZERO)
    }

    /// The latencies of a watched topic; nothing for another.
    pub(super) fn topic_counts(&self, topic: TopicId, stage: Stage) -> Counts {
        let watched = self.watched.borrow();
        let known = watched.iter().find(|known| known.topic == topic);
        known.map_or_else(Counts::default, |known| {
            Counts::from(&known.stages[stage as usize])
        })
    }

    fn forget_unwatched(&self, now: Instant) {
        self.watched.borrow_mut().retain(|known| known.until > now);
    }
}

impl Minute {
    /// What was recorded of a stage until then.
    pub(crate) fn stage(&self, stage: Stage) -> &Counts {
        &self.stages[stage as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    const TOPIC: TopicId = TopicId([7; 16]);

    fn copy(recorder: &StageRecorder, now: Instant) {
        recorder.begin_copy();
        let stages = std::array::from_fn(|at| recorder.counts(Stage::ALL[at]));
        recorder.turn_minute(now, stages);
    }

    #[test]
    fn a_window_has_what_came_after_its_beginning() {
        let recorder = StageRecorder::new();
        let start = Instant::now();
        for minute in 0..20 {
            recorder.record(Stage::Device, TOPIC, 1_000 << minute);
            copy(&recorder, start + minute * MINUTE);
        }
        let now = start + 19 * MINUTE + MINUTE / 2;
        let within = |window| {
            let (base, length) = recorder.base(window, now).expect("there are copies");
            let counts = recorder
                .counts(Stage::Device)
                .since(base.stage(Stage::Device));
            (counts.count(), length)
        };
        assert_eq!(within(MINUTE), (1, MINUTE + MINUTE / 2));
        assert_eq!(within(5 * MINUTE), (5, 5 * MINUTE + MINUTE / 2));
        assert_eq!(within(10 * MINUTE), (10, 10 * MINUTE + MINUTE / 2));
        let later = now + 60 * MINUTE;
        let (base, length) = recorder.base(MINUTE, later).expect("the last copy stays");
        assert_eq!(length, 2 * MINUTE, "time without anything does not count");
        let counts = recorder.counts(Stage::Device);
        assert!(counts.since(base.stage(Stage::Device)).is_empty());
    }

    #[test]
    fn a_copy_is_due_only_after_something_was_recorded() {
        let recorder = StageRecorder::new();
        assert!(block_on(poll_once(recorder.fresh())).is_none());
        recorder.record(Stage::Ack, TOPIC, 1_000);
        assert!(block_on(poll_once(recorder.fresh())).is_some());
        copy(&recorder, Instant::now());
        assert!(block_on(poll_once(recorder.fresh())).is_none());
    }

    #[test]
    fn few_topics_are_watched_and_only_for_a_time() {
        let recorder = StageRecorder::new();
        let start = Instant::now();
        recorder.record(Stage::Ack, TOPIC, 5_000);
        assert_eq!(recorder.watch(TOPIC, start), Ok(Duration::ZERO));
        recorder.record(Stage::Ack, TOPIC, 5_000);
        recorder.record(Stage::Ack, TopicId([9; 16]), 5_000);
        assert_eq!(recorder.topic_counts(TOPIC, Stage::Ack).count(), 1);
        let fill = u8::try_from(MAX_WATCHED_TOPICS).expect("few");
        for other in 1..fill {
            assert!(recorder.watch(TopicId([100 + other; 16]), start).is_ok());
        }
        let one_more = TopicId([1; 16]);
        assert_eq!(recorder.watch(one_more, start), Err(TooManyWatched));
        let later = start + WATCH_TIME / 2;
        assert_eq!(recorder.watch(TOPIC, later), Ok(WATCH_TIME / 2));
        assert!(recorder.watch(one_more, start + WATCH_TIME).is_ok());
        assert_eq!(recorder.topic_counts(TOPIC, Stage::Ack).count(), 1);
        copy(&recorder, later + WATCH_TIME);
        assert!(recorder.topic_counts(TOPIC, Stage::Ack).is_empty());
    }
}
