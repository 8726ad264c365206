//! How a shard reaches the other brokers of its cluster.
//!
//! Each shard has outgoing connections of its own, one to each (broker, shard) that it has something
//! to say to: made when first asked for, again when it broke, and closed when nobody has used it for
//! a while. Both ends prove by certificate who they are ([`millrace_net::tls`]). What other brokers say
//! arrives at the shard's ordinary endpoint and is served by its session.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `addresses` | where brokers are: by the cluster's image, and by the voters |
//! | `resolver` | host names, looked up on a thread of its own |
//! | `knock` | whether a broker's process has ended |
//! | `link` | one connection: one attempt at a time, pauses after failures, its end when idle |
//! | `outbox` | what waits for a broker that is slow to take it |
//! | `vigil` | the moment in which it ends |
//! | `controllers` | what the controllers of two brokers say to each other |
//!
//! **Invariant:** a connection that [`Peers::connection`] gives is of the broker that was asked for, and
//! lands on the shard that was asked for.
//! **Invariant:** nothing here waits for ever: an attempt is bounded in time, and a peer that says
//! nothing is given up after about a second (`TransportLimits::peer`).
//!
//! Absent on purpose: what is said on the streams, and trying again. Who is told that a peer is not
//! reached asks again when it still wants to; the link sees to it that this is not too often.

mod addresses;
mod controllers;
mod knock;
mod link;
mod outbox;
mod resolver;
mod vigil;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::TaskQueueHandle;
use glommio::timer::sleep;
use millrace_model::{BrokerId, ClusterId, ShardId};
use millrace_net::pulse::{Work, named};
use millrace_net::tls::{PeerFault, TlsError};
use millrace_net::{
    GlommioRuntime, PeerFiles, PeerIdentity, TransportLimits, outgoing_endpoint, proven_peer,
};
use millrace_replication::cluster::{Acquaintance, Cluster};
use millrace_wire::PeerName;
use quinn::{ClientConfig, Connection, Endpoint, TransportConfig};

use crate::config::{Config, Voter};
use addresses::Addresses;
use link::Link;
use resolver::Resolver;

pub use controllers::ControllerPeers;
pub use link::PeerConnection;

/// How long one attempt to reach a peer may take. A datagram that was lost is repeated three times in
/// it, and a broker that starts meanwhile is met.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);

/// What is taken for the round trip to a peer before it is known; RFC 9002's third of a second makes
/// one lost packet cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// What this broker is among the brokers of its cluster; `None` for a broker alone.
///
/// # Errors
/// A file cannot be read or used, or the other brokers would refuse the certificate.
pub fn identity(config: &Config) -> Result<Option<PeerIdentity>, TlsError> {
    let Some(cluster) = config.cluster() else {
        return Ok(None);
    };
    let files = PeerFiles {
        certificate: cluster.certificate,
        key: cluster.key,
        authority: cluster.authority,
    };
    let name = PeerName {
        broker: cluster.broker,
        cluster: cluster.id,
    };
    PeerIdentity::from_files(files, name).map(Some)
}

/// The other brokers, as one shard reaches them. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Rc<Inner>);

struct Inner {
    identity: PeerIdentity,
    transport: Arc<TransportConfig>,
    addresses: RefCell<Addresses>,
    links: RefCell<HashMap<(BrokerId, ShardId), Rc<Link>>>,
    resolver: Resolver,
    runtime: GlommioRuntime,
    queue: TaskQueueHandle,
    v4: OnceCell<Endpoint>,
    v6: OnceCell<Endpoint>,
}

