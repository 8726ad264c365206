//! Keeps an executor from sleeping for a while after something has happened.
//!
//! What waits in the ring is noticed without a system call as long as the executor goes round;
//! once it sleeps, each wake-up costs some ten microseconds. One spinner serves all connections
//! of a shard, so that a thousand busy ones spin no more than one does.
//!
//! Spinning is for a core that nobody else wants. The spinner offers its core in every round, and where
//! somebody took it, there is no spinning for a while: he would come again.

use super::readiness::SPIN_DELAY;
use glommio::TaskQueueHandle;
use glommio::timer::Timer;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// An offer of the core that takes longer was taken by somebody who has work to do. One that finds nobody takes less than a
/// microsecond, and the kernel's threads that complete a write, which are what is waited for, ten to thirty.
const TAKEN: Duration = Duration::from_micros(50);

/// How long there is no spinning after that.
const BACK_OFF: Duration = Duration::from_millis(10);

/// See the module's documentation.
#[derive(Debug)]
pub struct Spinner {
    spin: Duration,
    queue: TaskQueueHandle,
    awake_until: Cell<Instant>,
    offers: Offers,
    runs: Cell<bool>,
}

impl Spinner {
    /// A spinner that keeps the current executor awake for `spin` after each
    /// [`Spinner::active`]; zero turns it off. Its task runs in `queue`.
    #[must_use]
    pub fn new(spin: Duration, queue: TaskQueueHandle) -> Rc<Self> {
        Rc::new(Self {
            spin,
            queue,
            awake_until: Cell::new(Instant::now()),
            offers: Offers::default(),
            runs: Cell::new(false),
        })
    }

    /// How long the executor stays awake after something has happened; zero where it does not.
    #[must_use]
    pub fn spin(&self) -> Duration {
        self.spin
    }

    /// Something has happened: more is likely to follow.
    pub fn active(self: &Rc<Self>) {
        self.expect_within(self.spin);
    }

    /// Something is expected to happen within this time: until then the executor stays awake.
    pub fn expect_within(self: &Rc<Self>, time: Duration) {
        if self.spin.is_zero() {
            return;
        }
        let now = Instant::now();
        self.awake_until.set(self.awake_until.get().max(now + time));
        if self.offers.may_spin(now) && !self.runs.replace(true) {
            let spinner = Rc::clone(self);
            glommio::spawn_local_into(async move { spinner.run().await }, self.queue)
                .expect("the task queue of a spinner lives as long as its executor")
                .detach();
        }
    }

    async fn run(&self) {
        while Instant::now() < self.awake_until.get() {
            // Due by the time that the executor has gone round once.
            Timer::new(SPIN_DELAY).await;
            if !self.offers.offer() {
                break;
            }
        }
        self.runs.set(false);
    }
}

/// Offers of the core, one a round of a spinner, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// No spinning before.
    again_at: Cell<Option<Instant>>,
}

impl Offers {
    /// Whether it is not long enough ago that somebody took the core.
    pub(super) fn may_spin(&self, now: Instant) -> bool {
        self.again_at.get().is_none_or(|at| at <= now)
    }

    /// Lets who has work to do on this core go first: a client on the same machine, or the
    /// kernel's thread that completes a write. The scheduler would let them wait for
    /// milliseconds, until this thread's slice is over. Says whether nobody took it.
    pub(super) fn offer(&self) -> bool {
        let offered = Instant::now();
        std::thread::yield_now();
        let back = Instant::now();
        let taken = back - offered > TAKEN;
        if taken {
            self.again_at.set(Some(back + BACK_OFF));
        }
        !taken
    }
}
