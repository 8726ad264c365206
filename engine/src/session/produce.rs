//! A produce stream: frames in, acknowledgements back in order, any number in flight.
//!
//! Two halves run side by side. The *reader* collects frames, one at a time, after it has
//! acquired memory for the whole of each, and hands them to the partition. The *acker* takes
//! fates from the lane between the two and sends them, as many in one write as are known.
//! Neither waits for the other but through the bounds of the lane.
//!
//! A frame that is refused has an acknowledgement with its error and the stream goes on; the
//! sequences of an idempotent producer keep what follows from passing it. A header that does
//! not hold leaves nobody knowing where the next frame starts, so it ends the stream.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::{or, zip};
use millrace_model::{ErrorCode, FrameHeader, LogId, Offset};
use millrace_net::Stint;
use millrace_replication::partition;
use millrace_wire::{AckBatch, Acks, ChunkQueue, ProduceOpen, ProduceOpened, StreamKind};
use quinn::SendStream;

use super::forward;
use super::frames::FrameCutter;
use super::stream::{Ending, Incoming, finish, refuse, reset, send_message, until_drain};
use crate::lane::{Lane, Outcome};
use crate::metrics::{Counter, Gauge, ShardMetrics, SlowBatch, Stage};
use crate::partition::{Partition, Produced, nanos};
use crate::shard::budget::{BudgetError, Permit};
use crate::shard::notice::Signal;
use crate::shard::stall::Watch;
use crate::shard::{Refusal, Shard, clock};

/// Acknowledgements in one write: 32 KiB of them, a few datagrams.
const ACKS_A_WRITE: usize = 1024;

/// Frames of one stream whose acknowledgement is not handed to the stream yet. The reader
/// waits beyond, so a client that reads no acknowledgements costs at most this many
/// entries (1 MiB).
pub(super) const MAX_UNACKNOWLEDGED_FRAMES: usize = 8192;

/// Where the frames of a stream go.
pub(super) enum Destination {
    /// This shard owns the partition.
    Here(Rc<Partition>),
    /// Another does.
    Elsewhere(forward::ProduceLink),
}

/// A frame that has arrived as a whole.
pub(super) struct WholeFrame {
    pub(super) chunks: Vec<Bytes>,
    pub(super) memory: Permit,
    pub(super) receive_nanos: u64,
    pub(super) whole: Instant,
}

impl WholeFrame {
    fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

/// Serves a produce stream until it ends.
pub(super) async fn serve(
    shard: Rc<Shard>,
    peer: IpAddr,
    open: ProduceOpen,
    (mut incoming, mut send): (Incoming, SendStream),
    rest: ChunkQueue,
) {
    let (destination, opened) = match open_destination(&shard, open).await {
        Ok(destination) => destination,
        Err(refusal) => {
            incoming.stop(refusal.code);
            return refuse(&mut send, refusal).await;
        }
    };
    if send_message(&mut send, StreamKind::Produce, &opened)
        .await
        .is_err()
    {
        return;
    }
    shard.metrics().raise(Gauge::ProduceStreams, 1);
    let stream = Rc::new(Stream::default());
    let reader = Reader {
        shard: &shard,
        log: open.log,
        acks: replicas(open.acks),
        stream: &stream,
        destination: &destination,
        cutter: FrameCutter::new(rest, open.log.checksum_seed()),
        max_batch_len: opened.max_message_bytes,
        stint: Stint::default(),
        incoming: &mut incoming,
    };
    let acker = Acker {
        stream: &stream,
        peer,
        log: open.log,
        acks: open.acks,
        metrics: shard.metrics(),
        watch: shard.stalls().watch(),
        send: &mut send,
    };
    zip(reader.run(), acker.run()).await;
    shard.metrics().lower(Gauge::ProduceStreams, 1);
}

async fn open_destination(
    shard: &Rc<Shard>,
    ProduceOpen { log, acks }: ProduceOpen,
) -> Result<(Destination, ProduceOpened), Refusal> {
    shard.topics().refuse_internal(log)?;
    let max_message_bytes = shard.topic_settings(log)?.max_message_bytes;
    let here = shard.owns(log);
    let opened = ProduceOpened {
        max_message_bytes,
        on_owning_shard: here,
    };
    if here {
        shard.metrics().count(Counter::StreamsOwned);
        let partition = shard.partition(log).await?;
        partition.check_leads()?;
        return Ok((Destination::Here(partition), opened));
    }
    shard.metrics().count(Counter::StreamsForeign);
    let link = forward::ProduceLink::open(shard, log, replicas(acks)).await?;
    Ok((Destination::Elsewhere(link), opened))
}

/// Who must have a batch before it is acknowledged. One without acknowledgement is as one that the leader
/// acknowledges: if it is refused, the stream ends.
fn replicas(acks: Acks) -> partition::Acks {
    match acks {
        Acks::None | Acks::Leader => partition::Acks::Leader,
        Acks::All => partition::Acks::All,
    }
}

/// What the two halves share.
pub(super) struct Stream {
    pub(super) lane: Rc<Lane>,
    /// Why the reader ended, if not in good order. Set before the lane is closed.
    failure: Cell<Option<ErrorCode>>,
    /// The acker has ended: reading on would be for nobody.
    acker_ended: Signal<Ending>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            lane: Rc::new(Lane::new(MAX_UNACKNOWLEDGED_FRAMES)),
            failure: Cell::new(None),
            acker_ended: Signal::default(),
        }
    }
}

