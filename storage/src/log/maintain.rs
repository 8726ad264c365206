//! What happens from time to time: the log start moves, segments age and go, cached writes
//! are flushed, idle memory is released.

use super::{Log, Maintained};
use crate::ChangeError;
use crate::disk::{Disk, DiskError, File};
use crate::files::Use;
use crate::footer::Footer;
use crate::producers::{self, Producers};
use crate::retention::{self, Expired};
use crate::segment::{Segment, Stage};
use crate::start_file::{Deleted, StartFile};
use millrace_model::{Offset, Timestamp};

/// A log that was not used for so long gives back its pages at the tail, its indexes and its
/// open files. Long beside the cost of opening a file again, short beside a person's patience.
const IDLE_AFTER_MS: u64 = 5_000;

/// After a failure to remove segments it is tried again so much later.
const REMOVE_AGAIN_MS: i64 = 10_000;

/// How long an idempotent producer is remembered after its last batch: Kafka's default of
/// `producer.id.expiration.ms`.
const PRODUCER_ID_EXPIRATION_MS: i64 = 86_400_000;

impl<D: Disk> Log<D> {
    /// Does what is due at `now`: flushes cached writes, seals a segment that is too old,
    /// removes segments that retention no longer keeps, releases the memory of an idle log,
    /// and tries a full disk again. Cheap when nothing is due. Appends go on meanwhile.
    pub async fn maintain(&self, now: Timestamp) -> Maintained {
        let mut done = Maintained::default();
        {
            let mut state = self.shared.state.borrow_mut();
            state.clock = state.clock.max(now);
            let clock = state.clock;
            state.producers.expire(clock, PRODUCER_ID_EXPIRATION_MS);
            if state.retry_at().is_some_and(|at| at <= clock) {
                state.retry();
            }
        }
        if self.is_read_only().is_err() {
            return done;
        }
        if let Err(error) = self.maintain_files(&mut done).await {
            self.on_error(&error);
        }
        self.remove_expired(&mut done).await;
        if self.is_idle() {
            // A failure latches the log and says so.
            let _ = self.vouch().await;
        }
        // Again: it may have been used meanwhile.
        if self.is_idle() {
            done.released = self.release();
        }
        done
    }

    /// When [`Log::maintain`] has something to do because of time, if nothing else happens.
    /// `None` while the log is idle or read-only.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let state = self.shared.state.borrow();
        if state.latch.is_some() {
            return state.retry_at();
        }
        let after = |from: Timestamp, ms: u64| {
            Timestamp(from.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
        };
        let unflushed = state
            .unsynced_since
            .filter(|_| state.settings.write_caching);
        let flush = unflushed.map(|since| after(since, state.settings.flush_ms));
        let open = state
            .segments
            .back()
            .filter(|s| !s.is_sealed() && s.end > s.base);
        let seal = open.map(|segment| after(segment.created, state.settings.segment_ms));
        let oldest = state
            .segments
            .front()
            .filter(|s| s.is_sealed() || s.end > s.base)
            .filter(|s| !s.is_sealed() || s.end <= state.keep_from);
        let expire = oldest.and_then(|s| retention::due(s.facts(), &state.settings));
        let expire = expire.map(|at| at.max(state.remove_again_at));
        let release = state.in_use_since.map(|since| after(since, IDLE_AFTER_MS));
        let near = |at: &Timestamp| at.0 < i64::MAX;
        [flush, seal, expire, release]
            .into_iter()
            .flatten()
            .filter(near)
            .min()
    }

    /// Moves the log start up to `to`, at most to the durable end. Durable when it returns.
    /// Segments that are wholly below go at once. Returns the log start, which is above `to`
    /// if it was before.
    ///
    /// # Errors
    /// [`ChangeError`]: above the durable end, read-only, or the disk failed.
    pub async fn set_log_start(&self, to: Offset) -> Result<Offset, ChangeError> {
        let _alone = self.shared.changes.enter().await;
        self.is_read_only()?;
        let (start, end) = (self.log_start(), self.durable_end());
        if to > end {
            return Err(ChangeError::OutOfRange {
                offset: to,
                start,
                end,
            });
        }
        if to <= start {
            return Ok(start);
        }
        self.move_start(to, 0).await?;
        let below = self.expired().segments;
        if below > 0 {
            // The start is moved; what cannot be removed now goes with the next segment.
            if let Err(error) = self.remove_oldest(below).await {
                tracing::warn!(id = %self.shared.id, %error, "segments below the log start stay");
            }
        }
        Ok(self.log_start())
    }

