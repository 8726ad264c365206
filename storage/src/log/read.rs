//! Reads: from the pages at the tail, from the cache, from files; and read-ahead.

use super::{FrameRun, Log};
use crate::cache::{Block, BlockKey, Turn};
use crate::disk::{Disk, File};
use crate::files::Use;
use crate::footer::Footer;
use crate::frames::{self, Run};
use crate::index::{BlockSpan, Index};
use crate::position::Position;
use crate::scan::{Item, Scanner, Step, Stop};
use crate::segment::Stage;
use crate::{Latch, ReadError};
use millrace_model::{Decompressor, Frame, Offset, Timestamp};
use std::rc::Rc;

/// Bytes that a sequential reader finds read ahead of it.
const READ_AHEAD_BYTES: usize = 512 << 10;

/// The most that one compressed batch may become when its timestamps are looked for: as
/// much as a frame can hold uncompressed. A batch beyond it is found by its header alone.
const DECOMPRESSED_LIMIT: usize = millrace_model::MAX_FRAME_LEN;

/// Bytes of one step of a search by timestamp.
const SEARCH_READ_LEN: usize = 256 << 10;

/// A block that is not in memory, and where it stands.
struct Place {
    key: BlockKey,
    span: BlockSpan,
}

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
            let block = self.load_at(from).await?;
            self.add_from_block(&block, from, max_bytes, below, &mut runs);
            let next = runs.last().map_or(from, |run| run.next);
            self.collect(next, max_bytes, below, &mut runs);
        }
        if let Some(last) = runs.last() {
            self.read_ahead(from, last.next);
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
        let block = self.shared.storage.cache.find(place.key, place.span.end)?;
        take(&block.page, block.find(from)?)
    }

    fn add_from_block(
        &self,
        block: &Block<D>,
        mut from: Offset,
        max_bytes: usize,
        below: Offset,
        runs: &mut Vec<FrameRun<D>>,
    ) {
        while let Some(run) = block.find(from) {
            let (left, first) = (left(max_bytes, runs), runs.is_empty());
            let part = run.part(block.page.as_ref(), from, below, left, first);
            let Some(Run { range, base, next }) = part else {
                return;
            };
            runs.push(FrameRun {
                page: block.page.clone(),
                range,
                base,
                next,
            });
            from = next;
        }
    }

    /// Where the block with `offset` stands, if the index of its segment is in memory and the
    /// block is on the device.
    fn place(&self, offset: Offset) -> Option<Place> {
        let state = self.shared.state.borrow();
        let segment = state.segment_of(offset)?;
        let written = state.appender.written();
        let data_end = match segment.base == written.segment {
            true => segment.data_end.min(written.position),
            false => segment.data_end,
        };
        let span = segment.index.as_ref()?.block_of(offset, data_end)?;
        let key = BlockKey {
            segment: self.key(segment.base),
            number: span.number,
        };
        (offset < written.offset && span.start < span.end).then_some(Place { key, span })
    }

    /// Brings the index of the segment with `offset` into memory.
    async fn ensure_index(&self, offset: Offset) -> Result<(), ReadError> {
        let (base, end, data_end, sealed) = {
            let state = self.shared.state.borrow();
            let Some(segment) = state.segment_of(offset) else {
                return Ok(());
            };
            let Stage::Sealed {
                footer_at,
                footer_len,
                ..
            } = segment.stage
            else {
                return Ok(());
            };
            if segment.index.is_some() {
                return Ok(());
            }
            (
                segment.base,
                segment.end,
                segment.data_end,
                (footer_at, footer_len),
            )
        };
        let seed = self.shared.id.checksum_seed();
        let file = self.file(base, Use::Read).await?;
        let page = file.read_at(sealed.0.0, sealed.1 as usize).await?;
        let index = match Footer::decode(page.as_ref(), seed, base, end) {
            Ok(footer) => footer.index,
            Err(error) => {
                let (id, path) = (self.shared.id, self.path(base));
                tracing::warn!(%id, path = %path.display(), %error, "a footer is damaged, scanning");
                self.scan_index(&file, base, end, data_end).await?
            }
        };
        if let Some(segment) = self.shared.state.borrow_mut().segment_mut(base) {
            segment.index = Some(Rc::new(index));
        }
        Ok(())
    }

    /// The index of a sealed segment whose footer does not hold. Its trailer does, so what
    /// is missing is damage; the blocks before it can be read all the same.
    async fn scan_index(
        &self,
        file: &D::File,
        base: Offset,
        end: Offset,
        data_end: Position,
    ) -> Result<Index, ReadError> {
        let (mut index, mut next) = (Index::default(), base);
        let seed = self.shared.id.checksum_seed();
        let scanned = self
            .shared
            .storage
            .scan(file, seed, base, Some(end), |at, item| match item {
                Item::Write(_) => index.boundary(at, next),
                Item::Frame(frame) => {
                    index.boundary(at, frame.base);
                    index.cover(frame.max_timestamp);
                    next = frame.next;
                }
            })
            .await?;
        let position = scanned.scanner.position();
        match position < data_end && scanned.scanner.expected() < end {
            true => Err(self.damaged(base, position, &scanned.stop)),
            false => Ok(index),
        }
    }

    /// The block with `offset`, which is on the device.
    async fn load_at(&self, offset: Offset) -> Result<Rc<Block<D>>, ReadError> {
        loop {
            self.ensure_index(offset).await?;
            let Some(place) = self.place(offset) else {
                return Err(self.gone(offset));
            };
            let cache = &self.shared.storage.cache;
            if let Some(block) = cache.find(place.key, place.span.end) {
                return Ok(block);
            }
            match cache.turn(place.key) {
                Turn::Wait(changed) => changed.await,
                Turn::Load(loading) => {
                    let block = match self.load(&place).await {
                        Err(_) if self.log_start() > offset => return Err(self.gone(offset)),
                        block => Rc::new(block?),
                    };
                    loading.done(Rc::clone(&block));
                    return Ok(block);
                }
            }
        }
    }

    /// The log was shortened at one of its ends, and `offset` is not in it any more.
    fn gone(&self, offset: Offset) -> ReadError {
        let state = self.shared.state.borrow();
        let (start, end) = (state.log_start, state.ack_end());
        ReadError::OutOfRange { offset, start, end }
    }

    /// Reads a block and checks every header and every batch in it.
    async fn load(&self, place: &Place) -> Result<Block<D>, ReadError> {
        let (base, span) = (place.key.segment.base, place.span);
        let at = span.start.block_floor();
        let file = self.file(base, Use::Read).await?;
        let page = file.read_at(at.0, span.end.block_ceil().since(at)).await?;
        let runs = self.check_block(page.as_ref(), at, span);
        let runs = runs.map_err(|(position, stop)| self.damaged(base, position, &stop))?;
        Ok(Block {
            page,
            runs,
            end: span.end,
        })
    }

    fn check_block(
        &self,
        bytes: &[u8],
        at: Position,
        span: BlockSpan,
    ) -> Result<Vec<Run>, (Position, Stop)> {
        let mut scanner = Scanner::inside(self.shared.id.checksum_seed(), span.start, span.base);
        let bytes = bytes
            .get(..span.end.since(at))
            .ok_or((span.end, Stop::EndOfFile))?;
        let mut runs: Vec<Run> = Vec::new();
        while scanner.position() < span.end {
            let from = scanner.position().since(at);
            match scanner.step(&bytes[from..], true) {
                Step::Item(_, Item::Write(_)) => {}
                Step::Item(_, Item::Frame(frame)) => {
                    match runs.last_mut().filter(|run| run.range.end == from) {
                        Some(run) => (run.range.end, run.next) = (from + frame.len, frame.next),
                        None => runs.push(Run {
                            range: from..from + frame.len,
                            base: frame.base,
                            next: frame.next,
                        }),
                    }
                }
                Step::Need(_) => return Err((scanner.position(), Stop::EndOfFile)),
                Step::Stop(stop) => return Err((scanner.position(), stop)),
            }
        }
        Ok(runs)
    }

    fn damaged(&self, base: Offset, position: Position, stop: &Stop) -> ReadError {
        let (id, path) = (self.shared.id, self.path(base));
        tracing::error!(%id, path = %path.display(), %position, %stop, "stored data is damaged");
        ReadError::Damaged {
            path,
            position,
            reason: stop.to_string(),
        }
    }

    /// Loads the blocks behind `next` in the background, if the read that ended there was one
    /// of a sequence.
    fn read_ahead(&self, from: Offset, next: Offset) {
        let is_sequential = self.shared.state.borrow_mut().note_read(from, next);
        let Some(spawner) = self.shared.storage.spawner.borrow().clone() else {
            return;
        };
        let is_in_tail = self.shared.tail.borrow().find(next).is_some();
        if !is_sequential || is_in_tail || next >= self.written_end() || self.is_at_hand(next) {
            return;
        }
        let log = self.clone();
        spawner(Box::pin(async move { log.load_ahead(next).await }));
    }

    /// Whether the block of `offset` and the one behind it are cached or being loaded.
    fn is_at_hand(&self, offset: Offset) -> bool {
        let Some(place) = self.place(offset) else {
            return false;
        };
        let cache = &self.shared.storage.cache;
        let here = |place: &Place| {
            cache.is_loading(place.key) || cache.find(place.key, place.span.end).is_some()
        };
        let behind = self.behind(&place).and_then(|next| self.place(next));
        here(&place) && behind.is_none_or(|place| here(&place))
    }

    async fn load_ahead(&self, mut next: Offset) {
        let mut loaded = 0;
        while loaded < READ_AHEAD_BYTES && next < self.written_end() {
            // What fails here is met again, and reported, by the reader itself.
            if self.load_at(next).await.is_err() {
                return;
            }
            let Some(place) = self.place(next) else {
                return;
            };
            loaded += place.span.end.since(place.span.start);
            let Some(behind) = self.behind(&place) else {
                return;
            };
            next = behind;
        }
    }

    /// The first offset behind a block.
    fn behind(&self, place: &Place) -> Option<Offset> {
        let state = self.shared.state.borrow();
        let segment = state.segment(place.key.segment.base)?;
        let next = segment
            .index
            .as_ref()?
            .block(place.span.number + 1, segment.data_end);
        Some(next.map_or(segment.end, |block| block.base))
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
    max_bytes.saturating_sub(runs.iter().map(|run| run.range.len()).sum())
}
