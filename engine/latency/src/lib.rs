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
//! [`chart`], [`page`] and [`words`] draw them, for the broker, for `millctl` and for the bench's reports.
//!
//! Pure: no clock, no socket, no executor.

pub mod chart;
mod counts;
mod document;
mod hgrm;
mod histogram;
pub mod page;
mod slow;
mod stage;
pub mod words;

pub use counts::{Counts, Summary};
pub use document::{Document, ShardDocument, StageCounts, VERSION};
pub use histogram::{LONGEST_NANOS, Latency, SHORTEST_NANOS};
pub use slow::{SlowDocument, SlowEntry};
pub use stage::Stage;
