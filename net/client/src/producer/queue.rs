//! The batches of one partition between closing and acknowledgement, as a machine without
//! I/O: order, sequence numbers, what to send again and what to give up.
//!
//! A batch is *waiting*, then *awaiting* its acknowledgement on the present stream; one
//! that was refused but may be sent again is put aside until every batch behind it was
//! answered, then all go again in order.
//!
//! **Invariant:** batches leave in the order in which they were accepted, and those sent
//! again keep their sequence numbers for as long as the broker may have stored any of them.
//! New numbers, under a new producer id, are given only when the fate of everything that
//! was sent is known. So nothing is stored twice and the order is kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_model::{
    BatchBuilder, Compression, ErrorCode, LogId, ProducerEpoch, ProducerId, ProducerStamp,
    Sequence, Timestamp,
};
use millrace_wire::{Ack, Acks};

use super::batch::Batch;
use super::inbox::Gathering;
use super::record::Stored;
use crate::ClientError;

/// Wait before a batch that was refused for the moment goes again: Kafka's
/// `retry.backoff.ms`.
pub(super) const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// How a partition's batches are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueOptions {
    pub(super) log: LogId,
    pub(super) acks: Acks,
    pub(super) idempotent: bool,
    pub(super) compression: Compression,
    pub(super) compression_level: Option<i32>,
    pub(super) max_in_flight: usize,
    pub(super) delivery_timeout: Duration,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this frame.
    Send(Bytes),
    /// Get a producer id, then ask again.
    Identify,
    /// Nothing, until something happens or this time comes.
    Wait(Option<Instant>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    options: QueueOptions,
    waiting: VecDeque<Batch>,
    awaiting: VecDeque<Batch>,
    refused: VecDeque<Batch>,
    identity: Option<(ProducerId, ProducerEpoch)>,
    next_sequence: Sequence,
    /// A sequence number was used up without being stored, so that the broker refuses the
    /// ones after it.
    gap: bool,
    not_before: Option<Instant>,
    /// Batches acknowledged on the present stream.
    progress: bool,
    spare: Option<BatchBuilder>,
}

impl Queue {
    pub(super) fn new(options: QueueOptions) -> Self {
        Self {
            options,
            waiting: VecDeque::new(),
            awaiting: VecDeque::new(),
            refused: VecDeque::new(),
            identity: None,
            next_sequence: Sequence(0),
            gap: false,
            not_before: None,
            progress: false,
            spare: None,
        }
    }

    /// Takes a batch behind all others.
    pub(super) fn accept(&mut self, gathering: Gathering) {
        let deadline = gathering.since + self.options.delivery_timeout;
        self.waiting.push_back(Batch::new(gathering, deadline));
    }

