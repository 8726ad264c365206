//! What goes out to one follower's shard: messages, and frames of its partitions.
//!
//! The machine of each partition has one read under way for a follower at a time; here they stand in two
//! lines. What is in memory is read when the stream has taken what came before, and goes by reference to the
//! pages. What has to be read from the device, or comes after everybody else's work, is read beside that, one
//! run ahead.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_lite::future::poll_once;
use glommio::timer::sleep;
use millrace_model::{BrokerId, LogId, Offset};
use millrace_net::pulse::{Work, named};
use millrace_replication::partition::{
    Input, LeaderInput, LeaderMessage, PullClass, SessionId, Watermark,
};
use millrace_storage::ReadError;
use millrace_wire::{LeaderRecord, LeaderSaid};

use super::host::Host;
use super::outbox::Outbox;
use super::stream::{Outgoing, StreamEnded, put_record};
use super::translate::{leader_said, wire_mark};
use crate::partition::Partition;
use crate::session::consume::{Frames, Run};
use crate::session::home_bytes::share;

/// Bytes of frames sent at a time; a longer frame goes alone.
const RUN_LEN: usize = 256 << 10;

/// Messages in one write: some 100 KiB.
const MESSAGES_A_WRITE: usize = 1024;

/// Frames to be sent in a session, see [`millrace_replication::partition::Effect::SendFrames`].
pub(crate) struct Job {
    pub(crate) partition: Rc<Partition>,
    pub(crate) session: SessionId,
    pub(crate) from: Offset,
    pub(crate) watermark: Watermark,
    pub(crate) class: PullClass,
}

type Reading = Pin<Box<dyn Future<Output = Result<Vec<Run>, ReadError>>>>;

/// A run that was read for a job.
struct Read {
    job: Job,
    runs: Vec<Run>,
}

/// The outgoing half of a stream to a follower's shard. See the module's documentation.
pub(crate) struct FollowerStream {
    follower: BrokerId,
    said: Outbox<(SessionId, LeaderSaid)>,
    live: RefCell<VecDeque<Job>>,
    /// With the read that was begun, if one was.
    slow: RefCell<VecDeque<(Job, Option<Reading>)>>,
    /// Read beside, and not taken yet.
    ready: RefCell<Option<Read>>,
    /// Partitions that the follower has subscribed to on this stream.
    partitions: RefCell<HashMap<LogId, Weak<Partition>>>,
}

impl FollowerStream {
    pub(super) fn new(follower: BrokerId) -> Rc<Self> {
        Rc::new(Self {
            follower,
            said: Outbox::default(),
            live: RefCell::default(),
            slow: RefCell::default(),
            ready: RefCell::default(),
            partitions: RefCell::default(),
        })
    }

    /// Says something to the follower.
    pub(crate) fn tell(&self, log: LogId, session: SessionId, message: LeaderMessage) {
        if let Some(said) = leader_said(&message) {
            self.said.put(log, (session, said));
        }
    }

    /// Sends frames, and tells the partition how far they went.
    pub(crate) fn send_frames(&self, job: Job) {
        match job.class {
            PullClass::Live => self.live.borrow_mut().push_back(job),
            PullClass::CatchUp => self.slow.borrow_mut().push_back((job, None)),
        }
        self.said.changed().notify();
    }

    /// The follower has something to say of this partition.
    pub(super) fn concerns(&self, partition: &Rc<Partition>) {
        let weak = Rc::downgrade(partition);
        self.partitions.borrow_mut().insert(partition.id(), weak);
    }

