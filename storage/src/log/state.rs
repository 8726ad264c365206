//! The state of a log and its synchronous steps: accept a frame, take back what failed, and
//! the cursors that others read. Pure but for memory.

use crate::appender::{Appender, Stated};
use crate::disk::Disk;
use crate::planted::{Planted, is_planted};
use crate::producers::{self, Producers, Verdict};
use crate::replica_run::{ReplicaError, ReplicaRun};
use crate::scan::FrameSummary;
use crate::segment::{Closing, Segment, Stage};
use crate::space::Space;
use crate::start_file::Deleted;
use crate::{AppendError, Appended, Latch};
use bytes::Bytes;
use millrace_model::LeaderEpochs;
use millrace_model::{
    FRAME_HEADER_LEN, Frame, LeaderEpoch, MAX_FRAME_LEN, Offset, ProduceError, ProduceLimits,
    ProducedFrame, Timestamp, TopicSettings, frame_len_for,
};
use std::collections::VecDeque;
use std::rc::Rc;

/// While the disk is full, one append in this many milliseconds is let through, to see
/// whether space has returned: often enough that nobody waits for it, seldom enough that the
/// failing writes do not keep the device busy.
const FULL_PROBE_MS: i64 = 25;

/// Ends of reads that are remembered, to recognise sequential readers.
const READERS: usize = 8;

/// A spare file: its former base offset, which is its name, and its length.
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) len: u64,
}

/// What a producer sent, in as many chunks as the network brought.
#[derive(Clone, Copy)]
pub(crate) enum Sent<'a> {
    /// A whole frame: header, batch, padding.
    Frame(&'a [Bytes]),
    /// A record batch alone. Its frame is made around it, in the append buffer.
    Batch(&'a [Bytes]),
}

impl Sent<'_> {
    /// Bytes of the frame. One that is over [`MAX_FRAME_LEN`] is never accepted.
    fn frame_len(self) -> usize {
        match self {
            Self::Frame(chunks) => len_of(chunks),
            Self::Batch(chunks) => frame_len_for(len_of(chunks)).unwrap_or(usize::MAX),
        }
    }

    /// Copies it into `room`, which has the frame's length, and checks it there.
    fn check<'r>(
        self,
        room: &'r mut [u8],
        seed: u32,
        limits: &ProduceLimits,
        now: Timestamp,
    ) -> Result<ProducedFrame<'r>, ProduceError> {
        match self {
            Self::Frame(chunks) => {
                gather(room, chunks);
                ProducedFrame::check(room, seed, limits, now)
            }
            Self::Batch(chunks) => {
                let batch_len = gather(&mut room[FRAME_HEADER_LEN..], chunks);
                ProducedFrame::check_batch(room, batch_len, seed, limits, now)
            }
        }
    }
}

pub(crate) struct State<D: Disk> {
    pub(crate) seed: u32,
    /// The epoch of frames that are appended here.
    pub(crate) epoch: LeaderEpoch,
    pub(crate) settings: Rc<TopicSettings>,
    pub(crate) produce_limits: ProduceLimits,
    pub(crate) pending_limit: usize,
    pub(crate) appender: Appender<D>,
    /// Oldest first. The last may be open, and those before it closed but not yet sealed.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: Producers,
    pub(crate) log_start: Offset,
    pub(crate) deleted: Option<Deleted>,
    pub(crate) latch: Option<Latch>,
    /// The disk was full; what a failed write left behind must be cut before the next one.
    pub(crate) needs_repair: bool,
    probe_at: Timestamp,
    /// The log has said that the disk is full, and not yet that it no longer is.
    pub(crate) full_told: bool,
    /// The log is being truncated to here: no frame is accepted, none is read above.
    pub(crate) truncating: Option<Offset>,
    /// Files of the oldest segments are being removed, and the log start will follow.
    pub(crate) removing: bool,
    /// Retention removes nothing at or above this.
    pub(crate) keep_from: Offset,
    /// Segments could not be removed; time to try again.
    pub(crate) remove_again_at: Timestamp,
    /// What was acknowledged under `write.caching` stays acknowledged.
    pub(crate) acked_floor: Offset,
    /// Writes that no sync has followed yet, and since when.
    pub(crate) unsynced_bytes: u64,
    pub(crate) unsynced_since: Option<Timestamp>,
    pub(crate) space: Space,
    pub(crate) spares: Vec<Spare>,
    /// The latest time that a caller has told.
    pub(crate) clock: Timestamp,
    /// Since when the log may hold pages, indexes or files that an idle one gives back: its
    /// last use. `None` while it holds none.
    pub(crate) in_use_since: Option<Timestamp>,
    /// Whether it was read since [`Log::maintain`](super::Log::maintain) last looked.
    pub(crate) was_read: bool,
    read_ends: VecDeque<Offset>,
}

