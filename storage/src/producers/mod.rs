//! What idempotent producers have appended (KIP-98, KIP-360): their last batches, so that a
//! repeated batch is recognised and a gap is refused.
//!
//! Pure. Changes that are not durable yet can be taken back exactly: each keeps what it
//! replaced until [`Producers::settle`].

mod snapshot;

pub(crate) use snapshot::{decode, encode};

use millrace_model::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use std::collections::{BTreeMap, VecDeque};

/// Batches that are remembered for each producer: Kafka's number, which is the most that a
/// client keeps in flight with idempotence.
pub(crate) const REMEMBERED_BATCHES: usize = 5;

/// Producers that one log remembers. Beyond it the one that was silent longest is
/// forgotten; its next batch is accepted with any sequence, as for an unknown producer.
pub(crate) const MAX_PRODUCERS: usize = 10_000;

/// Sequences wrap here: from `i32::MAX` to 0.
const SEQUENCES: i64 = i32::MAX as i64 + 1;

/// A producer's batch as its header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record.
    pub first: Sequence,
    /// Sequence of the last record.
    pub last: Sequence,
}

/// A batch that a producer has appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Remembered {
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) appended: Timestamp,
}

/// Why a producer's batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// A gap, or an overlap that is no repetition.
    #[error("sequence {first} of producer {id} does not follow {last}")]
    OutOfOrder {
        /// The producer.
        id: ProducerId,
        /// Sequence of the batch's first record.
        first: Sequence,
        /// Sequence of the last record appended; -1 when the epoch is new.
        last: Sequence,
    },
    /// The batch is older than the last five.
    #[error("sequence {first} of producer {id} is older than the batches remembered")]
    Forgotten {
        /// The producer.
        id: ProducerId,
        /// Sequence of the batch's first record.
        first: Sequence,
    },
    /// The producer has been seen with a later epoch.
    #[error("epoch {epoch} of producer {id} is fenced by epoch {current}")]
    Fenced {
        /// The producer.
        id: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The latest epoch seen.
        current: ProducerEpoch,
    },
}

impl SequenceError {
    /// Kafka's code for it.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::Forgotten { .. } => ErrorCode::DuplicateSequenceNumber,
            Self::Fenced { .. } => ErrorCode::InvalidProducerEpoch,
        }
    }
}

/// What to do with a batch that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    Append,
    /// It stands in the log already.
    Duplicate(Remembered),
}

/// An idempotent producer that a log remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its latest epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record.
    pub last: Option<Sequence>,
    /// When its last batch was appended, by the broker's clock.
    pub last_appended: Timestamp,
}

/// One producer: its epoch and its last batches, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    epoch: ProducerEpoch,
    len: u8,
    batches: [Remembered; REMEMBERED_BATCHES],
}

impl Producer {
    pub(crate) const fn new(epoch: ProducerEpoch) -> Self {
        let none = Remembered {
            first: Sequence(0),
            last: Sequence(0),
            base: Offset(0),
            next: Offset(0),
            appended: Timestamp(0),
        };
        Self {
            epoch,
            len: 0,
            batches: [none; REMEMBERED_BATCHES],
        }
    }

    pub(crate) fn remember(&mut self, batch: Remembered) {
        if usize::from(self.len) == REMEMBERED_BATCHES {
            self.batches.rotate_left(1);
            self.len -= 1;
        }
        self.batches[usize::from(self.len)] = batch;
        self.len += 1;
    }

    pub(crate) fn batches(&self) -> &[Remembered] {
        &self.batches[..usize::from(self.len)]
    }

    fn last_appended(&self) -> Timestamp {
        self.batches()
            .last()
            .map_or(Timestamp::NONE, |b| b.appended)
    }

