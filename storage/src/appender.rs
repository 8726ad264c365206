//! Append buffers: what was accepted and is not written yet, and the cursors
//! `durable <= written <= submitted <= accepted`.
//!
//! Frames gather in the open buffer. It is closed when it is full or when the writer takes
//! it, and written from the start of a device block: first a copy of the last, partial block
//! of what was submitted before, then a [`WriteHeader`], then the frames, then zeros to the
//! end of the block. One write is in flight at a time.
//!
//! Pure but for memory: buffers come from the disk, nothing is read or written.

use crate::disk::{BLOCK_LEN, Disk};
use crate::position::Position;
use millrace_model::{FRAME_HEADER_LEN, LeaderEpoch, Offset, Timestamp, WriteHeader};
use std::collections::VecDeque;
use std::ops::Range;

/// An open buffer up to this length is copied into a larger one when a frame does not fit,
/// so that a burst after silence becomes one write. Larger ones are closed.
const GROW_BELOW: usize = 128 << 10;

/// A buffer that is being filled, or that waits for its turn.
struct Buffer<B> {
    bytes: B,
    segment: Offset,
    /// Where its first byte goes in the segment: the start of a device block.
    start: Position,
    /// Where the write header goes in `bytes`; before it the copy of the last block.
    header_at: usize,
    len: usize,
    base: Offset,
    next: Offset,
}

impl<B> Buffer<B> {
    const fn is_empty(&self) -> bool {
        self.len == self.header_at + FRAME_HEADER_LEN
    }

    const fn end(&self) -> Position {
        self.start.plus(self.len)
    }
}

/// A write that is submitted.
pub(crate) struct Write<D: Disk> {
    /// Base offset of the segment that it goes to.
    pub(crate) segment: Offset,
    /// Where in the segment.
    pub(crate) at: Position,
    pub(crate) page: D::Page,
    /// The frames in the page.
    pub(crate) frames: Range<usize>,
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    /// Behind its last frame.
    pub(crate) end: Position,
    /// What its header says was durable when it was made.
    durable_end: Offset,
}

impl<D: Disk> Clone for Write<D> {
    fn clone(&self) -> Self {
        Self {
            page: self.page.clone(),
            frames: self.frames.clone(),
            ..*self
        }
    }
}

/// What a [`WriteHeader`] states besides the write itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stated {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) log_start: Offset,
    pub(crate) now: Timestamp,
}

/// Where a frame was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The write header before it, if it is the first of its write.
    pub(crate) write_at: Option<Position>,
    pub(crate) frame_at: Position,
}

/// A place in a log: an offset, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: Offset,
    pub(crate) position: Position,
    pub(crate) offset: Offset,
}

/// See the module's documentation.
pub(crate) struct Appender<D: Disk> {
    disk: D,
    seed: u32,
    max_buffer: usize,
    accepted: Place,
    written: Place,
    durable: Offset,
    open: Option<Buffer<D::Buf>>,
    closed: VecDeque<Buffer<D::Buf>>,
    in_flight: Option<Write<D>>,
    /// The last, partial block of what was submitted.
    tail: Vec<u8>,
    /// The same of what was written: what `tail` was before the write in flight.
    written_tail: Vec<u8>,
    recent_len: usize,
    pending_bytes: usize,
    /// Up to here, a later write header vouches for what was written, or recovery has looked.
    vouched: Place,
}

impl<D: Disk> Appender<D> {
    /// Goes on at `end`, everything before which is durable. `tail` is the content of the
    /// device block that holds `end`, up to it.
    pub(crate) fn new(disk: D, seed: u32, max_buffer: usize, end: Place, tail: Vec<u8>) -> Self {
        assert_eq!(
            tail.len(),
            end.position.in_block(),
            "the tail reaches to the end"
        );
        Self {
            disk,
            seed,
            max_buffer,
            durable: end.offset,
            vouched: end.clone(),
            written: end.clone(),
            accepted: end,
            open: None,
            closed: VecDeque::new(),
            in_flight: None,
            written_tail: tail.clone(),
            tail,
            recent_len: 0,
            pending_bytes: 0,
        }
    }

    /// Room for a frame of `len` bytes behind what is accepted. It counts only when it is
    /// committed; until then it may be staged over.
    pub(crate) fn stage(&mut self, len: usize) -> &mut [u8] {
        let open = match self.open.take() {
            Some(open) => self.with_room(open, len),
            None => self.fresh(len),
        };
        let open = self.open.insert(open);
        &mut open.bytes.as_mut()[open.len..open.len + len]
    }