    /// Whether the stream has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.said.is_closed()
    }

    /// The stream has ended: every partition learns of it.
    pub(super) fn end(self: &Rc<Self>) {
        self.said.close();
        self.live.borrow_mut().clear();
        self.slow.borrow_mut().clear();
        self.ready.borrow_mut().take();
        let partitions = std::mem::take(&mut *self.partitions.borrow_mut());
        for partition in partitions.into_values().filter_map(|one| one.upgrade()) {
            partition.stream_lost((self.follower, self));
        }
    }

    /// Writes what there is to say and to send, for ever.
    pub(super) async fn write(
        self: &Rc<Self>,
        outgoing: &mut impl Outgoing,
    ) -> Result<(), StreamEnded> {
        let mut records = BytesMut::new();
        loop {
            let changed = self.said.changed().notified();
            self.put_messages(&mut records);
            let read = self.next_read().await;
            if records.is_empty() && read.is_none() {
                changed.await;
                continue;
            }
            let mut chunks = Vec::new();
            let sent = read.map(|read| self.put_frames(read, &mut records, &mut chunks));
            chunks.insert(0, records.split().freeze());
            outgoing.write(&mut chunks).await?;
            if let Some((partition, sent)) = sent {
                partition.hear(Input::Leader(sent));
            }
        }
    }

    /// Reads beside what cannot be read at once, for ever.
    pub(super) async fn read_slowly(self: &Rc<Self>, host: &Host) {
        loop {
            let changed = self.said.changed().notified();
            let next = match self.ready.borrow().is_none() {
                true => self.slow.borrow_mut().pop_front(),
                false => None,
            };
            let Some((job, begun)) = next else {
                changed.await;
                continue;
            };
            let class = job.class;
            let Some(read) = self.read_one(host, job, begun).await else {
                continue;
            };
            if class == PullClass::CatchUp {
                let wait = host.throttle.take(len_of(&read.runs), Instant::now());
                if !wait.is_zero() {
                    sleep(wait).await;
                }
            }
            *self.ready.borrow_mut() = Some(read);
            self.said.changed().notify();
        }
    }

    /// Reads for a job, once there is something to read, as long as it is wanted.
    async fn read_one(
        self: &Rc<Self>,
        host: &Host,
        job: Job,
        mut begun: Option<Reading>,
    ) -> Option<Read> {
        loop {
            let changed = job.partition.log().changed();
            if !self.is_wanted(&job) {
                return None;
            }
            let reading = begun.take().unwrap_or_else(|| read(&job));
            let reading = named(Work::CatchUp, reading);
            let runs = glommio::spawn_local_into(reading, host.catch_up)
                .expect("the shard's task queues live as long as its executor")
                .await;
            match runs {
                // What is accepted is not all in a page yet.
                Ok(runs) if runs.is_empty() => changed.await,
                Ok(runs) => return Some(Read { job, runs }),
                Err(error) => {
                    self.fail(&job, &error);
                    return None;
                }
            }
        }
    }

    fn put_messages(&self, records: &mut BytesMut) {
        for _ in 0..MESSAGES_A_WRITE {
            let Some((log, (session, said))) = self.said.take() else {
                return;
            };
            let session = session.number;
            put_record(&LeaderRecord { log, session, said }, records);
        }
    }

    /// What was read beside, or can be read at once.
    async fn next_read(self: &Rc<Self>) -> Option<Read> {
        let ready = self.ready.borrow_mut().take();
        if let Some(ready) = ready {
            // There is room for the next.
            self.said.changed().notify();
            if self.is_wanted(&ready.job) {
                return Some(ready);
            }
        }
        loop {
            let job = self.live.borrow_mut().pop_front()?;
            if !self.is_wanted(&job) {
                continue;
            }
            let mut reading = read(&job);
            match poll_once(reading.as_mut()).await {
                Some(Ok(runs)) if !runs.is_empty() => return Some(Read { job, runs }),
                Some(Ok(_)) => self.slow.borrow_mut().push_back((job, None)),
                Some(Err(error)) => self.fail(&job, &error),
                None => self.slow.borrow_mut().push_back((job, Some(reading))),
            }
            self.said.changed().notify();
        }
    }

    /// The frames, with the record that announces them behind those that are there.
    fn put_frames(
        &self,
        Read { job, runs }: Read,
        records: &mut BytesMut,
        chunks: &mut Vec<Bytes>,
    ) -> (Rc<Partition>, LeaderInput) {
        let len = u32::try_from(len_of(&runs)).expect("a run is far below 4 GiB");
        let next = runs.last().map_or(job.from, |run| run.next);
        let mark = wire_mark(job.watermark);
        let record = LeaderRecord {
            log: job.partition.id(),
            session: job.session.number,
            said: LeaderSaid::Frames { len, mark },
        };
        put_record(&record, records);
        chunks.extend(runs.into_iter().map(|run| share(Frames(run))));
        let sent = LeaderInput::FramesSent {
            to: self.follower,
            session: job.session,
            next,
        };
        (job.partition, sent)
    }

    fn is_wanted(self: &Rc<Self>, job: &Job) -> bool {
        job.partition.serves((self.follower, self), job.session)
    }

    fn fail(&self, job: &Job, error: &ReadError) {
        let log = job.partition.id();
        tracing::warn!(%log, follower = %self.follower, %error, "a follower cannot be served");
        job.partition
            .hear(Input::Leader(LeaderInput::SendingFailed {
                to: self.follower,
                session: job.session,
                code: error.code(),
            }));
    }
}

fn read(job: &Job) -> Reading {
    let (partition, from, below) = (Rc::clone(&job.partition), job.from, job.watermark.end);
    Box::pin(async move { partition.log().read(from, RUN_LEN, below).await })
}

fn len_of(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.as_bytes().len()).sum()
}
