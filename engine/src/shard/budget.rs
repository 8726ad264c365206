//! The memory budget of a shard: what frames on their way in may occupy.
//!
//! A stream acquires the length of a frame before it collects the frame. The permit goes with
//! the frame and is given back when the frame is durable, so the budget also bounds what
//! waits for a slow device. When it is spent the stream waits, reads nothing, and QUIC's flow
//! control pushes back to the client.
//!
//! Permits are granted in the order of asking: a large request at the head of the queue is
//! not overtaken by small ones, so nobody starves. What can never be granted is refused at
//! once. Dropping a waiting acquisition leaves the queue. Single-threaded.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A budget. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget {
    state: Rc<RefCell<State>>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    used: usize,
    max_waiters: usize,
    next_ticket: u64,
    queue: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    bytes: usize,
    waker: Option<Waker>,
}

/// Why a budget refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BudgetError {
    /// The request is over the whole budget: waiting would never end.
    #[error("{bytes} bytes are over the shard's memory budget of {limit}")]
    TooLarge {
        /// What was asked for.
        bytes: usize,
        /// The budget.
        limit: usize,
    },
    /// Too many wait already. Repeating later may succeed.
    #[error("{0} streams wait for memory already")]
    TooManyWaiters(usize),
}

impl MemoryBudget {
    /// A budget of `limit` bytes for which at most `max_waiters` wait.
    #[must_use]
    pub(crate) fn new(limit: usize, max_waiters: usize) -> Self {
        let queue = VecDeque::new();
        let state = State {
            limit,
            used: 0,
            max_waiters,
            next_ticket: 0,
            queue,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Waits until `bytes` are free and nobody who asked earlier waits, and takes them.
    ///
    /// # Errors
    /// The request can never be granted, or too many wait.
    pub(crate) async fn acquire(&self, bytes: usize) -> Result<Permit, BudgetError> {
        if let Some(permit) = self.try_acquire(bytes)? {
            return Ok(permit);
        }
        let ticket = self.state.borrow_mut().enqueue(bytes)?;
        Ok(Acquire {
            budget: self,
            ticket,
            bytes,
            done: false,
        }
        .await)
    }

    /// Takes `bytes` if they are free and nobody waits.
    ///
    /// # Errors
    /// The request can never be granted.
    pub(crate) fn try_acquire(&self, bytes: usize) -> Result<Option<Permit>, BudgetError> {
        let mut state = self.state.borrow_mut();
        if bytes > state.limit {
            return Err(BudgetError::TooLarge {
                bytes,
                limit: state.limit,
            });
        }
        if !state.queue.is_empty() || state.used + bytes > state.limit {
            return Ok(None);
        }
        state.used += bytes;
        Ok(Some(Permit {
            budget: self.clone(),
            bytes,
        }))
    }

    /// Bytes that are taken.
    #[must_use]
    pub(crate) fn used(&self) -> usize {
        self.state.borrow().used
    }

    /// Bytes that can be taken in all.
    #[must_use]
    pub(crate) fn limit(&self) -> usize {
        self.state.borrow().limit
    }

    /// How many wait.
    #[must_use]
    pub(crate) fn waiters(&self) -> usize {
        self.state.borrow().queue.len()
    }

    fn release(&self, bytes: usize) {
        let mut state = self.state.borrow_mut();
        state.used = state
            .used
            .checked_sub(bytes)
            .expect("a permit returns what it took");
        let wake = state.head_waker();
        drop(state);
        wake_up(wake);
    }
}

impl State {
    fn enqueue(&mut self, bytes: usize) -> Result<u64, BudgetError> {
        if self.queue.len() >= self.max_waiters {
            return Err(BudgetError::TooManyWaiters(self.queue.len()));
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.queue.push_back(Waiter {
            ticket,
            bytes,
            waker: None,
        });
        Ok(ticket)
    }

    /// The waker of the first in the queue, if its request fits now.
    fn head_waker(&mut self) -> Option<Waker> {
        let free = self.limit - self.used;
        let head = self.queue.front_mut().filter(|head| head.bytes <= free)?;
        head.waker.take()
    }

    /// Grants the request of `ticket` if it is the first and fits; else keeps its waker.
    fn poll(&mut self, ticket: u64, context: &Context<'_>) -> bool {
        let free = self.limit - self.used;
        let first = self
            .queue
            .front()
            .is_some_and(|head| head.ticket == ticket && head.bytes <= free);
        if first {
            let head = self.queue.pop_front().expect("the queue has a first");
            self.used += head.bytes;
        } else if let Some(own) = self.queue.iter_mut().find(|waiter| waiter.ticket == ticket) {
            own.waker = Some(context.waker().clone());
        }
        first
    }
}

fn wake_up(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

struct Acquire<'a> {
    budget: &'a MemoryBudget,
    ticket: u64,
    bytes: usize,
    done: bool,
}

impl Future for Acquire<'_> {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let mut state = self.budget.state.borrow_mut();
        if !state.poll(self.ticket, context) {
            return Poll::Pending;
        }
        let next = state.head_waker();
        drop(state);
        self.done = true;
        wake_up(next);
        Poll::Ready(Permit {
            budget: self.budget.clone(),
            bytes: self.bytes,
        })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.budget.state.borrow_mut();
        let ticket = self.ticket;
        state.queue.retain(|waiter| waiter.ticket != ticket);
        let next = state.head_waker();
        drop(state);
        wake_up(next);
    }
}

/// Bytes of the budget that are in use; dropping it gives them back.
#[derive(Debug)]
#[must_use = "dropping a permit gives its bytes back"]
pub(crate) struct Permit {
    budget: MemoryBudget,
    bytes: usize,
}

impl Permit {
    /// Takes over the bytes of another permit of the same budget.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        debug_assert!(
            Rc::ptr_eq(&self.budget.state, &other.budget.state),
            "permits are of one budget"
        );
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Wakes {
        fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
            future.poll(&mut Context::from_waker(&Waker::from(self.clone())))
        }

        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn what_is_free_is_granted_at_once_and_comes_back_on_drop() {
        let budget = MemoryBudget::new(100, 10);
        let first = budget.try_acquire(60).unwrap().unwrap();
        assert!(budget.try_acquire(41).unwrap().is_none());
        let second = budget.try_acquire(40).unwrap().unwrap();
        assert_eq!(budget.used(), 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_can_never_be_granted_is_refused() {
        let budget = MemoryBudget::new(100, 0);
        assert_eq!(
            budget.try_acquire(101).unwrap_err(),
            BudgetError::TooLarge {
                bytes: 101,
                limit: 100
            }
        );
        let _all = budget.try_acquire(100).unwrap().unwrap();
        let wakes = Arc::<Wakes>::default();
        let refused = wakes.poll(pin!(budget.acquire(1)));
        assert!(matches!(
            refused,
            Poll::Ready(Err(BudgetError::TooManyWaiters(0)))
        ));
    }

    #[test]
    fn a_large_request_is_not_overtaken() {
        let budget = MemoryBudget::new(100, 10);
        let held = budget.try_acquire(50).unwrap().unwrap();
        let (large_wakes, small_wakes) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
        let mut large = pin!(budget.acquire(80));
        assert!(large_wakes.poll(large.as_mut()).is_pending());
        let mut small = pin!(budget.acquire(10));
        assert!(
            small_wakes.poll(small.as_mut()).is_pending(),
            "it stands behind the large one"
        );
        assert!(
            budget.try_acquire(1).unwrap().is_none(),
            "nobody passes the queue"
        );
        drop(held);
        assert_eq!((large_wakes.count(), small_wakes.count()), (1, 0));
        let granted = large_wakes.poll(large.as_mut());
        let Poll::Ready(Ok(_large)) = granted else {
            panic!("it fits")
        };
        assert_eq!(small_wakes.count(), 1, "the next is woken when it fits too");
        assert!(matches!(
            small_wakes.poll(small.as_mut()),
            Poll::Ready(Ok(_))
        ));
        assert_eq!(budget.waiters(), 0);
    }

    #[test]
    fn giving_up_at_the_head_of_the_queue_lets_the_next_through() {
        let budget = MemoryBudget::new(100, 10);
        let _held = budget.try_acquire(50).unwrap().unwrap();
        let wakes = Arc::<Wakes>::default();
        let mut large = Box::pin(budget.acquire(80));
        assert!(wakes.poll(large.as_mut()).is_pending());
        let mut small = pin!(budget.acquire(10));
        assert!(wakes.poll(small.as_mut()).is_pending());
        drop(large);
        assert_eq!(wakes.count(), 1);
        assert!(matches!(wakes.poll(small.as_mut()), Poll::Ready(Ok(_))));
    }

    #[test]
    fn random_use_never_exceeds_the_limit_and_serves_in_order() {
        let mut random = fastrand::Rng::with_seed(7);
        let budget = MemoryBudget::new(1000, 1000);
        let wakes = Arc::<Wakes>::default();
        let mut waiting = VecDeque::new();
        let mut held = Vec::new();
        for _ in 0..10_000 {
            match random.u8(0..3) {
                0 if waiting.len() < 50 => {
                    let budget = budget.clone();
                    let bytes = random.usize(1..=1000);
                    waiting.push_back(Box::pin(async move { budget.acquire(bytes).await }));
                }
                1 if !held.is_empty() => drop(held.swap_remove(random.usize(0..held.len()))),
                _ => {}
            }
            let mut blocked = false;
            waiting.retain_mut(|future| match wakes.poll(future.as_mut()) {
                Poll::Ready(permit) => {
                    assert!(!blocked, "granted behind one that waits");
                    held.push(permit.unwrap());
                    false
                }
                Poll::Pending => {
                    blocked = true;
                    true
                }
            });
            assert!(budget.used() <= 1000);
            assert_eq!(
                budget.used(),
                held.iter().map(|permit| permit.bytes).sum::<usize>()
            );
        }
    }
}
