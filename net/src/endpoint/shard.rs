//! The endpoint of one of the broker's shards.

use super::admission::{Address, ConnectionLimits, Verdict};
use super::transport::TransportLimits;
use crate::pulse::{Work, named};
use crate::runtime::{DatagramCounters, GlommioRuntime, ShardSocket, add};
use crate::steering::{Forwarding, ShardCidGenerator};
use crate::tls::ServerIdentity;
use futures_lite::FutureExt;
use glommio::TaskQueueHandle;
use glommio::timer::Timer;
use millrace_model::{ErrorCode, ShardId};
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, ServerConfig, VarInt,
};
use std::cell::Cell;
use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Connection attempts that quinn holds before this shard has judged them. They are judged in
/// the same round of the executor, so this only bounds a burst.
const MAX_INCOMING: usize = 1024;

/// Bytes of early data that quinn holds for one attempt and for all together, in that time.
const INCOMING_BUFFER: u64 = 16 << 10;
const INCOMING_BUFFER_TOTAL: u64 = 4 << 20;

/// Established connections that wait to be taken with [`ShardEndpoint::accept`]. Further ones
/// keep their place among the handshakes.
const ACCEPT_QUEUE: usize = 64;

/// What a shard's endpoint is made of.
#[derive(Debug)]
pub struct EndpointOptions {
    /// This shard's socket, from [`crate::steering::bind_group`].
    pub socket: UdpSocket,
    /// This shard's ends of the channels between the shards.
    pub forwarding: Forwarding,
    /// Certificate and keys.
    pub identity: ServerIdentity,
    /// What a connection may take.
    pub transport: TransportLimits,
    /// How many connections are let in.
    pub limits: ConnectionLimits,
    /// Where the endpoint's tasks run.
    pub queue: TaskQueueHandle,
    /// How long the socket is polled after its last datagram before the executor may sleep;
    /// zero turns it off. See [`crate::runtime::DEFAULT_SPIN`].
    pub spin: Duration,
}

/// What became of a shard's connection attempts.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// Connections established and let in.
    pub accepted: Cell<u64>,
    /// Connections established and closed because the shard had its limit.
    pub turned_away: Cell<u64>,
    /// Attempts left without an answer because too many handshakes were under way.
    pub postponed: Cell<u64>,
    /// Attempts asked to prove their address.
    pub retried: Cell<u64>,
    /// Handshakes that failed.
    pub failed: Cell<u64>,
    /// Handshakes that took too long.
    pub timed_out: Cell<u64>,
    /// Handshakes under way.
    pub handshakes: Cell<usize>,
}

/// A shard's QUIC endpoint: establishes connections, within limits.
#[derive(Debug, Clone)]
pub struct ShardEndpoint(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    limits: ConnectionLimits,
    queue: TaskQueueHandle,
    counters: Rc<EndpointCounters>,
    datagrams: Rc<DatagramCounters>,
    established: flume::Receiver<Connection>,
    establish: flume::Sender<Connection>,
}

impl ShardEndpoint {
    /// Starts the endpoint on the current executor.
    ///
    /// # Errors
    /// The socket cannot be set up.
    ///
    /// # Panics
    /// Outside of a glommio executor.
    pub fn start(options: EndpointOptions) -> io::Result<Self> {
        let datagrams = Rc::new(DatagramCounters::default());
        let config = endpoint_config(&options);
        let server = server_config(&options.identity, &options.transport);
        let route = (options.forwarding.shards().get() > 1).then(|| {
            options
                .forwarding
                .start(options.queue, Rc::clone(&datagrams))
        });
        let socket = ShardSocket::new(options.socket, options.spin, route, Rc::clone(&datagrams))?;
        let runtime = Arc::new(GlommioRuntime::new(options.queue, options.spin));
        let socket = Arc::new(socket);
        let endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)?;
        let (establish, established) = flume::bounded(ACCEPT_QUEUE);
        let shared = Rc::new(Shared {
            endpoint,
            limits: options.limits,
            queue: options.queue,
            counters: Rc::default(),
            datagrams,
            established,
            establish,
        });
        shared.spawn(admit(Rc::clone(&shared)));
        Ok(Self(shared))
    }

    /// The next established connection; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Connection> {
        self.0.established.recv_async().await.ok()
    }

    /// Closes all connections, telling the clients `reason`, and waits until they know or
    /// `patience` is over.
    pub async fn shut_down(&self, reason: &str, patience: Duration) {
        self.0
            .endpoint
            .close(VarInt::from_u32(0), reason.as_bytes());
        let patience = async {
            Timer::new(patience).await;
        };
        self.0.endpoint.wait_idle().or(patience).await;
    }

    /// quinn's endpoint, for its address and statistics.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Connections: established, shaking hands, or not yet forgotten after their end.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.endpoint.open_connections()
    }

    /// What became of connection attempts.
    #[must_use]
    pub fn counters(&self) -> &Rc<EndpointCounters> {
        &self.0.counters
    }

    /// What the socket has seen.
    #[must_use]
    pub fn datagrams(&self) -> &Rc<DatagramCounters> {
        &self.0.datagrams
    }
}

