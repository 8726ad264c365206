//! Futures that go on together.

use std::cell::RefCell;
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

/// What each of the futures gives, in their order. So many of them go on at a time.
pub(super) async fn all<T, F: Future<Output = T>>(
    futures: impl IntoIterator<Item = F>,
    at_a_time: usize,
) -> Vec<T> {
    let mut given = Vec::new();
    let mut futures = futures.into_iter().peekable();
    while futures.peek().is_some() {
        let results = RefCell::new(Vec::new());
        let some = (0_usize..).zip(futures.by_ref().take(at_a_time));
        Together::new(some.map(|(at, future)| {
            let results = &results;
            async move {
                let result = future.await;
                results.borrow_mut().push((at, result));
            }
        }))
        .await;
        let mut results = results.into_inner();
        results.sort_unstable_by_key(|(at, _)| *at);
        given.extend(results.into_iter().map(|(_, result)| result));
    }
    given
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_lite::future::{block_on, yield_now};

    use super::*;

    #[test]
    fn results_keep_their_order_and_not_too_many_are_under_way() {
        let (under_way, most) = (Cell::new(0), Cell::new(0));
        let work = |number: usize| {
            let (under_way, most) = (&under_way, &most);
            async move {
                under_way.set(under_way.get() + 1);
                most.set(under_way.get().max(most.get()));
                for _ in 0..(7 - number) {
                    yield_now().await;
                }
                under_way.set(under_way.get() - 1);
                number
            }
        };
        let results = block_on(all((0..7).map(work), 3));
        assert_eq!(results, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(most.get(), 3);
    }
}
