//! What brokers call the listeners among their endpoints.

/// The listener of the native protocol.
pub const QUIC_LISTENER: &str = "QUIC";

/// The listener of the Kafka protocol.
pub const KAFKA_LISTENER: &str = "KAFKA";
