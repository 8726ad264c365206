//! Takes the end of the log away, or all of it: what a follower does when its leader tells it so
//! (KIP-101).
//!
//! The intention is durable before anything is changed, in the log-start file; a recovery
//! that finds it finishes the work. So recovery is also what does the work.

use super::Log;
use super::recover::recover;
use crate::disk::{Disk, DiskError};
use crate::start_file::{Deleted, StartFile};
use crate::{ChangeError, Latch, ReadError};
use millrace_model::Offset;

/// The largest offset at which a log can start: the next ones still fit a record batch.
const LARGEST_START: Offset = Offset(i64::MAX as u64 - (1 << 32));

impl<D: Disk> Log<D> {
    /// Takes away every frame that reaches above `to`. What is left is durable when it
    /// returns.
    ///
    /// # Errors
    /// [`ChangeError`]: out of range, read-only, or the disk failed, which latches the log.
    /// As long as it is not latched, or only because the disk is full, nothing is changed.
    pub async fn truncate(&self, to: Offset) -> Result<(), ChangeError> {
        // What its caller knows. A write that fails meanwhile takes back what it carried.
        let before = self.latched();
        let _alone = (
            self.shared.device.enter().await,
            self.shared.changes.enter().await,
        );
        self.drain().await;
        self.is_drained(before.as_ref())?;
        self.check_place(to)?;
        let to = self.frame_at(to).await?;
        // Frames may have been accepted meanwhile.
        self.drain().await;
        self.is_drained(before.as_ref())?;
        if to < self.accepted_end() {
            self.shared.state.borrow_mut().truncating = Some(to);
        }
        self.truncate_written().await.inspect_err(|_| {
            if self.is_read_only().is_ok() {
                self.shared.state.borrow_mut().truncating = None;
            }
        })?;
        // The damage that it met on its way stays where it is.
        self.latched().map_or(Ok(()), |latch| Err(latch.into()))
    }

    /// Takes everything away and lets the log go on at `to`, which may be below its start or above
    /// its end. Durable when it returns.
    ///
    /// # Errors
    /// [`ChangeError`]: no offset of a log, read-only, or the disk failed, which latches the log.
    /// As long as it is not latched, or only because the disk is full, nothing is changed.
    pub async fn reset(&self, to: Offset) -> Result<(), ChangeError> {
        let _alone = (
            self.shared.device.enter().await,
            self.shared.changes.enter().await,
        );
        self.is_read_only()?;
        if to > LARGEST_START {
            let (start, end) = (Offset::ZERO, LARGEST_START);
            return Err(ChangeError::OutOfRange {
                offset: to,
                start,
                end,
            });
        }
        // What waits to be written goes too, so it is not written.
        self.shared.state.borrow_mut().truncating = Some(Offset::ZERO);
        let _unprepared = self.shared.ahead.enter().await;
        let start_file = StartFile {
            log_start: to,
            truncate_to: Some(Offset::ZERO),
            deleted: Some(Deleted::empty_until(to)),
        };
        self.intend(&start_file).await.inspect_err(|_| {
            if self.is_read_only().is_ok() {
                self.shared.state.borrow_mut().truncating = None;
            }
        })?;
        self.carry_out_truncation()
            .await
            .inspect_err(|error| self.fail(&error.to_string()))?;
        self.latched().map_or(Ok(()), |latch| Err(latch.into()))
    }

    /// Truncates the log, all of which is written, if it is to be truncated. What stands
    /// below the place is durable before the intention is: what a recovery does not find
    /// there is damaged.
    async fn truncate_written(&self) -> Result<(), DiskError> {
        if self.shared.state.borrow().has_unsynced_writes() {
            self.sync_written()
                .await
                .inspect_err(|error| self.on_error(error))?;
        }
        let truncating = self.shared.state.borrow().truncating;
        if let Some(to) = truncating {
            let _unprepared = self.shared.ahead.enter().await;
            let start_file = {
                let state = self.shared.state.borrow();
                StartFile {
                    log_start: state.log_start,
                    truncate_to: Some(to),
                    deleted: state.deleted.clone(),
                }
            };
            self.intend(&start_file).await?;
            self.carry_out_truncation()
                .await
                .inspect_err(|error| self.fail(&error.to_string()))?;
        }
        Ok(())
    }

    /// Whether all of it is written, and nothing was taken back since the latch was `before`. On a
    /// full disk, what was acknowledged from memory may not be written.
    fn is_drained(&self, before: Option<&Latch>) -> Result<(), Latch> {
        self.is_read_only()?;
        let pending = self.shared.state.borrow().appender.has_pending();
        match self.latched() {
            Some(latch) if pending || before != Some(&latch) => Err(latch),
            _ => Ok(()),
        }
    }

    /// Whether the log can be truncated to `to` now.
    fn check_place(&self, to: Offset) -> Result<(), ChangeError> {
        let (start, end) = (self.log_start(), self.accepted_end());
        match (start..=end).contains(&to) {
            true => Ok(()),
            false => Err(ChangeError::OutOfRange {
                offset: to,
                start,
                end,
            }),
        }
    }

    /// Where the frame with `to` begins: a recovery must find a frame's end at the place of
    /// the truncation, before and after the cut. The place itself if that frame is damaged.
    async fn frame_at(&self, to: Offset) -> Result<Offset, ChangeError> {
        match self.read(to, 1, Offset(u64::MAX)).await {
            Ok(runs) => Ok(runs.first().map_or(to, |run| run.base)),
            Err(ReadError::Disk(error)) => Err(error.into()),
            Err(ReadError::Damaged { .. } | ReadError::OutOfRange { .. }) => Ok(to),
        }
    }

    /// Makes the intention durable. Full, the disk leaves everything as it was.
    async fn intend(&self, file: &StartFile) -> Result<(), DiskError> {
        let (storage, dir) = (&self.shared.storage, &self.shared.dir);
        let seed = self.shared.id.checksum_seed();
        let prepared = storage.prepare_start_file(dir, seed, file).await;
        let installed = match prepared {
            Err(error) if error.is_full() => return Err(error),
            Err(error) => Err(error),
            Ok(()) => storage.install_start_file(dir).await,
        };
        installed.inspect_err(|error| self.fail(&error.to_string()))
    }

    async fn carry_out_truncation(&self) -> Result<(), DiskError> {
        let shared = &self.shared;
        shared.storage.files.close_log(shared.number.get());
        let (seed, now) = {
            let state = shared.state.borrow();
            (state.seed, state.clock)
        };
        let (recovered, _) = recover(&shared.storage, &shared.dir, seed, now).await?;
        shared
            .storage
            .cache
            .forget_log(shared.number.replace(shared.storage.number()));
        shared.tail.borrow_mut().truncate(Offset::ZERO);
        shared
            .tail
            .borrow_mut()
            .written(recovered.appender.written().offset);
        // Recovery has removed them.
        shared.forget_spares();
        shared.state.borrow_mut().replace(recovered);
        shared.watch.notify();
        Ok(())
    }
}
