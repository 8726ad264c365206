//! The bytes of every message. A layout that changes is a new version of the protocol:
//! raise `VERSION`, then write `golden.txt` anew with what this test prints.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report"
)]

#[allow(dead_code, reason = "shared with other tests, which use more of it")]
mod samples;

use millrace_model::{ErrorCode, Offset, Timestamp};
use millrace_wire::Ack;

const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn every_message_has_the_bytes_that_it_always_had() {
    let mut now = String::from("# Bytes of one message of each kind. See golden.rs.\n");
    for (name, bytes) in samples::encoded() {
        now += &format!("{name} {}\n", hex(&bytes));
    }
    for (name, bytes) in samples::records() {
        now += &format!("{name} {}\n", hex(&bytes));
    }
    let mut message = bytes::BytesMut::new();
    millrace_wire::put_quorum_message(&mut message, b"vote");
    now += &format!("quorum.message {}\n", hex(&message));
    let ack = Ack::appended(Offset(0x0102), Timestamp(0x0304), Offset(0x05));
    now += &format!("ack.appended {}\n", hex(&ack.to_bytes()));
    let ack = Ack::refused(ErrorCode::MessageTooLarge, Offset(0x05));
    now += &format!("ack.refused {}\n", hex(&ack.to_bytes()));
    assert!(now == GOLDEN, "the layout has changed; it is now:\n{now}");
}

/// The hand-written layout of [`Ack::to_bytes`] is the one that rkyv gives it.
#[test]
fn an_ack_is_its_archive() {
    let mut ack = Ack::appended(Offset(u64::MAX - 1), Timestamp(-2), Offset(3));
    ack.code = -1;
    let archive = rkyv::to_bytes::<rkyv::rancor::Error>(&ack).unwrap();
    assert_eq!(archive.as_slice(), ack.to_bytes());
    assert_eq!(Ack::from_bytes(&ack.to_bytes()), ack);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
