//! What the controllers of two brokers say to each other, from shard 0 to shard 0: messages of the
//! metadata quorum, which may get lost, on a stream that stays; and requests, which are answered, each
//! on a stream of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_model::{BrokerId, ErrorCode, ShardId};
use millrace_replication::Refusal;
use millrace_replication::cluster::Acquaintance;
use millrace_wire::{
    DecodeError, MessageReader, QuorumOpen, Request, Response, StreamKind, encode, reset_error,
};
use quinn::{ReadError, RecvStream, SendStream};

use super::outbox::Outbox;
use super::vigil::Vigil;
use super::{PeerConnection, PeerError, Peers};
use crate::controller::PeerTransport;

/// The shard on which every broker has its controller.
const CONTROLLERS_SHARD: ShardId = ShardId(0);

/// How long a request may take: a change is on the disks of a majority in a few milliseconds, and a peer
/// that has died is noticed in about a second. Beyond that the answer no longer helps.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream without a message for so long is ended, and opened again for the next one.
const IDLE_STREAM: Duration = Duration::from_secs(60);

/// How long a peer that refuses the stream is left in peace.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// Bytes of an answer read at a time.
const READ_LEN: usize = 64 << 10;

/// Reaches the controllers of the other brokers, from shard 0.
pub struct ControllerPeers {
    peers: Peers,
    outboxes: RefCell<HashMap<BrokerId, Rc<Outbox>>>,
    vigil: Vigil,
}

impl ControllerPeers {
    /// Reaches them over these peers. `doubt` is told when it is doubtful whether a broker is still
    /// there, and when not any more.
    #[must_use]
    pub fn new(peers: Peers, doubt: impl Fn(BrokerId, bool) + 'static) -> Self {
        Self {
            peers,
            outboxes: RefCell::default(),
            vigil: Vigil::new(doubt),
        }
    }
}

impl PeerTransport for ControllerPeers {
    /// Sends a message of the quorum. It may get lost, and is when the peer is away: the quorum says it
    /// again.
    fn send(&self, to: BrokerId, message: Bytes) {
        let outbox = {
            let mut outboxes = self.outboxes.borrow_mut();
            Rc::clone(outboxes.entry(to).or_default())
        };
        outbox.push(message);
        if !outbox.is_served.replace(true) {
            let peers = self.peers.clone();
            self.peers.spawn(async move {
                let _served = Served(&outbox);
                serve(&peers, to, &outbox).await;
            });
        }
    }

    async fn call(&self, to: BrokerId, request: Bytes) -> Result<Bytes, Refusal> {
        let late = async {
            sleep(CALL_TIMEOUT).await;
            let message = format!("broker {to} did not answer in time");
            Err(Refusal::new(ErrorCode::RequestTimedOut, message))
        };
        or(self.ask(to, request), late).await
    }

    async fn is_gone(&self, broker: BrokerId) -> bool {
        self.vigil.is_gone(&self.peers, broker).await
    }

    fn meet(&self, brokers: &[Acquaintance]) {
        self.peers.meet(brokers);
    }
}

impl ControllerPeers {
    async fn ask(&self, to: BrokerId, request: Bytes) -> Result<Bytes, Refusal> {
        let connection = self.peers.connection(to, CONTROLLERS_SHARD).await;
        let connection = connection.map_err(|error| not_reached(&error))?;
        let request = encode(StreamKind::Control, &Request::Peer(request.into()));
        let request =
            request.map_err(|error| Refusal::new(ErrorCode::InvalidRequest, error.to_string()))?;
        let lost = |reason: String| {
            let message = format!("the connection to broker {to} broke: {reason}");
            Refusal::new(ErrorCode::RequestTimedOut, message)
        };
        let (mut send, mut recv) = connection
            .open_bi()
            .await
            .map_err(|error| lost(error.to_string()))?;
        // What a peer answers that does not want to read says why.
        let _ = send.write_chunk(request).await;
        let _ = send.finish();
        match response(&mut recv).await {
            Ok(Response::Peer(answer)) => Ok(answer.into()),
            Ok(Response::Error(error)) => {
                Err(Refusal::new(ErrorCode::from_i16(error.code), error.message))
            }
            Ok(other) => Err(strange(to, &format!("it answered {other:?}"))),
            Err(ResponseError::Malformed(error)) => Err(strange(to, &error.to_string())),
            Err(ResponseError::Stream(ReadError::Reset(code))) => {
                let message = format!("broker {to} ended the request");
                Err(Refusal::new(reset_error(code.into_inner()), message))
            }
            Err(ResponseError::Stream(error)) => Err(lost(error.to_string())),
        }
    }
}

