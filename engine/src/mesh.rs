//! How shards talk: one bounded inbox per shard, typed messages, one-shot answers.
//!
//! Data never takes this way when the client is on the owning shard. What does:
//! control requests for a partition, the opening of forwarded streams
//! (whose frames then flow through bounded channels of their own), broadcasts of metadata,
//! and questions about metrics and health.
//!
//! # Why a full inbox cannot block two shards for ever
//! - An inbox is emptied by one task that never awaits a mesh: it hands each message to a task
//!   of its own (or handles it at once) and takes the next. So an inbox always drains.
//! - A sender that meets a full inbox awaits a slot, as a session's task. Its shard goes on
//!   serving, its own inbox included.
//! - An answer goes into a channel made for that one answer, with room for it, so answering
//!   never waits.
//! - A question that may wait for long (to join a group waits for the other members) says
//!   when its asker has gone, so that no handler outlives the session that it works for.
//! - The handler of a message never sends into the mesh, but for shard 0's controller,
//!   whose broadcasts are answered by handlers that do not. So no two handlers wait for each
//!   other.
//!
//! The number of handlers is bounded by the number of sessions of the broker: a QUIC stream has at
//! most one question on its way, a Kafka connection one to each shard for each of its requests in
//! flight.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use millrace_model::{BrokerEpoch, ErrorCode, LogId, ShardId};
use millrace_replication::partition::Acks;
use millrace_wire::{ConsumeOpen, ConsumeOpened, ProduceOpened, Request, Response};

use crate::controller::Published;
use crate::lane::Outcome;
use crate::metrics::{Counter, ShardMetrics, ShardSnapshot};
use crate::session::consume::Reads;
use crate::shard::{Refusal, Shard};

/// Messages that wait in an inbox; a sender beyond waits for a slot. Room for every stream
/// of a few busy connections at once, at 100 bytes a message.
const INBOX_SLOTS: usize = 1024;

/// Where an answer goes.
pub(crate) struct Reply<T>(flume::Sender<T>);

impl<T> Reply<T> {
    /// Answers. Whoever asked may have gone; that is no error.
    pub(crate) fn send(self, answer: T) {
        let _ = self.0.try_send(answer);
    }
}

/// A frame on its way to the owner of its partition.
pub(crate) struct ForwardedFrame {
    /// Its bytes.
    pub(crate) chunks: Vec<Bytes>,
    /// How long it took to arrive.
    pub(crate) receive_nanos: u64,
    /// When its last byte arrived.
    pub(crate) whole: Instant,
}

/// The owner's half of a produce stream that landed on another shard.
pub(crate) struct ForwardedProduce {
    /// The partition.
    pub(crate) log: LogId,
    /// Who must have a frame before it is acknowledged.
    pub(crate) acks: Acks,
    /// Frames in order; ends when the stream ends.
    pub(crate) frames: flume::Receiver<ForwardedFrame>,
    /// One outcome a frame, in order.
    pub(crate) outcomes: flume::Sender<Outcome>,
    /// Whether the stream is open.
    pub(crate) reply: Reply<Result<ProduceOpened, Refusal>>,
}

/// What a forwarded consume stream carries.
pub(crate) type ForwardedRun = Result<Bytes, ErrorCode>;

/// The owner's half of a consume stream that landed on another shard.
pub(crate) struct ForwardedConsume {
    /// What the client asked for.
    pub(crate) open: ConsumeOpen,
    /// Which replica it may come from.
    pub(crate) reads: Reads,
    /// Frames on loan, or why there are no more. Its few slots are the credit.
    pub(crate) runs: flume::Sender<ForwardedRun>,
    /// Nothing is sent here: it ends when the client's end is gone.
    pub(crate) client: flume::Receiver<Infallible>,
    /// Whether the stream is open.
    pub(crate) reply: Reply<Result<ConsumeOpened, Refusal>>,
}

