//! What clients do over QUIC: control requests, produce streams, consume streams.
//!
//! Every stream is a task of its shard. A stream ends by its client, by the end of its
//! partition, by a client that does not carry on what it began ([`crate::shard::stall`]), or
//! by the shutdown of the broker; never by another stream.

mod allowance;
mod cluster;
pub(crate) mod consume;
mod control;
mod forward;
mod frames;
mod groups;
pub(crate) mod home_bytes;
mod http;
pub(crate) mod lent;
mod peers;
mod produce;
mod stream;

use std::net::IpAddr;
use std::rc::Rc;

use millrace_model::{BrokerId, ErrorCode};
use millrace_net::ShardEndpoint;
use millrace_net::pulse::{Work, named};
use millrace_replication::Refusal;
use millrace_wire::{
    ChunkQueue, ConsumeOpen, DecodeError, ProduceOpen, QuorumOpen, ReplicaOpen, Request, StreamKind,
};
use quinn::{Connection, RecvStream, SendStream};

use crate::metrics::{Counter, Gauge};
use crate::replicas::serve_replica_stream;
use crate::shard::Shard;
use crate::shard::budget::MemoryBudget;
use allowance::Allowance;
use consume::Reads;
use stream::{Ending, Incoming, Opening, OpeningError, refuse, reset};

pub(crate) use control::answer;
pub(crate) use forward::{own_consume, own_produce};
pub(crate) use http::serve_http;

/// Streams of a shard at a time; more are told to slow down. A stream that waits costs a few
/// KiB, so this bounds what idle ones cost to some hundred MiB.
const MAX_STREAMS: usize = 64 * 1024;

/// Accepts connections until the endpoint closes or the shard drains.
pub(crate) async fn accept_connections(shard: Rc<Shard>, endpoint: ShardEndpoint) {
    while let Some(connection) = endpoint.accept().await {
        shard.metrics().count(Counter::ConnectionsOpened);
        shard.spawn(serve_connection(Rc::clone(&shard), connection));
    }
}

async fn serve_connection(shard: Rc<Shard>, connection: Connection) {
    shard.metrics().raise(Gauge::Connections, 1);
    let begun = stream::connection_budget(&shard);
    let mut allowance = Allowance::new();
    let caller = Caller {
        address: connection.remote_address().ip(),
        broker: shard
            .peers()
            .and_then(|peers| peers.proven_broker(&connection)),
    };
    while let Ok((send, recv)) = connection.accept_bi().await {
        if shard.draining().raised().is_some() {
            turn_away(send, recv, ErrorCode::NotLeaderOrFollower);
            continue;
        }
        if shard.sessions() >= MAX_STREAMS {
            turn_away(send, recv, ErrorCode::ThrottlingQuotaExceeded);
            continue;
        }
        let counted = allowance.opened(&connection);
        // A client may move, and its connection with it.
        let caller = Caller {
            address: connection.remote_address().ip(),
            ..caller
        };
        let session = serve_stream(Rc::clone(&shard), caller, send, recv, begun.clone());
        shard.spawn_session(async move {
            let _counted = counted;
            session.await;
        });
    }
    shard.metrics().lower(Gauge::Connections, 1);
}

fn turn_away(mut send: SendStream, mut recv: RecvStream, code: ErrorCode) {
    let code = stream::application_code(code);
    // Errors mean that the stream has ended already.
    let _ = recv.stop(code);
    let _ = send.reset(code);
}

/// The other end of a connection.
#[derive(Clone, Copy)]
struct Caller {
    address: IpAddr,
    /// The broker of this cluster that it has proved to be.
    broker: Option<BrokerId>,
}

