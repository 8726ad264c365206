//! The simulator of crashes: random lives of a few logs on a disk in memory that crashes,
//! rots, fails and fills up, each history following from its seed.
//!
//! A *history* is a few *lives* of the process. In each life the logs are opened, and
//! producers (idempotent and plain), readers and an administrator work on them at once,
//! interleaved by a seeded executor, until the power goes, the process ends, or all is
//! done. Then the next life opens what is left and checks it.
//!
//! The checkers ([`ledger`]) share no code with the log: they know what was accepted,
//! acknowledged and shown, and nothing of segments or recovery. They hold that
//! - nothing that was acknowledged or durable is missing after a crash, except what write
//!   caching had not flushed;
//! - no batch of an idempotent producer stands in the log twice, and every repetition, gap
//!   and old epoch gets the answer that it must get;
//! - offsets have no gaps and the order of acceptance is kept, byte for byte;
//! - an offset that was shown to a reader never shows anything else, unless truncated;
//! - the log start never goes back;
//! - a bit that turns in a file is noticed where it matters, and wrong bytes are never
//!   served. Rot in the last device write of all may be taken for a torn write, as it
//!   cannot be told from one; nothing below that write may go with it;
//! - a log that was full takes appends again once there is room, and nothing waits for
//!   ever.
//!
//! Not here: replication, the network, and the real disk.

mod admin;
pub mod cluster;
mod frames;
mod history;
mod ledger;
mod life;
mod prefix;
mod producer;
mod reader;
mod runner;
mod trace;
mod world;

pub use runner::{Failure, Report, run_every_prefix, run_history, run_many};
pub use trace::{Trace, Violation};
