//! A real broker on real files and sockets, as Kafka's clients meet it: frames over TCP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;
mod client;
mod connections;
mod fetch;
mod hostile;
mod native;
mod offsets;
mod produce;
mod restart;
#[path = "../broker/rig.rs"]
#[allow(dead_code, reason = "shared with the tests of the native protocol")]
mod rig;
mod sessions;
