//! What other brokers of the cluster say: messages of the metadata quorum, and requests of their
//! controllers. Who they are was proved by certificate before.

use std::rc::Rc;

use bytes::Bytes;
use millrace_model::{BrokerId, ClusterId, ErrorCode};
use millrace_wire::{ChunkQueue, QuorumOpen, QuorumReader, Response, StreamKind};
use quinn::SendStream;

use super::stream::{Ending, Incoming, finish, refuse, reset, send_message, until_drain};
use crate::controller::ControllerClient;
use crate::shard::{Refusal, Shard, wire_error};

/// Checks what a peer says of itself when it opens a stream against what its connection has proved.
///
/// # Errors
/// The connection is no broker's of this cluster, or another broker's.
pub(super) fn admit(
    shard: &Shard,
    proven: Option<BrokerId>,
    cluster: ClusterId,
    broker: BrokerId,
) -> Result<(), Refusal> {
    let ours = shard.peers().map(|peers| peers.cluster());
    if proven.is_some() && ours.is_some_and(|ours| ours != cluster) {
        let message = format!("this broker is not of cluster {cluster}");
        return Err(Refusal::new(ErrorCode::InconsistentClusterId, message));
    }
    match proven {
        Some(proven) if proven == broker => Ok(()),
        Some(proven) => {
            let message = format!("the connection is of broker {proven}, not of broker {broker}");
            Err(Refusal::new(ErrorCode::ClusterAuthorizationFailed, message))
        }
        None => Err(no_broker()),
    }
}

/// Whoever is no broker of this cluster is told so.
pub(super) fn no_broker() -> Refusal {
    Refusal::new(
        ErrorCode::ClusterAuthorizationFailed,
        "only a broker of this cluster may ask so, on a connection that proves it by certificate",
    )
}

/// Hands the messages of a quorum stream to the controller until the peer ends it or the shard drains.
pub(super) async fn serve_quorum(
    shard: Rc<Shard>,
    open: QuorumOpen,
    mut incoming: Incoming,
    mut send: SendStream,
    rest: ChunkQueue,
) {
    let from = open.broker;
    let receiving = receive(shard.controller(), from, &mut incoming, rest);
    match until_drain(&shard, receiving).await {
        Ok(()) => finish(&mut send).await,
        Err(Ending::Reset(code)) => {
            tracing::warn!(broker = %from, ?code, "messages of the quorum do not hold");
            incoming.stop(code);
            reset(&mut send, code);
        }
        // The peer says the rest to who comes after this life.
        Err(Ending::Drain) => incoming.stop(ErrorCode::NotLeaderOrFollower),
        Err(Ending::Gone) => {}
    }
}

async fn receive(
    controller: &ControllerClient,
    from: BrokerId,
    incoming: &mut Incoming,
    rest: ChunkQueue,
) -> Result<(), Ending> {
    let mut reader = QuorumReader::new(rest);
    loop {
        loop {
            match reader.next_message() {
                Ok(Some(message)) => controller.deliver(from, message),
                Ok(None) => break,
                Err(error) => return Err(Ending::Reset(error.code())),
            }
        }
        // A message that has begun must go on; between two there may be any silence.
        match reader.is_within_message() {
            true => incoming.watch.begin_once(),
            false => incoming.watch.done(),
        }
        match incoming.chunk().await? {
            Some(chunk) => reader.push(chunk),
            None => return Ok(()),
        }
    }
}

/// Answers a request of another broker's controller.
pub(super) async fn serve_request(
    controller: ControllerClient,
    from: BrokerId,
    request: Vec<u8>,
    mut send: SendStream,
) {
    let response = match controller.serve(from, Bytes::from(request)).await {
        Ok(answer) => Response::Peer(answer.into()),
        Err(refusal) => Response::Error(wire_error(refusal)),
    };
    match send_message(&mut send, StreamKind::Control, &response).await {
        Ok(()) => finish(&mut send).await,
        Err(Ending::Reset(code)) => reset(&mut send, code),
        Err(Ending::Gone | Ending::Drain) => {}
    }
}

/// Refuses a stream of a peer.
pub(super) async fn turn_away(incoming: &mut Incoming, send: &mut SendStream, refusal: Refusal) {
    tracing::warn!(%refusal, "a stream of another broker is refused");
    incoming.stop(refusal.code);
    refuse(send, refusal).await;
}
