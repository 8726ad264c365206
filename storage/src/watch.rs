//! Waiting inside one thread: for a change, and for one's turn.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Something that changes, and those who wait for it.
#[derive(Default)]
pub(crate) struct Watch {
    version: Cell<u64>,
    next_waiter: Cell<u64>,
    waiting: RefCell<Vec<(u64, Waker)>>,
    /// Who waits for somebody to wait.
    host: RefCell<Option<Waker>>,
}

impl Watch {
    /// Wakes everyone who waits.
    pub(crate) fn notify(&self) {
        self.version.set(self.version.get() + 1);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Resolves when somebody waits. One at a time may ask for that.
    pub(crate) fn awaited(self: &Rc<Self>) -> impl Future<Output = ()> + use<> {
        let watch = Rc::clone(self);
        poll_fn(move |cx| match watch.waiting.borrow().is_empty() {
            true => {
                *watch.host.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            false => Poll::Ready(()),
        })
    }

    /// Resolves at the first [`Watch::notify`] after this call.
    pub(crate) fn changed(self: &Rc<Self>) -> Changed {
        let waiter = self.next_waiter.get();
        self.next_waiter.set(waiter + 1);
        Changed {
            watch: Rc::clone(self),
            seen: self.version.get(),
            waiter,
        }
    }
}

/// See [`Watch::changed`].
pub(crate) struct Changed {
    watch: Rc<Watch>,
    seen: u64,
    waiter: u64,
}

impl Future for Changed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.watch.version.get() != self.seen {
            return Poll::Ready(());
        }
        let mut waiting = self.watch.waiting.borrow_mut();
        match waiting
            .iter_mut()
            .find(|(waiter, _)| *waiter == self.waiter)
        {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => {
                waiting.push((self.waiter, cx.waker().clone()));
                if let Some(host) = self.watch.host.take() {
                    host.wake();
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        self.watch
            .waiting
            .borrow_mut()
            .retain(|(waiter, _)| *waiter != self.waiter);
    }
}

/// Lets one in at a time.
#[derive(Default)]
pub(crate) struct Gate {
    taken: Cell<bool>,
    freed: Rc<Watch>,
}

impl Gate {
    /// Waits until nobody is in, then enters. The gate opens when the pass is dropped.
    pub(crate) async fn enter(self: &Rc<Self>) -> Pass {
        while self.taken.get() {
            self.freed.changed().await;
        }
        self.taken.set(true);
        Pass(Rc::clone(self))
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.taken.get()
    }
}

/// Whoever holds it is alone behind the [`Gate`].
pub(crate) struct Pass(Rc<Gate>);

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.taken.set(false);
        self.0.freed.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::executor::{LocalTasks, yield_now};

    #[test]
    fn a_change_before_the_first_poll_counts() {
        let (tasks, watch) = (LocalTasks::new(1), Rc::new(Watch::default()));
        let changed = watch.changed();
        watch.notify();
        assert_eq!(tasks.block_on(changed), Ok(()));
        assert!(tasks.block_on(watch.changed()).is_err());
    }

    #[test]
    fn who_waits_for_a_waiter_is_told_of_one() {
        let (tasks, watch) = (LocalTasks::new(4), Rc::new(Watch::default()));
        let told = Rc::new(Cell::new(false));
        let (awaited, tell) = (watch.awaited(), Rc::clone(&told));
        tasks.spawn(async move {
            awaited.await;
            tell.set(true);
        });
        tasks.run_until_stalled();
        assert!(!told.get(), "nobody waits yet");
        tasks.spawn(watch.changed());
        tasks.run_until_stalled();
        assert!(told.get());
    }

    #[test]
    fn one_at_a_time_passes_the_gate() {
        let tasks = LocalTasks::new(2);
        let (gate, inside) = (Rc::new(Gate::default()), Rc::new(Cell::new(0)));
        let done = Rc::new(Cell::new(0));
        for _ in 0..10 {
            let (gate, inside, done) = (Rc::clone(&gate), Rc::clone(&inside), Rc::clone(&done));
            tasks.spawn(async move {
                let _pass = gate.enter().await;
                assert_eq!(inside.replace(1), 0, "two are inside");
                yield_now().await;
                inside.set(0);
                done.set(done.get() + 1);
            });
        }
        tasks.run_until_stalled();
        assert_eq!(done.get(), 10);
    }

    #[test]
    fn a_dropped_waiter_leaves_nothing_behind() {
        let (tasks, watch) = (LocalTasks::new(3), Rc::new(Watch::default()));
        let changed = watch.changed();
        tasks.spawn(changed);
        tasks.run_until_stalled();
        assert_eq!(watch.waiting.borrow().len(), 1);
        tasks.kill_all();
        assert_eq!(watch.waiting.borrow().len(), 0);
    }
}
