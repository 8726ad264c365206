//! Virtual time: one clock for the world, which moves when nobody can go on, and what each broker takes
//! for the time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use millrace_engine::controller::Time;
use millrace_model::Timestamp;

/// The wall clock when a history begins.
const FIRST_MS: i64 = 1_700_000_000_000;

/// A rate of 1.
const PER_MILLE: i64 = 1000;

enum Due {
    Wake(Waker),
    Call(Box<dyn FnOnce()>),
}

/// The world's clock, in milliseconds since it began.
#[derive(Default)]
pub(super) struct Clock {
    now: Cell<i64>,
    next: Cell<u64>,
    due: RefCell<BTreeMap<(i64, u64), Due>>,
}

impl Clock {
    pub(super) fn now(&self) -> i64 {
        self.now.get()
    }

    /// Calls this when it is `at`.
    pub(super) fn call_at(&self, at: i64, call: impl FnOnce() + 'static) {
        let key = (at.max(self.now()), self.number());
        let due = Due::Call(Box::new(call));
        self.due.borrow_mut().insert(key, due);
    }

    /// Returns when so many milliseconds have passed.
    pub(super) async fn sleep(&self, ms: i64) {
        let due = (self.now() + ms, self.number());
        let _forgets = Forgets(self, due);
        poll_fn(|cx| {
            if self.now() >= due.0 {
                return Poll::Ready(());
            }
            let waker = Due::Wake(cx.waker().clone());
            self.due.borrow_mut().insert(due, waker);
            Poll::Pending
        })
        .await;
    }

    /// Moves to whatever is due next, unless that is after `end`, and lets all of it happen.
    pub(super) fn advance(&self, end: i64) -> bool {
        let next = self.due.borrow().keys().next().map(|(at, _)| *at);
        let Some(at) = next.filter(|at| *at <= end) else {
            return false;
        };
        self.now.set(self.now().max(at));
        WALL.set(FIRST_MS + self.now());
        loop {
            let due = {
                let mut all = self.due.borrow_mut();
                let is_due = all.keys().next().is_some_and(|(at, _)| *at <= self.now());
                is_due.then(|| all.pop_first()).flatten()
            };
            match due {
                Some((_, Due::Wake(waker))) => waker.wake(),
                Some((_, Due::Call(call))) => call(),
                None => return true,
            }
        }
    }

    /// Forgets all that is due: the history is over, and what waits holds the world.
    pub(super) fn clear(&self) {
        let due = std::mem::take(&mut *self.due.borrow_mut());
        drop(due);
    }

    fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }
}

/// A timer that is dropped wakes nobody.
struct Forgets<'a>(&'a Clock, (i64, u64));

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.0.due.borrow_mut().remove(&self.1);
    }
}

thread_local! {
    /// The wall clock of the world that this thread simulates.
    static WALL: Cell<i64> = const { Cell::new(FIRST_MS) };
}

/// A wall clock that nobody sets, for what takes it as a plain function.
pub(super) fn wall() -> Timestamp {
    Timestamp(WALL.get())
}

/// The clocks of one broker's machine. The monotonic one runs too fast or too slow; the wall clock jumps.
#[derive(Clone)]
pub(super) struct NodeTime {
    clock: Rc<Clock>,
    begun: i64,
    per_mille: i64,
    wall_ahead: Rc<Cell<i64>>,
}

impl NodeTime {
    /// A clock that shows `begun` at first and passes so many thousandths of the world's time.
    pub(super) fn new(clock: &Rc<Clock>, begun: i64, per_mille: i64) -> Self {
        Self {
            clock: Rc::clone(clock),
            begun,
            per_mille,
            wall_ahead: Rc::default(),
        }
    }

    /// Somebody sets the wall clock.
    pub(super) fn set_wall_ahead(&self, ms: i64) {
        self.wall_ahead.set(ms);
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(FIRST_MS + self.clock.now() + self.wall_ahead.get())
    }

    /// Returns when this clock shows `at`.
    pub(super) async fn until(&self, at: Timestamp) {
        while self.now() < at {
            let left = u64::try_from(at.0 - self.now().0).unwrap_or(1);
            self.sleep(Duration::from_millis(left)).await;
        }
    }
}

impl Time for NodeTime {
    fn now(&self) -> Timestamp {
        Timestamp(self.begun + self.clock.now() * self.per_mille / PER_MILLE)
    }

    async fn sleep(&self, duration: Duration) {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / PER_MILLE);
        let passes = (ms * PER_MILLE + self.per_mille - 1) / self.per_mille;
        self.clock.sleep(passes).await;
    }
}
