//! The messages, one table for each group of APIs; structures have the names of Kafka's schemas,
//! after the name of their API where two APIs use one name for different things.

mod cluster;
mod configs;
mod consumer_groups;
mod groups;
mod log;
mod offsets;
mod quorum;
mod replicas;
mod topics;

pub use cluster::*;
pub use configs::*;
pub use consumer_groups::*;
pub use groups::*;
pub use log::*;
pub use offsets::*;
pub use quorum::*;
pub use replicas::*;
pub use topics::*;
