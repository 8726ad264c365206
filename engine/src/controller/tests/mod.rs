//! Controllers on one thread, in virtual time, on disks and a network in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;
mod cluster;
mod voters;
mod world;
