//! The writer of a log: one write in flight, group commit by itself, failures.

use super::Log;
use crate::Latch;
use crate::appender::Write;
use crate::disk::{Disk, DiskError, File};
use crate::files::Use;
use crate::frames::Run;
use crate::tail::TailPage;

impl<D: Disk> Log<D> {
    /// Writes until nothing is pending, rolling segments on the way. Latches the log when a
    /// write fails. Whoever calls it while another call is under way waits for that one.
    pub async fn write_pending(&self) {
        let _alone = self.shared.device.enter().await;
        self.drain().await;
    }

    /// Writes until nothing is pending. The caller holds the device gate.
    pub(super) async fn drain(&self) {
        while let Some(write) = self.submit() {
            let written = match self.carry_out(&write).await {
                Ok(()) => self.flush_if_full().await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                self.on_error(&error);
                return;
            }
        }
    }

    /// The next write, its page visible to readers at the tail.
    fn submit(&self) -> Option<Write<D>> {
        let (write, caching) = {
            let mut state = self.shared.state.borrow_mut();
            if state.latch.is_some() {
                return None;
            }
            let stated = state.stated();
            (
                state.appender.next_write(&stated)?,
                state.settings.write_caching,
            )
        };
        let is_new = self
            .shared
            .tail
            .borrow()
            .end()
            .is_none_or(|end| end < write.next);
        if is_new {
            let frames = Run {
                range: write.frames.clone(),
                base: write.base,
                next: write.next,
            };
            let storage = &self.shared.storage;
            let memory = storage.disk.memory_of(&write.page);
            let page = TailPage::new(write.page.clone(), memory, frames);
            storage.tails.push(&self.shared.tail, page);
        }
        if caching {
            self.shared.watch.notify();
        }
        Some(write)
    }

    async fn carry_out(&self, write: &Write<D>) -> Result<(), DiskError> {
        if self.shared.state.borrow().needs_repair {
            self.repair_tail().await?;
        }
        self.roll_to(write.segment).await?;
        let how = self.writing();
        if how == Use::WriteEach && self.shared.state.borrow().has_unsynced_writes() {
            self.sync_written().await?;
        }
        self.claim(write.at, write.page.as_ref().len()).await;
        let write = {
            let mut state = self.shared.state.borrow_mut();
            let stated = state.stated();
            state.appender.restated(&stated)
        };
        self.file(write.segment, how)
            .await?
            .write_at(&write.page, write.at.0)
            .await?;
        let written = write.next;
        let was_full = {
            let mut state = self.shared.state.borrow_mut();
            state.written(how == Use::WriteEach);
            std::mem::take(&mut state.full_told)
        };
        if was_full {
            tracing::info!(id = %self.shared.id, "space has returned, appends are accepted again");
        }
        self.shared.tail.borrow_mut().written(written);
        self.shared.watch.notify();
        Ok(())
    }

    /// Syncs when as much is unsynced as may be.
    async fn flush_if_full(&self) -> Result<(), DiskError> {
        let flush = {
            let state = self.shared.state.borrow();
            state.has_unsynced_writes() && state.unsynced_bytes >= state.settings.flush_bytes
        };
        if flush {
            self.sync_written().await?;
        }
        Ok(())
    }

    /// Makes all that was written durable. The caller holds the device gate.
    pub(super) async fn sync_written(&self) -> Result<(), DiskError> {
        let written = self.shared.state.borrow().appender.written().clone();
        let has_file = {
            let state = self.shared.state.borrow();
            state
                .segment(written.segment)
                .is_some_and(|segment| segment.has_file)
        };
        if has_file {
            self.file(written.segment, Use::WriteOnSync)
                .await?
                .sync()
                .await?;
        }
        self.shared.state.borrow_mut().synced(written.offset);
        self.shared.watch.notify();
        Ok(())
    }

    /// Makes all that is accepted durable.
    ///
    /// # Errors
    /// [`crate::ChangeError`] when the log is latched, or by that.
    pub async fn flush(&self) -> Result<(), crate::ChangeError> {
        let _alone = self.shared.device.enter().await;
        self.drain().await;
        let latched = self.latched();
        if let Some(latch) = latched {
            return Err(latch.into());
        }
        if self.durable_end() < self.accepted_end() {
            self.sync_written()
                .await
                .inspect_err(|error| self.on_error(error))?;
        }
        Ok(())
    }

    /// Flushes, and writes a header without frames that vouches for the last write: damage to
    /// it can then be told from a torn write. For a log that is closed or falls idle; does
    /// nothing when the last write is vouched for.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub async fn vouch(&self) -> Result<(), crate::ChangeError> {
        let flushed = self.flush().await;
        let _alone = self.shared.device.enter().await;
        self.rest().await;
        flushed?;
        let write = {
            let mut state = self.shared.state.borrow_mut();
            let stated = state.stated();
            state.appender.vouch(&stated)
        };
        let Some(write) = write else { return Ok(()) };
        let vouched = match self.carry_out(&write).await {
            Ok(()) if self.writing() == Use::WriteOnSync => self.sync_written().await,
            done => done,
        };
        Ok(vouched.inspect_err(|error| self.on_error(error))?)
    }

    /// How the segment that is written to is opened.
    pub(super) fn writing(&self) -> Use {
        match self.shared.state.borrow().settings.write_caching {
            true => Use::WriteOnSync,
            false => Use::WriteEach,
        }
    }

    /// A write, or what belongs to it, failed.
    pub(super) fn on_error(&self, error: &DiskError) {
        let id = self.shared.id;
        if error.is_full() {
            let mut state = self.shared.state.borrow_mut();
            // Once for each time that it fills up: a probe fails many times a second.
            if !std::mem::replace(&mut state.full_told, true) {
                tracing::warn!(%id, %error, "the disk is full, appends are refused for now");
            }
            state.on_full();
            drop(state);
            self.after_taking_back();
        } else {
            tracing::error!(%id, %error, "a write failed, the log is read-only from now on");
            self.fail(&error.to_string());
        }
    }

    /// Cuts away what a failed write may have left behind the end of what was written.
    async fn repair_tail(&self) -> Result<(), DiskError> {
        let (place, tail, has_file) = {
            let state = self.shared.state.borrow();
            let place = state.appender.written().clone();
            let has_file = state
                .segment(place.segment)
                .is_some_and(|segment| segment.has_file);
            (place, state.appender.written_tail().to_vec(), has_file)
        };
        // What is being prepared behind the end would be prepared anew.
        let _unprepared = self.shared.ahead.enter().await;
        if has_file {
            let file = self.file(place.segment, Use::WriteOnSync).await?;
            self.shared
                .storage
                .cut(&*file, place.position, &tail)
                .await?;
        }
        let mut state = self.shared.state.borrow_mut();
        state.needs_repair = false;
        state.space = crate::space::Space::of_file(place.position.block_ceil().0);
        Ok(())
    }

    /// Whether a failed write or damage keeps the log from changing.
    pub(super) fn is_read_only(&self) -> Result<(), Latch> {
        match self.latched() {
            None | Some(Latch::Full) => Ok(()),
            Some(latch) => Err(latch),
        }
    }
}
