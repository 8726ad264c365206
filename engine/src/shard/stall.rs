//! Ends what a client began and does not carry on: a stream without its opening message, a
//! frame without its end, acknowledgements that nobody reads.
//!
//! One sweep for all streams of the shard, and only while something is begun: a stream that
//! waits between two frames costs nothing, and an idle shard has no timer.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use millrace_model::ErrorCode;

use super::notice::{Notice, Signal};

/// How long a client may take for what it has begun: the opening of a stream, one frame,
/// one write of acknowledgements. A frame of 1 MiB passes at 35 KB/s. It also bounds how long
/// a client that trickles can hold a share of the memory budget.
pub(crate) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// The same while others wait for memory that a slow client may hold.
pub(crate) const CONTENDED_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the sweep looks while something is begun.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// All watches of a shard.
#[derive(Default)]
pub(crate) struct StallWatches {
    watches: RefCell<Vec<Weak<Watch>>>,
    begun: Cell<usize>,
    first_begun: Notice,
}

/// One thing that a client may begin and must carry on.
pub(crate) struct Watch {
    of: Rc<StallWatches>,
    since: Cell<Option<Instant>>,
    stalled: Signal<ErrorCode>,
}

impl StallWatches {
    /// A new watch.
    pub(crate) fn watch(self: &Rc<Self>) -> Rc<Watch> {
        let watch = Rc::new(Watch {
            of: Rc::clone(self),
            since: Cell::new(None),
            stalled: Signal::default(),
        });
        let mut watches = self.watches.borrow_mut();
        if watches.len() == watches.capacity() {
            watches.retain(|watch| watch.strong_count() > 0);
        }
        watches.push(Rc::downgrade(&watch));
        watch
    }

    /// Waits until something is begun.
    pub(crate) async fn something_begun(&self) {
        loop {
            let begun = self.first_begun.notified();
            if self.begun.get() > 0 {
                return;
            }
            begun.await;
        }
    }

    /// Stalls what began `timeout` before `now` or earlier.
    pub(crate) fn sweep(&self, now: Instant, timeout: Duration) {
        let live: Vec<Rc<Watch>> = self
            .watches
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for watch in live {
            if watch
                .since
                .get()
                .is_some_and(|since| now.duration_since(since) >= timeout)
            {
                watch.stalled.raise(ErrorCode::RequestTimedOut);
            }
        }
    }
}

impl Watch {
    /// The client has begun something.
    pub(crate) fn begin(&self, now: Instant) {
        if self.since.replace(Some(now)).is_none() {
            let begun = self.of.begun.get() + 1;
            self.of.begun.set(begun);
            if begun == 1 {
                self.of.first_begun.notify();
            }
        }
    }

    /// As [`Watch::begin`], but the time counts from the first call since it was done.
    pub(crate) fn begin_once(&self) {
        if self.since.get().is_none() {
            self.begin(Instant::now());
        }
    }

    /// It is done.
    pub(crate) fn done(&self) {
        if self.since.take().is_some() {
            self.of.begun.set(self.of.begun.get() - 1);
        }
    }

    /// Resolves when the client took too long.
    pub(crate) async fn stalled(&self) -> ErrorCode {
        self.stalled.wait().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn what_is_carried_on_is_left_alone_and_what_is_not_is_ended() {
        let watches = Rc::new(StallWatches::default());
        let (slow, quick) = (watches.watch(), watches.watch());
        let start = Instant::now();
        slow.begin(start);
        quick.begin(start);
        quick.done();
        watches.sweep(start + PROGRESS_TIMEOUT / 2, PROGRESS_TIMEOUT);
        assert!(block_on(poll_once(slow.stalled())).is_none());
        watches.sweep(start + PROGRESS_TIMEOUT, PROGRESS_TIMEOUT);
        assert_eq!(
            block_on(poll_once(slow.stalled())),
            Some(ErrorCode::RequestTimedOut)
        );
        assert!(block_on(poll_once(quick.stalled())).is_none());
    }

    #[test]
    fn the_sweep_sleeps_while_nothing_is_begun() {
        let watches = Rc::new(StallWatches::default());
        assert!(block_on(poll_once(watches.something_begun())).is_none());
        let watch = watches.watch();
        watch.begin(Instant::now());
        assert!(block_on(poll_once(watches.something_begun())).is_some());
        drop(watch);
        assert!(block_on(poll_once(watches.something_begun())).is_none());
    }
}
