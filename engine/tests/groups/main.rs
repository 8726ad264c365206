//! Consumer groups against a real broker, through the Kafka protocol, byte for byte as clients
//! speak it; the broker is a process of its own, so that it can be killed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checkpoint;
mod client;
mod committing;
mod held_heartbeats;
mod internal_topic;
mod kills;
mod listing;
mod membership;
mod metrics;
mod rig;
mod write_failure;