    /// Gives a buffer back that was made for a frame that is not committed.
    pub(crate) fn unstage(&mut self) {
        if self.open.as_ref().is_some_and(Buffer::is_empty) {
            self.open = None;
        }
    }

    /// Accepts the staged frame of `len` bytes, whose last record is before `next`.
    pub(crate) fn commit(&mut self, len: usize, next: Offset) -> Placed {
        let open = self
            .open
            .as_mut()
            .expect("a frame is staged before it is committed");
        let write_at = open.is_empty().then(|| open.start.plus(open.header_at));
        let frame_at = open.end();
        open.len += len;
        open.next = next;
        assert!(
            open.len <= open.bytes.as_ref().len(),
            "a frame is committed as it was staged"
        );
        self.accepted.position = open.end();
        self.accepted.offset = next;
        self.pending_bytes += len;
        Placed { write_at, frame_at }
    }

    /// The next frame goes to a new segment.
    pub(crate) fn begin_segment(&mut self) {
        if let Some(open) = self.open.take().filter(|open| !open.is_empty()) {
            self.closed.push_back(open);
        }
        self.accepted.segment = self.accepted.offset;
        self.accepted.position = Position::ZERO;
    }

    /// All segments before `segment` are sealed; nothing is written to them any more.
    pub(crate) fn sealed_before(&mut self, segment: Offset) {
        self.written.segment = segment;
        self.written.position = Position::ZERO;
        self.written_tail = Vec::new();
    }

    /// The write to carry out now: the one in flight if it must be tried again, else the
    /// next one. Its write header states what is durable by now.
    pub(crate) fn next_write(&mut self, stated: &Stated) -> Option<Write<D>> {
        if self.in_flight.is_none() {
            let open = &mut self.open;
            let buffer = self
                .closed
                .pop_front()
                .or_else(|| open.take_if(|open| !open.is_empty()))?;
            let write = self.submit(buffer, stated);
            self.in_flight = Some(write);
        }
        self.in_flight.clone()
    }

    /// A write without frames, whose header vouches for the write before it. `None` when that
    /// is vouched for, when there is none in this segment, or while there is other work.
    pub(crate) fn vouch(&mut self, stated: &Stated) -> Option<Write<D>> {
        let is_idle = self.open.is_none() && self.closed.is_empty() && self.in_flight.is_none();
        let is_durable = self.durable == self.written.offset;
        let is_needed = self.written != self.vouched && self.written.position > Position::ZERO;
        if !is_idle || !is_durable || !is_needed || self.accepted != self.written {
            return None;
        }
        let buffer = self.fresh(0);
        self.accepted.position = buffer.end();
        self.in_flight = Some(self.submit(buffer, stated));
        self.in_flight.clone()
    }

    /// The write in flight, which is about to be carried out. Its header is made again if more
    /// has become durable since it was submitted: what comes before it must be vouched for.
    pub(crate) fn restated(&mut self, stated: &Stated) -> Write<D> {
        let write = self
            .in_flight
            .clone()
            .expect("a write is carried out after it was submitted");
        if write.durable_end == self.durable {
            return write;
        }
        let len = write.page.as_ref().len();
        let mut bytes = self.disk.buffer(len);
        bytes.as_mut()[..len].copy_from_slice(write.page.as_ref());
        let header = self.write_header(write.base, write.frames.len(), stated);
        let header_at = write.frames.start - FRAME_HEADER_LEN;
        bytes.as_mut()[header_at..write.frames.start].copy_from_slice(&header);
        self.tail = last_block(&bytes.as_ref()[..write.frames.end]);
        let write = Write {
            durable_end: self.durable,
            page: self.disk.freeze(bytes, len),
            ..write
        };
        self.in_flight = Some(write.clone());
        write
    }

    /// The write in flight is done.
    pub(crate) fn complete(&mut self) -> Write<D> {
        let write = self
            .in_flight
            .take()
            .expect("a write completes after it was submitted");
        self.pending_bytes -= write.frames.len();
        self.written = Place {
            segment: write.segment,
            position: write.end,
            offset: write.next,
        };
        if write.frames.is_empty() {
            self.vouched = self.written.clone();
        }
        self.written_tail.clone_from(&self.tail);
        write
    }

    /// Everything below `end` is durable.
    pub(crate) fn advance_durable(&mut self, end: Offset) {
        assert!(
            self.durable <= end && end <= self.written.offset,
            "durable is what was written"
        );
        self.durable = end;
    }

    /// Forgets all that is not written.
    pub(crate) fn drop_pending(&mut self) {
        self.open = None;
        self.closed = VecDeque::new();
        self.in_flight = None;
        self.tail.clone_from(&self.written_tail);
        self.accepted = self.written.clone();
        self.pending_bytes = 0;
    }