    fn check(&self, batch: &ProducerBatch) -> Result<Verdict, SequenceError> {
        let (id, epoch, first) = (batch.id, batch.epoch, batch.first);
        if epoch < self.epoch {
            return Err(SequenceError::Fenced {
                id,
                epoch,
                current: self.epoch,
            });
        }
        let Some(newest) = self.batches().last().filter(|_| epoch == self.epoch) else {
            let fresh = first == Sequence(0) || epoch == self.epoch;
            let refused = SequenceError::OutOfOrder {
                id,
                first,
                last: Sequence(-1),
            };
            return if fresh {
                Ok(Verdict::Append)
            } else {
                Err(refused)
            };
        };
        let same = |b: &&Remembered| b.first == first && b.last == batch.last;
        if let Some(known) = self.batches().iter().find(same) {
            return Ok(Verdict::Duplicate(*known));
        }
        if first == newest.last.plus(1) {
            return Ok(Verdict::Append);
        }
        let oldest = self.batches()[0];
        let before = (i64::from(oldest.first.0) - i64::from(batch.last.0)).rem_euclid(SEQUENCES);
        let is_full = usize::from(self.len) == REMEMBERED_BATCHES;
        Err(if is_full && (1..SEQUENCES / 2).contains(&before) {
            SequenceError::Forgotten { id, first }
        } else {
            SequenceError::OutOfOrder {
                id,
                first,
                last: newest.last,
            }
        })
    }
}

/// What an append that is not durable yet has replaced.
#[derive(Debug)]
struct Undo {
    base: Offset,
    id: ProducerId,
    previous: Option<Producer>,
}

/// All producers of one log.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Producer>,
    undo: VecDeque<Undo>,
}

impl Producers {
    /// Judges a batch against what is known. Changes nothing.
    pub(crate) fn check(&self, batch: &ProducerBatch) -> Result<Verdict, SequenceError> {
        self.known
            .get(&batch.id)
            .map_or(Ok(Verdict::Append), |producer| producer.check(batch))
    }

    /// Remembers a batch that was appended at `base..next`.
    pub(crate) fn record(
        &mut self,
        batch: &ProducerBatch,
        base: Offset,
        next: Offset,
        appended: Timestamp,
    ) {
        self.make_room(batch.id);
        let previous = self.known.get(&batch.id).copied();
        let mut producer = previous
            .filter(|known| known.epoch == batch.epoch)
            .unwrap_or(Producer::new(batch.epoch));
        producer.remember(Remembered {
            first: batch.first,
            last: batch.last,
            base,
            next,
            appended,
        });
        self.known.insert(batch.id, producer);
        self.undo.push_back(Undo {
            base,
            id: batch.id,
            previous,
        });
    }

    /// Nothing below `end` will be taken back.
    pub(crate) fn settle(&mut self, end: Offset) {
        while self.undo.front().is_some_and(|undo| undo.base < end) {
            self.undo.pop_front();
        }
        if self.undo.is_empty() {
            self.undo = VecDeque::new();
        }
    }

    /// Takes back every batch at or behind `end` that was not settled.
    pub(crate) fn roll_back(&mut self, end: Offset) {
        while self.undo.back().is_some_and(|undo| undo.base >= end) {
            let undo = self.undo.pop_back().expect("the loop has seen it");
            match undo.previous {
                Some(previous) => self.known.insert(undo.id, previous),
                None => self.known.remove(&undo.id),
            };
        }
    }

