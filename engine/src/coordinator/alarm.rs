//! The one timer of a coordinator. A coordinator that waits for nothing has none.
//!
//! Deadlines move with every heartbeat, nearly always to later. So a later one does not touch
//! the timer that runs: it fires early once, sees that nothing is due, and sleeps on.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use glommio::timer::sleep;
use glommio::{Task, TaskQueueHandle};
use millrace_model::Timestamp;

use super::GroupCoordinator;

/// The longest sleep at a time, far within what a clock can express.
const LONGEST_SLEEP_MS: u64 = 60 * 60 * 1000;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Alarm {
    /// When the machine wants to be woken.
    due: Cell<Option<Timestamp>>,
    /// The timer that runs, and until when it sleeps.
    running: RefCell<Option<(Timestamp, Task<()>)>>,
}

impl Alarm {
    /// The machine is to be woken at `due`, and not when it was to be before.
    pub(super) fn set(
        &self,
        due: Timestamp,
        now: Timestamp,
        whom: &Rc<GroupCoordinator>,
        queue: TaskQueueHandle,
    ) {
        self.due.set(Some(due));
        let soon_enough = matches!(&*self.running.borrow(), Some((until, _)) if *until <= due);
        if soon_enough {
            return;
        }
        let wait = u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0);
        // At least one round of the executor passes before what is due is done.
        let wait = wait.clamp(1, LONGEST_SLEEP_MS);
        let whom: Weak<_> = Rc::downgrade(whom);
        let task = async move {
            sleep(Duration::from_millis(wait)).await;
            if let Some(coordinator) = whom.upgrade() {
                coordinator.alarm_rang();
            }
        };
        let task = glommio::spawn_local_into(task, queue)
            .expect("the shard's task queues live as long as its executor");
        let until = Timestamp(now.0.saturating_add_unsigned(wait));
        // The timer that ran before is cancelled by being dropped.
        *self.running.borrow_mut() = Some((until, task));
    }

    /// The timer has rung. Whether something is due; otherwise the deadline that is to be set
    /// again, if there is one.
    pub(super) fn rang(&self, now: Timestamp) -> Rang {
        if let Some((_, task)) = self.running.borrow_mut().take() {
            // It is the task that calls: it ends by itself.
            task.detach();
        }
        match self.due.get() {
            None => Rang::ForNothing,
            Some(due) if due <= now => {
                self.due.set(None);
                Rang::Due
            }
            Some(due) => Rang::Early(due),
        }
    }

    /// Nobody is to be woken any more.
    pub(super) fn stop(&self) {
        self.due.set(None);
        self.running.borrow_mut().take();
    }
}

/// See [`Alarm::rang`].
pub(super) enum Rang {
    Due,
    Early(Timestamp),
    ForNothing,
}