async fn serve_stream(
    shard: Rc<Shard>,
    caller: Caller,
    mut send: SendStream,
    recv: RecvStream,
    begun: MemoryBudget,
) {
    let mut incoming = Incoming::new(&shard, recv, begun);
    let (opening, preface) = match Opening::begin(&mut incoming).await {
        Ok(begun) => begun,
        Err(error) => return fail(error, &mut incoming, &mut send).await,
    };
    let opened = match preface.kind {
        StreamKind::Control => opening.message(&mut incoming).await.map(Opened::Control),
        StreamKind::Produce => opening.message(&mut incoming).await.map(Opened::Produce),
        StreamKind::Consume => opening.message(&mut incoming).await.map(Opened::Consume),
        StreamKind::ConsumeReplica => {
            let opened = opening.message(&mut incoming).await;
            opened.map(Opened::ConsumeReplica)
        }
        StreamKind::Quorum => opening.message(&mut incoming).await.map(Opened::Quorum),
        StreamKind::Replicate => opening.message(&mut incoming).await.map(Opened::Replicate),
    };
    if let (Ok(opened), Err(refusal)) = (&opened, shard.check_joined())
        && opened.needs_the_cluster()
    {
        incoming.stop(refusal.code);
        return refuse(&mut send, refusal).await;
    }
    match opened {
        Ok(Opened::Control((request, _))) => match (request, caller.broker) {
            (Request::Peer(request), Some(from)) => {
                let controller = shard.controller().clone();
                let answering = peers::serve_request(controller, from, request, send);
                named(Work::Peers, answering).await;
            }
            (request, _) => {
                let peer = caller.address;
                named(Work::Control, control::serve(shard, peer, request, send)).await;
            }
        },
        Ok(Opened::Produce((open, rest))) => {
            let doing = Work::Produce.on(open.log);
            let serving = produce::serve(shard, caller.address, open, (incoming, send), rest);
            named(doing, serving).await;
        }
        Ok(Opened::Consume((open, _))) => {
            let doing = Work::Consume.on(open.log);
            let wanted = (open, Reads::Leader);
            named(doing, consume::serve(shard, wanted, incoming, send)).await;
        }
        Ok(Opened::ConsumeReplica((open, _))) => {
            let doing = Work::Consume.on(open.log);
            let wanted = (open, Reads::InSync);
            named(doing, consume::serve(shard, wanted, incoming, send)).await;
        }
        Ok(Opened::Quorum((open, rest))) => {
            match peers::admit(&shard, caller.broker, open.cluster, open.broker) {
                Ok(()) => {
                    let serving = peers::serve_quorum(shard, open, incoming, send, rest);
                    named(Work::Peers, serving).await;
                }
                Err(refusal) => peers::turn_away(&mut incoming, &mut send, refusal).await,
            }
        }
        Ok(Opened::Replicate((open, rest))) => {
            match peers::admit(&shard, caller.broker, open.cluster, open.broker) {
                Ok(()) => {
                    let from = open.broker;
                    let host = Rc::clone(shard.replicas());
                    let streams = (incoming.stream, send);
                    let serving =
                        serve_replica_stream((host, Rc::clone(&shard)), from, open, streams, rest);
                    // Its end is no other's business: followers are told by the end of the stream.
                    let serving = async {
                        serving.await;
                        Ok::<(), stream::Ending>(())
                    };
                    let _ended = named(Work::Peers, stream::until_drain(&shard, serving)).await;
                }
                Err(refusal) => peers::turn_away(&mut incoming, &mut send, refusal).await,
            }
        }
        Err(error) => fail(error, &mut incoming, &mut send).await,
    }
}

/// The message that opened a stream, and what followed it.
enum Opened {
    Control((Request, ChunkQueue)),
    Produce((ProduceOpen, ChunkQueue)),
    Consume((ConsumeOpen, ChunkQueue)),
    ConsumeReplica((ConsumeOpen, ChunkQueue)),
    Quorum((QuorumOpen, ChunkQueue)),
    Replicate((ReplicaOpen, ChunkQueue)),
}

impl Opened {
    /// Whether the answer depends on an image of the cluster that is up to date.
    fn needs_the_cluster(&self) -> bool {
        match self {
            Self::Control((request, _)) => match request {
                Request::Cluster(_)
                | Request::Metrics
                | Request::Observe { .. }
                | Request::Peer(_) => false,
                // What a client asks to know to whom it speaks.
                Request::Metadata { topics } => {
                    topics.as_ref().is_none_or(|names| !names.is_empty())
                }
                _ => true,
            },
            Self::Produce(_) | Self::Consume(_) | Self::ConsumeReplica(_) => true,
            Self::Quorum(_) | Self::Replicate(_) => false,
        }
    }
}

/// Ends a stream whose opening did not hold.
async fn fail(error: OpeningError, incoming: &mut Incoming, send: &mut SendStream) {
    match error {
        OpeningError::Ended(Ending::Reset(code)) => {
            incoming.stop(code);
            reset(send, code);
        }
        OpeningError::Ended(Ending::Gone | Ending::Drain) => {}
        OpeningError::Malformed(error) => {
            incoming.stop(error.code());
            refuse(send, malformed(&error)).await;
        }
    }
}

fn malformed(error: &DecodeError) -> Refusal {
    Refusal::new(error.code(), error.to_string())
}
