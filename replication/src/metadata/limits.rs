//! How much metadata there can be.

/// Topics that exist at a time. A metadata response names each with its settings that
/// clients need, some 300 bytes with the longest name, and has to stay within the 4 MiB of a
/// control message.
pub const MAX_TOPICS: usize = 10_000;

/// Partitions of one topic: what the largest known Kafka topics have, rounded up.
pub const MAX_PARTITIONS_PER_TOPIC: u32 = 10_000;

/// Partitions of all topics: at a few KiB of memory for each that was touched, a few hundred
/// MiB on one broker.
pub const MAX_PARTITIONS: u32 = 100_000;

/// Bytes of a setting's name or value: numbers and words. Every setting
/// is one of the known ones, so their number is bounded too.
pub(crate) const MAX_OVERRIDE_LEN: usize = 1024;

/// Brokers whose epochs are remembered.
pub const MAX_BROKERS: usize = 1_000;

/// Producer ids given out by one command, so that one durable write serves many producers;
/// Kafka's number. What is left of a block when the broker stops is never used.
pub const PRODUCER_ID_BLOCK: u32 = 1_000;

const _: () = assert!(MAX_PARTITIONS_PER_TOPIC <= MAX_PARTITIONS);
