//! Streams that landed on a shard which does not own their partition.
//!
//! Correct, counted, and slow: a well-behaved client connects to the owner. The frames of one
//! such stream go through one bounded channel to the owner, the answers through another, so a
//! slow owner or a slow client fills its own channel and nobody else's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::{or, zip};
use millrace_model::{ErrorCode, LogId};
use millrace_replication::partition::Acks;
use millrace_wire::{ConsumeOpen, ConsumeOpened, ProduceOpened};

use super::consume::{self, FrameSink, Frames, Reads, Run};
use super::home_bytes::share;
use super::produce::{MAX_UNACKNOWLEDGED_FRAMES, WholeFrame};
use super::stream::Ending;
use crate::lane::{Lane, Outcome, Place};
use crate::mesh::{ForwardedConsume, ForwardedFrame, ForwardedProduce, ForwardedRun, Message};
use crate::partition::{Partition, Produced};
use crate::shard::budget::Permit;
use crate::shard::notice::Signal;
use crate::shard::{Refusal, Shard};

/// Frames of one produce stream between two shards, each already paid for on the shard that
/// received it.
const FRAMES_BETWEEN: usize = 4;

/// Fates of frames of one produce stream between two shards.
const OUTCOMES_BETWEEN: usize = 256;

/// Runs of frames of one consume stream between two shards: the credit of its owner's half,
/// each up to [`consume::RUN_LEN`] bytes.
const RUNS_BETWEEN: usize = 2;

/// The receiving shard's end of a forwarded produce stream.
pub(super) struct ProduceLink {
    frames: flume::Sender<ForwardedFrame>,
    /// Frames whose fate is not known, in order, each with the memory it holds here.
    waiting: Rc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    frames: RefCell<VecDeque<(Rc<Lane>, Place, Permit)>>,
    owner_ended: Signal<ErrorCode>,
}

impl ProduceLink {
    /// Opens the owner's half.
    pub(super) async fn open(shard: &Rc<Shard>, log: LogId, acks: Acks) -> Result<Self, Refusal> {
        let (frames, to_owner) = flume::bounded(FRAMES_BETWEEN);
        let (from_owner, outcomes) = flume::bounded(OUTCOMES_BETWEEN);
        let opened: Result<ProduceOpened, Refusal> = shard
            .ask(shard.owner(log), |reply| {
                Message::Produce(ForwardedProduce {
                    log,
                    acks,
                    frames: to_owner,
                    outcomes: from_owner,
                    reply,
                })
            })
            .await?;
        opened?;
        let waiting = Rc::new(Waiting::default());
        shard.spawn(settle_as_told(Rc::clone(&waiting), outcomes));
        Ok(Self { frames, waiting })
    }

    /// Sends a frame to the owner; its fate will settle a place in `lane`.
    pub(super) async fn send(&self, frame: WholeFrame, lane: &Rc<Lane>) -> Result<(), Ending> {
        let place = lane.reserve();
        self.waiting
            .frames
            .borrow_mut()
            .push_back((Rc::clone(lane), place, frame.memory));
        // The owner's end is gone: `settle_as_told` settles what waits.
        let forwarded = ForwardedFrame {
            chunks: frame.chunks,
            receive_nanos: frame.receive_nanos,
            whole: frame.whole,
        };
        let _ = self.frames.send_async(forwarded).await;
        Ok(())
    }

    /// Resolves when the owner has ended its half before this one.
    pub(super) async fn ended(&self) -> ErrorCode {
        self.waiting.owner_ended.wait().await
    }
}

async fn settle_as_told(waiting: Rc<Waiting>, outcomes: flume::Receiver<Outcome>) {
    while let Ok(outcome) = outcomes.recv_async().await {
        let first = waiting.frames.borrow_mut().pop_front();
        let (lane, place, _memory) = first.expect("the owner answers each frame once");
        lane.settle(place, outcome);
    }
    // The owner has ended: the partition is gone, or the shard.
    let code = ErrorCode::UnknownTopicOrPartition;
    waiting.owner_ended.raise(code);
    let rest = std::mem::take(&mut *waiting.frames.borrow_mut());
    for (lane, place, _memory) in rest {
        lane.settle(place, Outcome::refused(code, Default::default()));
    }
}

/// The owner's half of a forwarded produce stream.
pub(crate) async fn own_produce(shard: Rc<Shard>, forwarded: ForwardedProduce) {
    let ForwardedProduce {
        log,
        acks,
        frames,
        outcomes,
        reply,
    } = forwarded;
    let opened = match own_partition(&shard, log).await {
        Ok(opened) => opened,
        Err(refusal) => return reply.send(Err(refusal)),
    };
    let (partition, max_message_bytes) = opened;
    reply.send(Ok(ProduceOpened {
        max_message_bytes,
        on_owning_shard: false,
    }));
    let lane = Rc::new(Lane::new(MAX_UNACKNOWLEDGED_FRAMES));
    let append = async {
        let ended = async {
            partition.ended().await;
        };
        or(
            append_all((&shard, &partition, acks), &lane, &frames),
            ended,
        )
        .await;
        // Frames in the channel are dropped; their sender learns by the end of the outcomes.
        lane.close();
    };
    zip(append, tell_outcomes(&lane, outcomes)).await;
}

