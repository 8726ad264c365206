//! What a replica knows of its log.

use millrace_model::{EpochStart, LeaderEpoch, LeaderEpochs, Offset};

use super::Position;

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnds {
    /// First offset that can be read.
    pub start: Offset,
    /// Everything below counts: it is durable, or with `write.caching` accepted.
    pub durable: Offset,
    /// The offset that the next record gets.
    pub accepted: Offset,
}

impl LogEnds {
    /// Whether all that was accepted counts.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        self.durable == self.accepted
    }
}

/// A log's ends and its leader epochs.
///
/// **Invariant:** `start <= durable <= accepted`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogView {
    ends: LogEnds,
    epochs: LeaderEpochs,
}

impl LogView {
    /// The view of a log that was just opened.
    ///
    /// # Panics
    /// If the ends are out of order.
    #[must_use]
    pub fn new(ends: LogEnds, epochs: LeaderEpochs) -> Self {
        let mut view = Self { ends, epochs };
        view.set_ends(ends);
        view
    }

    /// The ends.
    #[must_use]
    pub fn ends(&self) -> LogEnds {
        self.ends
    }

    /// Where the log stands, to be stated to a leader.
    ///
    /// # Panics
    /// If not all of it is durable: nobody states an end that may turn out to be lost.
    #[must_use]
    pub fn position(&self) -> Position {
        assert!(
            self.ends.are_settled(),
            "a position is stated when it is durable"
        );
        Position {
            end: self.ends.durable,
            last_epoch: self.epochs.latest(),
            log_start: self.ends.start,
        }
    }

    /// The epoch of the last record.
    #[must_use]
    pub fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest()
    }

    /// Whether the log has records of this epoch or an earlier one.
    #[must_use]
    pub fn reaches_back_to(&self, epoch: LeaderEpoch) -> bool {
        let first = self.epochs.starts().first();
        first.is_some_and(|first| first.epoch <= epoch)
    }

    /// The largest epoch that is not above `epoch`, and where it ends in this log.
    #[must_use]
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> EpochStart {
        let (epoch, start) = self.epochs.end_offset_for(epoch, self.ends.accepted);
        EpochStart { epoch, start }
    }

    pub(super) fn set_ends(&mut self, ends: LogEnds) {
        assert!(
            ends.start <= ends.durable && ends.durable <= ends.accepted,
            "a log starts before it ends, and what is durable was accepted: {ends:?}"
        );
        self.ends = ends;
        self.epochs.truncate_start(ends.start);
        self.epochs.truncate_end(ends.accepted);
    }

    /// Frames were accepted, in these epochs.
    pub(super) fn accepted(&mut self, end: Offset, epochs: &[EpochStart]) {
        for run in epochs {
            self.epochs.assign(run.epoch, run.start);
        }
        self.ends.accepted = self.ends.accepted.max(end);
    }
}