    pub(crate) const fn accepted(&self) -> &Place {
        &self.accepted
    }

    pub(crate) const fn written(&self) -> &Place {
        &self.written
    }

    pub(crate) const fn durable(&self) -> Offset {
        self.durable
    }

    /// End of the frames that are in immutable pages.
    pub(crate) fn submitted(&self) -> Offset {
        self.in_flight
            .as_ref()
            .map_or(self.written.offset, |write| write.next)
    }

    /// The last, partial device block of what was written.
    pub(crate) fn written_tail(&self) -> &[u8] {
        &self.written_tail
    }

    /// Whether anything waits to be written, or to be tried again.
    pub(crate) fn has_pending(&self) -> bool {
        self.accepted.offset > self.written.offset
    }

    /// Bytes of frames accepted and not written.
    pub(crate) const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        let len = |buffer: &Buffer<D::Buf>| buffer.bytes.as_ref().len();
        let buffers: usize = self.closed.iter().chain(&self.open).map(len).sum();
        let in_flight = self.in_flight.as_ref().map_or(0, |w| w.page.as_ref().len());
        buffers + in_flight + self.tail.capacity() + self.written_tail.capacity()
    }

    /// An open buffer in which `len` more bytes fit.
    fn with_room(&mut self, open: Buffer<D::Buf>, len: usize) -> Buffer<D::Buf> {
        let needed = open.len + len;
        if needed <= open.bytes.as_ref().len() {
            return open;
        }
        if open.is_empty() {
            return self.fresh(len);
        }
        if needed > GROW_BELOW {
            self.closed.push_back(open);
            return self.fresh(len);
        }
        let room = needed.max(open.bytes.as_ref().len() * 2);
        let mut bytes = self.disk.buffer(room.next_multiple_of(BLOCK_LEN));
        bytes.as_mut()[..open.len].copy_from_slice(&open.bytes.as_ref()[..open.len]);
        Buffer { bytes, ..open }
    }

    /// A new buffer behind what is accepted, for a frame of `len` bytes: just large enough
    /// when nothing is under way, else large enough for what is likely to come.
    fn fresh(&self, len: usize) -> Buffer<D::Buf> {
        let Place {
            segment,
            position,
            offset,
        } = self.accepted;
        let header_at = position.in_block();
        let filled = header_at + FRAME_HEADER_LEN;
        let busy = self.in_flight.is_some() || !self.closed.is_empty();
        let likely = if busy {
            (self.recent_len * 2).min(self.max_buffer)
        } else {
            0
        };
        let room = (filled + len).max(likely).next_multiple_of(BLOCK_LEN);
        Buffer {
            bytes: self.disk.buffer(room),
            segment,
            start: position.block_floor(),
            header_at,
            len: filled,
            base: offset,
            next: offset,
        }
    }

    fn submit(&mut self, mut buffer: Buffer<D::Buf>, stated: &Stated) -> Write<D> {
        let padded = buffer.len.next_multiple_of(BLOCK_LEN);
        let frames = buffer.header_at + FRAME_HEADER_LEN..buffer.len;
        let header = self.write_header(buffer.base, frames.len(), stated);
        let bytes = buffer.bytes.as_mut();
        bytes[..buffer.header_at].copy_from_slice(match buffer.header_at {
            0 => &[],
            _ => &self.tail,
        });
        bytes[buffer.header_at..frames.start].copy_from_slice(&header);
        bytes[buffer.len..padded].fill(0);
        self.tail = last_block(&bytes[..buffer.len]);
        self.recent_len = buffer.len;
        Write {
            segment: buffer.segment,
            at: buffer.start,
            end: buffer.end(),
            base: buffer.base,
            next: buffer.next,
            durable_end: self.durable,
            frames,
            page: self.disk.freeze(buffer.bytes, padded),
        }
    }

    fn write_header(
        &self,
        base: Offset,
        frames_len: usize,
        stated: &Stated,
    ) -> [u8; FRAME_HEADER_LEN] {
        WriteHeader {
            magic: WriteHeader::MAGIC,
            checksum: 0,
            frames_len: u32::try_from(frames_len).expect("a buffer is far below 4 GiB"),
            leader_epoch: stated.epoch,
            next_offset: base,
            durable_end: self.durable,
            log_start: stated.log_start,
            timestamp: stated.now,
            reserved: [0; 2],
        }
        .seal(self.seed)
    }
}

/// What stands in the last, partial device block of `bytes`.
fn last_block(bytes: &[u8]) -> Vec<u8> {
    bytes[Position(bytes.len() as u64).block_floor().0 as usize..].to_vec()
}
