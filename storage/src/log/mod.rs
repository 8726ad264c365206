//! One partition's log: the shell that carries out on a disk what the machines decide.
//!
//! | file | what it does |
//! | --- | --- |
//! | `state` | the synchronous steps and the cursors |
//! | `write` | the writer: one write in flight, group commit, failures |
//! | `prepare` | zeroes or reserves space ahead of the writes, beside them |
//! | `seal` | ends one segment and begins the next |
//! | `read` | reads from the tail, the cache and the files |
//! | `load` | brings indexes and stretches of blocks into memory |
//! | `ahead` | read-ahead |
//! | `recover` | opens a log: what is there, what is torn, what is damaged |
//! | `repair` | cuts files, and makes footers again |
//! | `maintain` | log start, retention, flushes, idle memory |
//! | `truncate` | takes the end of the log away, or all of it |
//! | `replica` | takes over a leader's frames, begins epochs |
//!
//! **Invariant:** no borrow of the state is held across an await.
//! **Invariant:** whoever writes frames to segments holds the `device` gate; whoever changes which
//! segments there are at the old end, or the log-start file, holds the `changes` gate.

mod ahead;
mod load;
mod maintain;
mod prepare;
mod read;
mod recover;
mod repair;
mod replica;
mod seal;
mod state;
mod truncate;
mod write;

use crate::disk::{Disk, DiskError};
use crate::files::{SegmentKey, Use};
use crate::layout::{log_dir, segment_name};
use crate::producers::ActiveProducer;
use crate::storage::{RecoveryReport, Shared};
use crate::tail::Tail;
use crate::watch::{Gate, Pass, Watch};
use crate::{AppendError, Latch, OpenError};
use bytes::Bytes;
use millrace_model::{LeaderEpoch, LogId, Offset, Timestamp, TopicSettings};
pub use replica::LogEnds;
use state::{Sent, State};
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

/// Where an accepted frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record: acknowledge when [`Log::ack_end`] reaches it.
    pub next_offset: Offset,
    /// The broker's clock at the append.
    pub append_timestamp: Timestamp,
    /// Whether an earlier append had put it there.
    pub duplicate: bool,
}

/// Contiguous whole frames, without write headers between them.
#[derive(Clone)]
pub struct FrameRun<D: Disk> {
    /// The page that holds them.
    pub page: D::Page,
    /// Where in the page.
    pub range: Range<usize>,
    /// Offset of the first record.
    pub base: Offset,
    /// Offset after the last record.
    pub next: Offset,
}

impl<D: Disk> FrameRun<D> {
    /// The frames' bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.page.as_ref()[self.range.clone()]
    }

    /// The largest timestamp of its records.
    pub fn max_timestamp(&self) -> Timestamp {
        let frames = crate::frames::each(self.as_bytes());
        let largest = frames.map(crate::frames::max_timestamp).max();
        largest.unwrap_or(Timestamp::NONE)
    }

    /// Where in [`FrameRun::as_bytes`] the record batches lie, one in each frame.
    pub fn batches(&self) -> impl Iterator<Item = Range<usize>> {
        crate::frames::batches(self.as_bytes())
    }
}

impl<D: Disk> std::fmt::Debug for FrameRun<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameRun")
            .field("base", &self.base)
            .field("next", &self.next)
            .field("len", &self.range.len())
            .finish_non_exhaustive()
    }
}

/// What [`Log::maintain`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Segments sealed because of their age.
    pub sealed: usize,
    /// Segments removed by retention.
    pub removed: usize,
    /// Whether data was flushed.
    pub flushed: bool,
    /// Bytes of memory released.
    pub released: usize,
}

/// Numbers about a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Segments, the active one included.
    pub segments: usize,
    /// Bytes of all segments, as far as they hold data.
    pub disk_bytes: u64,
    /// Bytes of memory in append buffers, tail pages and indexes.
    pub memory_bytes: usize,
    /// Idempotent producers remembered.
    pub producers: usize,
    /// The leader epoch that frames get which are appended here.
    pub epoch: LeaderEpoch,
}

/// What the clones of a [`Log`] share.
pub(crate) struct LogShared<D: Disk> {
    storage: Rc<Shared<D>>,
    id: LogId,
    /// Tells this opening of the log from others in the caches, and what was read before a
    /// truncation from what is read after it.
    number: Cell<u64>,
    /// An index is being read ahead.
    index_comes: Cell<bool>,
    dir: PathBuf,
    state: RefCell<State<D>>,
    tail: Rc<RefCell<Tail<D>>>,
    watch: Rc<Watch>,
    device: Rc<Gate>,
    ahead: Rc<Gate>,
    changes: Rc<Gate>,
}

