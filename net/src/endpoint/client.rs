//! A client's endpoint inside a glommio executor.

use crate::runtime::GlommioRuntime;
use crate::steering::{RECEIVE_BUFFER, SEND_BUFFER, SocketOptions, bind_group};
use millrace_model::ShardCount;
use quinn::{ClientConfig, Endpoint, EndpointConfig};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// An endpoint for outgoing connections, on the task queue of the caller.
///
/// `bind` is the local address, as a rule the unspecified one with port 0. All connections of
/// the endpoint share its socket; `client_config` is the default of
/// [`Endpoint::connect`]. Pass other configurations to [`Endpoint::connect_with`], each with
/// its own `initial_dst_cid_provider`, to reach certain shards.
///
/// # Errors
/// The address cannot be bound.
///
/// # Panics
/// Outside of a glommio executor.
pub fn client_endpoint(bind: SocketAddr, client_config: ClientConfig) -> io::Result<Endpoint> {
    let mut endpoint = outgoing_endpoint(bind, GlommioRuntime::current())?;
    endpoint.set_default_client_config(client_config);
    Ok(endpoint)
}

/// As [`client_endpoint`], but its tasks run where `runtime` says, and each connection has a
/// configuration of its own.
///
/// # Errors
/// The address cannot be bound.
///
/// # Panics
/// Outside of a glommio executor.
pub fn outgoing_endpoint(bind: SocketAddr, runtime: GlommioRuntime) -> io::Result<Endpoint> {
    let options = SocketOptions {
        receive_buffer: RECEIVE_BUFFER,
        send_buffer: SEND_BUFFER,
        kernel_steering: false,
    };
    let group = bind_group(bind, ShardCount::MIN, &options)?;
    let socket = group
        .sockets
        .into_iter()
        .next()
        .expect("a group has a socket for each shard");
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(millrace_wire::MAX_DATAGRAM_LEN)
        .expect("a payload above QUIC's least of 1,200 bytes is a legal size");
    Endpoint::new(config, None, socket, Arc::new(runtime))
}
