//! What a shard's UDP socket has seen.

use std::cell::Cell;

/// Counts of one socket, for the metrics of its shard. Plain cells: only the shard's own
/// thread reads and writes them.
#[derive(Debug, Default)]
pub struct DatagramCounters {
    /// Datagrams that the kernel gave to this socket.
    pub received: Cell<u64>,
    /// Of these, handed to the shard that their connection id names.
    pub forwarded_out: Cell<u64>,
    /// Datagrams that other shards handed to this one.
    pub forwarded_in: Cell<u64>,
    /// Datagrams that were not handed over because the owner's queue was full.
    pub dropped_full: Cell<u64>,
    /// Datagrams too short to be QUIC.
    pub garbage: Cell<u64>,
    /// Times that the executor woke this socket after a sleep.
    pub wakeups: Cell<u64>,
    /// Times that the socket was polled again before the executor could sleep.
    pub spins: Cell<u64>,
    /// Sends that found the socket's send buffer full.
    pub send_blocked: Cell<u64>,
    /// Receives that failed for another reason than an empty socket.
    pub receive_errors: Cell<u64>,
}

/// Adds to a counter.
pub(crate) fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}
