//! Tells a request when another has come behind it on its connection. Responses leave in the order of the requests, so who
//! waits for news only must not keep the others waiting.

use std::cell::Cell;
use std::rc::Rc;

use crate::shard::notice::Notice;

/// The requests of a connection, as they come.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    count: Cell<u64>,
    /// No more will come: the client says so, or is gone.
    has_ended: Cell<bool>,
    came: Notice,
}

impl Arrivals {
    /// A request is here, or those that are here shall be answered soon.
    pub(super) fn note(&self) {
        self.count.set(self.count.get() + 1);
        self.came.notify();
    }

    /// No more will come.
    pub(super) fn end(&self) {
        self.has_ended.set(true);
        self.came.notify();
    }

    /// For the request that came last.
    pub(super) fn behind(self: &Rc<Self>) -> Behind {
        Behind {
            arrivals: Rc::clone(self),
            seen: self.count.get(),
        }
    }
}

/// What comes behind one request of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Behind {
    arrivals: Rc<Arrivals>,
    seen: u64,
}

impl Behind {
    /// Resolves once nothing will come any more.
    pub(crate) async fn ended(self) {
        loop {
            let came = self.arrivals.came.notified();
            if self.arrivals.has_ended.get() {
                return;
            }
            came.await;
        }
    }

    /// Resolves once there is something behind the request.
    pub(crate) async fn came(self) {
        loop {
            let came = self.arrivals.came.notified();
            if self.arrivals.count.get() != self.seen {
                return;
            }
            came.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_request_hears_of_those_behind_it_only() {
        let arrivals = Rc::<Arrivals>::default();
        arrivals.note();
        let behind = arrivals.behind();
        let mut came = std::pin::pin!(behind.clone().came());
        assert!(block_on(poll_once(&mut came)).is_none());
        arrivals.note();
        assert!(block_on(poll_once(&mut came)).is_some());
        let late = block_on(poll_once(behind.came()));
        assert!(late.is_some(), "who asks late is told at once");
    }
}
