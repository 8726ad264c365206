//! The time of a run. Every moment is a time since the run's epoch on the monotonic clock: the wall
//! clock may step while a run lasts and nothing here would notice.

use std::time::{Duration, Instant};

use crate::options::Load;

/// How long after its end a run waits for what was due before: a stall at the very end is still
/// measured whole, and a broker that cannot keep up, or is gone, does not hold the run for ever.
pub const DRAIN: Duration = Duration::from_secs(5);

/// The zero of a run's moments.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            epoch: Instant::now(),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// A moment, as the system's timers take it.
    #[must_use]
    pub fn at(&self, moment: Duration) -> Instant {
        self.epoch + moment
    }
}

/// The part of a run that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From here on it counts.
    pub from: Duration,
    /// Up to here; none when the run ends by a count of records.
    pub to: Option<Duration>,
}

impl Window {
    /// The window of a load that has a warm-up.
    #[must_use]
    pub fn new(load: &Load) -> Self {
        let from = load.warm_up();
        let to = match load.count {
            Some(_) => None,
            None => Some(from + load.duration()),
        };
        Self { from, to }
    }

    /// All there is.
    #[must_use]
    pub fn all() -> Self {
        Self {
            from: Duration::ZERO,
            to: None,
        }
    }

    /// Whether what was due at this moment counts.
    #[must_use]
    pub fn counts(&self, due: Duration) -> bool {
        self.from <= due && self.open(due)
    }

    /// Whether the end has not come.
    #[must_use]
    pub fn open(&self, due: Duration) -> bool {
        self.to.is_none_or(|to| due < to)
    }

    /// When the run waits no longer; none when it ends by a count.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        Some(self.to? + DRAIN)
    }

    /// The wall time over which the bytes of a track are counted whose last record got there at
    /// `until`: the whole window, and longer when the answers took longer.
    #[must_use]
    pub fn wall(&self, until: Duration) -> Duration {
        let length = self.to.map_or(Duration::ZERO, |to| to - self.from);
        length.max(until)
    }
}
