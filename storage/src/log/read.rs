//! Reads: from the pages at the tail, from the cache, from files.

use super::{FrameRun, Log};
use crate::cache::Stretch;
use crate::disk::Disk;
use crate::frames::{self, Run};
use crate::{Latch, ReadError};
use millrace_model::{Decompressor, Frame, Offset, Timestamp};
use std::rc::Rc;

/// The most that one compressed batch may become when its timestamps are looked for: as
/// much as a frame can hold uncompressed. A batch beyond it is found by its header alone.
const DECOMPRESSED_LIMIT: usize = millrace_model::MAX_FRAME_LEN;

/// Bytes of one step of a search by timestamp.
const SEARCH_READ_LEN: usize = 256 << 10;

impl<D: Disk> Log<D> {
    /// Whole frames, the first of which holds `from`, up to `max_bytes` but at least one, none
    /// with a record at or above `below` or [`Log::readable_end`]. Empty when `from` is the
    /// end. Does not wait for a device when the first frame is in memory.
    ///
    /// # Errors
    /// [`ReadError`]: out of range, damaged, or the disk failed.
    pub async fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        below: Offset,
    ) -> Result<Vec<FrameRun<D>>, ReadError> {
        let readable = self.check_range(from)?.min(below);
        if from >= readable {
            return Ok(Vec::new());
        }
        self.shared.state.borrow_mut().was_read = true;
        match self.read_below(from, max_bytes, readable).await {
            // What was read may have been removed meanwhile.
            Err(error) => match from >= self.check_range(from)? {
                true => Ok(Vec::new()),
                false => Err(error),
            },
            runs => runs,
        }
    }

    async fn read_below(
        &self,
        from: Offset,
        max_bytes: usize,
        below: Offset,
    ) -> Result<Vec<FrameRun<D>>, ReadError> {
        let mut runs = Vec::new();
        self.collect(from, max_bytes, below, &mut runs);
        if runs.is_empty() {
            self.ensure_index(from).await?;
            self.collect(from, max_bytes, below, &mut runs);
        }
        if runs.is_empty() {
            let stretch = self.load_at(from, max_bytes).await?;
            self.add_from_stretch(&stretch, from, max_bytes, below, &mut runs);
            let next = runs.last().map_or(from, |run| run.next);
            self.collect(next, max_bytes, below, &mut runs);
        }
        if let Some(last) = runs.last() {
            self.read_ahead(from, last.next, len_of(&runs));
        }
        Ok(runs)
    }

    /// The first record with a timestamp of at least `timestamp`, and its timestamp.
    ///
    /// # Errors
    /// [`ReadError`]: damaged, or the disk failed.
    pub async fn find_timestamp(
        &self,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let mut from = self.log_start();
        let mut scratch = Decompressor::new();
        while let Some(block) = self.next_with_timestamp(from, timestamp).await? {
            from = from.max(block);
            let runs = match self.read(from, SEARCH_READ_LEN, Offset(u64::MAX)).await {
                // The log was shortened at one of its ends meanwhile.
                Err(ReadError::OutOfRange { start, .. }) if from < start => {
                    from = start;
                    continue;
                }
                Err(ReadError::OutOfRange { .. }) => return Ok(None),
                runs => runs?,
            };
            let Some(last) = runs.last() else {
                return Ok(None);
            };
            for frame in runs.iter().flat_map(|run| frames::each(run.as_bytes())) {
                let found = self.first_in_frame(frame, timestamp, from, &mut scratch);
                if found.is_some() {
                    return Ok(found);
                }
            }
            from = last.next;
        }
        Ok(None)
    }

    /// The end of what can be read, if `from` is in range.
    fn check_range(&self, from: Offset) -> Result<Offset, ReadError> {
        let state = self.shared.state.borrow();
        let (start, end) = (state.log_start, state.range_end());
        if let Some(Latch::Damaged { .. }) = &state.latch
            && from >= end
        {
            return Err(self.damage_at_end(&state.latch));
        }
        if from < start || from > end {
            return Err(ReadError::OutOfRange {
                offset: from,
                start,
                end,
            });
        }
        Ok(state.readable_end())
    }

    fn damage_at_end(&self, latch: &Option<Latch>) -> ReadError {
        let Some(Latch::Damaged { file, position, .. }) = latch else {
            unreachable!("the caller has seen the damage");
        };
        ReadError::Damaged {
            path: self.shared.dir.join(&**file),
            position: *position,
            reason: "found when the log was opened".to_owned(),
        }
    }

    /// Adds what is in memory from `from` on, without a gap.
    fn collect(
        &self,
        mut from: Offset,
        max_bytes: usize,
        below: Offset,
        runs: &mut Vec<FrameRun<D>>,
    ) {
        while from < below {
            let left = left(max_bytes, runs);
            if !runs.is_empty() && left == 0 {
                return;
            }
            let Some((page, part)) = self.in_memory(from, left, below, runs.is_empty()) else {
                return;
            };
            from = part.next;
            runs.push(FrameRun {
                page,
                range: part.range,
                base: part.base,
                next: part.next,
            });
        }
    }

    fn in_memory(
        &self,
        from: Offset,
        max_bytes: usize,
        below: Offset,
        at_least_one: bool,
    ) -> Option<(D::Page, Run)> {
        let take = |page: &D::Page, run: &Run| {
            let part = run.part(page.as_ref(), from, below, max_bytes, at_least_one)?;
            Some((page.clone(), part))
        };
        if let Some((page, run)) = self.shared.tail.borrow().find(from) {
            return take(page, run);
        }
        let place = self.place(from)?;
        let cache = &self.shared.storage.cache;
        let stretch = cache.find(place.key, place.span.end)?;
        let taken = take(&stretch.page, stretch.find(from)?)?;
        if stretch.ends_at(taken.1.next) {
            cache.passed(&stretch);
        }
        Some(taken)
    }

    fn add_from_stretch(
        &self,
        stretch: &Rc<Stretch<D>>,
        mut from: Offset,
        max_bytes: usize,
        below: Offset,
        runs: &mut Vec<FrameRun<D>>,
    ) {
        while let Some(run) = stretch.find(from) {
            let (left, first) = (left(max_bytes, runs), runs.is_empty());
            let part = run.part(stretch.page.as_ref(), from, below, left, first);
            let Some(Run { range, base, next }) = part else {
                return;
            };
            runs.push(FrameRun {
                page: stretch.page.clone(),
                range,
                base,
                next,
            });
            from = next;
        }
        if stretch.ends_at(from) {
            self.shared.storage.cache.passed(stretch);
        }
    }

    /// The first offset at or behind `from` of a block that may hold `timestamp` or later.
    async fn next_with_timestamp(
        &self,
        mut from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<Offset>, ReadError> {
        loop {
            let (end, may_hold) = {
                let state = self.shared.state.borrow();
                let Some(segment) = state.segment_of(from) else {
                    return Ok(None);
                };
                (segment.end, segment.max_timestamp >= timestamp)
            };
            if may_hold {
                self.ensure_index(from).await?;
                let state = self.shared.state.borrow();
                let index = state
                    .segment_of(from)
                    .and_then(|segment| segment.index.as_ref());
                let found = index.and_then(|index| index.first_with_timestamp(from, timestamp));
                if found.is_some() {
                    return Ok(found);
                }
            }
            from = end;
        }
    }

    /// The first record of a frame at or behind `from` with `timestamp` or later.
    fn first_in_frame(
        &self,
        frame: &[u8],
        timestamp: Timestamp,
        from: Offset,
        scratch: &mut Decompressor,
    ) -> Option<(Offset, Timestamp)> {
        let frame = Frame::check_stored(frame, self.shared.id.checksum_seed()).ok()?;
        let header = frame.header();
        if header.max_timestamp < timestamp {
            return None;
        }
        let whole = (header.base_offset.max(from), header.max_timestamp);
        let Ok(records) = frame.batch().records(scratch, DECOMPRESSED_LIMIT) else {
            return Some(whole);
        };
        records
            .map_while(Result::ok)
            .find(|record| record.offset >= from && record.timestamp >= timestamp)
            .map(|record| (record.offset, record.timestamp))
    }
}

/// Bytes that may still be added.
fn left<D: Disk>(max_bytes: usize, runs: &[FrameRun<D>]) -> usize {
    max_bytes.saturating_sub(len_of(runs))
}

fn len_of<D: Disk>(runs: &[FrameRun<D>]) -> usize {
    runs.iter().map(|run| run.range.len()).sum()
}