fn not_reached(error: &PeerError) -> Refusal {
    Refusal::new(ErrorCode::BrokerNotAvailable, error.to_string())
}

fn strange(broker: BrokerId, what: &str) -> Refusal {
    let message = format!("broker {broker} does not speak the protocol: {what}");
    Refusal::new(ErrorCode::UnknownServerError, message)
}

enum ResponseError {
    Malformed(DecodeError),
    Stream(ReadError),
}

async fn response(recv: &mut RecvStream) -> Result<Response, ResponseError> {
    let mut reader = MessageReader::default();
    loop {
        if let Some(preface) = reader.preface().map_err(ResponseError::Malformed)?
            && preface.kind != StreamKind::Control
        {
            return Err(ResponseError::Malformed(DecodeError::Kind {
                expected: StreamKind::Control,
                found: preface.kind,
            }));
        }
        if let Some(response) = reader.message().map_err(ResponseError::Malformed)? {
            return Ok(response);
        }
        match recv.read_chunk(READ_LEN, true).await {
            Ok(Some(chunk)) => reader.push(chunk.bytes),
            Ok(None) => return Err(ResponseError::Malformed(reader.cut_short())),
            Err(error) => return Err(ResponseError::Stream(error)),
        }
    }
}

/// The outbox is no longer served, also when the task is cancelled.
struct Served<'a>(&'a Outbox);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.is_served.set(false);
    }
}

/// Carries messages to a broker until it is not reached, or there has been none for a while.
async fn serve(peers: &Peers, to: BrokerId, outbox: &Outbox) {
    loop {
        let Ok(connection) = peers.connection(to, CONTROLLERS_SHARD).await else {
            outbox.clear();
            return;
        };
        let Ok((mut send, _recv)) = connection.open_bi().await else {
            continue;
        };
        match carry(peers, &mut send, outbox).await {
            Carried::Idle => {
                finish(connection, send).await;
                return;
            }
            // The next turn finds another connection, or none.
            Carried::Lost => {}
            Carried::Refused(code) => {
                match code {
                    // It shuts down, and says so to everybody.
                    ErrorCode::NotLeaderOrFollower => {
                        tracing::debug!(broker = %to, "a peer takes no more messages of the quorum");
                    }
                    _ => {
                        tracing::warn!(broker = %to, ?code, "a peer refuses messages of the quorum");
                    }
                }
                sleep(PAUSE_AFTER_REFUSAL).await;
                outbox.clear();
                return;
            }
        }
    }
}

/// How a stream ended.
enum Carried {
    /// No message came.
    Idle,
    /// The connection broke.
    Lost,
    /// The peer does not want it.
    Refused(ErrorCode),
}

async fn carry(peers: &Peers, send: &mut SendStream, outbox: &Outbox) -> Carried {
    let open = QuorumOpen {
        cluster: peers.cluster(),
        broker: peers.own_id(),
    };
    let open = encode(StreamKind::Quorum, &open).expect("it is a few bytes long");
    if let Err(error) = send.write_chunk(open).await {
        return ended(error);
    }
    loop {
        let more = outbox.more.notified();
        while let Some(batch) = outbox.take() {
            if let Err(error) = send.write_chunk(batch).await {
                return ended(error);
            }
        }
        let more = async {
            more.await;
            None
        };
        let idle = async {
            sleep(IDLE_STREAM).await;
            Some(Carried::Idle)
        };
        let stopped = send.stopped();
        let stopped = async {
            Some(match stopped.await {
                Ok(Some(code)) => Carried::Refused(reset_error(code.into_inner())),
                _ => Carried::Lost,
            })
        };
        if let Some(end) = or(more, or(stopped, idle)).await {
            return end;
        }
    }
}

fn ended(error: quinn::WriteError) -> Carried {
    match error {
        quinn::WriteError::Stopped(code) => Carried::Refused(reset_error(code.into_inner())),
        _ => Carried::Lost,
    }
}

/// Ends a stream in good order. The connection may be closed for being idle after that.
async fn finish(_connection: PeerConnection, mut send: SendStream) {
    let _ = send.finish();
    let _ = or(
        async { drop(send.stopped().await) },
        sleep(PAUSE_AFTER_REFUSAL),
    )
    .await;
}
