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

/// An offer of the core that takes longer was taken: a system call that finds nobody takes less than
/// a microsecond, and whoever runs does so for ten or more.
const TAKEN: Duration = Duration::from_micros(5);

/// How long there is no spinning after that.
const BACK_OFF: Duration = Duration::from_millis(10);

/// See the module's documentation.
#[derive(Debug)]
pub struct Spinner {
    spin: Duration,
    queue: TaskQueueHandle,
    last_active: Cell<Instant>,
    /// No spinning before.
    again_at: Cell<Instant>,
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
            last_active: Cell::new(Instant::now()),
            again_at: Cell::new(Instant::now()),
            runs: Cell::new(false),
        })
    }

    /// Something has happened: more is likely to follow.
    pub fn active(self: &Rc<Self>) {
        if self.spin.is_zero() {
            return;
        }
        let now = Instant::now();
        self.last_active.set(now);
        if now >= self.again_at.get() && !self.runs.replace(true) {
            let spinner = Rc::clone(self);
            glommio::spawn_local_into(async move { spinner.run().await }, self.queue)
                .expect("the task queue of a spinner lives as long as its executor")
                .detach();
        }
    }

    async fn run(&self) {
        while self.last_active.get().elapsed() < self.spin {
            // Due by the time that the executor has gone round once.
            Timer::new(SPIN_DELAY).await;
            // Who has work to do on this core goes first: a client on the same machine, or the
            // kernel's thread that completes a write. The scheduler would let them wait for
            // milliseconds, until this thread's slice is over.
            let offered = Instant::now();
            std::thread::yield_now();
            let back = Instant::now();
            if back - offered > TAKEN {
                self.again_at.set(back + BACK_OFF);
                break;
            }
        }
        self.runs.set(false);
    }
}
