//! Messages that wait for a peer. A peer that is away or slow costs no more than this, and what is
//! dropped is what waited longest: the newest message says most of what the older ones said.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use millrace_replication::quorum;
use millrace_wire::put_quorum_message;

use crate::shard::notice::Notice;

/// Messages that wait: some heartbeats and answers, and what fills the pipe of a follower.
const MAX_MESSAGES: usize = 256;

/// Bytes that wait.
const MAX_BYTES: usize = 4 << 20;

/// Bytes taken out at a time, so that a stream's end costs little.
const BATCH_BYTES: usize = 256 << 10;

const _: () = assert!(quorum::MAX_MESSAGE_LEN <= MAX_BYTES);
const _: () = assert!(quorum::MAX_MESSAGE_LEN <= millrace_wire::MAX_MESSAGE_LEN);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    pub(super) more: Notice,
    /// A task takes the messages out.
    pub(super) is_served: Cell<bool>,
}

impl Outbox {
    /// Adds a message, and drops old ones if there are too many. One that no receiver takes is dropped
    /// itself.
    pub(super) fn push(&self, message: Bytes) {
        if message.len() > quorum::MAX_MESSAGE_LEN {
            tracing::error!(
                bytes = message.len(),
                "a message of the quorum is too long to be sent"
            );
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        self.bytes.set(self.bytes.get() + message.len());
        waiting.push_back(message);
        while waiting.len() > MAX_MESSAGES || self.bytes.get() > MAX_BYTES {
            let oldest = waiting
                .pop_front()
                .expect("one message alone is within the limits");
            self.bytes.set(self.bytes.get() - oldest.len());
        }
        self.more.notify();
    }

    /// Takes the oldest messages out, as they go over the wire; `None` if none waits.
    pub(super) fn take(&self) -> Option<Bytes> {
        let mut waiting = self.waiting.borrow_mut();
        let mut batch = BytesMut::new();
        while batch.len() < BATCH_BYTES {
            let Some(message) = waiting.pop_front() else {
                break;
            };
            self.bytes.set(self.bytes.get() - message.len());
            put_quorum_message(&mut batch, &message);
        }
        (!batch.is_empty()).then(|| batch.freeze())
    }

    /// Drops everything: it cannot be delivered in a time in which it means something.
    pub(super) fn clear(&self) {
        self.waiting.borrow_mut().clear();
        self.bytes.set(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use millrace_wire::QuorumReader;

    fn taken(outbox: &Outbox) -> Vec<Bytes> {
        let (mut reader, mut messages) = (QuorumReader::default(), Vec::new());
        while let Some(batch) = outbox.take() {
            reader.push(batch);
            while let Some(message) = reader.next_message().unwrap() {
                messages.push(message);
            }
        }
        assert_eq!(reader.pending_bytes(), 0);
        messages
    }

    #[test]
    fn messages_leave_in_order() {
        let outbox = Outbox::default();
        for message in ["a", "", "b"] {
            outbox.push(Bytes::from_static(message.as_bytes()));
        }
        assert_eq!(taken(&outbox), ["a", "", "b"]);
        assert!(outbox.take().is_none());
    }

    #[test]
    fn the_oldest_of_too_many_are_dropped() {
        let outbox = Outbox::default();
        let messages = u32::try_from(MAX_MESSAGES).unwrap() + 10;
        for number in 0..messages {
            outbox.push(Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        let taken = taken(&outbox);
        assert_eq!(taken.len(), MAX_MESSAGES);
        assert_eq!(taken[0], 10_u32.to_be_bytes()[..]);
    }

    #[test]
    fn long_ones_are_bounded_by_their_bytes() {
        let outbox = Outbox::default();
        let long = Bytes::from(vec![7; quorum::MAX_MESSAGE_LEN]);
        for _ in 0..20 {
            outbox.push(long.clone());
        }
        assert!(outbox.bytes.get() <= MAX_BYTES);
        outbox.push(Bytes::from(vec![7; quorum::MAX_MESSAGE_LEN + 1]));
        let taken = taken(&outbox);
        assert_eq!(taken.len(), MAX_BYTES / quorum::MAX_MESSAGE_LEN);
        assert_eq!(outbox.bytes.get(), 0);
    }
}