async fn own_partition(shard: &Rc<Shard>, log: LogId) -> Result<(Rc<Partition>, u32), Refusal> {
    let max_message_bytes = shard.topic_settings(log)?.max_message_bytes;
    let partition = shard.partition(log).await?;
    partition.check_leads()?;
    Ok((partition, max_message_bytes))
}

async fn append_all(
    (shard, partition, acks): (&Rc<Shard>, &Rc<Partition>, Acks),
    lane: &Rc<Lane>,
    frames: &flume::Receiver<ForwardedFrame>,
) {
    while let Ok(frame) = frames.recv_async().await {
        let chunks = frame.chunks;
        lane.room().await;
        let place = lane.reserve();
        let len = chunks.iter().map(Bytes::len).sum();
        match shard.budget().acquire(len).await {
            Ok(memory) => {
                partition.room(len).await;
                partition.append(Produced {
                    chunks: &chunks,
                    memory,
                    receive_nanos: frame.receive_nanos,
                    whole: frame.whole,
                    turn: Instant::now(),
                    lane,
                    place,
                    acks,
                });
            }
            Err(_) => {
                let log_start = partition.log().log_start();
                lane.settle(
                    place,
                    Outcome::refused(ErrorCode::ThrottlingQuotaExceeded, log_start),
                );
            }
        }
    }
}

async fn tell_outcomes(lane: &Lane, outcomes: flume::Sender<Outcome>) {
    let mut taken = Vec::new();
    while lane.settled().await {
        lane.take_settled(&mut taken, OUTCOMES_BETWEEN);
        for outcome in taken.drain(..) {
            // Nobody may wait any more; the frames are in the log all the same.
            let _ = outcomes.send_async(outcome).await;
        }
    }
}

/// The receiving shard's end of a forwarded consume stream.
pub(super) struct ConsumeLink {
    runs: flume::Receiver<ForwardedRun>,
    /// Dropped with this end, which tells the owner.
    _alive: flume::Sender<Infallible>,
}

impl ConsumeLink {
    /// Opens the owner's half.
    pub(super) async fn open(
        shard: &Rc<Shard>,
        open: ConsumeOpen,
        reads: Reads,
    ) -> Result<(Self, ConsumeOpened), Refusal> {
        let (runs, from_owner) = flume::bounded(RUNS_BETWEEN);
        let (alive, client) = flume::bounded(1);
        let opened: Result<ConsumeOpened, Refusal> = shard
            .ask(shard.owner(open.log), |reply| {
                Message::Consume(ForwardedConsume {
                    open,
                    reads,
                    runs,
                    client,
                    reply,
                })
            })
            .await?;
        Ok((
            Self {
                runs: from_owner,
                _alive: alive,
            },
            opened?,
        ))
    }

    /// The next run, or why there is none.
    pub(super) async fn run(&self) -> ForwardedRun {
        let run = self.runs.recv_async().await;
        run.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
    }
}

/// The owner's half of a forwarded consume stream.
pub(crate) async fn own_consume(shard: Rc<Shard>, forwarded: ForwardedConsume) {
    let ForwardedConsume {
        open,
        reads,
        runs,
        client,
        reply,
    } = forwarded;
    let opened = async {
        let partition = reads.replica(&shard, open.log).await?;
        let opened = consume::resolve(&partition, open.from, reads, false).await?;
        Ok((partition, opened))
    };
    let (partition, opened) = match opened.await {
        Ok(opened) => opened,
        Err(refusal) => return reply.send(Err(refusal)),
    };
    reply.send(Ok(opened));
    let mut sink = ChannelSink {
        shard: Rc::clone(&shard),
        runs,
        client,
    };
    let pushed = consume::push(&shard, &partition, (opened.start, reads), &mut sink).await;
    if let Err(Ending::Reset(code)) = pushed {
        // The client may have gone meanwhile.
        let _ = sink.runs.send_async(Err(code)).await;
    }
}

/// Takes frames to the shard whose client wants them.
struct ChannelSink {
    shard: Rc<Shard>,
    runs: flume::Sender<ForwardedRun>,
    client: flume::Receiver<Infallible>,
}

impl FrameSink for ChannelSink {
    async fn send(&mut self, runs: Vec<Run>) -> Result<(), Ending> {
        for run in runs {
            for lent in self.shard.lender().lend(vec![share(Frames(run))]) {
                let sent = self.runs.send_async(Ok(lent)).await;
                sent.map_err(|_| Ending::Gone)?;
            }
        }
        Ok(())
    }

    async fn closed(&mut self) {
        // Nothing is ever sent: an answer means that the other end is gone.
        let _ = self.client.recv_async().await;
    }
}
