//! The listening sockets of one TCP port.

use crate::bind::{BindError, patiently};
use millrace_model::ShardCount;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel holds until a shard accepts them: a burst of reconnecting clients
/// after a restart.
const BACKLOG: i32 = 1024;

/// The listening sockets of one TCP port. The kernel spreads connections over them.
#[derive(Debug)]
pub struct TcpGroup {
    /// The address that all are bound to, with its actual port.
    pub addr: SocketAddr,
    /// One a shard, in shard order.
    pub listeners: Vec<TcpListener>,
}

/// Binds a listening socket for each shard to `addr`; of port 0 the kernel makes a free one.
///
/// # Errors
/// The port is taken, also by another group of sockets that would share it, or a socket call
/// fails.
pub fn bind_tcp_group(addr: SocketAddr, shards: ShardCount) -> Result<TcpGroup, BindError> {
    let fail = |source| BindError::new(addr, source);
    let first = patiently(|| bind_first(addr)).map_err(fail)?;
    let local = first.local_addr().map_err(fail)?;
    let actual = local.as_socket().unwrap_or(addr);
    let mut sockets = vec![first];
    for _ in 1..shards.get() {
        sockets.push(bind_next(actual).map_err(fail)?);
    }
    // Only now: a connection that came before the last socket could reset others' distribution.
    for socket in &sockets {
        socket.listen(BACKLOG).map_err(fail)?;
    }
    Ok(TcpGroup {
        addr: actual,
        listeners: sockets.into_iter().map(TcpListener::from).collect(),
    })
}

/// Binds without sharing, so that a port in use is an error, and shares from then on.
fn bind_first(addr: SocketAddr) -> io::Result<Socket> {
    let socket = open(addr)?;
    socket.bind(&addr.into())?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

fn bind_next(addr: SocketAddr) -> io::Result<Socket> {
    let socket = open(addr)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// A blocking TCP socket, for the ring's accept waits only on such; `[::]` takes IPv4 too. Old
/// connections of a former life of the broker do not keep the port.
fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn shards(count: u8) -> ShardCount {
        ShardCount::new(count).unwrap()
    }

    #[test]
    fn the_sockets_of_a_group_share_one_port_and_its_connections() {
        let group = bind_tcp_group("127.0.0.1:0".parse().unwrap(), shards(3)).unwrap();
        assert_eq!(group.listeners.len(), 3);
        let clients: Vec<TcpStream> = (0..64)
            .map(|_| TcpStream::connect(group.addr).unwrap())
            .collect();
        let mut accepted = 0;
        for listener in &group.listeners {
            assert_eq!(listener.local_addr().unwrap(), group.addr);
            listener.set_nonblocking(true).unwrap();
            accepted += std::iter::from_fn(|| listener.accept().ok()).count();
        }
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn a_port_in_use_is_an_error_even_if_the_other_would_share() {
        let group = bind_tcp_group("127.0.0.1:0".parse().unwrap(), shards(2)).unwrap();
        assert!(matches!(
            bind_tcp_group(group.addr, shards(2)),
            Err(BindError::InUse { .. })
        ));
    }
}
