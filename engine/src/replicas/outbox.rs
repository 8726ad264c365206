//! Messages on their way out of a stream: of each partition only the latest, in the order in which
//! partitions got something to say.
//!
//! What a replica says overrules what it said before: a position, a watermark, the end of a subscription.
//! So a stream that does not move costs one message a partition.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

use millrace_model::LogId;

use crate::shard::notice::Notice;

/// See the module's documentation.
pub(super) struct Outbox<T> {
    order: RefCell<VecDeque<LogId>>,
    latest: RefCell<HashMap<LogId, T>>,
    closed: Cell<bool>,
    changed: Notice,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self {
            order: RefCell::default(),
            latest: RefCell::default(),
            closed: Cell::new(false),
            changed: Notice::default(),
        }
    }
}

impl<T> Outbox<T> {
    /// This is what is to be said of the partition.
    pub(super) fn put(&self, log: LogId, message: T) {
        if self.closed.get() {
            return;
        }
        let before = self.latest.borrow_mut().insert(log, message);
        if before.is_none() {
            self.order.borrow_mut().push_back(log);
            self.changed.notify();
        }
    }

    /// The next message.
    pub(super) fn take(&self) -> Option<(LogId, T)> {
        let log = self.order.borrow_mut().pop_front()?;
        let message = self.latest.borrow_mut().remove(&log);
        message.map(|message| (log, message))
    }

    /// Forgets all of it.
    pub(super) fn clear(&self) {
        self.order.borrow_mut().clear();
        self.latest.borrow_mut().clear();
    }

    /// Nothing more is taken in.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.borrow().is_empty()
    }

    /// Resolves when there is something again after there was nothing.
    pub(super) fn changed(&self) -> &Notice {
        &self.changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::{PartitionId, TopicId};

    fn log(number: u32) -> LogId {
        LogId {
            topic: TopicId([1; 16]),
            partition: PartitionId(number),
        }
    }

    #[test]
    fn the_latest_of_each_in_the_order_of_the_first() {
        let outbox = Outbox::default();
        for number in 0..100 {
            outbox.put(log(2), number);
            outbox.put(log(1), number);
        }
        assert_eq!(outbox.take(), Some((log(2), 99)));
        outbox.put(log(2), 7);
        assert_eq!(outbox.take(), Some((log(1), 99)));
        assert_eq!(outbox.take(), Some((log(2), 7)));
        assert_eq!(outbox.take(), None);
    }

    #[test]
    fn a_closed_one_takes_nothing() {
        let outbox = Outbox::default();
        outbox.put(log(1), 1);
        outbox.close();
        outbox.put(log(2), 2);
        assert!(outbox.is_empty() && outbox.take().is_none());
    }
}
