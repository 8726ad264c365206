//! The native protocol, `millrace/1`, as bytes: what a stream opens with, the control
//! requests and responses, and the acknowledgements of a produce stream.
//!
//! Every stream opens with a [`Preface`] and one rkyv message, which the receiver checks
//! (`bytecheck`) before touching it. This crate is pure.
//!
//! | kind | client sends | broker sends |
//! | --- | --- | --- |
//! | [`StreamKind::Control`] | preface, [`Request`], end | preface, [`Response`], end |
//! | [`StreamKind::Produce`] | preface, [`ProduceOpen`], then frames | preface, [`ProduceOpened`], then [`Ack`]s, one a frame, in order |
//! | [`StreamKind::Consume`] | preface, [`ConsumeOpen`] | preface, [`ConsumeOpened`], then frames |
//! | [`StreamKind::Replicate`] | preface, [`ReplicaOpen`], then [`FollowerRecord`]s | preface, [`ReplicaOpened`], then [`LeaderRecord`]s with frames |
//! | [`StreamKind::Quorum`] | preface, [`QuorumOpen`], then messages of the quorum, each behind its length | nothing |
//! | [`StreamKind::ConsumeReplica`] | preface, [`ConsumeOpen`] at an offset | preface, [`ConsumeOpened`], then frames |
//!
//! `Replicate` and `Quorum` are between brokers of a cluster, which prove by certificate who they are
//! ([`PeerName`]); others are refused.
//!
//! A broker that refuses a produce or consume stream answers a preface of
//! [`StreamKind::Control`] and [`Response::Error`], and ends the stream. One that ends it
//! later resets it with the error's number as the QUIC application error code (as `u16`,
//! see [`reset_code`]).

mod ack;
mod chunks;
#[allow(
    missing_docs,
    reason = "rkyv documents the variants of an enum's resolver, but not the variants' fields"
)]
mod cluster;
mod codec;
#[allow(
    missing_docs,
    reason = "rkyv documents the variants of an enum's resolver, but not the variants' fields"
)]
mod control;
mod frame_reader;
pub mod fuzz;
#[allow(
    missing_docs,
    reason = "rkyv documents the variants of an enum's resolver, but not the variants' fields"
)]
mod groups;
mod message_reader;
mod messages;
mod peer;
mod preface;
mod quorum;
mod record;
#[allow(
    missing_docs,
    reason = "rkyv documents the variants of an enum's resolver, but not the variants' fields"
)]
mod replica;

pub use ack::{AckBatch, AckReader};
pub use chunks::ChunkQueue;
pub use cluster::*;
pub use codec::{DecodeError, EncodeError, Message, decode, encode};
pub use control::{Request, Response};
pub use frame_reader::{FrameReadError, FrameReader};
pub use groups::*;
pub use message_reader::MessageReader;
pub use messages::*;
pub use peer::{PeerName, PeerNameError};
pub use preface::{PREFACE_LEN, Preface, PrefaceError, StreamKind};
pub use quorum::{QuorumOpen, QuorumReader, put_quorum_message};
pub use record::{Record, RecordReader};
pub use replica::{
    FollowerRecord, FollowerSaid, LeaderRecord, LeaderSaid, MAX_RUN_LEN, ReplicaMark, ReplicaOpen,
    ReplicaOpened, ReplicaPosition, Subscription,
};

/// The protocol's name in the TLS handshake.
pub const ALPN: &[u8] = b"millrace/1";

/// The version of the messages. A broker refuses any other with `UNSUPPORTED_VERSION`.
pub const VERSION: u16 = 2;

/// The longest control message, in either direction: 4 MiB, room for a metadata response
/// of some ten thousand partitions.
pub const MAX_MESSAGE_LEN: usize = 4 << 20;

/// The longest UDP payload that either side takes, and the longest packet that either looks for on
/// the path. QUIC's default, 1,472 bytes, wastes networks that carry jumbo frames, and loopback:
/// most of the price of a packet does not depend on its length.
///
/// Not longer, for a train of packets goes to the kernel in one piece: [`MAX_TRAIN_PACKETS`] of them
/// are just below 64 KiB with the longest headers of Ethernet, IPv6 and UDP. One byte too many, and
/// the kernel cuts each train into packets itself, in software, and delivers them one by one.
pub const MAX_DATAGRAM_LEN: u16 = 6544;

/// Packets that quinn hands to the kernel at once, at most.
const MAX_TRAIN_PACKETS: usize = 10;

/// Headers of Ethernet, IPv6 and UDP.
const MAX_HEADERS_LEN: usize = 14 + 40 + 8;

const _: () = assert!(
    MAX_TRAIN_PACKETS * MAX_DATAGRAM_LEN as usize + MAX_HEADERS_LEN < 1 << 16,
    "a train of the longest packets fits into what the kernel passes on in one piece"
);

/// Port of the native protocol when none is named.
pub const DEFAULT_PORT: u16 = 9644;

/// The QUIC application error code that stands for `code`.
#[must_use]
pub fn reset_code(code: millrace_model::ErrorCode) -> u32 {
    u32::from((code as i16).cast_unsigned())
}

/// The error that a QUIC application error code stands for.
#[must_use]
pub fn reset_error(code: u64) -> millrace_model::ErrorCode {
    u16::try_from(code).map_or(millrace_model::ErrorCode::UnknownServerError, |code| {
        millrace_model::ErrorCode::from_i16(code.cast_signed())
    })
}
