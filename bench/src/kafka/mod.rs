//! The Kafka protocol from a client's side, as much as a load needs: topics are made and deleted,
//! batches produced and fetched, over plain TCP. It drives any broker that speaks the protocol.
//!
//! Each producer and each consumer has a connection of its own to the leader of its partition, as
//! clients in processes of their own would. Producers have many requests in flight; a consumer has
//! one, sent as soon as the answer to the one before is there.
//!
//! Not here: groups, transactions, idempotence, retries, a move of the leader during a run.

mod cluster;
mod connection;
mod fetch;
mod produce;

pub(crate) use cluster::Cluster;
pub(crate) use connection::{Frames, Rope};
pub(crate) use fetch::{FetchStream, FetchedBatch};
pub(crate) use produce::{ProduceAcks, ProduceSender};

use millrace_kafka::{ApiKey, DecodeError, EncodeError};
use millrace_model::{BatchError, ErrorCode};

/// Why a request could not be made, or what its answer said.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// The connection.
    #[error("{address}: {error}")]
    Connection {
        /// The broker's address.
        address: String,
        /// What happened.
        error: std::io::Error,
    },
    /// The other side has closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// The broker does not serve an API in a version that is known here.
    #[error("the broker serves {name} in no version that is known here", name = .0.name())]
    NotServed(ApiKey),
    /// The broker answered a request with an error.
    #[error("{name}: {code}{}", why.as_ref().map_or(String::new(), |why| format!(" ({why})")), name = api.name())]
    Refused {
        /// The request's API.
        api: ApiKey,
        /// The error.
        code: ErrorCode,
        /// The broker's words.
        why: Option<String>,
    },
    /// A request that cannot be expressed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An answer that cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A batch that cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The broker's bytes make no sense.
    #[error("{0}")]
    Protocol(&'static str),
    /// The metadata names no leader of a partition.
    #[error("a partition has no leader")]
    NoLeader,
    /// The broker did not get there in time.
    #[error("{0} took too long")]
    TimedOut(&'static str),
}

/// An answer's error code as a result.
fn accepted(api: ApiKey, code: i16, why: Option<String>) -> Result<(), KafkaError> {
    match ErrorCode::from_i16(code) {
        ErrorCode::None => Ok(()),
        code => Err(KafkaError::Refused { api, code, why }),
    }
}
