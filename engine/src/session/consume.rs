//! A consume stream: frames pushed as they become readable.
//!
//! Nothing is queued for a consumer but what quinn's send window holds: the next frames are
//! read from the log when the stream has taken the last. A consumer that never reads costs a
//! task and one window however much passes it by; when it reads again it finds its place in
//! the log, or, if retention has taken that, the end of its stream with
//! `OFFSET_OUT_OF_RANGE`.
//!
//! At the tail frames are slices of the pages that were just written. A consumer that fell
//! behind reads from the device, in the shard's catch-up queue.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::{or, poll_once};
use glommio::timer::sleep;
use millrace_model::{ErrorCode, LeaderEpoch, LogId, Offset, Timestamp};
use millrace_storage::disk::glommio::GlommioDisk;
use millrace_storage::{FrameRun, ReadError};
use millrace_wire::{ConsumeOpen, ConsumeOpened, OffsetSpec, StreamKind};
use quinn::SendStream;

use super::forward;
use super::home_bytes::share;
use super::stream::{Ending, Incoming, finish, refuse, reset, send_message, until_drain};
use crate::mesh::ForwardedRun;
use crate::metrics::{Counter, Gauge, Stage};
use crate::partition::{Partition, end_unknown, nanos};
use crate::shard::{Refusal, Shard};

/// Bytes read from the log at a time (a longer frame comes alone): large enough that a read
/// from the device is one of full speed, small enough that many streams take turns.
pub(super) const RUN_LEN: usize = 256 << 10;

/// How long what was handed to the transport has for its way before the stream is reset: a
/// reset takes back all that the client has not read yet, and the records before an error are
/// as good as any. A client that needs longer comes back for them at its position.
const DELIVERY: Duration = Duration::from_millis(250);

pub(crate) type Run = FrameRun<GlommioDisk>;

/// Which replica a stream is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// The leader's: what it shows is all that is committed.
    Leader,
    /// Any that is in sync, up to the high watermark that it knows.
    InSync,
}

impl Reads {
    fn kind(self) -> StreamKind {
        match self {
            Self::Leader => StreamKind::Consume,
            Self::InSync => StreamKind::ConsumeReplica,
        }
    }

    /// This broker's replica, if it is such a one.
    pub(super) async fn replica(
        self,
        shard: &Rc<Shard>,
        log: LogId,
    ) -> Result<Rc<Partition>, Refusal> {
        match self {
            Self::Leader => shard.partition(log).await,
            Self::InSync => shard.in_sync_replica(log).await,
        }
    }
}

/// Serves a consume stream until it ends.
pub(super) async fn serve(
    shard: Rc<Shard>,
    wanted: (ConsumeOpen, Reads),
    mut incoming: Incoming,
    mut send: SendStream,
) {
    let source = match open_source(&shard, wanted).await {
        Ok(source) => source,
        Err(refusal) => {
            incoming.stop(refusal.code);
            return refuse(&mut send, refusal).await;
        }
    };
    shard.metrics().raise(Gauge::ConsumeStreams, 1);
    let ending = serve_from(&shard, source, wanted.1, &mut send).await;
    shard.metrics().lower(Gauge::ConsumeStreams, 1);
    match ending {
        Ending::Reset(code) => {
            let gone = async {
                let _ = send.stopped().await;
            };
            or(gone, sleep(DELIVERY)).await;
            reset(&mut send, code);
        }
        Ending::Drain => finish(&mut send).await,
        Ending::Gone => {}
    }
}

/// Where the frames of a stream come from.
enum Source {
    Here(Rc<Partition>, ConsumeOpened),
    Elsewhere(forward::ConsumeLink, ConsumeOpened),
}

async fn open_source(
    shard: &Rc<Shard>,
    (open, reads): (ConsumeOpen, Reads),
) -> Result<Source, Refusal> {
    if shard.owns(open.log) {
        shard.metrics().count(Counter::StreamsOwned);
        let partition = reads.replica(shard, open.log).await?;
        let opened = resolve(&partition, open.from, reads, true).await?;
        return Ok(Source::Here(partition, opened));
    }
    shard.metrics().count(Counter::StreamsForeign);
    let (link, opened) = forward::ConsumeLink::open(shard, open, reads).await?;
    Ok(Source::Elsewhere(link, opened))
}

