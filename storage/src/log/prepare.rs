//! Prepares space in the segment that is written to, beside its writes. What and when is decided by
//! [`Space`](crate::space::Space).
//!
//! **Invariant:** whoever prepares holds the `ahead` gate, and so does whoever makes, seals, cuts or
//! removes the file of a segment. The gate is entered after the `device` gate, never before it by
//! somebody who then waits for that one.

use super::Log;
use crate::disk::{Disk, DiskError, File};
use crate::files::Use;
use crate::position::Position;
use crate::segment::Stage;
use crate::space::{Prepare, ZERO_WRITE};
use millrace_model::Offset;

impl<D: Disk> Log<D> {
    /// Whether space should be prepared and nobody does. Then it is time to spawn
    /// [`Log::prepare_space`]. A log for which nobody does writes more slowly, that is all.
    #[must_use]
    pub fn wants_space(&self) -> bool {
        !self.shared.ahead.is_taken() && self.planned().is_some()
    }

    /// Prepares space for writes to come, if it is due. Runs beside [`Log::write_pending`].
    /// A write that needs the very blocks that are being prepared waits for it, no other.
    pub async fn prepare_space(&self) {
        let _alone = self.shared.ahead.enter().await;
        let Some((base, plan)) = self.planned() else {
            return;
        };
        self.shared.state.borrow_mut().space.begin(plan);
        let prepared = self.prepare(base, plan).await;
        if self.writing() != Use::WriteOnSync {
            // The writes have a handle of their own; with a second one for each log, a shard with
            // many would close and open files all the time.
            let files = &self.shared.storage.files;
            files.close_use(self.key(base), Use::WriteOnSync);
        }
        let mut state = self.shared.state.borrow_mut();
        match prepared {
            Ok(()) => state.space.prepared(plan),
            Err(error) => {
                // The writes themselves will tell if it matters: none relies on this.
                state.space.pause();
                if !error.is_full() {
                    tracing::warn!(id = %self.shared.id, %error, "space could not be prepared");
                }
            }
        }
    }

    /// Waits for the end of a preparation, and lets none begin until the log is busy again: an executor
    /// that ends must not leave one behind.
    pub(super) async fn rest(&self) {
        let _alone = self.shared.ahead.enter().await;
        self.shared.state.borrow_mut().space.rest();
    }

    /// The open segment and what to prepare in it.
    fn planned(&self) -> Option<(Offset, Prepare)> {
        let state = self.shared.state.borrow();
        let base = state.appender.written().segment;
        let segment = state.segment(base)?;
        let is_open = matches!(segment.stage, Stage::Open) && segment.has_file;
        if !is_open || state.latch.is_some() || state.needs_repair {
            return None;
        }
        let plan = state.space.plan(state.settings.segment_bytes)?;
        Some((base, plan))
    }

    async fn prepare(&self, base: Offset, plan: Prepare) -> Result<(), DiskError> {
        // Nothing of it needs to be durable before a write that uses it is.
        let file = self.file(base, Use::WriteOnSync).await?;
        let (Prepare::Allocate { from, to } | Prepare::Zero { from, to }) = plan;
        // A write beyond the file's length excludes all others, and the kernel leaves it to a
        // thread that waits for it. With its length and its blocks known, neither is so.
        file.truncate(to.0).await?;
        file.allocate(to.0).await?;
        if let Prepare::Allocate { .. } = plan {
            return Ok(());
        }
        let zeros = self.shared.storage.zeros();
        let mut at = from;
        while at < to {
            file.write_at(&zeros, at.0).await?;
            at = at.plus(ZERO_WRITE);
        }
        Ok(())
    }

    /// Takes the place of a write that is about to begin, after the preparation if it is in the way.
    pub(super) async fn claim(&self, at: Position, len: usize) {
        while self.shared.state.borrow().space.is_preparing(at, len) {
            drop(self.shared.ahead.enter().await);
        }
        self.shared.state.borrow_mut().space.claim(at, len);
    }
}
