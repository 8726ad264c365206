//! Tasks and timers of whichever runtime the client lives in.
//!
//! quinn's `Runtime` already has both; this only makes them pleasant. Everything spawned
//! is `Send`, which a glommio executor does not need and does not mind.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::RuntimeKind;

/// A runtime's tasks and timers.
#[derive(Clone, Debug)]
pub(crate) struct Runtime(Arc<dyn quinn::Runtime>);

impl Runtime {
    pub(crate) fn new(kind: RuntimeKind) -> Self {
        match kind {
            #[cfg(feature = "tokio")]
            RuntimeKind::Tokio => Self(Arc::new(quinn::TokioRuntime)),
            #[cfg(feature = "glommio")]
            RuntimeKind::Glommio => Self(Arc::new(millrace_net::GlommioRuntime::current())),
        }
    }

    pub(crate) fn quinn(&self) -> Arc<dyn quinn::Runtime> {
        Arc::clone(&self.0)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(Box::pin(task));
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.now()
    }

    pub(crate) fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep(self.0.new_timer(at))
    }

    pub(crate) fn sleep(&self, time: Duration) -> Sleep {
        self.sleep_until(self.now() + time)
    }

    /// What the future yields, or `None` when the time is over first.
    pub(crate) async fn timeout<T>(
        &self,
        time: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        match race(future, self.sleep(time)).await {
            Either::Left(done) => Some(done),
            Either::Right(()) => None,
        }
    }
}

/// Completes when its time has come.
#[derive(Debug)]
pub(crate) struct Sleep(Pin<Box<dyn quinn::AsyncTimer>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// The first of two to complete.
pub(crate) enum Either<A, B> {
    Left(A),
    Right(B),
}

/// Polls both, the first one first, and drops the one that loses.
pub(crate) async fn race<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> Either<A, B> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| {
        if let Poll::Ready(done) = first.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(done));
        }
        second.as_mut().poll(cx).map(Either::Right)
    })
    .await
}