    /// What to do next. A frame that it gives is taken as sent.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if !self.refused.is_empty() {
            if !self.awaiting.is_empty() {
                return Next::Wait(None);
            }
            self.refused.append(&mut self.waiting);
            std::mem::swap(&mut self.refused, &mut self.waiting);
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Next::Wait(Some(at));
        }
        if self.gap && !self.close_gap() {
            return Next::Wait(None);
        }
        if self.awaiting.len() >= self.options.max_in_flight {
            return Next::Wait(None);
        }
        self.send_front()
    }

    /// New numbers once the fate of all that was sent is known. False to wait for answers.
    fn close_gap(&mut self) -> bool {
        if self.waiting.iter().any(|batch| batch.may_be_stored) {
            return true;
        }
        if !self.awaiting.is_empty() {
            return false;
        }
        self.waiting.iter_mut().for_each(|batch| batch.stamp = None);
        self.identity = None;
        self.gap = false;
        true
    }

    fn send_front(&mut self) -> Next {
        loop {
            let Some(mut batch) = self.waiting.pop_front() else {
                return Next::Wait(None);
            };
            if self.options.idempotent && batch.stamp.is_none() {
                let Some((id, epoch)) = self.identity else {
                    self.waiting.push_front(batch);
                    return Next::Identify;
                };
                let base_sequence = self.next_sequence;
                batch.stamp = Some(ProducerStamp {
                    id,
                    epoch,
                    base_sequence,
                });
                self.next_sequence = base_sequence.plus(batch.record_count);
            }
            let QueueOptions {
                log,
                compression,
                compression_level,
                ..
            } = self.options;
            match batch.frame(log, compression, compression_level) {
                Ok((frame, builder)) => {
                    self.spare = builder.or(self.spare.take());
                    self.awaiting.push_back(batch);
                    return Next::Send(frame);
                }
                Err(error) => {
                    self.gap |= batch.stamp.is_some();
                    let refusal = ClientError::refused(ErrorCode::InvalidRecord, error.to_string());
                    batch.completion.complete(Err(refusal));
                    if self.gap && !self.close_gap() {
                        return Next::Wait(None);
                    }
                }
            }
        }
    }

    /// A producer id has come.
    pub(super) fn identify(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        self.identity = Some((id, epoch));
        self.next_sequence = Sequence(0);
    }

    /// The frame that [`Queue::next`] gave last is with the transport as a whole. Without
    /// acknowledgements that is its end.
    pub(super) fn written(&mut self) {
        if self.options.acks == Acks::None {
            let stored = Stored {
                base_offset: None,
                append_timestamp: Timestamp::NONE,
            };
            for batch in self.awaiting.drain(..) {
                batch.completion.complete(Ok(stored));
            }
            self.progress = true;
        }
    }

    /// The broker answered the oldest batch that awaits it.
    pub(super) fn acknowledged(&mut self, now: Instant, ack: &Ack) -> Result<(), ClientError> {
        let Some(mut batch) = self.awaiting.pop_front() else {
            let what = "an acknowledgement without a frame".to_owned();
            return Err(ClientError::Protocol(what));
        };
        self.progress = true;
        let append_timestamp = ack.append_timestamp;
        let stamped = batch.stamp.is_some();
        match ack.error() {
            ErrorCode::None => {
                let base_offset = Some(ack.base_offset);
                batch.completion.complete(Ok(Stored {
                    base_offset,
                    append_timestamp,
                }));
            }
            // It lies before the last five that the broker remembers: it is stored.
            ErrorCode::DuplicateSequenceNumber if stamped => {
                batch.completion.complete(Ok(Stored {
                    base_offset: None,
                    append_timestamp,
                }));
            }
            code if stamped && asks_for_numbers(code) => {
                self.put_aside_for_numbers(now, batch, code)
            }
            code if code.is_retriable() => {
                batch.refusal = Some(code);
                self.put_aside(now, batch);
            }
            code => {
                self.gap |= stamped;
                let message = format!("the broker refused a batch of {}", self.options.log);
                batch
                    .completion
                    .complete(Err(ClientError::Broker { code, message }));
            }
        }
        Ok(())
    }

    /// Behind a batch that is to be sent again a gap is no wonder. Otherwise the broker
    /// knows less than it acknowledged (`write.caching` and a power cut, or retention).
    fn put_aside_for_numbers(&mut self, now: Instant, mut batch: Batch, code: ErrorCode) {
        if self.refused.is_empty() && !self.gap {
            tracing::warn!(log = %self.options.log, %code, "the broker forgot this producer");
        }
        self.gap |= self.refused.is_empty();
        batch.may_be_stored = false;
        batch.refusal = None;
        self.put_aside(now, batch);
    }

    /// A refusal for the moment says nothing about an earlier attempt: what may be stored
    /// keeps its numbers.
    fn put_aside(&mut self, now: Instant, batch: Batch) {
        self.not_before = Some(now + RETRY_BACKOFF);
        self.refused.push_back(batch);
    }

    /// The stream is gone: everything unanswered goes again. An `error` that a retry does
    /// not help, when the stream brought no progress, ends the batch that came first.
    pub(super) fn stream_broken(&mut self, now: Instant, error: &ClientError) {
        self.awaiting
            .iter_mut()
            .for_each(|batch| batch.may_be_stored = true);
        self.refused.append(&mut self.awaiting);
        self.refused.append(&mut self.waiting);
        std::mem::swap(&mut self.refused, &mut self.waiting);
        if !std::mem::take(&mut self.progress) {
            self.not_before = Some(now + RETRY_BACKOFF);
            if !error.is_retriable()
                && let Some(batch) = self.waiting.pop_front()
            {
                self.give_up(&batch, error.clone());
            }
        }
    }

    /// Gives up everything that is not sent on a present stream.
    pub(super) fn fail(&mut self, error: &ClientError) {
        while let Some(batch) = self
            .refused
            .pop_front()
            .or_else(|| self.waiting.pop_front())
        {
            self.give_up(&batch, error.clone());
        }
    }

    /// Gives up what was not delivered in time. What is on its way keeps its place, for its
    /// answer will come.
    pub(super) fn expire(&mut self, now: Instant) {
        let after = self.options.delivery_timeout;
        let error = ClientError::TimedOut {
            what: "the delivery",
            after,
        };
        for batch in self.awaiting.iter().filter(|batch| batch.deadline <= now) {
            batch.completion.complete(Err(error.clone()));
        }
        while let Some(batch) = self.refused.pop_front_if(|batch| batch.deadline <= now) {
            self.give_up(&batch, self.cause(&batch, &error));
        }
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.deadline <= now) {
            self.give_up(&batch, self.cause(&batch, &error));
        }
    }

    /// Why a batch was not delivered in time: the broker's last refusal where it is known
    /// that nothing was stored.
    fn cause(&self, batch: &Batch, timed_out: &ClientError) -> ClientError {
        match batch.refusal {
            Some(code) if !batch.may_be_stored => ClientError::Broker {
                code,
                message: format!(
                    "the broker refused a batch of {}, again and again for {:?}",
                    self.options.log, self.options.delivery_timeout
                ),
            },
            _ => timed_out.clone(),
        }
    }

    fn give_up(&mut self, batch: &Batch, error: ClientError) {
        self.gap |= batch.stamp.is_some();
        batch.completion.complete(Err(error));
    }

    /// When [`Queue::expire`] has something to do next.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let first = [self.refused.front(), self.waiting.front()]
            .into_iter()
            .flatten();
        let awaiting = self.awaiting.iter().find(|batch| batch.deadline > now);
        first.chain(awaiting).map(|batch| batch.deadline).min()
    }

    /// A builder for its buffers, if one came free.
    pub(super) fn take_spare(&mut self) -> Option<BatchBuilder> {
        self.spare.take()
    }

    /// Something was sent and is not acknowledged.
    pub(super) fn is_awaiting(&self) -> bool {
        !self.awaiting.is_empty()
    }

    /// Nothing is here.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.awaiting.is_empty() && self.refused.is_empty()
    }

    /// One more batch would be sent at once.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty()
            && self.refused.is_empty()
            && self.awaiting.len() < self.options.max_in_flight
    }
}

/// The broker refuses the sequence number, so the batch is not stored.
fn asks_for_numbers(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
    )
}
