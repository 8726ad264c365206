//! What a log knows of each of its segments.

use crate::index::Index;
use crate::position::Position;
use crate::retention::SegmentFacts;
use crate::scan::FrameSummary;
use millrace_model::LeaderEpochs;
use millrace_model::{Offset, Timestamp};
use std::rc::Rc;

/// How far a segment is in its life. Only the last segments of a log are not sealed.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Frames are added.
    Open,
    /// No frame is added any more; the footer follows when all frames are written.
    Closed(Rc<Closing>),
    /// Its footer and trailer are durable.
    Sealed {
        /// Where the footer stands.
        footer_at: Position,
        /// Bytes of the footer.
        footer_len: u32,
        /// When it was sealed.
        sealed_at: Timestamp,
    },
}

/// State of the log at the end of a segment, for its footer.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) epochs: LeaderEpochs,
    /// Encoded.
    pub(crate) producers: Vec<u8>,
}

/// One segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    /// Offset after its last record.
    pub(crate) end: Offset,
    /// Behind its last frame.
    pub(crate) data_end: Position,
    /// Upper bound of its timestamps.
    pub(crate) max_timestamp: Timestamp,
    /// Read from the footer when it is first needed; of a segment that is not sealed it is
    /// always there.
    pub(crate) index: Option<Rc<Index>>,
    pub(crate) stage: Stage,
    /// Whether its file is there.
    pub(crate) has_file: bool,
    /// When its first frame was appended.
    pub(crate) created: Timestamp,
}

impl Segment {
    /// A segment that begins at `base`, without frames and without a file.
    pub(crate) fn new(base: Offset, now: Timestamp) -> Self {
        Self {
            base,
            end: base,
            data_end: Position::ZERO,
            max_timestamp: Timestamp::NONE,
            index: Some(Rc::default()),
            stage: Stage::Open,
            has_file: false,
            created: now,
        }
    }

    pub(crate) const fn is_sealed(&self) -> bool {
        matches!(self.stage, Stage::Sealed { .. })
    }

    /// A write header begins at `at`.
    pub(crate) fn add_write(&mut self, at: Position) {
        let end = self.end;
        self.index_mut().boundary(at, end);
    }

    /// A frame begins at `at`.
    pub(crate) fn add_frame(&mut self, at: Position, frame: &FrameSummary) {
        let index = self.index_mut();
        index.boundary(at, frame.base);
        index.cover(frame.max_timestamp);
        self.max_timestamp = self.max_timestamp.max(frame.max_timestamp);
        self.end = frame.next;
        self.data_end = at.plus(frame.len);
    }

    /// Takes back all from `end` on, which stands at `data_end`. The segment is open again.
    pub(crate) fn take_back(&mut self, end: Offset, data_end: Position) {
        self.index_mut().truncate(data_end);
        self.end = end;
        self.data_end = data_end;
        self.stage = Stage::Open;
    }

    /// Bytes on the device, as far as they matter.
    pub(crate) fn bytes(&self) -> u64 {
        match self.stage {
            Stage::Sealed {
                footer_at,
                footer_len,
                ..
            } => {
                footer_at
                    .plus(footer_len as usize + crate::disk::BLOCK_LEN)
                    .0
            }
            Stage::Open | Stage::Closed(_) => self.data_end.block_ceil().0,
        }
    }

    pub(crate) fn facts(&self) -> SegmentFacts {
        let without_timestamps = match self.stage {
            Stage::Sealed { sealed_at, .. } => sealed_at,
            Stage::Open | Stage::Closed(_) => self.created,
        };
        let youngest = match self.max_timestamp {
            Timestamp::NONE => without_timestamps,
            youngest => youngest,
        };
        SegmentFacts {
            next: self.end,
            bytes: self.bytes(),
            youngest,
            sealed: self.is_sealed(),
        }
    }

    fn index_mut(&mut self) -> &mut Index {
        let index = self
            .index
            .as_mut()
            .expect("a segment that is not sealed has its index");
        Rc::make_mut(index)
    }
}