/// Why a peer is not reached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// Neither the cluster's image nor the voters say where it is.
    #[error(
        "nobody knows broker {0}: it has not registered and is not among controller.quorum.voters"
    )]
    Unknown(BrokerId),
    /// It has fewer shards, or how many is not known yet.
    #[error("broker {broker} is not known to have a shard {shard}")]
    NoSuchShard {
        /// The broker.
        broker: BrokerId,
        /// Which shard was asked for.
        shard: ShardId,
    },
    /// Its host has no address.
    #[error("broker {broker}: {host} has no address: {reason}")]
    Host {
        /// The broker.
        broker: BrokerId,
        /// The name.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// There was no answer in the time of one attempt.
    #[error("broker {broker} at {host} does not answer")]
    Late {
        /// The broker.
        broker: BrokerId,
        /// Where it was tried.
        host: String,
    },
    /// One of the two does not believe the other's certificate.
    #[error("broker {broker} at {address}: {fault}")]
    Certificate {
        /// The broker.
        broker: BrokerId,
        /// Where it was tried.
        address: SocketAddr,
        /// Why.
        fault: PeerFault,
    },
    /// It does not answer, or the connection broke.
    #[error("broker {broker} at {address} is not reached: {reason}")]
    Unreachable {
        /// The broker.
        broker: BrokerId,
        /// Where it was tried.
        address: SocketAddr,
        /// What became of the attempt.
        reason: String,
    },
    /// This broker has no socket for it.
    #[error("no socket to reach other brokers with: {0}")]
    Socket(String),
}

impl Peers {
    /// Those of a shard of the broker that `identity` is, whose tasks run in `queue`, and whose sockets
    /// are polled for `spin` before the shard may sleep. `voters` says where brokers are that have not
    /// registered yet.
    #[must_use]
    pub fn new(
        identity: PeerIdentity,
        voters: &[Voter],
        queue: TaskQueueHandle,
        spin: Duration,
    ) -> Self {
        let mut transport = TransportLimits::peer().to_quinn();
        transport.initial_rtt(INITIAL_RTT);
        Self(Rc::new(Inner {
            identity,
            transport: Arc::new(transport),
            addresses: RefCell::new(Addresses::new(voters)),
            links: RefCell::default(),
            resolver: Resolver::default(),
            runtime: GlommioRuntime::new(queue, spin),
            queue,
            v4: OnceCell::new(),
            v6: OnceCell::new(),
        }))
    }

    /// A connection to a shard of a broker, made if there is none. Who asks while it is made waits for
    /// the same attempt; who asks soon after a failed one waits a little before the next. Keep the
    /// handle as long as a stream of it is in use: one that nobody holds and nothing passes over is
    /// closed after a while.
    ///
    /// # Errors
    /// See [`PeerError`]. Another call tries again.
    pub async fn connection(
        &self,
        broker: BrokerId,
        shard: ShardId,
    ) -> Result<PeerConnection, PeerError> {
        let link = {
            let mut links = self.0.links.borrow_mut();
            let link = links.entry((broker, shard));
            Rc::clone(link.or_insert_with(|| Rc::new(Link::new(broker, shard))))
        };
        link.connection(self).await
    }

    /// Where brokers are by this image of the cluster. Connections to those that have left it are closed.
    pub fn learn(&self, image: &Cluster) {
        let gone = self.0.addresses.borrow_mut().learn(image);
        self.0.links.borrow_mut().retain(|(broker, _), link| {
            let stays = !gone.contains(broker);
            if !stays {
                link.close("the broker has left the cluster");
            }
            stays
        });
    }

    /// Where brokers are by the word of another broker of the cluster, for as long as no image says it.
    pub fn meet(&self, brokers: &[Acquaintance]) {
        self.0.addresses.borrow_mut().meet(brokers);
    }

    /// This broker.
    #[must_use]
    pub fn own_id(&self) -> BrokerId {
        self.0.identity.name().broker
    }