async fn serve_from(
    shard: &Rc<Shard>,
    source: Source,
    reads: Reads,
    send: &mut SendStream,
) -> Ending {
    let (Source::Here(_, opened) | Source::Elsewhere(_, opened)) = &source;
    if let Err(ending) = send_message(send, reads.kind(), opened).await {
        return ending;
    }
    let work = async {
        match &source {
            Source::Here(partition, opened) => {
                let from = (opened.start, reads);
                push(shard, partition, from, &mut QuicSink::new(send)).await
            }
            Source::Elsewhere(link, _) => relay(link, send).await,
        }
    };
    until_drain(shard, work)
        .await
        .err()
        .unwrap_or(Ending::Drain)
}

/// Hands the owner's frames to the client.
async fn relay(link: &forward::ConsumeLink, send: &mut SendStream) -> Result<(), Ending> {
    let mut stopped = Box::pin(send.stopped());
    loop {
        let gone = async {
            let _ = stopped.as_mut().await;
            Err(Ending::Gone)
        };
        let run: ForwardedRun = or(async { Ok(link.run().await) }, gone).await?;
        send.write_chunk(run.map_err(Ending::Reset)?).await?;
    }
}

/// Finds where a consumer starts.
pub(super) async fn resolve(
    partition: &Partition,
    from: OffsetSpec,
    reads: Reads,
    on_owning_shard: bool,
) -> Result<ConsumeOpened, Refusal> {
    let start = match (reads, from) {
        (Reads::Leader, from) => find_offset(partition, from).await?.0,
        (Reads::InSync, OffsetSpec::At(offset)) => offset,
        // Only the leader knows where the log starts and ends for everybody.
        (Reads::InSync, _) => {
            let message = "a replica is read from an offset, which its leader finds";
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    };
    let log_start = partition.log().log_start();
    // A lower one would send a consumer away that is further, and end one that wants all there is.
    let high_watermark = partition.promised_end().ok_or_else(end_unknown)?;
    if partition.follows() && start > partition.log().accepted_end() {
        let message = format!("offset {start} has not come to this replica yet");
        return Err(Refusal::new(ErrorCode::OffsetNotAvailable, message));
    }
    if start < log_start || start > high_watermark && !partition.follows() {
        let message = format!("offset {start} is not within {log_start} and {high_watermark}");
        return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
    }
    Ok(ConsumeOpened {
        start,
        log_start,
        high_watermark,
        on_owning_shard,
    })
}

/// The offset that `at` names, with the timestamp of its record where it was asked for by
/// one. No record of that timestamp or later: the high watermark.
pub(super) async fn find_offset(
    partition: &Partition,
    at: OffsetSpec,
) -> Result<(Offset, Timestamp), Refusal> {
    partition.check_leads()?;
    let end = partition.visible_end().ok_or_else(end_unknown);
    match at {
        OffsetSpec::Earliest => Ok((partition.log().log_start(), Timestamp::NONE)),
        OffsetSpec::Latest => Ok((end?, Timestamp::NONE)),
        OffsetSpec::At(offset) => Ok((offset, Timestamp::NONE)),
        OffsetSpec::Timestamp(timestamp) => {
            let end = end?;
            let found = partition.log().find_timestamp(timestamp).await;
            let found = found.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
            Ok(found
                .filter(|(offset, _)| *offset < end)
                .unwrap_or((end, Timestamp::NONE)))
        }
    }
}

/// Where frames are pushed to.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub(super) trait FrameSink {
    /// Hands on runs, in order. Waits while the sink takes no more.
    async fn send(&mut self, runs: Vec<Run>) -> Result<(), Ending>;

    /// Resolves when nobody takes anything any more.
    async fn closed(&mut self);
}

/// Pushes frames from `start` on, for as long as this broker's replica is such a one.
pub(super) async fn push(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    (start, reads): (Offset, Reads),
    sink: &mut impl FrameSink,
) -> Result<(), Ending> {
    let pushing = async {
        let mut cursor = Cursor {
            shard,
            partition,
            position: start,
            reads,
            led_in: partition.leads_in(),
            is_behind: false,
        };
        loop {
            let readable = cursor.wait(sink).await?;
            let runs = cursor.read().await?;
            cursor.hand_on(runs, sink).await?;
            if let Some(since) = readable {
                let (metrics, topic) = (shard.metrics(), partition.id().topic);
                metrics.record(Stage::Deliver, topic, nanos(since.elapsed()));
            }
        }
    };
    let ended = async { Err(Ending::Reset(partition.ended().await)) };
    or(ended, pushing).await
}

