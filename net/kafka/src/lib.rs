//! The messages of the Kafka protocol as bytes: requests and responses of every API that Millrace
//! serves, in every version that it serves, both ways.
//!
//! This crate is pure: it opens nothing, awaits nothing and reads no clock.
