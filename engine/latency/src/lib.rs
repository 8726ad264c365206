//! Where the time of a batch goes: the stages of its way, histograms of them, and the document in which a
//! broker tells of them.
//!
//! | type | what it is |
//! | --- | --- |
//! | [`Stage`] | a step on the way of a batch |
//! | [`Latency`] | the histogram that a shard records into: dense, fast, fixed in size |
//! | [`Counts`] | the same values as they are kept and sent: only those that occur |
//! | [`Document`] | what a broker says of a time, by stage, and by shard where asked |
//! | [`SlowDocument`] | the slowest batches of the last minutes, one by one |
//!
//! The broker makes documents, `millctl` and `millrace-bench` read them. Counts of shards add up and counts of
//! two moments subtract, exactly, so nobody ever takes the mean of percentiles.
//!
//! Pure: no clock, no socket, no executor.

mod counts;
mod document;
mod hgrm;
mod histogram;
mod slow;
mod stage;

pub use counts::{Counts, Summary};
pub use document::{Document, ShardDocument, StageCounts, VERSION};
pub use histogram::{LONGEST_NANOS, Latency, SHORTEST_NANOS};
pub use slow::{SlowDocument, SlowEntry};
pub use stage::Stage;