struct Reader<'a> {
    shard: &'a Rc<Shard>,
    log: LogId,
    acks: partition::Acks,
    stream: &'a Stream,
    destination: &'a Destination,
    cutter: FrameCutter,
    max_batch_len: u32,
    stint: Stint,
    incoming: &'a mut Incoming,
}

impl Reader<'_> {
    async fn run(mut self) {
        let ending = {
            let shard = Rc::clone(self.shard);
            let stream = self.stream;
            let acker_ended = async { Err(stream.acker_ended.wait().await) };
            let ended = ended(self.destination);
            until_drain(&shard, or(acker_ended, or(ended, self.frames()))).await
        };
        if let Err(Ending::Reset(code)) = ending {
            self.stream.failure.set(Some(code));
            self.incoming.stop(code);
        }
        self.stream.lane.close();
    }

    /// Hands on frames until the stream ends or breaks.
    async fn frames(&mut self) -> Result<(), Ending> {
        loop {
            self.stream.lane.room().await;
            let Some(header) = self.header().await? else {
                return Ok(());
            };
            let seen = Instant::now();
            // A client is not to blame while it waits for others.
            self.incoming.watch.done();
            let begun = self.turn(header.len()).await;
            match self.memory_for(&header).await {
                Ok(memory) => self.frame(&header, memory, seen).await?,
                Err(code) => self.refuse(&header, code),
            }
            drop(begun);
        }
    }

    /// The header of the next frame, or `None` at the end of the stream.
    async fn header(&mut self) -> Result<Option<FrameHeader>, Ending> {
        loop {
            match self.cutter.header() {
                Ok(Some(header)) => return Ok(Some(header)),
                Ok(None) => {}
                Err(error) => return Err(Ending::Reset(error.code())),
            }
            if self.cutter.is_between_frames() {
                self.incoming.watch.done();
            } else {
                self.incoming.watch.begin_once();
            }
            match self.stint.awaiting(self.incoming.chunk()).await? {
                Some(chunk) => self.cutter.push(chunk),
                None if self.cutter.is_between_frames() => return Ok(None),
                None => return Err(Ending::Reset(ErrorCode::CorruptMessage)),
            }
        }
    }

    /// A turn among the frames that this connection has begun, unless this one is whole
    /// already. A frame above the connection's limit has its turn alone.
    async fn turn(&self, len: usize) -> Option<Permit> {
        if self.cutter.has(len) {
            return None;
        }
        let begun = &self.incoming.begun;
        // The queue has room for as many as a connection has streams.
        begun.acquire(len.min(begun.limit())).await.ok()
    }

    /// Memory for the whole of a frame. Until it is there, nothing more is read.
    async fn memory_for(&self, header: &FrameHeader) -> Result<Permit, ErrorCode> {
        if header.batch_len > self.max_batch_len {
            return Err(ErrorCode::MessageTooLarge);
        }
        let budget = self.shard.budget();
        let refusal = |error| match error {
            BudgetError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            BudgetError::TooManyWaiters(_) => ErrorCode::ThrottlingQuotaExceeded,
        };
        if let Some(memory) = budget.try_acquire(header.len()).map_err(refusal)? {
            return Ok(memory);
        }
        self.shard.metrics().count(Counter::BudgetWaits);
        budget.acquire(header.len()).await.map_err(refusal)
    }

    /// Collects the rest of a frame and hands it on.
    async fn frame(
        &mut self,
        header: &FrameHeader,
        memory: Permit,
        seen: Instant,
    ) -> Result<(), Ending> {
        let chunks = loop {
            if let Some(chunks) = self.cutter.take(header.len()) {
                break chunks;
            }
            self.incoming.watch.begin_once();
            match self.stint.awaiting(self.incoming.chunk()).await? {
                Some(chunk) => self.cutter.push(chunk),
                None => return Err(Ending::Reset(ErrorCode::CorruptMessage)),
            }
        };
        self.incoming.watch.done();
        let whole = Instant::now();
        let receive_nanos = nanos(whole - seen);
        let metrics = self.shard.metrics();
        metrics.record(Stage::Receive, self.log.topic, receive_nanos);
        self.hand_on(WholeFrame {
            chunks,
            memory,
            receive_nanos,
            whole,
        })
        .await
    }

    async fn hand_on(&mut self, frame: WholeFrame) -> Result<(), Ending> {
        match self.destination {
            Destination::Here(partition) => {
                partition.room(frame.len()).await;
                let place = self.stream.lane.reserve();
                partition.append(Produced {
                    chunks: &frame.chunks,
                    memory: frame.memory,
                    receive_nanos: frame.receive_nanos,
                    whole: frame.whole,
                    turn: frame.whole,
                    lane: &self.stream.lane,
                    place,
                    acks: self.acks,
                });
                // Many frames may be ready: let others have their turn.
                self.stint.go_on().await;
                Ok(())
            }
            Destination::Elsewhere(link) => link.send(frame, &self.stream.lane).await,
        }
    }

    fn refuse(&mut self, header: &FrameHeader, code: ErrorCode) {
        self.shard.metrics().refused(code);
        self.cutter.skip(header.len());
        let place = self.stream.lane.reserve();
        self.stream
            .lane
            .settle(place, Outcome::refused(code, Offset::ZERO));
    }
}

