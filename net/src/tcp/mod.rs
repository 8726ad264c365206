//! TCP for protocols that come over it: listening sockets that share a port, one a shard, and
//! connections that read into the caller's memory and write ropes of chunks.
//!
//! glommio drives the waiting, raw system calls move the bytes: its own reads and writes take
//! one slice at a time and copy where a ring is used, and it has no public poll. So readiness is
//! a read of no bytes, which glommio answers when the socket has some, and which takes none.
//!
//! Invariant: a connection without traffic has one entry in the ring and no memory for what
//! might arrive.

mod connection;
mod group;
mod rope;

pub use connection::{TcpAcceptor, TcpConnection};
pub use group::{TcpGroup, bind_tcp_group};
pub use rope::Rope;
