//! A partition of this shard: its log, this broker's part among its replicas, and the frames that are
//! appended and whose producers wait.
//!
//! What part it has is told by the metadata ([`Partition::assigned`]); before that it serves nobody. The
//! machine that decides is `millrace-replication`'s `Replica`; `role` feeds it and carries out what it
//! says.
//!
//! **Invariant:** a frame is settled (its client told, its memory given back) exactly once: as
//! stored when what it waits for has passed it, as lost when the write that carried it
//! failed, or as unknown when the leadership or the in-sync set that it waited for is no more. The task that writes settles before it lets go of the log, so a log that heals from
//! a full disk and hands out the same offsets again cannot be mistaken for the frames that
//! were lost.

mod device;
mod gather;
mod role;
mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::or;
use millrace_model::{ErrorCode, LogId, Offset, TopicSettings};
use millrace_net::pulse::{Work, named};
use millrace_replication::partition::{Acks, Input};
use millrace_storage::disk::glommio::GlommioDisk;
use millrace_storage::{AppendError, Appended, Latch, Log};
use millrace_wire::Ack;

use crate::lane::{Lane, Outcome, Place, Settle};
use crate::metrics::{Counter, ShardMetrics, Stage};
use crate::replicas::Host;
use crate::shard::budget::Permit;
use crate::shard::notice::Signal;
use crate::shard::{Refusal, clock};
use crate::trace::Trace;
pub(crate) use device::DeviceWatch;
use device::Writes;
use gather::Gathering;
use role::RoleState;
use waiting::{Unsettled, Waiting};

/// The log of a partition on the shard's disk.
pub(crate) type PartitionLog = Log<GlommioDisk>;

/// See the module's documentation.
pub(crate) struct Partition {
    id: LogId,
    log: PartitionLog,
    /// For the tasks that it starts.
    me: Weak<Self>,
    role: RoleState,
    waiting: Waiting,
    held: RefCell<VecDeque<Held>>,
    /// The readable end that was last seen, and since when.
    readable: Cell<(Offset, Instant)>,
    writer_runs: Cell<bool>,
    gathering: Gathering,
    ended: Signal<ErrorCode>,
    metrics: ShardMetrics,
    host: Rc<Host>,
}

/// Memory of a frame that waits to be written.
struct Held {
    end: Offset,
    _memory: Permit,
}

/// A whole frame of a producer, and where its fate is to be told.
pub(crate) struct Produced<'a> {
    /// The frame's bytes.
    pub(crate) chunks: &'a [Bytes],
    /// The memory that they hold.
    pub(crate) memory: Permit,
    /// How long it took to arrive.
    pub(crate) receive_nanos: u64,
    /// When its last byte arrived.
    pub(crate) whole: Instant,
    /// When its turn came.
    pub(crate) turn: Instant,
    /// The stream's lane.
    pub(crate) lane: &'a Rc<Lane>,
    /// The frame's place in it.
    pub(crate) place: Place,
    /// Who must have it before its producer is told.
    pub(crate) acks: Acks,
}

/// A whole record batch without a frame, and where its fate is to be told.
pub(crate) struct ProducedBatch<'a> {
    /// The batch. Whoever settles it keeps the memory budget for it until then.
    pub(crate) batch: &'a Bytes,
    /// How long the request with it took to arrive.
    pub(crate) receive_nanos: u64,
    /// When its last byte arrived.
    pub(crate) whole: Instant,
    /// Who is told.
    pub(crate) teller: Rc<dyn Settle>,
    /// The batch's place there.
    pub(crate) place: Place,
    /// Who must have it before its producer is told.
    pub(crate) acks: Acks,
}

/// A new leader does not know yet how far its predecessors came; see [`Partition::visible_end`].
pub(crate) fn end_unknown() -> Refusal {
    let message = "the leader is new and does not know yet what is committed";
    Refusal::new(ErrorCode::OffsetNotAvailable, message)
}

