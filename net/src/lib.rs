//! QUIC, TCP and HTTP on glommio.
//!
//! - [`runtime`]: the quinn runtime, timer and UDP socket of one glommio executor.
//! - [`steering`]: one UDP port, a socket per shard; the kernel places each datagram by its
//!   connection id, and forwarding corrects what it could not place.
//! - [`endpoint`]: a shard's QUIC endpoint with its limits, and the client's endpoint.
//! - [`tcp`]: TCP listeners that share a port, and connections that copy once.
//! - [`tls`]: the broker's certificate, what is derived from it, and how brokers know each other.
//! - [`http`]: a small HTTP/1.1 server for metrics and health.
//! - [`pulse`]: what a shard is doing, for a watchdog.
//!
//! Invariant: a connection lives on the shard that its connection ids name, whatever
//! address its datagrams come from and whichever socket they reach.
//!
//! Absent on purpose: what travels on the streams (`millrace-wire`), and what answers it
//! (`millrace-engine`).

mod bind;
pub mod endpoint;
pub mod http;
pub mod pulse;
pub mod runtime;
pub mod steering;
pub mod tcp;
pub mod tls;

pub use bind::{BindError, bind_tcp, patiently};
pub use endpoint::{
    ConnectionLimits, EndpointCounters, EndpointOptions, ShardEndpoint, TransportLimits,
    client_endpoint, outgoing_endpoint,
};
pub use runtime::{DatagramCounters, GlommioRuntime, PREEMPTION_TIMER, Patience, Spinner, Stint};
pub use steering::{
    Forwarding, SocketGroup, SocketOptions, Steering, bind_group, initial_cid_for,
    initial_cid_for_first_shard,
};
pub use tcp::{Rope, TcpAcceptor, TcpConnection, TcpGroup, bind_tcp_group};
pub use tls::{PeerFiles, PeerIdentity, ServerIdentity, proven_peer};
