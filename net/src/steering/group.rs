//! The sockets of one port.

use super::bpf;
use crate::bind::{BindError, patiently};
use millrace_model::ShardCount;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Receive buffer asked for each socket: 20 ms of one shard's traffic at 200 MB/s, which rides
/// over the pauses of a shard that shares its core. Kernel memory, taken only when filled.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// Send buffer asked for each socket: more than a 10 Gbit/s link drains in the millisecond
/// after which a blocked send is tried again.
pub const SEND_BUFFER: usize = 2 << 20;

/// How the sockets of a group are made.
#[derive(Debug, Clone, Copy)]
pub struct SocketOptions {
    /// Bytes asked for each receive buffer.
    pub receive_buffer: usize,
    /// Bytes asked for each send buffer.
    pub send_buffer: usize,
    /// Whether to let the kernel steer. Without it every datagram may need forwarding.
    pub kernel_steering: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: SEND_BUFFER,
            kernel_steering: true,
        }
    }
}

/// The sockets of one UDP port, one a shard, in shard order.
#[derive(Debug)]
pub struct SocketGroup {
    /// The address that all are bound to, with its actual port.
    pub addr: SocketAddr,
    /// One a shard, in shard order.
    pub sockets: Vec<UdpSocket>,
    /// Who places datagrams.
    pub steering: Steering,
    /// What the kernel granted each socket.
    pub buffers: Buffers,
}

/// Who brings a datagram to its shard.
#[derive(Debug)]
pub enum Steering {
    /// The kernel; forwarding only corrects.
    Kernel,
    /// Forwarding alone, as the options ask.
    Off,
    /// Forwarding alone, since the kernel refused the program.
    Refused(io::Error),
    /// There is one shard only.
    OneShard,
}

/// Socket buffers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// The smallest receive buffer of the group.
    pub receive: usize,
    /// The smallest send buffer of the group.
    pub send: usize,
}

/// Binds a socket for each shard to `addr`; of port 0 the kernel makes a free one.
///
/// # Errors
/// The port is taken, also by another group of sockets that would share it, or a socket call
/// fails. That the kernel refuses to steer or to enlarge buffers is no error, but reported.
pub fn bind_group(
    addr: SocketAddr,
    shards: ShardCount,
    options: &SocketOptions,
) -> Result<SocketGroup, BindError> {
    let fail = |source| BindError::new(addr, source);
    let first = patiently(|| bind_first(addr, options)).map_err(fail)?;
    let actual = first.local_addr().map_err(fail)?;
    let mut sockets = vec![first];
    for _ in 1..shards.get() {
        sockets.push(bind_next(actual, options).map_err(fail)?);
    }
    let steering = steer(&sockets[0], shards, options);
    let buffers = granted(&sockets).map_err(fail)?;
    Ok(SocketGroup {
        addr: actual,
        sockets,
        steering,
        buffers,
    })
}

/// Binds without sharing, so that a port in use is an error, and shares from then on.
fn bind_first(addr: SocketAddr, options: &SocketOptions) -> io::Result<UdpSocket> {
    let socket = open(addr, options)?;
    socket.bind(&addr.into())?;
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

fn bind_next(addr: SocketAddr, options: &SocketOptions) -> io::Result<UdpSocket> {
    let socket = open(addr, options)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// A non-blocking UDP socket with its buffers enlarged; `[::]` takes IPv4 too.
fn open(addr: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    enlarge(
        &socket,
        libc::SO_RCVBUFFORCE,
        libc::SO_RCVBUF,
        options.receive_buffer,
    );
    enlarge(
        &socket,
        libc::SO_SNDBUFFORCE,
        libc::SO_SNDBUF,
        options.send_buffer,
    );
    Ok(socket)
}

/// Asks for a buffer of `bytes`: beyond the system's limit if the process may, else up to it.
/// A refusal leaves the buffer as it is, which [`granted`] then reports.
fn enlarge(socket: &Socket, force: libc::c_int, ask: libc::c_int, bytes: usize) {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    for option in [force, ask] {
        // SAFETY: the kernel reads one `c_int` from a live local.
        let outcome = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if outcome == 0 {
            return;
        }
    }
}

fn steer(first: &UdpSocket, shards: ShardCount, options: &SocketOptions) -> Steering {
    if shards.get() == 1 {
        Steering::OneShard
    } else if !options.kernel_steering {
        Steering::Off
    } else {
        bpf::attach(first, shards).map_or_else(Steering::Refused, |()| Steering::Kernel)
    }
}

/// The smallest buffers of the group. Linux reports twice what may be asked for, the half
/// being its own overhead; here it is the part that was asked for.
fn granted(sockets: &[UdpSocket]) -> io::Result<Buffers> {
    let mut buffers = Buffers {
        receive: usize::MAX,
        send: usize::MAX,
    };
    for socket in sockets {
        let socket = socket2::SockRef::from(socket);
        buffers.receive = buffers.receive.min(socket.recv_buffer_size()? / 2);
        buffers.send = buffers.send.min(socket.send_buffer_size()? / 2);
    }
    Ok(buffers)
}
