//! Brings into memory what a read misses: the index of a segment, and stretches of blocks, each
//! header and each batch of which is checked once, here.

use super::Log;
use crate::ReadError;
use crate::cache::{BlockKey, Stretch, Turn};
use crate::disk::{Disk, File};
use crate::files::Use;
use crate::footer::Footer;
use crate::frames::Run;
use crate::index::{BlockSpan, Index};
use crate::position::Position;
use crate::scan::{Item, Scanner, Step, Stop};
use crate::segment::{Segment, Stage};
use millrace_model::Offset;
use std::cell::Cell;
use std::rc::Rc;

use super::state::State;

/// Bytes that one read brings at most, unless a single block is longer: enough that a device is
/// at its full speed with two or three under way, little enough that many readers have room.
pub(super) const STRETCH_LEN: usize = 512 << 10;

/// The part of the cache that one stretch may fill, as a divisor.
const STRETCHES_IN_CACHE: usize = 8;

/// Blocks that are not in memory, and where they stand.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The first of them.
    pub(super) key: BlockKey,
    pub(super) blocks: usize,
    /// From the start of the first to the end of the last.
    pub(super) span: BlockSpan,
}

impl Place {
    pub(super) fn len(&self) -> usize {
        self.span.end.since(self.span.start)
    }

    /// Behind the number of its last block.
    pub(super) const fn end(&self) -> usize {
        self.key.number + self.blocks
    }
}

impl<D: Disk> Log<D> {
    /// Where the block with `offset` stands, if the index of its segment is in memory and the
    /// block is on the device.
    pub(super) fn place(&self, offset: Offset) -> Option<Place> {
        let state = self.shared.state.borrow();
        let segment = state.segment_of(offset)?;
        let data_end = written_part(&state, segment);
        let span = segment.index.as_ref()?.block_of(offset, data_end)?;
        let key = BlockKey {
            segment: self.key(segment.base),
            number: span.number,
        };
        let is_written = offset < state.appender.written().offset && span.start < span.end;
        is_written.then_some(Place {
            key,
            blocks: 1,
            span,
        })
    }

    /// `place` and the blocks behind it, up to `bytes` and as far as they are neither in memory
    /// nor coming.
    pub(super) fn extended(&self, mut place: Place, bytes: usize) -> Place {
        let (state, storage) = (self.shared.state.borrow(), &self.shared.storage);
        let Some(segment) = state.segment(place.key.segment.base) else {
            return place;
        };
        let Some(index) = &segment.index else {
            return place;
        };
        let limit = storage.limits.read_cache_bytes / STRETCHES_IN_CACHE;
        let limit = bytes.min(STRETCH_LEN).min(limit);
        let data_end = written_part(&state, segment);
        while let Some(next) = index.block(place.end(), data_end) {
            let key = BlockKey {
                number: next.number,
                ..place.key
            };
            let is_written = next.start < next.end;
            if !is_written
                || next.end.since(place.span.start) > limit
                || storage.cache.is_at_hand(key, next.end)
            {
                break;
            }
            place.span.end = next.end;
            place.blocks += 1;
        }
        place
    }

    /// The first offset behind some blocks.
    pub(super) fn behind(&self, place: &Place) -> Option<Offset> {
        let state = self.shared.state.borrow();
        let segment = state.segment(place.key.segment.base)?;
        let next = segment.index.as_ref()?.block(place.end(), segment.data_end);
        Some(next.map_or(segment.end, |block| block.base))
    }

    /// Blocks that begin with the one that holds `offset`, which is on the device; when they are
    /// not in memory, as many as hold about `bytes`.
    pub(super) async fn load_at(
        &self,
        offset: Offset,
        bytes: usize,
    ) -> Result<Rc<Stretch<D>>, ReadError> {
        loop {
            self.ensure_index(offset).await?;
            let Some(block) = self.place(offset) else {
                return Err(self.gone(offset));
            };
            let cache = &self.shared.storage.cache;
            if let Some(stretch) = cache.find(block.key, block.span.end) {
                return Ok(stretch);
            }
            let place = self.extended(block, bytes);
            match cache.turn(place.key, place.end()) {
                Turn::Wait(changed) => changed.await,
                Turn::Load(loading) => {
                    let loaded = match self.load(&place).await {
                        // What is behind the block may be damaged without any harm to it.
                        Err(_) if place.blocks > 1 => self.load(&block).await,
                        loaded => loaded,
                    };
                    let stretch = match loaded {
                        Err(_) if self.log_start() > offset => return Err(self.gone(offset)),
                        loaded => Rc::new(loaded?),
                    };
                    loading.done(Rc::clone(&stretch));
                    return Ok(stretch);
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

    /// Reads blocks and checks every header and every batch in them.
    pub(super) async fn load(&self, place: &Place) -> Result<Stretch<D>, ReadError> {
        let (base, span) = (place.key.segment.base, place.span);
        let at = span.start.block_floor();
        let file = self.file(base, Use::Read).await?;
        let page = file.read_at(at.0, span.end.block_ceil().since(at)).await?;
        let runs = self.check_blocks(page.as_ref(), at, span);
        let runs = runs.map_err(|(position, stop)| self.damaged(base, position, &stop))?;
        Ok(Stretch {
            key: place.key,
            page,
            runs,
            blocks: place.blocks,
            end: span.end,
            ahead: Cell::default(),
            passes: Cell::default(),
        })
    }

    fn check_blocks(
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

    /// Brings the index of the segment with `offset` into memory.
    pub(super) async fn ensure_index(&self, offset: Offset) -> Result<(), ReadError> {
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
}

/// The end of what of a segment's data is on the device.
fn written_part<D: Disk>(state: &State<D>, segment: &Segment) -> Position {
    let written = state.appender.written();
    match segment.base == written.segment {
        true => segment.data_end.min(written.position),
        false => segment.data_end,
    }
}
