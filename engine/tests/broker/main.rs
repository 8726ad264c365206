//! A real broker on real files and sockets, and the real client.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connections;
mod damage;
mod deletion;
mod forwarding;
mod http;
mod observe;
mod raw;
mod refusals;
mod rig;
mod round_trip;
mod sequences;
mod shutdown;
mod slow_clients;
mod write_caching;
