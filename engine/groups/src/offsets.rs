//! How far a group has come, by topic and partition.

use std::collections::BTreeMap;

use millrace_model::Timestamp;

use crate::GroupRecord;
use crate::record::OffsetValue;

/// A group's committed offsets.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    by_topic: BTreeMap<String, BTreeMap<u32, OffsetValue>>,
}

/// Since when the clock of a group's offsets runs (KIP-211).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Members read; but topics that none of them subscribes to expire by the time of the commit.
    Unsubscribed,
    /// Nobody has read since then.
    EmptySince(Timestamp),
    /// There never were members: by the time of the commit.
    Commit,
}

impl Offsets {
    pub(crate) fn set(&mut self, topic: &str, partition: u32, value: OffsetValue) {
        match self.by_topic.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition, value);
            }
            None => {
                self.by_topic
                    .insert(topic.to_owned(), BTreeMap::from([(partition, value)]));
            }
        }
    }

    pub(crate) fn remove(&mut self, topic: &str, partition: u32) -> bool {
        let Some(partitions) = self.by_topic.get_mut(topic) else {
            return false;
        };
        let removed = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.by_topic.remove(topic);
        }
        removed
    }

    /// Removes what `expired` names, and gives a tombstone for each.
    pub(crate) fn retain(
        &mut self,
        group: &str,
        mut keep: impl FnMut(&str, u32, &OffsetValue) -> bool,
    ) -> Vec<GroupRecord> {
        let mut tombstones = Vec::new();
        for (topic, partitions) in &mut self.by_topic {
            partitions.retain(|partition, value| {
                let kept = keep(topic, *partition, value);
                if !kept {
                    tombstones.push(GroupRecord::Offset {
                        group: group.to_owned(),
                        topic: topic.clone(),
                        partition: *partition,
                        value: None,
                    });
                }
                kept
            });
        }
        self.by_topic.retain(|_, partitions| !partitions.is_empty());
        tombstones
    }

    /// Removes what has expired at `now`. `subscribed` tells whether a member reads the topic.
    pub(crate) fn expire(
        &mut self,
        group: &str,
        now: Timestamp,
        retention_ms: u64,
        expiry: Expiry,
        subscribed: impl Fn(&str) -> bool,
    ) -> Vec<GroupRecord> {
        let retention_ms = i64::try_from(retention_ms).unwrap_or(i64::MAX);
        self.retain(group, |topic, _, value| {
            let since = match expiry {
                Expiry::Unsubscribed if subscribed(topic) => return true,
                Expiry::Unsubscribed | Expiry::Commit => value.commit_timestamp,
                Expiry::EmptySince(since) => since.max(value.commit_timestamp),
            };
            match value.expire_timestamp {
                Some(expires) => now < expires,
                None => now.0.saturating_sub(since.0) < retention_ms,
            }
        })
    }

    pub(crate) fn get(&self, topic: &str, partition: u32) -> Option<&OffsetValue> {
        self.by_topic.get(topic)?.get(&partition)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// In the order of topics, then partitions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32, &OffsetValue)> {
        self.by_topic.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, value)| (topic.as_str(), *partition, value))
        })
    }
}
