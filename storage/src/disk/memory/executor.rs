//! A single-threaded executor whose order of tasks follows from a seed, so that a test
//! sees many interleavings and can see each of them again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls after which [`LocalTasks::block_on`] takes the program for one that never ends.
const MAX_POLLS: u64 = 50_000_000;

/// Nothing is left to run, and the future that was waited for is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no task can run, and the one waited for is not done")]
pub struct Stalled;

/// Tasks of one thread, run in an order that follows from the seed. Clones share them.
#[derive(Clone)]
pub struct LocalTasks {
    shared: Rc<Shared>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Shared {
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: Arc<Ready>,
    next_id: Cell<u64>,
    rng: RefCell<fastrand::Rng>,
}

/// The tasks that were woken. Shared with wakers, which are `Send` by their type.
#[derive(Default)]
struct Ready(Mutex<Vec<u64>>);

impl LocalTasks {
    /// No tasks yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            shared: Rc::new(Shared {
                tasks: RefCell::default(),
                ready: Arc::default(),
                next_id: Cell::new(0),
                rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            }),
        }
    }

    /// Adds a task. It goes on by itself whether or not its result is waited for.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Join<T> {
        let result = Rc::new(RefCell::new(Outcome {
            value: None,
            waiting: None,
        }));
        let promise = Rc::clone(&result);
        let id = self.shared.next_id.get();
        self.shared.next_id.set(id + 1);
        let task = async move {
            let value = future.await;
            let mut outcome = promise.borrow_mut();
            outcome.value = Some(value);
            if let Some(waiting) = outcome.waiting.take() {
                waiting.wake();
            }
        };
        self.shared.tasks.borrow_mut().insert(id, Box::pin(task));
        self.shared.ready.push(id);
        Join { outcome: result }
    }

    /// Runs all tasks until `future` is done.
    ///
    /// # Errors
    /// If no task can run before that, for example because a disk stopped.
    ///
    /// # Panics
    /// If the tasks run in circles.
    pub fn block_on<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> Result<T, Stalled> {
        let join = self.spawn(future);
        for _ in 0..MAX_POLLS {
            if let Some(value) = join.outcome.borrow_mut().value.take() {
                return Ok(value);
            }
            if !self.poll_one() {
                return Err(Stalled);
            }
        }
        panic!("{MAX_POLLS} polls and no end");
    }

    /// Runs all tasks until none can go on. Whether any could.
    pub fn run_until_stalled(&self) -> bool {
        let any = self.poll_one();
        while any && self.poll_one() {}
        any
    }

    /// Drops all tasks where they stand, as the end of a process does.
    pub fn kill_all(&self) {
        // A task that is dropped may wake or spawn others, so the map is not borrowed.
        while let Some((_, task)) = self.pop_task() {
            drop(task);
        }
        self.shared.ready.clear();
    }

    fn pop_task(&self) -> Option<(u64, Task)> {
        self.shared.tasks.borrow_mut().pop_first()
    }

    /// Polls one of the woken tasks; false if there is none.
    fn poll_one(&self) -> bool {
        let Some(id) = self.shared.ready.pick(&mut self.shared.rng.borrow_mut()) else {
            return false;
        };
        let task = self.shared.tasks.borrow_mut().remove(&id);
        let Some(mut task) = task else {
            return true;
        };
        let waker = Waker::from(Arc::new(TaskWaker {
            id,
            ready: Arc::clone(&self.shared.ready),
        }));
        if task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            self.shared.tasks.borrow_mut().insert(id, task);
        }
        true
    }
}

/// The result of a task, to be awaited.
pub struct Join<T> {
    outcome: Rc<RefCell<Outcome<T>>>,
}

struct Outcome<T> {
    value: Option<T>,
    waiting: Option<Waker>,
}

impl<T> Future for Join<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut outcome = self.outcome.borrow_mut();
        if let Some(value) = outcome.value.take() {
            return Poll::Ready(value);
        }
        outcome.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Lets other tasks run first: pending once.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct TaskWaker {
    id: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.id);
    }
}

impl Ready {
    fn push(&self, id: u64) {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&id) {
            ready.push(id);
        }
    }

    fn pick(&self, rng: &mut fastrand::Rng) -> Option<u64> {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_empty() {
            return None;
        }
        let index = rng.usize(..ready.len());
        Some(ready.swap_remove(index))
    }

    fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<u32> {
        let tasks = LocalTasks::new(seed);
        let seen = Rc::new(RefCell::new(Vec::new()));
        for name in 0..6 {
            let seen = Rc::clone(&seen);
            tasks.spawn(async move {
                yield_now().await;
                seen.borrow_mut().push(name);
            });
        }
        tasks.run_until_stalled();
        seen.take()
    }

    #[test]
    fn the_order_follows_from_the_seed() {
        assert_eq!(order(1), order(1));
        assert!((2..20).any(|seed| order(seed) != order(1)));
    }

    #[test]
    fn joins_and_stalls() {
        let tasks = LocalTasks::new(0);
        let inner = tasks.spawn(async {
            yield_now().await;
            7
        });
        assert_eq!(tasks.block_on(async move { inner.await + 1 }), Ok(8));
        assert_eq!(tasks.block_on(std::future::pending::<()>()), Err(Stalled));
    }
}
