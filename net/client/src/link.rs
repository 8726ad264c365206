//! One QUIC connection to one shard of a broker, opened when first needed and again when
//! it broke.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use millrace_model::{BrokerId, ShardId};
use millrace_wire::{Request, Response};
use tokio::sync::Mutex;

use crate::directory::{Directory, Place};
use crate::runtime::{Either, Runtime, race};
use crate::socket::Refusals;
use crate::tls::CertificateCheck;
use crate::watch::{Probe, Watch};
use crate::{ClientError, ConnectOptions, control, transport};

/// Doublings of the back-off after which it no longer grows, whatever its bound.
const BACKOFF_DOUBLINGS_MAX: u32 = 16;

/// What all connections of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: ConnectOptions,
    pub(crate) runtime: Runtime,
    directory: std::sync::Mutex<Directory>,
}

impl Shared {
    pub(crate) fn new(options: ConnectOptions) -> Self {
        let runtime = Runtime::new(options.runtime);
        Self {
            options,
            runtime,
            directory: std::sync::Mutex::default(),
        }
    }

    /// What is known of the cluster.
    pub(crate) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A broker, and what all connections share.
#[derive(Debug)]
pub(crate) struct Remote {
    shared: Arc<Shared>,
    addr: SocketAddr,
}

impl Remote {
    pub(crate) fn disconnected(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Disconnected {
            broker: self.addr,
            reason: reason.to_string(),
        }
    }
}

impl Deref for Remote {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// A QUIC connection as a client makes it, with the same endpoint, transport settings and check of
/// the certificate, on which nothing was said. It is what the protocol costs nothing of: load
/// generators measure the transport with it.
///
/// # Errors
/// Those of [`crate::Client::connect`], but for what a broker may answer.
pub async fn bare_connection(options: ConnectOptions) -> Result<quinn::Connection, ClientError> {
    let addr = options.broker;
    let link = Link::new(Arc::new(Shared::new(options)), addr);
    link.shake_hands().await
}

/// A connection to one shard, or to whichever comes first.
#[derive(Debug)]
pub(crate) struct Link {
    remote: Arc<Remote>,
    /// Who answers there, once it is known.
    broker: OnceLock<BrokerId>,
    /// Where to. Not known to a link to no shard in particular, which stays where it lands first.
    shard: OnceLock<ShardId>,
    endpoint: OnceLock<(quinn::Endpoint, Refusals)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<quinn::Connection>,
    _watch: Option<Watch>,
    /// Attempts that failed since one succeeded.
    failures: u32,
    /// No attempt before this time.
    not_before: Option<Instant>,
}

impl Link {
    /// A link to no shard in particular of the broker at this address.
    pub(crate) fn new(shared: Arc<Shared>, addr: SocketAddr) -> Self {
        Self {
            remote: Arc::new(Remote { shared, addr }),
            broker: OnceLock::new(),
            shard: OnceLock::new(),
            endpoint: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    /// A link to this shard.
    pub(crate) fn to(shared: Arc<Shared>, place: Place) -> Self {
        Self {
            broker: OnceLock::from(place.broker),
            shard: OnceLock::from(place.shard),
            ..Self::new(shared, place.addr)
        }
    }

    pub(crate) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// The address that it connects to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.remote.addr
    }

    /// The broker at the other end, once it is known.
    pub(crate) fn broker(&self) -> Option<BrokerId> {
        self.broker.get().copied()
    }

    /// The shard at the other end, once it is known.
    pub(crate) fn shard(&self) -> Option<ShardId> {
        self.shard.get().copied()
    }

    /// The connection, opened by one attempt when there is none that lives. An attempt that
    /// follows a failed one waits for the back-off first.
    pub(crate) async fn connection(&self) -> Result<quinn::Connection, ClientError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.as_ref() {
            if connection.close_reason().is_none() {
                return Ok(connection.clone());
            }
            state.connection = None;
        }
        if let Some(at) = state.not_before {
            self.remote.runtime.sleep_until(at).await;
        }
        self.move_away();
        match self.connect().await {
            Ok(connection) => {
                *state = State {
                    connection: Some(connection.clone()),
                    _watch: self.watch(&connection)?.into(),
                    ..State::default()
                };
                Ok(connection)
            }
            Err(error) => {
                tracing::debug!(broker = %self.addr(), %error, "no connection");
                state.not_before = Some(self.remote.runtime.now() + self.backoff(state.failures));
                state.failures += 1;
                Err(error)
            }
        }
    }

    /// Closes the connection and makes no other.
    pub(crate) fn close(&self) {
        if let Some((endpoint, _)) = self.endpoint.get() {
            endpoint.close(quinn::VarInt::from_u32(0), b"closed by the client");
        }
    }

    /// Resolves when nothing is left of a closed connection.
    pub(crate) async fn closed(&self) {
        if let Some((endpoint, _)) = self.endpoint.get() {
            endpoint.wait_idle().await;
        }
    }