/// What recovery brings.
pub(crate) struct Recovered<D: Disk> {
    pub(crate) appender: Appender<D>,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: Producers,
    pub(crate) log_start: Offset,
    pub(crate) deleted: Option<Deleted>,
    pub(crate) latch: Option<Latch>,
    pub(crate) space: Space,
}

impl<D: Disk> State<D> {
    pub(crate) fn new(
        seed: u32,
        epoch: LeaderEpoch,
        settings: Rc<TopicSettings>,
        pending_limit: usize,
        recovered: Recovered<D>,
        now: Timestamp,
    ) -> Self {
        let epoch = recovered
            .epochs
            .latest()
            .map_or(epoch, |latest| latest.max(epoch));
        Self {
            seed,
            epoch,
            produce_limits: settings.produce_limits(),
            settings,
            pending_limit,
            acked_floor: recovered.appender.durable(),
            appender: recovered.appender,
            segments: recovered.segments,
            epochs: recovered.epochs,
            producers: recovered.producers,
            log_start: recovered.log_start,
            deleted: recovered.deleted,
            latch: recovered.latch,
            needs_repair: false,
            probe_at: now,
            full_told: false,
            truncating: None,
            removing: false,
            keep_from: Offset(u64::MAX),
            remove_again_at: now,
            unsynced_bytes: 0,
            unsynced_since: None,
            space: recovered.space,
            spares: Vec::new(),
            clock: now,
            in_use_since: Some(now),
            was_read: false,
            read_ends: VecDeque::new(),
        }
    }

    /// Goes on with what recovery has left after a truncation.
    pub(crate) fn replace(&mut self, recovered: Recovered<D>) {
        self.truncating = None;
        self.acked_floor = recovered.appender.durable();
        self.appender = recovered.appender;
        self.segments = recovered.segments;
        self.epochs = recovered.epochs;
        self.producers = recovered.producers;
        self.log_start = recovered.log_start;
        self.deleted = recovered.deleted;
        self.latch = recovered.latch;
        self.space = recovered.space;
        (self.unsynced_bytes, self.unsynced_since) = (0, None);
    }

    /// See [`crate::Log::append`] and [`crate::Log::append_batch`].
    pub(crate) fn append(
        &mut self,
        now: Timestamp,
        sent: Sent<'_>,
    ) -> Result<Appended, AppendError> {
        self.clock = self.clock.max(now);
        let len = sent.frame_len();
        self.admit(len)?;
        if self.is_roll_due(len) {
            let judged = self.judge(len, sent);
            self.appender.unstage();
            if let Some(known) = judged? {
                return Ok(known);
            }
            self.close_segment();
        }
        let accepted = self.accept(len, sent);
        self.appender.unstage();
        if self.latch == Some(Latch::Full) && accepted.as_ref().is_ok_and(|a| !a.duplicate) {
            self.latch = None;
        }
        accepted
    }

    /// Whether a frame of this length may be looked at now.
    fn admit(&self, len: usize) -> Result<(), AppendError> {
        match &self.latch {
            Some(Latch::Full) if self.clock >= self.probe_at => {}
            Some(latch) => return Err(latch.clone().into()),
            None => {}
        }
        if self.truncating.is_some() {
            return Err(AppendError::Truncating);
        }
        if !(FRAME_HEADER_LEN..=MAX_FRAME_LEN).contains(&len) {
            return Err(AppendError::Length(len));
        }
        if !self.has_room(len) {
            return Err(AppendError::Overloaded(self.appender.pending_bytes()));
        }
        Ok(())
    }

