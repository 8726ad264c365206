//! Walks the bytes of a segment: write headers and frames, each checked, until something
//! does not continue the log. Pure; the caller brings the bytes.

use crate::planted::{Planted, is_planted};
use crate::position::Position;
use crate::producers::ProducerBatch;
use millrace_model::batch::BatchHeader;
use millrace_model::{
    FRAME_ALIGN, FRAME_HEADER_LEN, Frame, FrameError, FrameHeader, LeaderEpoch, Offset, Timestamp,
    WriteHeader,
};

/// What the log keeps of a frame that it has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSummary {
    /// Offset of its first record.
    pub base: Offset,
    /// Offset after its last record.
    pub next: Offset,
    /// Epoch of the leader that appended it.
    pub epoch: LeaderEpoch,
    /// No record has a larger timestamp.
    pub max_timestamp: Timestamp,
    /// The broker's clock at the append.
    pub append_timestamp: Timestamp,
    /// Bytes of the frame.
    pub len: usize,
    /// Records in it.
    pub records: u32,
    /// The idempotent producer's part.
    pub producer: Option<ProducerBatch>,
}

impl FrameSummary {
    pub(crate) fn of(frame: &Frame<'_>) -> Self {
        let producer = Self::producer_of(frame.batch().header());
        Self {
            producer,
            ..Self::of_header(frame.header())
        }
    }

    /// What a header alone tells.
    fn of_header(header: &FrameHeader) -> Self {
        Self {
            base: header.base_offset,
            next: header.next_offset(),
            epoch: header.leader_epoch,
            max_timestamp: header.max_timestamp,
            append_timestamp: header.append_timestamp,
            len: header.len(),
            records: header.record_count,
            producer: None,
        }
    }

    /// The idempotent producer's part of a batch.
    pub(crate) fn producer_of(batch: &BatchHeader) -> Option<ProducerBatch> {
        batch.producer().map(|stamp| ProducerBatch {
            id: stamp.id,
            epoch: stamp.epoch,
            first: stamp.base_sequence,
            last: stamp.base_sequence.plus(batch.last_offset_delta),
        })
    }
}

/// Something valid in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A device write begins.
    Write(WriteHeader),
    /// A frame.
    Frame(FrameSummary),
}

/// Why a scan ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The file ends where a write would begin.
    #[error("the file ends")]
    EndOfFile,
    /// Zeros where a write would begin.
    #[error("zeros follow")]
    Zeros,
    /// The bytes are no write header and no frame of this log, or damaged.
    #[error("not of this log, or damaged: {0}")]
    Invalid(FrameError),
    /// A valid header with an offset or epoch that does not continue the log.
    #[error("offset {offset} of epoch {epoch} does not continue the log")]
    NotContinuation {
        /// Its offset.
        offset: Offset,
        /// Its epoch.
        epoch: LeaderEpoch,
    },
    /// A frame that is longer than its write, or a write of a length that cannot be.
    #[error("a length that cannot be")]
    Length,
}

/// What [`Scanner::step`] has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A valid item at this position. The scanner stands behind it now.
    Item(Position, Item),
    /// Goes on when this many bytes from [`Scanner::position`] on are there.
    Need(usize),
    /// Nothing more of the log follows.
    Stop(Stop),
}

/// A place in a segment, and what must follow there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanner {
    seed: u32,
    position: Position,
    /// Frames of the current write reach to here.
    write_end: Position,
    expected: Offset,
    epoch: LeaderEpoch,
}

impl Scanner {
    /// At the start of the segment that begins with offset `base`.
    pub(crate) const fn new(seed: u32, base: Offset) -> Self {
        Self {
            seed,
            position: Position::ZERO,
            write_end: Position::ZERO,
            expected: base,
            epoch: LeaderEpoch(0),
        }
    }

    /// Inside a segment, at a write header or a frame that begins with offset `expected`.
    pub(crate) const fn inside(seed: u32, position: Position, expected: Offset) -> Self {
        Self {
            position,
            write_end: Position(u64::MAX),
            ..Self::new(seed, expected)
        }
    }

    /// Where the next item stands: behind the last valid one.
    pub(crate) const fn position(&self) -> Position {
        self.position
    }

    /// Offset of the next record.
    pub(crate) const fn expected(&self) -> Offset {
        self.expected
    }

