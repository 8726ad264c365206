//! A place for one value on its way from one task to another.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct State<T> {
    value: Option<T>,
    closed: bool,
    waiting: Option<Waker>,
}

/// The end that gives. Dropped without a value, the other end learns that none comes.
pub(super) struct Give<T>(Rc<RefCell<State<T>>>);

/// The end that waits.
pub(super) struct Take<T>(Rc<RefCell<State<T>>>);

pub(super) fn slot<T>() -> (Give<T>, Take<T>) {
    let state = Rc::new(RefCell::new(State {
        value: None,
        closed: false,
        waiting: None,
    }));
    (Give(Rc::clone(&state)), Take(state))
}

impl<T> Give<T> {
    pub(super) fn give(self, value: T) {
        self.0.borrow_mut().value = Some(value);
    }
}

impl<T> Drop for Give<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.borrow_mut();
            state.closed = true;
            state.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl<T> Future for Take<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.borrow_mut();
        if let Some(value) = state.value.take() {
            return Poll::Ready(Some(value));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}