fn endpoint_config(options: &EndpointOptions) -> EndpointConfig {
    let shard: ShardId = options.forwarding.shard();
    let shards = options.forwarding.shards();
    let mut config = EndpointConfig::new(options.identity.reset_key());
    config
        .cid_generator(move || Box::new(ShardCidGenerator::new(shard, shards)))
        .max_udp_payload_size(millrace_wire::MAX_DATAGRAM_LEN)
        .expect("a payload above QUIC's least of 1,200 bytes is a legal size");
    config
}

fn server_config(identity: &ServerIdentity, transport: &TransportLimits) -> ServerConfig {
    let mut config = ServerConfig::new(identity.crypto(), identity.token_key());
    config
        .transport_config(Arc::new(transport.to_quinn()))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    config
}

impl Shared {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(named(Work::Quic, future), self.queue)
            .expect("the task queue of an endpoint lives as long as its executor")
            .detach();
    }

    fn judge(&self, incoming: &Incoming) -> Verdict {
        let address = match incoming.remote_address_validated() {
            true => Address::Proved,
            false => Address::Claimed,
        };
        let connections = self.endpoint.open_connections();
        self.limits
            .judge(address, self.counters.handshakes.get(), connections)
    }

    /// Finishes a handshake and hands the connection on, or turns it away.
    async fn shake_hands(&self, incoming: Incoming, verdict: Verdict) {
        let timeout = async {
            Timer::new(self.limits.handshake_timeout).await;
            Err(ConnectionError::TimedOut)
        };
        match std::future::IntoFuture::into_future(incoming)
            .or(timeout)
            .await
        {
            Ok(connection) if verdict == Verdict::TurnAway => {
                add(&self.counters.turned_away, 1);
                self.turn_away(&connection);
            }
            Ok(connection) => {
                add(&self.counters.accepted, 1);
                self.establish.send_async(connection).await.ok();
            }
            Err(ConnectionError::TimedOut) => add(&self.counters.timed_out, 1),
            Err(error) => {
                tracing::debug!(%error, "a handshake failed");
                add(&self.counters.failed, 1);
            }
        }
    }

    fn turn_away(&self, connection: &Connection) {
        let code = millrace_wire::reset_code(ErrorCode::ThrottlingQuotaExceeded);
        let limit = self.limits.connections;
        let reason = format!("this shard serves its limit of {limit} connections");
        connection.close(VarInt::from_u32(code), reason.as_bytes());
    }
}

/// Judges connection attempts until the endpoint is closed.
async fn admit(shared: Rc<Shared>) {
    while let Some(incoming) = shared.endpoint.accept().await {
        match shared.judge(&incoming) {
            Verdict::Postpone => {
                add(&shared.counters.postponed, 1);
                incoming.ignore();
            }
            Verdict::Retry => {
                add(&shared.counters.retried, 1);
                incoming
                    .retry()
                    .expect("an address that is not proved may be asked to be");
            }
            verdict => {
                // Counted before the task runs: the next attempt is judged before that.
                let handshakes = &shared.counters.handshakes;
                handshakes.set(handshakes.get() + 1);
                shared.spawn(finish_handshake(Rc::clone(&shared), incoming, verdict));
            }
        }
    }
}

async fn finish_handshake(shared: Rc<Shared>, incoming: Incoming, verdict: Verdict) {
    shared.shake_hands(incoming, verdict).await;
    let handshakes = &shared.counters.handshakes;
    handshakes.set(handshakes.get() - 1);
}