struct Cursor<'a> {
    shard: &'a Rc<Shard>,
    partition: &'a Rc<Partition>,
    position: Offset,
    reads: Reads,
    /// The leadership in which it began.
    led_in: Option<LeaderEpoch>,
    /// The last read had to wait for the device.
    is_behind: bool,
}

impl Cursor<'_> {
    /// Waits until there is something to read. Returns since when, if it waited.
    async fn wait(&mut self, sink: &mut impl FrameSink) -> Result<Option<Instant>, Ending> {
        let mut waited = false;
        loop {
            let changed = self.partition.log().changed();
            self.check()?;
            // A read behind the damage of a damaged log says what is wrong.
            let damaged = self.partition.is_damaged();
            if self.position < self.partition.readable_end() || damaged {
                return Ok(waited.then(|| self.partition.readable_since()));
            }
            waited = true;
            self.is_behind = false;
            let closed = async {
                sink.closed().await;
                Err(Ending::Gone)
            };
            let changed = async {
                changed.await;
                Ok(())
            };
            or(changed, closed).await?;
        }
    }

    /// Whether this broker may go on.
    fn check(&self) -> Result<(), Ending> {
        match self.reads {
            Reads::Leader if self.partition.leads_in() == self.led_in => Ok(()),
            Reads::Leader => Err(Ending::Reset(ErrorCode::NotLeaderOrFollower)),
            Reads::InSync => {
                let in_sync = self.shard.topics().in_sync(self.partition.id());
                in_sync.map_err(|refusal| Ending::Reset(refusal.code))
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<Run>, Ending> {
        let read = read_run(Rc::clone(self.partition), self.position);
        let (waited, runs) = match self.is_behind {
            true => self.shard.spawn_catch_up(read).await,
            false => read.await,
        };
        self.is_behind |= waited;
        self.shard.metrics().count(match waited {
            true => Counter::CacheMisses,
            false => Counter::CacheHits,
        });
        runs.map_err(|error| Ending::Reset(self.explain(error)))
    }

    fn explain(&self, error: ReadError) -> ErrorCode {
        let code = error.code();
        if code != ErrorCode::OffsetOutOfRange {
            let log: LogId = self.partition.id();
            tracing::error!(%log, %error, "a consumer cannot be served");
        }
        code
    }

    async fn hand_on(&mut self, runs: Vec<Run>, sink: &mut impl FrameSink) -> Result<(), Ending> {
        let metrics = self.shard.metrics();
        for run in &runs {
            let bytes = run.as_bytes();
            metrics.add(Counter::BytesOut, bytes.len() as u64);
            metrics.add(Counter::BatchesOut, run.batches().count() as u64);
            let count = run.next.0 - run.base.0;
            metrics.add(Counter::RecordsOut, count);
            if self.partition.follows() {
                metrics.add(Counter::FollowerRecordsOut, count);
            }
            self.position = run.next;
        }
        sink.send(runs).await
    }
}

/// Reads, and tells whether it had to wait for the device.
async fn read_run(partition: Rc<Partition>, from: Offset) -> (bool, Result<Vec<Run>, ReadError>) {
    let below = partition.readable_end();
    let mut read = pin!(partition.log().read(from, RUN_LEN, below));
    match poll_once(read.as_mut()).await {
        Some(runs) => (false, runs),
        None => (true, read.await),
    }
}

/// Hands pages to quinn by reference.
struct QuicSink<'a> {
    send: &'a mut SendStream,
    stopped: Pin<Box<dyn Future<Output = ()>>>,
}

impl<'a> QuicSink<'a> {
    fn new(send: &'a mut SendStream) -> Self {
        let stopped = send.stopped();
        let stopped = Box::pin(async move {
            let _ = stopped.await;
        });
        Self { send, stopped }
    }
}

/// A run's frames as one slice, for [`share`].
pub(crate) struct Frames(pub(crate) Run);

impl AsRef<[u8]> for Frames {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl FrameSink for QuicSink<'_> {
    async fn send(&mut self, runs: Vec<Run>) -> Result<(), Ending> {
        let mut chunks: Vec<Bytes> = runs.into_iter().map(|run| share(Frames(run))).collect();
        Ok(self.send.write_all_chunks(&mut chunks).await?)
    }

    async fn closed(&mut self) {
        self.stopped.as_mut().await;
    }
}
