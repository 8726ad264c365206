//! A condition that tasks of one shard wait for: no lock, no channel, and a waiter that
//! gives up leaves nothing behind.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Wakes every task that waits, each time something changes.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    generation: Cell<u64>,
    /// Slots of the waiters. A free slot is `None` and is used again.
    waiters: RefCell<Vec<Option<Waker>>>,
}

impl Notice {
    /// Wakes all who wait now.
    pub(crate) fn notify(&self) {
        self.generation.set(self.generation.get() + 1);
        for waiter in self.waiters.borrow().iter().flatten() {
            waiter.wake_by_ref();
        }
    }

    /// Resolves at the first [`Notice::notify`] after this call.
    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified {
            notice: self,
            seen: self.generation.get(),
            slot: None,
        }
    }

    fn park(&self, slot: Option<usize>, waker: &Waker) -> usize {
        let mut waiters = self.waiters.borrow_mut();
        let slot = slot
            .or_else(|| waiters.iter().position(Option::is_none))
            .unwrap_or_else(|| {
                waiters.push(None);
                waiters.len() - 1
            });
        match &mut waiters[slot] {
            Some(present) => present.clone_from(waker),
            free => *free = Some(waker.clone()),
        }
        slot
    }
}

/// See [`Notice::notified`].
pub(crate) struct Notified<'a> {
    notice: &'a Notice,
    seen: u64,
    slot: Option<usize>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.notice.generation.get() != self.seen {
            return Poll::Ready(());
        }
        self.slot = Some(self.notice.park(self.slot, cx.waker()));
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.notice.waiters.borrow_mut()[slot] = None;
        }
    }
}

/// Happens once and carries why: the end of a partition or of a session.
pub(crate) struct Signal<T> {
    value: Cell<Option<T>>,
    notice: Notice,
}

impl<T> Default for Signal<T> {
    fn default() -> Self {
        Self {
            value: Cell::new(None),
            notice: Notice::default(),
        }
    }
}

impl<T: Copy> Signal<T> {
    /// Raises the signal. Only the first value counts.
    pub(crate) fn raise(&self, value: T) {
        if self.value.get().is_none() {
            self.value.set(Some(value));
            self.notice.notify();
        }
    }

    /// The value, once raised.
    pub(crate) fn raised(&self) -> Option<T> {
        self.value.get()
    }

    /// Resolves once raised.
    pub(crate) async fn wait(&self) -> T {
        loop {
            let notified = self.notice.notified();
            if let Some(value) = self.value.get() {
                return value;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, or, poll_once, ready};

    #[test]
    fn a_notice_wakes_those_who_waited_before_it() {
        let notice = Notice::default();
        let mut waiting = std::pin::pin!(notice.notified());
        assert!(block_on(poll_once(&mut waiting)).is_none());
        notice.notify();
        assert!(block_on(poll_once(&mut waiting)).is_some());
        assert!(
            block_on(poll_once(notice.notified())).is_none(),
            "a new waiter waits anew"
        );
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_its_slot_to_the_next() {
        let notice = Notice::default();
        for _ in 0..1_000 {
            block_on(or(notice.notified(), ready(())));
        }
        assert!(notice.waiters.borrow().len() <= 1);
    }

    #[test]
    fn a_signal_keeps_its_first_value() {
        let signal = Signal::default();
        signal.raise(1);
        signal.raise(2);
        assert_eq!(block_on(signal.wait()), 1);
    }
}
