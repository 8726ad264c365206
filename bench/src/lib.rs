//! `millrace-bench`: loads a broker and says what it did.
//!
//! Producers send prepared batches over raw streams, so that the load costs as little as it
//! can on the machine that it shares with the broker. Latencies go to one HdrHistogram over all
//! clients, and by the second into a series. In an open loop (`--rate`) a latency counts from when its
//! batch was due, so a stall of the broker is seen by every batch that it delayed; in a closed
//! loop from when it was sent.
//!
//! What is sent when, and what it counts for, is decided by machines that do no input or output and
//! read no clock: [`shape`], [`pace`], [`flow`], and the search of [`ramp`]. So the bench is checked
//! against a server whose latencies are known (`tests/synthetic.rs`).
//!
//! What the machine could do at most is measured by [`limits`], without a broker.

pub mod compare;
pub mod consume;
pub mod e2e;
mod embedded;
pub mod flow;
pub mod hgrm;
pub mod html;
mod kafka;
pub mod limits;
pub mod measure;
pub mod mixed;
pub mod options;
pub mod pace;
mod payload;
pub mod produce;
mod progress;
pub mod ramp;
mod read;
pub mod report;
pub mod shape;
pub mod sink;
mod stage;
pub mod stages;
mod target;
mod transport;
pub mod usage;
pub mod window;

pub use kafka::KafkaError;

/// Why a run could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The broker, or the way to it.
    #[error(transparent)]
    Client(#[from] millrace_client::ClientError),
    /// A broker that is reached over the Kafka protocol.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The embedded broker did not start.
    #[error("the embedded broker did not start: {0}")]
    Embedded(String),
    /// A file or directory.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A report that cannot be read.
    #[error("{file}: {why}")]
    Report {
        /// The file that it should be in.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The broker did not do something in time.
    #[error("the broker did not answer: {0}")]
    Unanswered(&'static str),
    /// The broker refused what a topic was to be filled with.
    #[error("the broker refused a batch while the topic was filled: {0}")]
    Fill(millrace_model::ErrorCode),
    /// What the machine can do could not be measured.
    #[error("limits: {0}")]
    Limits(String),
    /// The options do not fit together.
    #[error("{0}")]
    Options(String),
    /// A record batch could not be built.
    #[error(transparent)]
    Batch(#[from] millrace_model::batch::BuildError),
}
