//! The answer that one request waits for, on one shard.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use millrace_groups::{Response, Ticket};

use super::GroupCoordinator;

/// Where the coordinator puts the answer.
pub(super) struct Answer(Rc<Slot>);

#[derive(Default)]
struct Slot {
    response: Cell<Option<Response>>,
    waker: Cell<Option<Waker>>,
}

impl Answer {
    /// Answers.
    pub(super) fn give(self, response: Response) {
        self.0.response.set(Some(response));
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

/// Resolves to the answer. Dropping it before withdraws the request.
pub(super) struct Awaited {
    slot: Rc<Slot>,
    ticket: Ticket,
    coordinator: Weak<GroupCoordinator>,
}

/// The two ends of an answer.
pub(super) fn answer(ticket: Ticket, coordinator: &Rc<GroupCoordinator>) -> (Answer, Awaited) {
    let slot = Rc::<Slot>::default();
    let awaited = Awaited {
        slot: Rc::clone(&slot),
        ticket,
        coordinator: Rc::downgrade(coordinator),
    };
    (Answer(slot), awaited)
}

impl Awaited {
    /// The answer is wanted now.
    pub(super) fn hurry(&self) {
        if let Some(coordinator) = self.coordinator.upgrade() {
            coordinator.hurry(self.ticket);
        }
    }
}

impl Future for Awaited {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match self.slot.response.take() {
            Some(response) => Poll::Ready(response),
            None => {
                self.slot.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(coordinator) = self.coordinator.upgrade() {
            coordinator.withdraw(self.ticket);
        }
    }
}
