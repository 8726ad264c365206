//! A set of partitions of several topics.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::TopicId;

use crate::OwnedPartitions;

/// Partitions by topic.
///
/// **Invariant:** no topic is without partitions, so equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions(BTreeMap<TopicId, BTreeSet<u32>>);

impl Partitions {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// From the form of requests and records; what is named twice counts once.
    #[must_use]
    pub fn from_list(list: &[OwnedPartitions]) -> Self {
        list.iter()
            .flat_map(|owned| owned.partitions.iter().map(|p| (owned.topic, *p)))
            .collect()
    }

    /// In the form of responses and records, sorted.
    #[must_use]
    pub fn to_list(&self) -> Vec<OwnedPartitions> {
        let owned = |(topic, partitions): (&TopicId, &BTreeSet<u32>)| OwnedPartitions {
            topic: *topic,
            partitions: partitions.iter().copied().collect(),
        };
        self.0.iter().map(owned).collect()
    }

    /// Adds one. False: it is there already.
    pub fn insert(&mut self, topic: TopicId, partition: u32) -> bool {
        self.0.entry(topic).or_default().insert(partition)
    }

    /// Removes one. False: it is not there.
    pub fn remove(&mut self, topic: TopicId, partition: u32) -> bool {
        let Some(partitions) = self.0.get_mut(&topic) else {
            return false;
        };
        let removed = partitions.remove(&partition);
        if partitions.is_empty() {
            self.0.remove(&topic);
        }
        removed
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(&self, topic: TopicId, partition: u32) -> bool {
        self.0
            .get(&topic)
            .is_some_and(|partitions| partitions.contains(&partition))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, u32)> + '_ {
        self.0
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(|p| (*topic, *p)))
    }

    /// By topic, sorted.
    pub fn by_topic(&self) -> impl Iterator<Item = (TopicId, &BTreeSet<u32>)> {
        self.0
            .iter()
            .map(|(topic, partitions)| (*topic, partitions))
    }

    /// Those that the other has too.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.iter()
            .filter(|(t, p)| other.contains(*t, *p))
            .collect()
    }

    /// Those that the other does not have.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.iter()
            .filter(|(t, p)| !other.contains(*t, *p))
            .collect()
    }

    /// Whether both have one.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.iter().any(|(t, p)| other.contains(t, p))
    }

    /// Whether the other has all of these.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|(t, p)| other.contains(t, p))
    }
}

impl FromIterator<(TopicId, u32)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (TopicId, u32)>>(all: I) -> Self {
        let mut partitions = Self::new();
        partitions.extend(all);
        partitions
    }
}

impl Extend<(TopicId, u32)> for Partitions {
    fn extend<I: IntoIterator<Item = (TopicId, u32)>>(&mut self, all: I) {
        for (topic, partition) in all {
            self.insert(topic, partition);
        }
    }
}
