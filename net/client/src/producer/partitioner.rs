//! Which partition a record goes to when the application does not say.

use std::sync::atomic::{AtomicU32, Ordering};

/// Which partition a record without one goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Partitioner {
    /// Records with a key: `murmur2(key) mod partitions`, as Kafka's default does, so that
    /// both kinds of clients agree. Records without: as [`Partitioner::Sticky`].
    #[default]
    KeyHash,
    /// One partition until a batch is closed, then the next one (KIP-480), whatever the key.
    Sticky,
}

/// The partition of a key, `partitions` of which there are.
pub(super) fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key).cast_unsigned() & 0x7fff_ffff) % partitions
}

/// The partition that records without a key stick to.
#[derive(Debug)]
pub(super) struct Sticky {
    current: AtomicU32,
    partitions: u32,
}

impl Sticky {
    /// Starts anywhere, so that many short-lived producers spread.
    pub(super) fn new(partitions: u32) -> Self {
        Self {
            current: AtomicU32::new(fastrand::u32(..partitions)),
            partitions,
        }
    }

    pub(super) fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    /// A batch of this partition was closed: goes on to the next, if it was the current.
    pub(super) fn batch_closed(&self, partition: u32) {
        let next = (partition + 1) % self.partitions;
        let _ =
            self.current
                .compare_exchange(partition, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Kafka's hash of a key: 32-bit `MurmurHash2` with its seed, as
/// `org.apache.kafka.common.utils.Utils.murmur2` computes it.
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // A Java array has at most 2^31 elements, and Kafka truncates likewise.
    #[allow(clippy::cast_possible_truncation, reason = "as Kafka does")]
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (byte, shift) in rest.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_kafka_does() {
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key), hash, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_closed_batch_moves_on_only_from_its_own_partition() {
        let sticky = Sticky::new(3);
        let first = sticky.current();
        sticky.batch_closed((first + 1) % 3);
        assert_eq!(sticky.current(), first);
        sticky.batch_closed(first);
        assert_eq!(sticky.current(), (first + 1) % 3);
    }
}