impl<D: Disk> Drop for LogShared<D> {
    fn drop(&mut self) {
        self.storage.cache.forget_log(self.number.get());
        self.storage.files.close_log(self.number.get());
        self.forget_spares();
    }
}

impl<D: Disk> LogShared<D> {
    /// The log has no spare files any more.
    fn forget_spares(&self) {
        let spares: u64 = self
            .state
            .borrow_mut()
            .spares
            .drain(..)
            .map(|spare| spare.len)
            .sum();
        let recycled = &self.storage.recycled_bytes;
        recycled.set(recycled.get().saturating_sub(spares));
    }
}

/// A partition's log. Clones are the same log.
pub struct Log<D: Disk> {
    shared: Rc<LogShared<D>>,
}

impl<D: Disk> Clone for Log<D> {
    fn clone(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
        }
    }
}

impl<D: Disk> Log<D> {
    /// See [`crate::Storage::open_log`].
    pub(crate) async fn open(
        storage: &Rc<Shared<D>>,
        id: LogId,
        settings: Rc<TopicSettings>,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let dir = log_dir(&storage.root, id);
        let seed = id.checksum_seed();
        let (recovered, report) = recover::recover(storage, &dir, seed, now).await?;
        let written = recovered.appender.written().offset;
        let pending = storage.limits.pending_bytes;
        let state = State::new(seed, epoch, settings, pending, recovered, now);
        let shared = LogShared {
            id,
            dir,
            number: Cell::new(storage.number()),
            index_comes: Cell::new(false),
            tail: storage.tails.tail(written),
            storage: Rc::clone(storage),
            state: RefCell::new(state),
            watch: Rc::default(),
            device: Rc::default(),
            ahead: Rc::default(),
            changes: Rc::default(),
        };
        Ok((
            Self {
                shared: Rc::new(shared),
            },
            report,
        ))
    }

    /// Appends one whole frame as a producer sent it: header, batch, padding, in as many
    /// chunks as the network brought. Checks it, consults producer state, assigns offset and
    /// epoch. A refusal leaves no trace.
    ///
    /// # Errors
    /// [`AppendError`], whose code tells the producer.
    pub fn append(&self, now: Timestamp, chunks: &[Bytes]) -> Result<Appended, AppendError> {
        self.append_sent(now, Sent::Frame(chunks))
    }

    /// As [`Log::append`], for one whole record batch without a frame, as Kafka's clients send it.
    /// The frame is made around it in the append buffer: the batch is copied once, and passed
    /// over once for its CRC.
    ///
    /// # Errors
    /// [`AppendError`], whose code tells the producer.
    pub fn append_batch(&self, now: Timestamp, batch: &[Bytes]) -> Result<Appended, AppendError> {
        self.append_sent(now, Sent::Batch(batch))
    }

    fn append_sent(&self, now: Timestamp, sent: Sent<'_>) -> Result<Appended, AppendError> {
        let (appended, acknowledged) = {
            let mut state = self.shared.state.borrow_mut();
            let before = state.ack_end();
            let appended = state.append(now, sent)?;
            (appended, state.ack_end() != before)
        };
        if acknowledged {
            self.shared.watch.notify();
        }
        Ok(appended)
    }

    /// Whether there is something to write and nobody is writing. Then it is time to spawn
    /// [`Log::write_pending`].
    #[must_use]
    pub fn wants_writer(&self) -> bool {
        let state = self.shared.state.borrow();
        state.latch.is_none() && state.appender.has_pending() && !self.shared.device.is_taken()
    }