    /// Forgets producers whose last batch is older than `producer.id.expiration.ms`.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        let oldest = now.0.saturating_sub(expiration_ms);
        self.known
            .retain(|_, producer| producer.last_appended().0 >= oldest);
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Every producer, by id.
    pub(crate) fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        self.known.iter().map(|(id, producer)| ActiveProducer {
            id: *id,
            epoch: producer.epoch,
            last: producer.batches().last().map(|batch| batch.last),
            last_appended: producer.last_appended(),
        })
    }

    fn make_room(&mut self, id: ProducerId) {
        if self.known.len() < MAX_PRODUCERS || self.known.contains_key(&id) {
            return;
        }
        let silent = self
            .known
            .iter()
            .min_by_key(|(_, p)| p.last_appended())
            .map(|(id, _)| *id);
        if let Some(silent) = silent {
            self.known.remove(&silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first: i32, last: i32) -> ProducerBatch {
        ProducerBatch {
            id: ProducerId(7),
            epoch: ProducerEpoch(epoch),
            first: Sequence(first),
            last: Sequence(last),
        }
    }

    /// Ten records a batch, sequences as offsets.
    fn after(batches: i32) -> Producers {
        let mut producers = Producers::default();
        for n in 0..batches {
            let batch = batch(0, n * 10, n * 10 + 9);
            assert_eq!(producers.check(&batch), Ok(Verdict::Append));
            let base = Offset(n as u64 * 10);
            producers.record(&batch, base, base.plus(10), Timestamp(i64::from(n)));
        }
        producers
    }

    fn code(producers: &Producers, batch: ProducerBatch) -> ErrorCode {
        producers.check(&batch).unwrap_err().code()
    }

    #[test]
    fn the_last_five_batches_are_recognised() {
        let producers = after(6);
        let Ok(Verdict::Duplicate(found)) = producers.check(&batch(0, 10, 19)) else {
            panic!("the second of six batches is remembered");
        };
        assert_eq!((found.base, found.next), (Offset(10), Offset(20)));
        assert_eq!(
            code(&producers, batch(0, 0, 9)),
            ErrorCode::DuplicateSequenceNumber
        );
    }

    #[test]
    fn gaps_and_overlaps_are_out_of_order() {
        let producers = after(2);
        assert_eq!(
            code(&producers, batch(0, 21, 30)),
            ErrorCode::OutOfOrderSequenceNumber
        );
        assert_eq!(
            code(&producers, batch(0, 15, 24)),
            ErrorCode::OutOfOrderSequenceNumber
        );
        assert_eq!(
            code(&producers, batch(0, 0, 3)),
            ErrorCode::OutOfOrderSequenceNumber
        );
        assert_eq!(producers.check(&batch(0, 20, 20)), Ok(Verdict::Append));
    }

    #[test]
    fn epochs_fence_and_begin_at_sequence_zero() {
        let mut producers = after(1);
        assert_eq!(
            code(&producers, batch(1, 10, 19)),
            ErrorCode::OutOfOrderSequenceNumber
        );
        assert_eq!(producers.check(&batch(1, 0, 9)), Ok(Verdict::Append));
        producers.record(&batch(1, 0, 9), Offset(10), Offset(20), Timestamp(1));
        assert_eq!(
            code(&producers, batch(0, 10, 19)),
            ErrorCode::InvalidProducerEpoch
        );
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        assert_eq!(
            Producers::default().check(&batch(3, 500, 510)),
            Ok(Verdict::Append)
        );
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::default();
        let end = batch(0, i32::MAX - 4, i32::MAX);
        producers.record(&end, Offset(0), Offset(5), Timestamp(0));
        assert_eq!(producers.check(&batch(0, 0, 3)), Ok(Verdict::Append));
        assert_eq!(
            code(&producers, batch(0, 1, 3)),
            ErrorCode::OutOfOrderSequenceNumber
        );
    }

    #[test]
    fn what_is_not_settled_is_taken_back_exactly() {
        let mut producers = after(6);
        let before = producers.known.clone();
        producers.settle(Offset(60));
        for n in 6..13 {
            let base = Offset(n as u64 * 10);
            producers.record(
                &batch(0, n * 10, n * 10 + 9),
                base,
                base.plus(10),
                Timestamp(9),
            );
        }
        producers.roll_back(Offset(60));
        assert_eq!(producers.known, before);
        assert!(producers.undo.is_empty());
    }

    #[test]
    fn silent_producers_expire() {
        let mut producers = after(3);
        producers.expire(Timestamp(1002), 1000);
        assert_eq!(producers.len(), 1);
        producers.expire(Timestamp(1003), 1000);
        assert_eq!(producers.len(), 0);
    }

    #[test]
    fn the_number_of_producers_is_bounded() {
        let mut producers = Producers::default();
        for n in 0..=MAX_PRODUCERS as i64 {
            let one = ProducerBatch {
                id: ProducerId(n),
                ..batch(0, 0, 0)
            };
            producers.record(&one, Offset(n as u64), Offset(n as u64 + 1), Timestamp(n));
        }
        assert_eq!(producers.len(), MAX_PRODUCERS);
        assert!(!producers.known.contains_key(&ProducerId(0)));
    }
}