    /// Whether so much more may wait to be written. A frame may always wait alone.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        let pending = self.appender.pending_bytes();
        pending == 0 || pending + len <= self.pending_limit
    }

    /// Checks a frame without accepting it. `Some` if it is in the log already.
    fn judge(&mut self, len: usize, sent: Sent<'_>) -> Result<Option<Appended>, AppendError> {
        let room = self.appender.stage(len);
        let frame = sent.check(room, self.seed, &self.produce_limits, self.clock)?;
        recognise(&self.producers, &frame)
    }

    fn is_roll_due(&self, len: usize) -> bool {
        let Some(last) = self
            .segments
            .back()
            .filter(|s| matches!(s.stage, Stage::Open))
        else {
            return false;
        };
        let end = self
            .appender
            .accepted()
            .position
            .plus(FRAME_HEADER_LEN + len);
        last.end > last.base && (end.0 > self.settings.segment_bytes || self.is_aged(last))
    }

    /// Whether a segment is older than `segment.ms`.
    pub(crate) fn is_aged(&self, segment: &Segment) -> bool {
        let age = self.clock.0.saturating_sub(segment.created.0);
        u64::try_from(age).is_ok_and(|age| age >= self.settings.segment_ms)
    }

    /// Adds no more to the last segment: the next frame goes to a new one.
    pub(crate) fn close_segment(&mut self) {
        self.appender.begin_segment();
        let Some(last) = self
            .segments
            .back_mut()
            .filter(|s| matches!(s.stage, Stage::Open))
        else {
            return;
        };
        let mut encoded = Vec::new();
        producers::encode(&self.producers, &mut encoded);
        let closing = Closing {
            epochs: self.epochs.clone(),
            producers: encoded,
        };
        last.stage = Stage::Closed(Rc::new(closing));
    }

    /// Copies the frame behind what is accepted, checks it there, and gives it its place.
    fn accept(&mut self, len: usize, sent: Sent<'_>) -> Result<Appended, AppendError> {
        let place = self.appender.accepted().clone();
        let room = self.appender.stage(len);
        let frame = sent.check(room, self.seed, &self.produce_limits, self.clock)?;
        if let Some(known) = recognise(&self.producers, &frame)? {
            return Ok(known);
        }
        let frame = FrameSummary::of(&frame.assign(place.offset, self.epoch, self.clock));
        self.take(&frame);
        Ok(Appended {
            base_offset: frame.base,
            next_offset: frame.next,
            append_timestamp: frame.append_timestamp,
            duplicate: false,
        })
    }

    /// See [`crate::Log::append_replica`].
    pub(crate) fn append_replica(
        &mut self,
        now: Timestamp,
        run: &ReplicaRun,
    ) -> Result<(), ReplicaError> {
        self.clock = self.clock.max(now);
        self.admit(run.len())?;
        let mut frames = run.frames();
        while let Some(len) = frames.next_len() {
            let accepted = self.accept_replica(len, |room| frames.copy(room));
            self.appender.unstage();
            accepted?;
            frames.pass(len);
        }
        if self.latch == Some(Latch::Full) {
            self.latch = None;
        }
        Ok(())
    }

    /// Accepts a frame of a leader as it is, if it goes on where the log ends.
    fn accept_replica(&mut self, len: usize, copy: impl Fn(&mut [u8])) -> Result<(), ReplicaError> {
        let mut frame = self.stage_replica(len, &copy)?;
        if self.is_roll_due(len) {
            self.appender.unstage();
            self.close_segment();
            frame = self.stage_replica(len, &copy)?;
        }
        if is_planted(Planted::ForgottenSequences) {
            frame.producer = None;
        }
        self.take(&frame);
        Ok(())
    }

    /// Copies a leader's frame behind what is accepted and checks it there.
    fn stage_replica(
        &mut self,
        len: usize,
        copy: impl Fn(&mut [u8]),
    ) -> Result<FrameSummary, ReplicaError> {
        let expected = self.appender.accepted().offset;
        let room = self.appender.stage(len);
        copy(room);
        let frame = FrameSummary::of(&Frame::check_stored(room, self.seed)?);
        if frame.base != expected {
            let found = frame.base;
            return Err(ReplicaError::Gap { expected, found });
        }
        match self.epochs.latest() {
            Some(latest) if frame.epoch < latest => Err(ReplicaError::Epoch {
                epoch: frame.epoch,
                latest,
            }),
            _ => Ok(frame),
        }
    }

    /// Accepts the frame that is staged.
    fn take(&mut self, frame: &FrameSummary) {
        let place = self.appender.accepted().segment;
        let placed = self.appender.commit(frame.len, frame.next);
        if self.segments.back().is_none_or(|last| last.base != place) {
            self.segments.push_back(Segment::new(place, self.clock));
        }
        let segment = self
            .segments
            .back_mut()
            .expect("it was pushed if it was missing");
        if let Some(at) = placed.write_at {
            segment.add_write(at);
        }
        segment.add_frame(placed.frame_at, frame);
        self.epochs.assign(frame.epoch, frame.base);
        if let Some(batch) = &frame.producer {
            self.producers
                .record(batch, frame.base, frame.next, frame.append_timestamp);
        }
        self.in_use_since = Some(self.clock);
        self.unsynced_since.get_or_insert(self.clock);
    }

    /// The disk is full: takes back what nobody was told of, and refuses appends for a while.
    /// What was acknowledged from memory is kept, to be written when space returns.
    pub(crate) fn on_full(&mut self) {
        self.needs_repair = true;
        self.latch = Some(Latch::Full);
        self.probe_at = Timestamp(self.clock.0.saturating_add(FULL_PROBE_MS));
        self.take_back_unacknowledged();
    }

    /// A write failed for good.
    pub(crate) fn on_failure(&mut self, reason: &str) {
        if matches!(self.latch, None | Some(Latch::Full)) {
            self.latch = Some(Latch::Failed(reason.into()));
        }
        self.take_back_unacknowledged();
    }

    fn take_back_unacknowledged(&mut self) {
        if self.ack_end() > self.appender.written().offset {
            return;
        }
        self.appender.drop_pending();
        let written = self.appender.written().clone();
        while self.segments.back().is_some_and(|last| {
            last.base > written.segment
                || (last.base == written.segment && last.base == written.offset)
        }) {
            self.segments.pop_back();
        }
        if let Some(last) = self
            .segments
            .back_mut()
            .filter(|s| s.base == written.segment)
        {
            last.take_back(written.offset, written.position);
        }
        self.epochs.truncate_end(written.offset);
        self.producers.roll_back(written.offset);
    }

    /// Time to try again to write what was acknowledged while the disk was full.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        let waiting = self.latch == Some(Latch::Full) && self.appender.has_pending();
        waiting.then_some(self.probe_at)
    }

    /// Lets the writer try again.
    pub(crate) fn retry(&mut self) {
        self.latch = None;
    }

    /// The write in flight is done. `durable` tells whether it is durable by that.
    pub(crate) fn written(&mut self, durable: bool) {
        let write = self.appender.complete();
        self.space
            .wrote(write.at, write.end.block_ceil().since(write.at));
        self.unsynced_bytes += write.frames.len() as u64;
        if durable {
            self.synced(write.next);
        }
    }

    /// Everything below `end` is durable.
    pub(crate) fn synced(&mut self, end: Offset) {
        self.appender.advance_durable(end);
        self.producers.settle(end);
        if end == self.appender.written().offset {
            self.unsynced_bytes = 0;
            let clock = self.clock;
            self.unsynced_since = self.appender.has_pending().then_some(clock);
        }
    }

    /// Whether a sync is needed before all that was written is durable.
    pub(crate) fn has_unsynced_writes(&self) -> bool {
        self.appender.durable() < self.appender.written().offset
    }

    pub(crate) fn stated(&self) -> Stated {
        Stated {
            // A follower's log has frames of later epochs than those of its own appends.
            epoch: self.epoch.max(self.epochs.latest().unwrap_or_default()),
            log_start: self.log_start,
            now: self.clock,
        }
    }

    pub(crate) fn ack_end(&self) -> Offset {
        let early = is_planted(Planted::AckBeforeDurable);
        match self.settings.write_caching || early {
            true => self.appender.accepted().offset,
            false => self.appender.durable().max(self.acked_floor),
        }
    }

    pub(crate) fn readable_end(&self) -> Offset {
        self.range_end().min(self.appender.submitted())
    }

    /// No offset above it is in range for a reader.
    pub(crate) fn range_end(&self) -> Offset {
        self.ack_end()
            .min(self.truncating.unwrap_or(Offset(u64::MAX)))
    }

    /// The segment that begins at `base`.
    pub(crate) fn segment(&self, base: Offset) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&base, |s| s.base).ok()?;
        self.segments.get(at)
    }

    /// The segment that begins at `base`.
    pub(crate) fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let at = self.segments.binary_search_by_key(&base, |s| s.base).ok()?;
        self.segments.get_mut(at)
    }

    /// The segment that holds `offset`.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.base <= offset);
        self.segments
            .get(after.checked_sub(1)?)
            .filter(|s| offset < s.end)
    }

    /// Notes a read of `from..to`; tells whether it goes on where another one ended.
    pub(crate) fn note_read(&mut self, from: Offset, to: Offset) -> bool {
        let known = self.read_ends.iter().position(|&end| end == from);
        if let Some(at) = known {
            self.read_ends.remove(at);
        } else if self.read_ends.len() == READERS {
            self.read_ends.pop_front();
        }
        self.read_ends.push_back(to);
        known.is_some()
    }
}

/// Bytes of all chunks.
fn len_of(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

/// Copies the chunks one after the other into `room`, which is long enough for all, and returns
/// their length.
fn gather(room: &mut [u8], chunks: &[Bytes]) -> usize {
    let mut at = 0;
    for chunk in chunks {
        room[at..at + chunk.len()].copy_from_slice(chunk);
        at += chunk.len();
    }
    at
}

/// The place of a frame that an idempotent producer repeats.
fn recognise(
    producers: &Producers,
    frame: &ProducedFrame<'_>,
) -> Result<Option<Appended>, AppendError> {
    let Some(batch) = FrameSummary::producer_of(frame.batch()) else {
        return Ok(None);
    };
    Ok(match producers.check(&batch)? {
        Verdict::Append => None,
        Verdict::Duplicate(known) => Some(Appended {
            base_offset: known.base,
            next_offset: known.next,
            append_timestamp: known.appended,
            duplicate: true,
        }),
    })
}