    async fn maintain_files(&self, done: &mut Maintained) -> Result<(), DiskError> {
        if self.is_device_work_due() {
            let _alone = self.shared.device.enter().await;
            self.drain().await;
            if self.latched().is_none() {
                self.flush_if_due(done).await?;
                self.seal_if_due(done).await?;
            }
            self.drain().await;
        }
        Ok(())
    }

    /// Removes what retention no longer keeps. A failure harms nothing: the log start may
    /// have moved, files stay for now.
    async fn remove_expired(&self, done: &mut Maintained) {
        let is_early = {
            let state = self.shared.state.borrow();
            state.clock < state.remove_again_at
        };
        if is_early || self.expired().segments == 0 {
            return;
        }
        let _alone = self.shared.changes.enter().await;
        let expired = self.expired().segments;
        if expired == 0 {
            // Whoever was behind the gate has removed them.
            return;
        }
        match self.remove_oldest(expired).await {
            Ok(()) => done.removed = expired,
            Err(error) => {
                tracing::warn!(id = %self.shared.id, %error, "old segments stay for now");
                let mut state = self.shared.state.borrow_mut();
                state.remove_again_at = Timestamp(state.clock.0.saturating_add(REMOVE_AGAIN_MS));
            }
        }
    }

    fn is_device_work_due(&self) -> bool {
        let state = self.shared.state.borrow();
        let retry = state.latch.is_none() && state.needs_repair && state.appender.has_pending();
        drop(state);
        retry || self.is_flush_due() || self.is_seal_due()
    }

    fn is_flush_due(&self) -> bool {
        let state = self.shared.state.borrow();
        let flush_ms = i64::try_from(state.settings.flush_ms).unwrap_or(i64::MAX);
        let since = state
            .unsynced_since
            .filter(|_| state.settings.write_caching);
        since.is_some_and(|since| state.clock.0.saturating_sub(since.0) >= flush_ms)
    }

    async fn flush_if_due(&self, done: &mut Maintained) -> Result<(), DiskError> {
        if self.is_flush_due() {
            self.sync_written().await?;
            done.flushed = true;
        }
        Ok(())
    }

    fn is_seal_due(&self) -> bool {
        let aged = {
            let state = self.shared.state.borrow();
            let open = |s: &&Segment| matches!(s.stage, Stage::Open) && s.end > s.base;
            let last = state.segments.back().filter(open);
            last.map(|last| state.is_aged(last))
        };
        aged.is_some_and(|aged| aged || self.expired().seal_last)
    }

    /// Seals the last segment because of its age. The next one is made when it is needed.
    async fn seal_if_due(&self, done: &mut Maintained) -> Result<(), DiskError> {
        if !self.is_seal_due() || self.shared.state.borrow().appender.has_pending() {
            return Ok(());
        }
        self.sync_written().await?;
        // A frame may have been accepted while that was under way.
        let base = {
            let mut state = self.shared.state.borrow_mut();
            if state.appender.has_pending() {
                return Ok(());
            }
            state.close_segment();
            state.segments.back().map(|last| last.base)
        };
        if let Some(base) = base {
            self.seal(base).await?;
            done.sealed += 1;
        }
        Ok(())
    }

    fn expired(&self) -> Expired {
        let state = self.shared.state.borrow();
        let facts = state.segments.iter().map(Segment::facts);
        let bounds = (state.log_start, state.keep_from);
        retention::expired(facts, &state.settings, bounds, state.clock)
    }

    /// Removes the `count` oldest segments, which are sealed: first the log start moves,
    /// durably, then they are out of the list, then their files go. On a full disk, where
    /// nothing can be written but much removed, the first segment that stays tells the start.
    async fn remove_oldest(&self, count: usize) -> Result<(), DiskError> {
        let start = {
            let state = self.shared.state.borrow();
            state.segments[count - 1].end.max(state.log_start)
        };
        let stays = self.shared.state.borrow().segments.len() > count;
        match self.move_start(start, count).await {
            Err(error) if error.is_full() && stays => {
                self.shared.state.borrow_mut().removing = true;
                let removed = self.remove_unnoted(count).await;
                self.shared.state.borrow_mut().removing = false;
                self.shared.watch.notify();
                return removed;
            }
            moved => moved?,
        }
        for _ in 0..count {
            let segment = self.shared.state.borrow_mut().segments.pop_front();
            let Some(segment) = segment else { break };
            self.recycle(&segment).await?;
        }
        self.shared.storage.disk.sync_dir(&self.shared.dir).await
    }

