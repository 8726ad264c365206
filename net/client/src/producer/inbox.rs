//! Where senders leave records for a partition: the batch that gathers, and those closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_model::{BatchBuilder, Header, PartitionId, Timestamp};
use tokio::sync::Semaphore;

use super::record::{Completion, Fate};
use super::{Delivery, ProducerRecord};
use crate::{ClientError, ErrorCode};

/// Bytes of the producer's buffer that a batch holds; they return when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) buffer: Arc<Semaphore>,
    pub(super) bytes: usize,
}

impl Reservation {
    fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.buffer.add_permits(self.bytes);
    }
}

/// Records that go as one batch.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) builder: BatchBuilder,
    pub(super) completion: Completion,
    pub(super) reservation: Option<Reservation>,
    /// When its first record came.
    pub(super) since: Instant,
}

/// When a batch is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    pub(super) batch_bytes: usize,
    pub(super) max_message_bytes: usize,
    pub(super) linger: Duration,
    pub(super) delivery_timeout: Duration,
}

/// The records of one partition that its task has not taken yet.
#[derive(Debug)]
pub(super) struct Inbox {
    closing: Closing,
    open: Option<Gathering>,
    closed: VecDeque<Gathering>,
    /// The fates of all batches that were started, less those decided at the front.
    undecided: VecDeque<Fate>,
    /// The open batch is to go at once.
    flush: bool,
    /// No record follows.
    ended: bool,
    spare: Option<BatchBuilder>,
}

/// What a sender does after leaving a record.
pub(super) struct Left {
    pub(super) delivery: Delivery,
    /// A batch was closed because it was full.
    pub(super) closed: bool,
    /// The partition's task does not know yet that there is work.
    pub(super) wake: bool,
}

impl Inbox {
    pub(super) fn new(closing: Closing) -> Self {
        Self {
            closing,
            open: None,
            closed: VecDeque::new(),
            undecided: VecDeque::new(),
            flush: false,
            ended: false,
            spare: None,
        }
    }

    /// Adds a record to the open batch, or to a new one when it would grow too large.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        partition: PartitionId,
        record: &ProducerRecord,
        timestamp: Timestamp,
        reservation: Reservation,
    ) -> Result<Left, ClientError> {
        if self.ended {
            return Err(ClientError::Closed);
        }
        let mut closed = false;
        if let Some(open) = &self.open
            && open.builder.len() + record.len_bound() > self.closing.batch_bytes
        {
            self.closed.extend(self.open.take());
            closed = true;
        }
        let wake = self.open.is_none();
        let mut batch = match self.open.take() {
            Some(open) => open,
            None => self.start(now),
        };
        let appended = append(
            &mut batch.builder,
            record,
            timestamp,
            self.closing.max_message_bytes,
        );
        if let Err(error) = appended {
            // Only a fresh batch can be too small for a record.
            self.open = (!batch.builder.is_empty()).then_some(batch);
            return Err(error);
        }
        let delivery = Delivery {
            fate: batch.completion.fate(),
            index: batch.builder.record_count() - 1,
            partition,
            timestamp,
            waker: None,
        };
        match &mut batch.reservation {
            Some(held) => held.merge(reservation),
            None => batch.reservation = Some(reservation),
        }
        if batch.builder.len() >= self.closing.batch_bytes {
            self.closed.push_back(batch);
            closed = true;
        } else {
            self.open = Some(batch);
        }
        Ok(Left {
            delivery,
            closed,
            wake: wake || closed,
        })
    }

    /// The next batch to send. The open one is closed when it is time: when `idle` says
    /// that nothing is in flight, or when it lingered and `room` says that it would go.
    pub(super) fn take(&mut self, now: Instant, idle: bool, room: bool) -> Option<Gathering> {
        if let Some(closed) = self.closed.pop_front() {
            return Some(closed);
        }
        let since = self.open.as_ref()?.since;
        let waited = now.saturating_duration_since(since);
        let due = idle
            || self.flush
            || self.ended
            || (room && waited >= self.closing.linger)
            || waited >= self.closing.delivery_timeout;
        if due { self.open.take() } else { None }
    }

    /// When [`Inbox::take`] closes the open batch because of time.
    pub(super) fn due_at(&self, room: bool) -> Option<Instant> {
        let since = self.open.as_ref()?.since;
        let wait = if room {
            self.closing.linger
        } else {
            self.closing.delivery_timeout
        };
        since.checked_add(wait)
    }

    /// Lets the open batch go, and gives the fates of all batches that are not decided.
    pub(super) fn flush(&mut self) -> Vec<Fate> {
        self.flush = self.open.is_some();
        self.undecided.iter().cloned().collect()
    }

    /// Refuses all further records.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether no record is here and none follows.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.open.is_none() && self.closed.is_empty()
    }

    /// Gives back the builder of a batch that was sent, for its buffers.
    pub(super) fn recycle(&mut self, builder: BatchBuilder) {
        self.spare = Some(builder);
    }

    fn start(&mut self, now: Instant) -> Gathering {
        self.flush = false;
        let completion = Completion::default();
        while self
            .undecided
            .pop_front_if(|fate| fate.is_decided())
            .is_some()
        {}
        self.undecided.push_back(completion.fate());
        Gathering {
            builder: self.spare.take().unwrap_or_default(),
            completion,
            reservation: None,
            since: now,
        }
    }
}

fn append(
    builder: &mut BatchBuilder,
    record: &ProducerRecord,
    timestamp: Timestamp,
    max_message_bytes: usize,
) -> Result<(), ClientError> {
    let too_large = |len: usize| {
        let message = format!("a batch of {len} bytes, max.message.bytes is {max_message_bytes}");
        ClientError::refused(ErrorCode::MessageTooLarge, message)
    };
    let headers = record.headers.iter().map(|header| Header {
        key: &header.key,
        value: header.value.as_deref(),
    });
    let fresh = builder.is_empty();
    builder
        .append(
            record.key.as_deref(),
            record.value.as_deref(),
            headers,
            timestamp,
        )
        .map_err(|error| ClientError::refused(ErrorCode::MessageTooLarge, error.to_string()))?;
    if fresh && builder.len() > max_message_bytes {
        let len = builder.len();
        builder.clear();
        return Err(too_large(len));
    }
    Ok(())
}
