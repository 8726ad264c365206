//! What a log does as one of several replicas: it takes over its leader's frames as they are, and
//! begins the epochs in which it leads itself. What takes its end away is in `truncate`.

use super::Log;
use crate::ChangeError;
use crate::disk::Disk;
use crate::replica_run::{ReplicaError, ReplicaRun};
use millrace_model::{LeaderEpoch, LeaderEpochs, Offset, Timestamp};

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnds {
    /// [`Log::log_start`].
    pub start: Offset,
    /// [`Log::ack_end`].
    pub acknowledged: Offset,
    /// [`Log::accepted_end`].
    pub accepted: Offset,
}

impl<D: Disk> Log<D> {
    /// A leadership begins: what is appended from here on is of this epoch.
    ///
    /// # Errors
    /// [`ChangeError::Epoch`]: the log has records of a later epoch. Nothing is changed.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> Result<(), ChangeError> {
        let mut state = self.shared.state.borrow_mut();
        match state.epochs.latest() {
            Some(latest) if latest > epoch => Err(ChangeError::Epoch { epoch, latest }),
            _ => {
                state.epoch = epoch;
                Ok(())
            }
        }
    }

    /// Appends frames of a leader as they are: offsets, epochs and checksums stay. They must begin at
    /// [`Log::accepted_end`], and their epochs must not fall. Producer state and epochs follow
    /// as they did on the leader.
    ///
    /// # Errors
    /// [`ReplicaError`]. The frame that is refused and those behind it leave no trace; those before it
    /// are appended, which [`Log::accepted_end`] tells.
    pub fn append_replica(&self, now: Timestamp, run: &ReplicaRun) -> Result<(), ReplicaError> {
        let (appended, acknowledged) = {
            let mut state = self.shared.state.borrow_mut();
            let before = state.ack_end();
            let appended = state.append_replica(now, run);
            (appended, state.ack_end() != before)
        };
        if acknowledged {
            self.shared.watch.notify();
        }
        appended
    }

    /// Where it begins and ends.
    #[must_use]
    pub fn ends(&self) -> LogEnds {
        let state = self.shared.state.borrow();
        LogEnds {
            start: state.log_start,
            acknowledged: state.ack_end(),
            accepted: state.appender.accepted().offset,
        }
    }

    /// The leader epochs of its records.
    #[must_use]
    pub fn leader_epochs(&self) -> LeaderEpochs {
        self.shared.state.borrow().epochs.clone()
    }

    /// From now on retention removes nothing at or above `offset`: what is not committed is not old.
    pub fn keep_from(&self, offset: Offset) {
        self.shared.state.borrow_mut().keep_from = offset;
    }

    /// Wakes who waits for [`Log::changed`]: something that is not the log's own, but decides what of
    /// it may be seen, has changed.
    pub fn notify(&self) {
        self.shared.watch.notify();
    }
}