    async fn connect(&self) -> Result<quinn::Connection, ClientError> {
        let connection = self.shake_hands().await?;
        self.greet(&connection).await?;
        Ok(connection)
    }

    /// A new connection on which nothing was said yet.
    async fn shake_hands(&self) -> Result<quinn::Connection, ClientError> {
        let (options, broker) = (&self.remote.options, self.addr());
        let check = CertificateCheck::new(&options.trust, broker)?;
        let failed = |reason: String| ClientError::Connect { broker, reason };
        let name = broker.ip().to_string();
        let (endpoint, refusals) = self
            .endpoint()
            .map_err(|error| failed(format!("no UDP socket: {error}")))?;
        let mut refused = refusals.later();
        let connecting = endpoint
            .connect_with(self.client_config(&check), broker, &name)
            .map_err(|error| failed(error.to_string()))?;
        let answered = self
            .remote
            .runtime
            .timeout(options.connect_timeout, race(connecting, refused.told()))
            .await;
        let connection = match answered {
            Some(Either::Left(Ok(connection))) => connection,
            Some(Either::Left(Err(error))) => {
                return Err(check.refusal().unwrap_or_else(|| failed(error.to_string())));
            }
            Some(Either::Right(())) => {
                return Err(failed("nobody listens at this port".to_owned()));
            }
            None => {
                let after = options.connect_timeout;
                return Err(failed(format!(
                    "no answer after {after:?}: is a broker running there, and its UDP port open?"
                )));
            }
        };
        check.accepted()?;
        Ok(connection)
    }

    /// Learns who answers and how many shards it has, which a restart may have changed.
    async fn greet(&self, connection: &quinn::Connection) -> Result<(), ClientError> {
        let request = Request::Metadata {
            topics: Some(Vec::new()),
        };
        match control::exchange(&self.remote, connection, &request).await? {
            Response::Metadata(metadata) => {
                let landed = metadata.connected_shard;
                let wanted = self.shard.get_or_init(|| landed);
                let broker = metadata.broker;
                if *self.broker.get_or_init(|| broker) != broker {
                    let reason = format!("broker {broker} answers there, which is another one");
                    let broker = self.addr();
                    return Err(ClientError::Connect { broker, reason });
                }
                self.remote.directory().learn(&metadata, self.addr());
                tracing::debug!(%broker, %wanted, %landed, "connected");
                Ok(())
            }
            other => Err(control::unexpected(other)),
        }
    }

    fn endpoint(&self) -> std::io::Result<&(quinn::Endpoint, Refusals)> {
        if let Some(endpoint) = self.endpoint.get() {
            return Ok(endpoint);
        }
        let endpoint = transport::endpoint(self.addr(), &self.remote.runtime)?;
        Ok(self.endpoint.get_or_init(|| endpoint))
    }

    /// Has the connection watched, for longer than it is idle.
    fn watch(&self, connection: &quinn::Connection) -> Result<Watch, ClientError> {
        let remote = &self.remote;
        let (endpoint, refusals) = self
            .endpoint()
            .map_err(|error| remote.disconnected(error))?;
        let check = CertificateCheck::new(&remote.options.trust, self.addr())?;
        let probe = Probe {
            endpoint: endpoint.clone(),
            config: self.client_config(&check),
            broker: self.addr(),
        };
        let (connection, refused) = (connection.clone(), refusals.later());
        Ok(Watch::begin(&remote.runtime, connection, refused, probe))
    }

    /// Any attempt but the first comes from a socket of its own: the address of the one before may not be the host's any more,
    /// and what lies between may have forgotten its port.
    fn move_away(&self) {
        let remote = &self.remote;
        if let Some((endpoint, refusals)) = self.endpoint.get() {
            let moved = transport::socket(self.addr(), &remote.runtime, refusals)
                .and_then(|socket| endpoint.rebind_abstract(socket));
            if let Err(error) = moved {
                tracing::debug!(%error, "the client keeps its socket");
            }
        }
    }

    fn client_config(&self, check: &Arc<CertificateCheck>) -> quinn::ClientConfig {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(check.config())
            .expect("the ring provider has the suite of QUIC's initial packets");
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport::config(
            &self.remote.options,
            self.remote.directory().has_others(),
        ));
        let place = self.broker().zip(self.shard());
        let shards = |broker| self.remote.directory().shards(broker);
        let aim = place.map(|(broker, shard)| (shard, shards(broker)));
        config.initial_dst_cid_provider(Arc::new(move || match aim {
            Some((shard, shards)) => transport::steered_id(shard.0, shards.get()),
            None => transport::random_id(),
        }));
        config
    }

    /// Exponential, at most the bound, the second half of it random, so that the clients of
    /// a broker that restarts do not all come at once.
    fn backoff(&self, failures: u32) -> Duration {
        let options = &self.remote.options;
        let doublings = failures.min(BACKOFF_DOUBLINGS_MAX);
        let full = options.reconnect_backoff.saturating_mul(1 << doublings);
        let full = full.min(options.reconnect_backoff_max);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
