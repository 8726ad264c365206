//! A type for every number that could be mistaken for another.

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[rkyv(derive(Clone, Copy, PartialEq, Eq))]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

pub(crate) use number;

number!(
    /// Position of a record in its partition, counted from 0, never reused for other data
    /// once acknowledged.
    Offset(u64)
);
number!(
    /// Number of a partition inside its topic, counted from 0.
    PartitionId(u32)
);
number!(
    /// Term of a partition's leadership (KIP-101). Grows with every leader change, and on
    /// a single broker with every start, so that frames of an earlier life are told apart.
    LeaderEpoch(u32)
);
number!(
    /// Identity of a broker in its cluster.
    BrokerId(u32)
);
number!(
    /// Index of a shard (one per core) inside its broker.
    ShardId(u8)
);
number!(
    /// Identity of an idempotent producer (KIP-98).
    ProducerId(i64)
);
number!(
    /// Fences zombies of one producer id (KIP-98).
    ProducerEpoch(i16)
);
number!(
    /// Number of a record in an idempotent producer's stream to one partition. Wraps from
    /// `i32::MAX` to 0.
    Sequence(i32)
);
number!(
    /// Milliseconds since the Unix epoch, as Kafka counts. -1 means none.
    Timestamp(i64)
);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset `records` further on.
    ///
    /// # Panics
    /// If the sum leaves `u64`, which no log reaches.
    #[must_use]
    pub const fn plus(self, records: u64) -> Self {
        Self(
            self.0
                .checked_add(records)
                .expect("an offset fits in 64 bits"),
        )
    }
}

impl Sequence {
    /// The sequence `records` further on, wrapping at `i32::MAX` as Kafka does.
    #[must_use]
    pub const fn plus(self, records: u32) -> Self {
        let sum = self.0 as i64 + records as i64;
        Self((sum % (i32::MAX as i64 + 1)) as i32)
    }
}

impl ProducerId {
    /// Marks a batch of a producer without idempotence.
    pub const NONE: Self = Self(-1);
}

impl Timestamp {
    /// Marks the absence of a timestamp.
    pub const NONE: Self = Self(-1);
}

/// Identity of a topic, unique for ever: a topic that is deleted and created again under
/// the same name has another id.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(Clone, Copy, PartialEq, Eq))]
pub struct TopicId(pub [u8; 16]);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// The text was not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a topic id is 32 hexadecimal digits")]
pub struct TopicIdError;

impl FromStr for TopicId {
    type Err = TopicIdError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.len() != 32 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TopicIdError);
        }
        let mut id = [0; 16];
        for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&s[at..at + 2], 16).map_err(|_| TopicIdError)?;
        }
        Ok(Self(id))
    }
}

/// Number of shards of a broker: 1 to 255, because a connection id carries the shard in
/// one byte.
pub type ShardCount = NonZeroU8;

/// Identity of a partition's log, the same on every replica. It seeds the checksum of each
/// frame header, so that a frame of one log is never taken for a frame of another.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct LogId {
    /// The topic.
    pub topic: TopicId,
    /// The partition of that topic.
    pub partition: PartitionId,
}

impl LogId {
    /// The seed of this log's header checksums: CRC-32C of the topic id followed by the
    /// partition in little-endian order.
    #[must_use]
    pub fn checksum_seed(&self) -> u32 {
        let topic = crc32c::crc32c(&self.topic.0);
        crc32c::crc32c_append(topic, &self.partition.0.to_le_bytes())
    }

    /// The shard that owns this partition on a broker with `shards` shards:
    /// `(hash(topic) + partition) mod shards`. Clients compute the same to connect straight
    /// to the owning core.
    #[must_use]
    pub fn shard(&self, shards: ShardCount) -> ShardId {
        let topic = u64::from(crc32c::crc32c(&self.topic.0));
        let shard = (topic + u64::from(self.partition.0)) % u64::from(shards.get());
        ShardId(u8::try_from(shard).expect("a remainder of a u8 fits in a u8"))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
