//! quinn's timer over glommio's.

use super::thread_bound::ThreadBound;
use quinn::AsyncTimer;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// A timer that is cheap to move.
///
/// quinn moves a connection's timer with almost every packet, nearly always to a later time.
/// Such a move only notes the new deadline: what is registered with the reactor stays, fires
/// at the old time, and is registered again then. An idle connection thus costs one early
/// wake-up after its last packet, a busy one no reactor work per packet.
#[derive(Debug)]
pub(super) struct GlommioTimer {
    deadline: Instant,
    registered: ThreadBound<Option<Registered>>,
}

#[derive(Debug)]
struct Registered {
    /// Held, because dropping it takes it off the reactor.
    _timer: glommio::timer::Timer,
    at: Instant,
    waker: Waker,
}

impl GlommioTimer {
    pub(super) fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            registered: ThreadBound::new(None),
        }
    }
}

impl AsyncTimer for GlommioTimer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.deadline = deadline;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let deadline = self.deadline;
        if now >= deadline {
            *self.registered = None;
            return Poll::Ready(());
        }
        if self
            .registered
            .as_ref()
            .is_some_and(|held| held.serves(deadline, now, cx.waker()))
        {
            return Poll::Pending;
        }
        *self.registered = None;
        let mut timer = glommio::timer::Timer::new(deadline - now);
        match Pin::new(&mut timer).poll(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => {
                let waker = cx.waker().clone();
                *self.registered = Some(Registered {
                    _timer: timer,
                    at: deadline,
                    waker,
                });
                Poll::Pending
            }
        }
    }
}

impl Registered {
    /// Whether this will wake `waker` in the future and no later than `deadline`.
    fn serves(&self, deadline: Instant, now: Instant, waker: &Waker) -> bool {
        now < self.at && self.at <= deadline && self.waker.will_wake(waker)
    }
}
