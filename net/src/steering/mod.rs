//! One UDP port, a socket per shard, and each datagram at the shard that owns its connection.
//!
//! The first byte of a connection id names the shard: byte modulo the number of shards. A
//! client writes it into the first id that it invents, the broker into all ids that it hands
//! out ([`cid`]), the kernel steers by it ([`group`]), and what the kernel could not place is
//! forwarded ([`forward`]).
//!
//! Invariant: kernel and forwarding apply the same rule, [`shard_of`], so a datagram is
//! forwarded at most once.

mod bpf;
mod cid;
mod forward;
mod group;

pub use cid::{CID_LEN, ShardCidGenerator, initial_cid_for, initial_cid_for_first_shard, shard_of};
pub use forward::Forwarding;
pub(crate) use forward::{MAX_DATAGRAM_LEN, Route};
pub use group::{
    Buffers, RECEIVE_BUFFER, SEND_BUFFER, SocketGroup, SocketOptions, Steering, bind_group,
};