/// Resolves when there is no partition any more.
async fn ended(destination: &Destination) -> Result<(), Ending> {
    let code = match destination {
        Destination::Here(partition) => partition.ended().await,
        Destination::Elsewhere(link) => link.ended().await,
    };
    Err(Ending::Reset(code))
}

struct Acker<'a> {
    stream: &'a Stream,
    peer: IpAddr,
    log: LogId,
    acks: Acks,
    metrics: &'a ShardMetrics,
    watch: Rc<Watch>,
    send: &'a mut SendStream,
}

impl Acker<'_> {
    async fn run(mut self) {
        match self.acks().await {
            Ok(()) => finish(self.send).await,
            Err(ending) => {
                if let Ending::Reset(code) = ending {
                    reset(self.send, code);
                }
                self.stream.acker_ended.raise(ending);
            }
        }
    }

    /// Sends fates until the lane has ended, which happens after its last frame is settled.
    async fn acks(&mut self) -> Result<(), Ending> {
        let mut batch = AckBatch::default();
        let mut outcomes = Vec::new();
        while self.stream.lane.settled().await {
            outcomes.clear();
            self.stream.lane.take_settled(&mut outcomes, ACKS_A_WRITE);
            if self.acks == Acks::None {
                silent(&outcomes)?;
                continue;
            }
            outcomes.iter().for_each(|outcome| batch.push(&outcome.ack));
            self.write(batch.take()).await?;
            self.count(&outcomes);
        }
        self.stream
            .failure
            .get()
            .map_or(Ok(()), |code| Err(Ending::Reset(code)))
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Ending> {
        self.watch.begin(Instant::now());
        let write = async { Ok(self.send.write_chunk(bytes).await?) };
        let stalled = async { Err(Ending::Reset(self.watch.stalled().await)) };
        let result = or(write, stalled).await;
        self.watch.done();
        result
    }

    fn count(&self, outcomes: &[Outcome]) {
        let now = Instant::now();
        self.metrics.add(Counter::Acks, outcomes.len() as u64);
        self.metrics.count(Counter::AckWrites);
        for Outcome { due, trace, .. } in outcomes {
            let ack_nanos = nanos(now - *due);
            self.metrics.record(Stage::Ack, self.log.topic, ack_nanos);
            let total = trace.total().saturating_add(ack_nanos);
            self.metrics.offer_slow(now, total, || SlowBatch {
                at: clock::timestamp(),
                log: self.log,
                peer: self.peer,
                protocol: "native",
                trace: *trace,
                ack_nanos,
            });
        }
    }
}

/// Without acknowledgements a client learns of an error by the end of its stream.
fn silent(outcomes: &[Outcome]) -> Result<(), Ending> {
    let error = outcomes
        .iter()
        .map(|outcome| outcome.ack.error())
        .find(|code| *code != ErrorCode::None);
    error.map_or(Ok(()), |code| Err(Ending::Reset(code)))
}

const _: () = assert!(ACKS_A_WRITE <= MAX_UNACKNOWLEDGED_FRAMES);
