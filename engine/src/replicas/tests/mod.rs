//! Brokers of one partition in one process: real logs on real files, real machines of the cluster's
//! metadata, and streams in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failing;
mod hostile;
mod replication;
mod world;
