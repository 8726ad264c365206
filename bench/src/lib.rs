//! `millrace-bench`: loads a broker and says what it did.
//!
//! Producers send prepared batches over raw streams, so that the load costs as little as it
//! can on the machine that it shares with the broker. Latencies go to one HdrHistogram over all
//! clients, and by the second into a series. In an open loop (`--rate`) a latency counts from when its
//! batch was due, so a stall of the broker is seen by every batch that it delayed; in a closed
//! loop from when it was sent.
//!
//! Not here: device limits, ramps.

pub mod compare;
pub mod consume;
pub mod e2e;
pub mod hgrm;
pub mod html;
mod kafka;
pub mod measure;
pub mod options;
mod pace;
mod payload;
pub mod produce;
pub mod report;
pub mod sink;
pub mod stages;
mod target;
mod transport;
pub mod usage;

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
    /// The options do not fit together.
    #[error("{0}")]
    Options(String),
    /// A record batch could not be built.
    #[error(transparent)]
    Batch(#[from] millrace_model::batch::BuildError),
}