    /// Takes the next item off `window`, the bytes from [`Scanner::position`] on. `last`
    /// tells that the file has no more than these.
    pub(crate) fn step(&mut self, window: &[u8], last: bool) -> Step {
        let Some(header) = window.get(..FRAME_HEADER_LEN) else {
            return match last {
                false => Step::Need(FRAME_HEADER_LEN),
                true if window.iter().all(|&byte| byte == 0) => Step::Stop(Stop::EndOfFile),
                true => Step::Stop(Stop::Length),
            };
        };
        if header.iter().all(|&byte| byte == 0) {
            return Step::Stop(Stop::Zeros);
        }
        if starts_with_magic(header, FrameHeader::MAGIC) && self.position < self.write_end {
            self.step_frame(window, last)
        } else {
            self.step_write(header)
        }
    }

    fn step_write(&mut self, bytes: &[u8]) -> Step {
        let header = match WriteHeader::parse(bytes, self.seed) {
            Ok(header) => header,
            Err(error) => return Step::Stop(Stop::Invalid(error)),
        };
        if let Err(stop) = self.continues(header.next_offset, header.leader_epoch) {
            return Step::Stop(stop);
        }
        if !(header.frames_len as usize).is_multiple_of(FRAME_ALIGN) {
            return Step::Stop(Stop::Length);
        }
        let at = self.position;
        self.position = at.plus(FRAME_HEADER_LEN);
        self.write_end = self.position.plus(header.frames_len as usize);
        Step::Item(at, Item::Write(header))
    }

    fn step_frame(&mut self, window: &[u8], last: bool) -> Step {
        let header = match FrameHeader::parse(window, self.seed) {
            Ok(header) => header,
            Err(error) => return Step::Stop(Stop::Invalid(error)),
        };
        if let Err(stop) = self.continues(header.base_offset, header.leader_epoch) {
            return Step::Stop(stop);
        }
        if header.len() > self.write_end.since(self.position) {
            return Step::Stop(Stop::Length);
        }
        if window.len() < header.len() {
            return if last {
                Step::Stop(Stop::Length)
            } else {
                Step::Need(header.len())
            };
        }
        match Frame::check_stored(window, self.seed) {
            Ok(frame) => self.accept(FrameSummary::of(&frame)),
            Err(_) if is_planted(Planted::SkippedCrc) => {
                self.accept(FrameSummary::of_header(&header))
            }
            Err(error) => Step::Stop(Stop::Invalid(error)),
        }
    }

    fn accept(&mut self, frame: FrameSummary) -> Step {
        let at = self.position;
        self.position = at.plus(frame.len);
        self.expected = frame.next;
        self.epoch = frame.epoch;
        Step::Item(at, Item::Frame(frame))
    }

    fn continues(&self, offset: Offset, epoch: LeaderEpoch) -> Result<(), Stop> {
        match offset == self.expected && epoch >= self.epoch {
            true => Ok(()),
            false => Err(Stop::NotContinuation { offset, epoch }),
        }
    }
}

fn starts_with_magic(bytes: &[u8], magic: u32) -> bool {
    bytes.starts_with(&magic.to_le_bytes())
}

/// What is left in a file behind the end of its valid part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Beyond {
    /// Whether any byte is not zero.
    pub remains: bool,
    /// A valid write header that vouches for more than was found: where it stands, and the
    /// offset below which everything was durable when it was written.
    pub vouches: Option<(Position, Offset)>,
}

impl Beyond {
    /// Adds the bytes of a file from `at` on, a multiple of [`FRAME_ALIGN`]. A caller that
    /// brings a file in parts repeats the last [`Beyond::OVERLAP`] bytes of each part.
    pub(crate) fn look(&mut self, bytes: &[u8], at: Position, seed: u32, expected: Offset) {
        self.remains = self.remains || bytes.iter().any(|&byte| byte != 0);
        if self.vouches.is_some() {
            return;
        }
        for (from, header) in bytes
            .windows(FRAME_HEADER_LEN)
            .enumerate()
            .step_by(FRAME_ALIGN)
        {
            if !starts_with_magic(header, WriteHeader::MAGIC) {
                continue;
            }
            let vouches = WriteHeader::parse(header, seed).ok().map(|h| h.durable_end);
            if let Some(durable) = vouches.filter(|&durable| durable > expected) {
                self.vouches = Some((at.plus(from), durable));
                return;
            }
        }
    }

    /// Bytes that a header may have on the other side of a part's end.
    pub(crate) const OVERLAP: usize = FRAME_HEADER_LEN - FRAME_ALIGN;
}