    /// Its cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.0.identity.name().cluster
    }

    /// The broker of this cluster that the other end of a connection has proved to be by its certificate;
    /// `None` for everybody else.
    #[must_use]
    pub fn proven_broker(&self, connection: &Connection) -> Option<BrokerId> {
        let name = proven_peer(connection)?;
        (name.cluster == self.cluster()).then_some(name.broker)
    }

    /// Whether the network says that nobody is at the broker's port. `false` where nothing is known.
    async fn is_gone(&self, broker: BrokerId) -> bool {
        // Where it may have been before, or is said to be, proves nothing.
        let place = self.0.addresses.borrow().registered(broker).cloned();
        let Some(place) = place else {
            return false;
        };
        match self.0.resolver.resolve(&place.host, place.port).await {
            Ok(address) => knock::is_refused(address).await,
            Err(_) => false,
        }
    }

    /// Where a broker takes connections of Kafka clients.
    async fn listener(&self, broker: BrokerId) -> Option<SocketAddr> {
        let listener = self.0.addresses.borrow().listener(broker).cloned();
        let (host, port) = listener?;
        self.0.resolver.resolve(&host, port).await.ok()
    }

    /// Closes every connection; what is asked for later is made anew.
    pub fn close(&self) {
        for link in self.0.links.borrow().values() {
            link.close("the broker is shutting down");
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(named(Work::Peers, task), self.0.queue)
            .expect("the shard's task queues live as long as its executor")
            .detach();
    }

    /// One attempt to reach a shard of a broker, the `nth` in a row: if it is known at several places,
    /// they take turns.
    async fn attempt(
        &self,
        broker: BrokerId,
        shard: ShardId,
        nth: u32,
    ) -> Result<(Connection, SocketAddr), PeerError> {
        let place = self.0.addresses.borrow().of(broker, nth).cloned();
        let place = place.ok_or(PeerError::Unknown(broker))?;
        let first_id = place.first_id(shard);
        let first_id = first_id.ok_or(PeerError::NoSuchShard { broker, shard })?;
        let resolved = self.0.resolver.resolve(&place.host, place.port).await;
        let address = resolved.map_err(|reason| PeerError::Host {
            broker,
            host: place.host.clone(),
            reason,
        })?;
        let mut config = ClientConfig::new(self.0.identity.client());
        config
            .transport_config(Arc::clone(&self.0.transport))
            .initial_dst_cid_provider(first_id);
        let unreachable = |reason: String| PeerError::Unreachable {
            broker,
            address,
            reason,
        };
        let name = PeerName {
            broker,
            cluster: self.cluster(),
        };
        let connecting = self
            .endpoint(address)?
            .connect_with(config, address, &name.to_string())
            .map_err(|error| unreachable(error.to_string()))?;
        let connected = connecting.await;
        let connection = connected.map_err(|error| match PeerFault::of(&error) {
            Some(fault) => PeerError::Certificate {
                broker,
                address,
                fault,
            },
            None => unreachable(error.to_string()),
        })?;
        Ok((connection, address))
    }

    /// The same, bounded in time.
    async fn timely_attempt(
        &self,
        broker: BrokerId,
        shard: ShardId,
        nth: u32,
    ) -> Result<(Connection, SocketAddr), PeerError> {
        let late = async {
            sleep(ATTEMPT_TIMEOUT).await;
            let place = self.0.addresses.borrow().of(broker, nth).cloned();
            let host = place.map_or_else(String::new, |place| place.host);
            Err(PeerError::Late { broker, host })
        };
        or(self.attempt(broker, shard, nth), late).await
    }

    fn endpoint(&self, address: SocketAddr) -> Result<&Endpoint, PeerError> {
        let (cell, any): (_, SocketAddr) = match address {
            SocketAddr::V4(_) => (&self.0.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&self.0.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        if let Some(endpoint) = cell.get() {
            return Ok(endpoint);
        }
        let endpoint = outgoing_endpoint(any, self.0.runtime.clone());
        let endpoint = endpoint.map_err(|error| PeerError::Socket(error.to_string()))?;
        Ok(cell.get_or_init(|| endpoint))
    }
}

impl PeerError {
    /// Whether a person has to mend something before another attempt can succeed.
    fn needs_a_person(&self) -> bool {
        matches!(self, Self::Certificate { .. })
    }
}
