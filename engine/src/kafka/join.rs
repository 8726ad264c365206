//! Futures that go on together.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls futures in their order until all have ended. The first poll polls each of them.
pub(super) struct Together<'a> {
    futures: Vec<Option<Pin<Box<dyn Future<Output = ()> + 'a>>>>,
}

impl<'a> Together<'a> {
    pub(super) fn new<F: Future<Output = ()> + 'a>(futures: impl IntoIterator<Item = F>) -> Self {
        let boxed = |future| Some(Box::pin(future) as Pin<Box<dyn Future<Output = ()> + 'a>>);
        Self {
            futures: futures.into_iter().map(boxed).collect(),
        }
    }
}

impl Future for Together<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut pending = false;
        for slot in &mut self.futures {
            if let Some(future) = slot {
                match future.as_mut().poll(cx) {
                    Poll::Ready(()) => *slot = None,
                    Poll::Pending => pending = true,
                }
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

/// Polls futures in their order until one has ended, and drops the others. Never ends if there are
/// none.
pub(super) struct First<'a, T> {
    futures: Vec<Pin<Box<dyn Future<Output = T> + 'a>>>,
}

impl<'a, T> First<'a, T> {
    pub(super) fn new<F: Future<Output = T> + 'a>(futures: impl IntoIterator<Item = F>) -> Self {
        let boxed = |future| Box::pin(future) as Pin<Box<dyn Future<Output = T> + 'a>>;
        Self {
            futures: futures.into_iter().map(boxed).collect(),
        }
    }
}

impl<T> Future for First<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        for future in &mut self.futures {
            if let Poll::Ready(ended) = future.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    }
}