/// Work for another shard. It is begun at once, in the order in which it arrives; what takes
/// longer it spawns there.
pub(crate) type Work = Box<dyn FnOnce(&Rc<Shard>) + Send>;

/// What one shard asks of another.
pub(crate) enum Message {
    /// A control request that this shard must answer.
    Control(Request, Reply<Response>),
    /// See [`ForwardedProduce`].
    Produce(ForwardedProduce),
    /// See [`ForwardedConsume`].
    Consume(ForwardedConsume),
    /// See [`Shard::on`].
    Work(Work),
    /// The cluster has changed. From shard 0 only.
    Image(Arc<Published>, Reply<()>),
    /// Shows by its answer that the shard is alive.
    Ping(Reply<()>),
    /// The shard's metrics.
    Snapshot(Reply<ShardSnapshot>),
    /// Give up what other brokers can lead; answered with the uptime that ends. To shard 0 only.
    PrepareToStop(Reply<Option<BrokerEpoch>>),
    /// Begin nothing new and finish what was received.
    Drain(Reply<()>),
    /// Every shard has drained: flush and end.
    Stop,
}

/// A shard did not answer: it has ended.
#[derive(Debug, thiserror::Error)]
#[error("shard {0} has ended")]
pub(crate) struct ShardEnded(pub(crate) ShardId);

/// The sending half of every inbox, and the shard's own receiving half.
pub(crate) struct MeshSeat {
    inboxes: Vec<flume::Sender<Message>>,
    inbox: flume::Receiver<Message>,
}

/// Makes the mesh of `shards` shards: one seat each, in order.
pub(crate) fn mesh(shards: u8) -> Vec<MeshSeat> {
    let channels: Vec<_> = (0..shards).map(|_| flume::bounded(INBOX_SLOTS)).collect();
    let inboxes: Vec<_> = channels.iter().map(|(sender, _)| sender.clone()).collect();
    channels
        .into_iter()
        .map(|(_, inbox)| MeshSeat {
            inboxes: inboxes.clone(),
            inbox,
        })
        .collect()
}

impl MeshSeat {
    /// The mesh as its shard uses it, and the shard's inbox.
    pub(crate) fn sit(&self, metrics: ShardMetrics) -> (Mesh, flume::Receiver<Message>) {
        let inboxes = self.inboxes.clone();
        (Mesh { inboxes, metrics }, self.inbox.clone())
    }

    /// The inboxes, for who is no shard: the broker's handle.
    pub(crate) fn inboxes(&self) -> Vec<flume::Sender<Message>> {
        self.inboxes.clone()
    }
}

/// A shard's way to the others.
pub(crate) struct Mesh {
    inboxes: Vec<flume::Sender<Message>>,
    metrics: ShardMetrics,
}

impl Mesh {
    /// Every shard.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let count = u8::try_from(self.inboxes.len()).expect("a broker has at most 255 shards");
        (0..count).map(ShardId)
    }

    /// Messages that wait in a shard's inbox.
    pub(crate) fn queued(&self, shard: ShardId) -> u64 {
        self.inboxes[usize::from(shard.0)].len() as u64
    }

    /// Asks a shard and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        to: ShardId,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, ShardEnded> {
        self.metrics.count(Counter::MeshMessages);
        let (reply, answer) = flume::bounded(1);
        let inbox = &self.inboxes[usize::from(to.0)];
        inbox
            .send_async(message(Reply(reply)))
            .await
            .map_err(|_| ShardEnded(to))?;
        answer.recv_async().await.map_err(|_| ShardEnded(to))
    }
}

/// Asks a shard from a thread that is no shard, and blocks until it has answered.
pub(crate) fn ask_blocking<T>(
    inbox: &flume::Sender<Message>,
    message: impl FnOnce(Reply<T>) -> Message,
) -> Option<T> {
    let (reply, answer) = flume::bounded(1);
    inbox.send(message(Reply(reply))).ok()?;
    answer.recv().ok()
}