impl Partition {
    /// The partition of a log that was just opened, without a part among its replicas.
    pub(crate) fn new(id: LogId, log: PartitionLog, host: &Rc<Host>) -> Rc<Self> {
        let readable = log.readable_end();
        Rc::new_cyclic(|me| Self {
            id,
            me: Weak::clone(me),
            role: RoleState::new(log.log_start()),
            log,
            waiting: Waiting::default(),
            held: RefCell::default(),
            readable: Cell::new((readable, Instant::now())),
            writer_runs: Cell::new(false),
            gathering: Gathering::default(),
            ended: Signal::default(),
            metrics: host.metrics.clone(),
            host: Rc::clone(host),
        })
    }

    pub(crate) fn id(&self) -> LogId {
        self.id
    }

    pub(crate) fn log(&self) -> &PartitionLog {
        &self.log
    }

    /// Whether recovery found that data which was acknowledged is damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self.log.latched(), Some(Latch::Damaged { .. }))
    }

    /// End of what a consumer may expect to read: the high watermark, or beyond it if what
    /// follows was acknowledged and is damaged. A consumer that wants all there is then comes
    /// to the damage and learns of it, instead of ending contented before it. `None`: see
    /// [`Self::visible_end`].
    pub(crate) fn promised_end(&self) -> Option<Offset> {
        if self.is_damaged() {
            return Some(self.high_watermark().plus(1));
        }
        self.visible_end()
    }

    /// End of what a consumer can be handed now.
    pub(crate) fn readable_end(&self) -> Offset {
        self.log.readable_end().min(self.high_watermark())
    }

    /// Since when the present readable end stands.
    pub(crate) fn readable_since(&self) -> Instant {
        self.readable.get().1
    }

    /// Resolves when the partition is taken away, with why.
    pub(crate) async fn ended(&self) -> ErrorCode {
        self.ended.wait().await
    }

    /// Why the partition was taken away, if it was.
    pub(crate) fn ended_with(&self) -> Option<ErrorCode> {
        self.ended.raised()
    }

    /// Takes the partition away from everyone who uses it.
    pub(crate) fn end(&self, why: ErrorCode) {
        self.ended.raise(why);
        self.leave();
    }

    /// Waits while the log has as much to write as it may: with `write.caching` nobody else slows
    /// a producer down to what the device takes.
    pub(crate) async fn room(&self, len: usize) {
        while !self.log.has_room(len) && self.ended_with().is_none() {
            let changed = self.log.changed();
            let ended = async {
                self.ended().await;
            };
            or(changed, ended).await;
        }
    }

    /// Appends a frame, or refuses it. Either way its place in the lane will be settled.
    pub(crate) fn append(self: &Rc<Self>, produced: Produced<'_>) {
        let chunks = produced.chunks;
        let len = chunks.iter().map(Bytes::len).sum();
        let mut trace = Trace::begin(len, produced.receive_nanos);
        self.spent(&mut trace, Stage::Queue, produced.turn - produced.whole);
        let result = self.admit(produced.acks).and_then(|()| {
            let appended = self.log.append(clock::timestamp(), chunks);
            appended.map_err(|error: AppendError| error.code())
        });
        let appended = Instant::now();
        self.spent(&mut trace, Stage::Append, appended - produced.turn);
        match result {
            Ok(stored) => {
                self.held.borrow_mut().push_back(Held {
                    end: stored.next_offset,
                    _memory: produced.memory,
                });
                let teller: Rc<dyn Settle> = Rc::clone(produced.lane) as _;
                let fate = (teller, produced.place, produced.acks);
                self.wait_for_fate(stored, trace, appended, fate);
            }
            Err(code) => {
                self.metrics.refused(code);
                let outcome = Outcome::refused(code, self.log.log_start());
                produced.lane.settle(produced.place, outcome);
            }
        }
    }

    /// Appends a record batch without a frame. Its place will be settled, unless it is refused
    /// here.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn append_batch(
        self: &Rc<Self>,
        produced: ProducedBatch<'_>,
    ) -> Result<(), Refusal> {
        let turn = Instant::now();
        let batch = produced.batch;
        let mut trace = Trace::begin(batch.len(), produced.receive_nanos);
        self.spent(&mut trace, Stage::Queue, turn - produced.whole);
        let result = match self.admit(produced.acks) {
            Err(code) => Err(Refusal::new(code, not_admitted(code))),
            Ok(()) => self
                .log
                .append_batch(clock::timestamp(), std::slice::from_ref(batch))
                .map_err(|error| Refusal::new(error.code(), error.to_string())),
        };
        let appended = Instant::now();
        self.spent(&mut trace, Stage::Append, appended - turn);
        let stored = result.inspect_err(|refusal| self.metrics.refused(refusal.code))?;
        let fate = (produced.teller, produced.place, produced.acks);
        self.wait_for_fate(stored, trace, appended, fate);
        Ok(())
    }

    /// A batch has spent so long in a stage.
    fn spent(&self, trace: &mut Trace, stage: Stage, time: Duration) {
        let nanos = nanos(time);
        trace.set(stage, nanos);
        self.metrics.record(stage, self.id.topic, nanos);
    }

    fn count(&self, appended: &Appended, len: u32) {
        let records = appended.next_offset.0 - appended.base_offset.0;
        if appended.duplicate {
            self.metrics.count(Counter::Duplicates);
        } else {
            self.metrics.count(Counter::BatchesIn);
            self.metrics.add(Counter::RecordsIn, records);
            self.metrics.add(Counter::BytesIn, u64::from(len));
        }
    }

    fn wait_for_fate(
        self: &Rc<Self>,
        stored: Appended,
        trace: Trace,
        now: Instant,
        (teller, place, acks): (Rc<dyn Settle>, Place, Acks),
    ) {
        self.count(&stored, trace.len);
        let log_start = self.log.log_start();
        let frame = Unsettled {
            end: stored.next_offset,
            ack: Ack::appended(stored.base_offset, stored.append_timestamp, log_start),
            teller,
            place,
            trace,
            appended: now,
            durable: None,
        };
        self.waiting.push(acks, frame);
        // A duplicate, or any frame with write.caching, may be acknowledged at once.
        self.settle();
        self.write();
        self.note_deadline();
    }

    /// The log may have something to do earlier than before.
    fn note_deadline(&self) {
        if let Some(deadline) = self.log.next_deadline() {
            self.host.wake_for(deadline);
        }
    }

    /// Deletes the records before `before`, or all that may be read. Returns where the log starts
    /// then: with other replicas that is where a batch begins, at `before` or below it. A replica that
    /// starts anew is sent whole batches, and could never begin in the middle of one.
    ///
    /// # Errors
    /// This broker does not lead, the offset is above the high watermark, the log is read-only, or the
    /// disk failed.
    pub(crate) async fn delete_before(
        self: &Rc<Self>,
        before: Option<Offset>,
    ) -> Result<Offset, Refusal> {
        self.check_leads()?;
        let high_watermark = self.high_watermark();
        let to = before.unwrap_or(high_watermark);
        if to > high_watermark {
            let message = format!("offset {to} is above the high watermark {high_watermark}");
            return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
        }
        let to = match self.is_alone() {
            true => to,
            false => self.batch_start(to).await,
        };
        let log_start = self.log.set_log_start(to).await;
        // It may have had the device while frames were appended.
        self.settle();
        self.write();
        log_start.map_err(|error| Refusal::new(error.code(), error.to_string()))
    }

    /// Where the batch begins that holds this offset; the offset itself where there is none.
    async fn batch_start(&self, offset: Offset) -> Offset {
        let runs = self.log.read(offset, 1, self.log.readable_end()).await;
        let first = runs.ok().and_then(|runs| runs.first().map(|run| run.base));
        first.map_or(offset, |base| base.min(offset))
    }

    /// The topic's settings have changed.
    pub(crate) fn apply_settings(&self, settings: Rc<TopicSettings>) {
        let min = settings.min_insync_replicas;
        self.log.apply_settings(settings);
        self.hear(Input::MinInSync(min));
    }

    /// Starts the writing task when there is something to write and it does not run.
    pub(crate) fn write(&self) {
        if self.writer_runs.get() {
            self.gathering.appended(&self.log);
            return;
        }
        if !self.log.wants_writer() {
            return;
        }
        let Some(partition) = self.me.upgrade() else {
            return;
        };
        self.writer_runs.set(true);
        let writing = async move { partition.run_writer().await };
        let writing = named(Work::WriteLog.on(self.id), writing);
        glommio::spawn_local_into(writing, self.host.foreground)
            .expect("the shard's task queues live as long as its executor")
            .detach();
    }

    async fn run_writer(self: Rc<Self>) {
        while self.log.wants_writer() {
            let is_acknowledged = self.log.ack_end() == self.log.accepted_end();
            if is_acknowledged && self.is_alone() {
                self.gathering.hold(&self.log).await;
            }
            let writes = self.host.device.begin(self.log.written_end());
            or(self.log.write_pending(), self.settle_on_change(&writes)).await;
            self.settle();
            writes.reached(self.log.written_end());
        }
        self.writer_runs.set(false);
    }

    /// Settles whenever something became durable. Never ends.
    async fn settle_on_change(&self, writes: &Writes<'_>) {
        loop {
            let changed = self.log.changed();
            self.settle();
            self.prepare_space();
            writes.reached(self.log.written_end());
            if !self.is_settled() {
                writes.is_awaited();
            }
            changed.await;
        }
    }

    /// Starts a task that prepares space in the log's file, when it is time.
    fn prepare_space(&self) {
        if self.log.wants_space() {
            let log = self.log.clone();
            let preparing = async move { log.prepare_space().await };
            let preparing = named(Work::PrepareSpace.on(self.id), preparing);
            glommio::spawn_local_into(preparing, self.host.foreground)
                .expect("the shard's task queues live as long as its executor")
                .detach();
        }
    }

    /// Tells the fate of every frame whose fate is known.
    pub(crate) fn settle(&self) {
        let high_watermark = self.high_watermark();
        let (now, own_end) = (Instant::now(), self.log.ack_end());
        if high_watermark < own_end {
            self.waiting.note_durable(own_end, now);
        }
        for (acks, end) in [(Acks::All, high_watermark), (Acks::Leader, own_end)] {
            while let Some(frame) = self.waiting.pop_below(acks, end) {
                self.stored(frame, acks, now);
            }
        }
        if self.log.latched().is_some() {
            self.held.borrow_mut().clear();
            for acks in [Acks::All, Acks::Leader] {
                self.lose(acks, own_end, ErrorCode::KafkaStorageError);
            }
        }
        self.release(now);
    }

    /// A frame is where it has to be.
    fn stored(&self, frame: Unsettled, acks: Acks, now: Instant) {
        let mut trace = frame.trace;
        let durable = frame.durable.unwrap_or(now);
        self.spent(&mut trace, Stage::Device, durable - frame.appended);
        if acks == Acks::All && !self.is_alone() {
            self.spent(&mut trace, Stage::Replicate, now - durable);
        }
        let (ack, due) = (frame.ack, now);
        let outcome = Outcome { ack, due, trace };
        frame.teller.settle(frame.place, outcome);
    }

    /// Frames of one kind that reach above `end` will not come to where they have to be, or nobody
    /// will know.
    fn lose(&self, acks: Acks, end: Offset, code: ErrorCode) {
        for frame in self.waiting.take_above(acks, end) {
            self.metrics.refused(code);
            let outcome = Outcome::refused(code, self.log.log_start());
            frame.teller.settle(frame.place, outcome);
        }
    }

    /// Gives back the memory of what was written.
    fn release(&self, now: Instant) {
        let readable = self.log.readable_end();
        if readable != self.readable.get().0 {
            self.readable.set((readable, now));
        }
        // With write.caching frames are readable, and their producers told, before that.
        let written = self.log.written_end();
        let mut held = self.held.borrow_mut();
        let count = held.iter().take_while(|frame| frame.end <= written).count();
        held.drain(..count);
    }

    /// How many frames are appended and not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing is on its way to the device.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.len() == 0
    }
}

/// Why a frame is not taken, for a person.
fn not_admitted(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NotLeaderOrFollower => "this broker does not lead the partition",
        ErrorCode::KafkaStorageError => "the log has failed, and no other replica can lead",
        ErrorCode::NotEnoughReplicas => "fewer replicas are in sync than min.insync.replicas",
        _ => "the partition is gone",
    }
}

/// A duration in nanoseconds, as histograms take it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
