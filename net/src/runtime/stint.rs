//! Lets the executor go round while there is always more to do.
//!
//! # Why not glommio's preemption timer
//! glommio 0.9 arms a timer on its latency ring when it has polled its rings and is about to
//! run tasks; a task queue ends its turn when it sees a completion there. If the timer fires
//! before the first task runs (the thread lost its core for that long), glommio takes "nothing
//! was run" for "nothing can be run": it collects the timer's completion, which wakes nobody,
//! and goes to sleep with tasks in its queues. They run when something else happens to wake
//! the thread. With a timer of 1 ms a loaded machine shows that within seconds: a datagram, a
//! message or a signal to stop that nobody answers.
//!
//! Every other completion of that ring wakes a task or is the executor's own eventfd, and after
//! either glommio does not sleep. So executors here are built with [`PREEMPTION_TIMER`], which
//! never fires, and what could keep an executor busy for ever works by the [`Stint`].

use futures_lite::ready;
use glommio::timer::Timer;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The preemption timer of an executor and the latency of its task queues: longer than a
/// thread can be kept from running between two system calls, so that it never fires.
pub const PREEMPTION_TIMER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long work goes on before the executor looks at its rings and timers: a few datagrams'
/// worth, and long against the few microseconds of such a look.
const STINT: Duration = Duration::from_millis(1);

/// Delay of the timer that waits for the executor to go round. Long enough not to be over
/// before it is first looked at.
const ROUND: Duration = Duration::from_micros(5);

/// The time that one worker goes on without a pause.
#[derive(Debug, Default)]
pub struct Stint {
    /// When the worker went on after its last pause.
    begun: Option<Instant>,
    /// Set while the executor goes round.
    round: Option<Timer>,
}

impl Stint {
    /// The worker pauses of itself, so that nothing is left of this stint.
    pub fn pause(&mut self) {
        self.begun = None;
    }

    /// Ready while the stint lasts; when it is over, once the executor has gone round.
    pub fn poll_go_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.round.is_none() {
            if self.begun.get_or_insert_with(Instant::now).elapsed() < STINT {
                return Poll::Ready(());
            }
            self.round = Some(Timer::new(ROUND));
        }
        if let Some(round) = &mut self.round {
            ready!(Pin::new(round).poll(cx));
        }
        self.round = None;
        self.begun = Some(Instant::now());
        Poll::Ready(())
    }

    /// As [`Stint::poll_go_on`].
    pub async fn go_on(&mut self) {
        poll_fn(|cx| self.poll_go_on(cx)).await;
    }

    /// Awaits something, which is a pause unless it is there at once.
    pub async fn awaiting<T>(&mut self, something: impl Future<Output = T>) -> T {
        let mut something = pin!(something);
        poll_fn(|cx| {
            let outcome = something.as_mut().poll(cx);
            if outcome.is_pending() {
                self.pause();
            }
            outcome
        })
        .await
    }
}
