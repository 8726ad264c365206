//! What the writers of the crash test sent, and what of it was acknowledged where.
//!
//! A *lane* is one writer's stream into one partition. Its records are numbered from 0
//! without gaps; number and lane stand at the start of each value, so that a record that is
//! read back says itself which one it is.

use std::hash::{DefaultHasher, Hasher as _};

use millrace_model::Offset;

/// Length of lane and number at the start of a value.
pub const RECORD_ID_LEN: usize = 12;

/// The longest value of the crash test: small and large batches, several segments.
pub const MAX_VALUE_LEN: usize = 4_000;

/// Identity of a record: which lane, and the how-many-eth in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Index of the lane in the ledger.
    pub lane: u32,
    /// Number in the lane, from 0.
    pub number: u64,
}

impl RecordId {
    /// A value that starts with this id, followed by `noise`.
    #[must_use]
    pub fn value(self, noise: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(RECORD_ID_LEN + noise.len());
        value.extend_from_slice(&self.lane.to_le_bytes());
        value.extend_from_slice(&self.number.to_le_bytes());
        value.extend_from_slice(noise);
        value
    }

    /// The id that `value` starts with.
    #[must_use]
    pub fn of_value(value: &[u8]) -> Option<Self> {
        let (lane, rest) = value.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Self {
            lane: u32::from_le_bytes(*lane),
            number: u64::from_le_bytes(*number),
        })
    }
}

/// What is remembered of a value.
#[must_use]
pub fn fingerprint(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(value);
    hasher.finish()
}

/// A record that a writer handed to its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// [`fingerprint`] of its value.
    pub fingerprint: u64,
    /// Whether it was acknowledged, and where.
    pub ack: Ack,
}

/// The acknowledgement of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// None yet, or never.
    Awaited,
    /// Stored at this offset.
    At(Offset),
    /// Stored, but where is not known: a batch that was sent again, stored before, and older
    /// than those whose place the broker remembers.
    Somewhere,
}

/// One writer's stream into one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Index of the partition in the test.
    pub partition: usize,
    /// Its records by number.
    pub sent: Vec<Sent>,
}

/// All lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// By [`RecordId::lane`].
    pub lanes: Vec<Lane>,
    acknowledged: u64,
}

impl Ledger {
    /// Adds an empty lane into this partition; its index.
    ///
    /// # Panics
    /// With more than 2^32 lanes.
    pub fn open_lane(&mut self, partition: usize) -> u32 {
        self.lanes.push(Lane {
            partition,
            sent: Vec::new(),
        });
        u32::try_from(self.lanes.len() - 1).expect("a test has few lanes")
    }

    /// The id of the next record of a lane.
    #[must_use]
    pub fn next_id(&self, lane: u32) -> RecordId {
        RecordId {
            lane,
            number: self.lanes[lane as usize].sent.len() as u64,
        }
    }

    /// Enters a record before it is handed to the producer.
    ///
    /// # Panics
    /// If it is not the lane's next.
    pub fn sent(&mut self, id: RecordId, value: &[u8]) {
        assert_eq!(id, self.next_id(id.lane), "records are entered in order");
        let record = Sent {
            fingerprint: fingerprint(value),
            ack: Ack::Awaited,
        };
        self.lanes[id.lane as usize].sent.push(record);
    }

    /// Enters an acknowledgement.
    ///
    /// # Panics
    /// If the record was never sent.
    pub fn acked(&mut self, id: RecordId, at: Option<Offset>) {
        self.record_mut(id).ack = at.map_or(Ack::Somewhere, Ack::At);
        self.acknowledged += 1;
    }

    /// Acknowledgements entered, over all lanes.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// For each lane that awaits acknowledgements: the lane, its first record that does, and
    /// how many do.
    pub fn awaiting(&self) -> impl Iterator<Item = (RecordId, usize)> {
        (0..)
            .zip(&self.lanes)
            .filter_map(|(lane, Lane { sent, .. })| {
                let awaits = |record: &&Sent| record.ack == Ack::Awaited;
                let first = sent.iter().position(|record| awaits(&record))?;
                let id = RecordId {
                    lane,
                    number: first as u64,
                };
                Some((id, sent.iter().filter(awaits).count()))
            })
    }

    /// What was entered for this record.
    #[must_use]
    pub fn record(&self, id: RecordId) -> Option<&Sent> {
        self.lanes
            .get(id.lane as usize)?
            .sent
            .get(usize::try_from(id.number).ok()?)
    }

    fn record_mut(&mut self, id: RecordId) -> &mut Sent {
        let number = usize::try_from(id.number).expect("numbers count records in memory");
        &mut self.lanes[id.lane as usize].sent[number]
    }
}
