//! Takes the end of the log away: what a follower does when its leader tells it so (KIP-101).
//!
//! The intention is durable before anything is changed, in the log-start file; a recovery
//! that finds it finishes the work. So recovery is also what does the work.

use super::Log;
use super::recover::recover;
use crate::ChangeError;
use crate::disk::{Disk, DiskError};
use crate::start_file::StartFile;
use millrace_model::Offset;

impl<D: Disk> Log<D> {
    /// Takes away every frame that reaches above `to`. Durable when it returns.
    ///
    /// # Errors
    /// [`ChangeError`]: out of range, read-only, or the disk failed, which latches the log.
    pub async fn truncate(&self, to: Offset) -> Result<(), ChangeError> {
        let _alone = (
            self.shared.device.enter().await,
            self.shared.changes.enter().await,
        );
        self.drain().await;
        if let Some(latch) = self.latched() {
            return Err(latch.into());
        }
        let (start, end) = (self.log_start(), self.accepted_end());
        if to < start || to > end {
            return Err(ChangeError::OutOfRange {
                offset: to,
                start,
                end,
            });
        }
        if to == end {
            return Ok(());
        }
        self.shared.state.borrow_mut().truncating = Some(to);
        self.intend_and_carry_out(to).await?;
        // The damage that it met on its way stays where it is.
        self.latched().map_or(Ok(()), |latch| Err(latch.into()))
    }

    async fn intend_and_carry_out(&self, to: Offset) -> Result<(), DiskError> {
        let shared = &self.shared;
        let (seed, file) = {
            let state = shared.state.borrow();
            let deleted = state.deleted.clone();
            let file = StartFile {
                log_start: state.log_start,
                truncate_to: Some(to),
                deleted,
            };
            (state.seed, file)
        };
        match shared
            .storage
            .replace_start_file(&shared.dir, seed, &file)
            .await
        {
            // Nothing is changed, the caller may try again.
            Err(error) if error.is_full() => {
                shared.state.borrow_mut().truncating = None;
                Err(error)
            }
            Err(error) => {
                self.fail(&error.to_string());
                Err(error)
            }
            Ok(()) => self.carry_out_truncation().await.inspect_err(|error| {
                self.fail(&error.to_string());
            }),
        }
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
        shared.state.borrow_mut().replace(recovered);
        shared.watch.notify();
        Ok(())
    }
}
