//! Which partition of `__consumer_offsets` a group belongs to. Brokers and clients must agree on it.

use crate::PartitionId;

/// Kafka's placement: the absolute value of Java's hash of the group's name, modulo the partitions,
/// which are at least 1.
#[must_use]
pub fn coordinator_partition(group: &str, partitions: u32) -> PartitionId {
    let hash = java_hash(group);
    // Java's `abs` of the smallest number is itself; Kafka takes 0 for it.
    PartitionId(hash.checked_abs().unwrap_or(0).unsigned_abs() % partitions.max(1))
}

/// Java's `String.hashCode`, which counts UTF-16 units.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_placed_as_kafka_places_them() {
        // As `"...".hashCode()` of a Java runtime prints them.
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("a"), 97);
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert_eq!(java_hash("\u{1f980}"), 1_772_802, "two units");
        assert_eq!(coordinator_partition("hello", 50), PartitionId(22));
        assert_eq!(
            coordinator_partition("polygenelubricants", 50),
            PartitionId(0)
        );
        assert!(coordinator_partition("consumer-group", 3) < PartitionId(3));
    }
}
