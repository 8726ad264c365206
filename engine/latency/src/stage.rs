//! The steps on the way of a batch, each timed on its own.

/// A step on the way of a batch. ARCHITECTURE.md tells the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// From a frame's header to its last byte, with the wait for memory. Of a Kafka request from its first
    /// bytes to its last.
    Receive,
    /// From the last byte until its turn to be appended, with the hop to another shard if there is one.
    Queue,
    /// Copying, checking and sealing in the append buffer.
    Append,
    /// From append until this broker may count it: durable, or with `write.caching` accepted.
    Device,
    /// From there until every in-sync replica has it. Batches that waited for no other broker are not counted.
    Replicate,
    /// From then until the acknowledgement is handed to the connection.
    Ack,
    /// From readable until the frame is handed to a waiting consumer's connection.
    Deliver,
}

impl Stage {
    /// Every stage, in the order of a batch's way.
    pub const ALL: &[Self] = &[
        Self::Receive,
        Self::Queue,
        Self::Append,
        Self::Device,
        Self::Replicate,
        Self::Ack,
        Self::Deliver,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The stages whose sum a producer waits for, in order: all before [`Stage::Deliver`].
    pub const PRODUCE: &[Self] = Self::ALL.split_at(Self::Deliver as usize).0;

    /// The name, as the metrics and all documents have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Queue => "queue",
            Self::Append => "append",
            Self::Device => "device",
            Self::Replicate => "replicate",
            Self::Ack => "ack",
            Self::Deliver => "deliver",
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|stage| stage.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_in_the_order_of_their_numbers_and_found_by_name() {
        for (at, &stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(stage as usize, at);
            assert_eq!(Stage::named(stage.name()), Some(stage));
        }
        assert_eq!(Stage::named("sleep"), None);
        assert_eq!(Stage::PRODUCE.last(), Some(&Stage::Ack));
    }
}