    /// Removes the `count` oldest segments without a note of the new log start. It is shown
    /// when the removal is durable, for a crash before that brings the old one back. Readers
    /// who miss the file meanwhile wait, see [`Log::file`]. If it cannot be made durable,
    /// nobody knows where the log starts until it is opened again.
    async fn remove_unnoted(&self, count: usize) -> Result<(), DiskError> {
        let storage = &self.shared.storage;
        for _ in 0..count {
            let oldest = self.shared.state.borrow().segments.front().cloned();
            let Some(segment) = oldest else { break };
            storage.disk.remove_file(&self.path(segment.base)).await?;
            storage
                .disk
                .sync_dir(&self.shared.dir)
                .await
                .inspect_err(|error| self.fail(&error.to_string()))?;
            {
                let mut state = self.shared.state.borrow_mut();
                state.segments.pop_front();
                state.log_start = state.log_start.max(segment.end);
            }
            storage.files.close(self.key(segment.base));
            storage.cache.forget_segment(self.key(segment.base));
        }
        Ok(())
    }

    /// Writes the log-start file for a log that begins at `to` and loses its `count` oldest
    /// segments, then moves the start.
    async fn move_start(&self, to: Offset, count: usize) -> Result<(), DiskError> {
        let known = self.shared.state.borrow().deleted.clone();
        let deleted = match count {
            0 => known,
            _ => Some(self.state_after(count - 1).await?),
        };
        let file = StartFile {
            log_start: to,
            truncate_to: None,
            deleted: deleted.clone(),
        };
        let seed = self.shared.id.checksum_seed();
        self.shared
            .storage
            .replace_start_file(&self.shared.dir, seed, &file)
            .await?;
        {
            let mut state = self.shared.state.borrow_mut();
            state.deleted = deleted;
            state.log_start = to.max(state.log_start);
            state.epochs.truncate_start(to);
        }
        self.shared.watch.notify();
        Ok(())
    }

    /// State at the end of the sealed segment at place `n`, from its footer.
    async fn state_after(&self, n: usize) -> Result<Deleted, DiskError> {
        let (base, end, footer_at, footer_len) = {
            let state = self.shared.state.borrow();
            let segment = &state.segments[n];
            let Stage::Sealed {
                footer_at,
                footer_len,
                ..
            } = segment.stage
            else {
                panic!("only sealed segments are removed");
            };
            (segment.base, segment.end, footer_at, footer_len)
        };
        let file = self.file(base, Use::Read).await?;
        let page = file.read_at(footer_at.0, footer_len as usize).await?;
        let seed = self.shared.id.checksum_seed();
        Ok(match Footer::decode(page.as_ref(), seed, base, end) {
            Ok(Footer {
                epochs, producers, ..
            }) => Deleted {
                end,
                epochs,
                producers,
            },
            Err(error) => {
                let id = self.shared.id;
                tracing::warn!(%id, %error, "the footer of a removed segment is damaged");
                let (mut producers, epochs) =
                    (Vec::new(), self.shared.state.borrow().epochs.clone());
                producers::encode(&Producers::default(), &mut producers);
                let mut epochs = epochs;
                epochs.truncate_end(end);
                Deleted {
                    end,
                    epochs,
                    producers,
                }
            }
        })
    }

    /// Gives back what only a log in use needs.
    fn release(&self) -> usize {
        let mut state = self.shared.state.borrow_mut();
        let sealed = state
            .segments
            .iter_mut()
            .filter(|segment| segment.is_sealed());
        let indexes = sealed.filter_map(|segment| segment.index.take());
        let released: usize = indexes.map(|index| index.heap_bytes()).sum();
        state.in_use_since = None;
        drop(state);
        self.shared
            .storage
            .files
            .close_log(self.shared.number.get());
        released + self.shared.tail.borrow_mut().release()
    }

    /// Whether nobody used the log for [`IDLE_AFTER_MS`]. Reads bring no clock, so one counts
    /// as if it came now.
    fn is_idle(&self) -> bool {
        let mut state = self.shared.state.borrow_mut();
        if std::mem::take(&mut state.was_read) {
            state.in_use_since = Some(state.clock);
        }
        let clock = state.clock;
        state.in_use_since.is_some_and(|since| {
            u64::try_from(clock.0.saturating_sub(since.0)).is_ok_and(|idle| idle >= IDLE_AFTER_MS)
        })
    }
}
