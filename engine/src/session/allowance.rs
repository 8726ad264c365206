//! How many streams one connection may have open: few at first, for quinn reserves memory for
//! each that it allows, and more as they come into use. A producer has a stream for each
//! partition that it writes to, so some clients need thousands.

use std::cell::Cell;
use std::rc::Rc;

use millrace_net::TransportLimits;
use quinn::{Connection, VarInt};

/// Streams of one connection at most: a client of every partition of a large topic.
const MAX_STREAMS: u32 = 16 * 1024;

/// The allowance of one connection.
pub(super) struct Allowance {
    open: Rc<Cell<u32>>,
    allowed: u32,
}

/// One open stream. It counts until it is dropped.
pub(super) struct OpenStream(Rc<Cell<u32>>);

impl Allowance {
    pub(super) fn new() -> Self {
        Self {
            open: Rc::default(),
            allowed: TransportLimits::broker().streams,
        }
    }

    /// Counts a stream that was accepted, and allows more when three quarters of what is
    /// allowed is in use.
    pub(super) fn opened(&mut self, connection: &Connection) -> OpenStream {
        self.open.set(self.open.get() + 1);
        if self.open.get() >= self.allowed / 4 * 3 && self.allowed < MAX_STREAMS {
            self.allowed = (self.allowed * 2).min(MAX_STREAMS);
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(self.allowed));
        }
        OpenStream(Rc::clone(&self.open))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
