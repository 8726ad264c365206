//! A shard's QUIC endpoint, and a client's.

mod admission;
mod client;
mod shard;
mod transport;

pub use admission::ConnectionLimits;
pub use client::{client_endpoint, outgoing_endpoint};
pub use shard::{EndpointCounters, EndpointOptions, ShardEndpoint};
pub use transport::TransportLimits;
