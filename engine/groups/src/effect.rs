//! What goes into the machine and what comes out of it.

use std::sync::Arc;

use bytes::Bytes;
use millrace_model::ErrorCode;

use crate::{Client, Request, Response, TopicsImage};

/// A request that waits for its answer, by the shell's number for it. Answered exactly once,
/// unless [`Input::Withdrawn`] came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An append that the machine has asked for. Rises by one with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// One input.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one input lives at a time, and nearly all are requests"
)]
pub enum Input {
    /// A client asks for something.
    Request {
        /// Whom to answer.
        ticket: Ticket,
        /// Who asks.
        client: Client,
        /// What for.
        request: Request,
    },
    /// Nobody waits for this answer any more: the connection is gone. A join or a sync that waits is
    /// forgotten; what was decided stays.
    Withdrawn(Ticket),
    /// Whoever asked this wants the answer now. A heartbeat that waits for news is answered; what waits for
    /// others goes on waiting.
    Hurry(Ticket),
    /// The records of this write, and of all before it, are durable.
    Written(WriteId),
    /// Nothing of this write or of any after it will be durable. The machine answers what waits for
    /// them and must not be used again: the shell replays the log into a new one.
    WriteFailed(WriteId, ErrorCode),
    /// The topics have changed.
    Topics(Arc<TopicsImage>),
    /// Time has passed: something that [`Effect::WakeAt`] asked for is due.
    Tick,
}

/// What the shell must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append these records to the log as one batch, and tell by [`Input::Written`] or
    /// [`Input::WriteFailed`] what became of them.
    Append {
        /// The write's number.
        write: WriteId,
        /// Never empty.
        records: Vec<Record>,
    },
    /// Answer.
    Respond {
        /// Whom.
        ticket: Ticket,
        /// What.
        response: Response,
    },
    /// Give an [`Input::Tick`] at this time, in milliseconds, instead of what was asked before.
    WakeAt(millrace_model::Timestamp),
}

/// A record of `__consumer_offsets`, in Kafka's format. A later one with the same key replaces an
/// earlier one; without a value it removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key, which starts with the version that tells what it is.
    pub key: Bytes,
    /// The value, or `None`: a tombstone.
    pub value: Option<Bytes>,
}
