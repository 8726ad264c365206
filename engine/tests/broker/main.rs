//! A real broker on real files and sockets, and the real client.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared with the tests of the network, which use more of it"
)]
#[path = "../../../net/tests/support/certificates.rs"]
mod certificates;
mod connections;
mod damage;
mod deletion;
mod forwarding;
mod http;
mod observe;
mod peers;
mod raw;
mod refusals;
mod rig;
mod round_trip;
mod sequences;
mod shutdown;
mod slow_clients;
mod write_caching;