    /// The first offset that can be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.shared.state.borrow().log_start
    }

    /// Everything below is durable.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.shared.state.borrow().appender.durable()
    }

    /// The offset that the next record gets.
    #[must_use]
    pub fn accepted_end(&self) -> Offset {
        self.shared.state.borrow().appender.accepted().offset
    }

    /// End of what may be acknowledged: [`Log::durable_end`], or with `write.caching` the
    /// accepted end.
    #[must_use]
    pub fn ack_end(&self) -> Offset {
        self.shared.state.borrow().ack_end()
    }

    /// End of what a consumer can read; never above [`Log::ack_end`].
    #[must_use]
    pub fn readable_end(&self) -> Offset {
        self.shared.state.borrow().readable_end()
    }

    /// End of what is in files: durable, or with `write.caching` on its way there.
    #[must_use]
    pub fn written_end(&self) -> Offset {
        self.shared.state.borrow().appender.written().offset
    }

    /// Whether a frame of this length would not be refused for what waits to be written. When
    /// not, [`Log::changed`] resolves once it is time to ask again.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        let state = self.shared.state.borrow();
        state.latch.is_some() || state.has_room(len)
    }

    /// Resolves when [`Log::ack_end`], [`Log::written_end`], [`Log::readable_end`],
    /// [`Log::log_start`] or [`Log::latched`] has changed since this call. May resolve without a
    /// change.
    pub fn changed(&self) -> impl Future<Output = ()> + use<D> {
        self.shared.watch.changed()
    }

    /// Resolves when somebody waits for [`Log::changed`].
    pub fn awaited(&self) -> impl Future<Output = ()> + use<D> {
        self.shared.watch.awaited()
    }

    /// Bytes of frames that are accepted and not written.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.shared.state.borrow().appender.pending_bytes()
    }

    /// Why the log takes no appends, if so.
    #[must_use]
    pub fn latched(&self) -> Option<Latch> {
        self.shared.state.borrow().latch.clone()
    }

    /// The largest epoch with data that is not above `epoch`, and where its data ends.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let state = self.shared.state.borrow();
        state
            .epochs
            .end_offset_for(epoch, state.appender.accepted().offset)
    }

    /// The idempotent producers that are remembered, by id.
    #[must_use]
    pub fn producers(&self) -> Vec<ActiveProducer> {
        self.shared.state.borrow().producers.active().collect()
    }

    /// The largest timestamp of what is accepted and not removed. It may be that of a record that
    /// cannot be read: not yet, or not any more.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        let state = self.shared.state.borrow();
        let largest = state.segments.iter().map(|segment| segment.max_timestamp);
        largest.max().unwrap_or(Timestamp::NONE)
    }

    /// The topic's settings have changed.
    pub fn apply_settings(&self, settings: Rc<TopicSettings>) {
        {
            let mut state = self.shared.state.borrow_mut();
            state.acked_floor = state.ack_end().max(state.acked_floor);
            state.produce_limits = settings.produce_limits();
            state.settings = settings;
        }
        self.shared.watch.notify();
    }

    /// The topic's settings, as the log knows them.
    #[must_use]
    pub fn settings(&self) -> Rc<TopicSettings> {
        Rc::clone(&self.shared.state.borrow().settings)
    }

    /// The log's identity.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.shared.id
    }

    /// Numbers about the log.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let state = self.shared.state.borrow();
        let indexes = state.segments.iter().filter_map(|s| s.index.as_ref());
        let indexes: usize = indexes.map(|index| index.heap_bytes()).sum();
        LogStats {
            segments: state.segments.len(),
            disk_bytes: state.segments.iter().map(|s| s.bytes()).sum(),
            memory_bytes: indexes
                + state.appender.memory_bytes()
                + self.shared.tail.borrow().bytes(),
            producers: state.producers.len(),
            epoch: state.epoch,
        }
    }

    pub(crate) fn from_shared(shared: Rc<LogShared<D>>) -> Self {
        Self { shared }
    }

    pub(crate) fn downgrade(&self) -> Weak<LogShared<D>> {
        Rc::downgrade(&self.shared)
    }

    /// The log is about to be removed: latches it and waits until nobody touches its files.
    pub(crate) async fn retire(&self) -> (Pass, Pass, Pass) {
        self.fail("the log is removed");
        let alone = (
            self.shared.device.enter().await,
            self.shared.ahead.enter().await,
            self.shared.changes.enter().await,
        );
        self.shared
            .storage
            .cache
            .forget_log(self.shared.number.get());
        self.shared
            .storage
            .files
            .close_log(self.shared.number.get());
        alone
    }

    /// Latches the log for good.
    fn fail(&self, reason: &str) {
        self.shared.state.borrow_mut().on_failure(reason);
        self.after_taking_back();
    }

    /// The tail follows what the state has taken back, and whoever waits is told.
    fn after_taking_back(&self) {
        let end = self.shared.state.borrow().appender.submitted();
        self.shared.tail.borrow_mut().truncate(end);
        self.shared.watch.notify();
    }

    fn path(&self, base: Offset) -> PathBuf {
        self.shared.dir.join(segment_name(base))
    }

    fn key(&self, base: Offset) -> SegmentKey {
        SegmentKey {
            log: self.shared.number.get(),
            base,
        }
    }

    /// The segment's file. One that is missing may be on its way out; then the log start
    /// tells so when this returns.
    async fn file(&self, base: Offset, how: Use) -> Result<Rc<D::File>, DiskError> {
        let storage = &self.shared.storage;
        let opened = storage
            .files
            .open(&storage.disk, self.key(base), how, &self.path(base))
            .await;
        if opened.as_ref().is_err_and(DiskError::is_not_found) {
            while self.shared.state.borrow().removing {
                self.changed().await;
            }
        }
        opened
    }
}
