//! A shard's copy of the metadata, with the settings of each topic as numbers.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use millrace_model::{
    ErrorCode, LogId, PartitionId, ShardCount, ShardId, TopicId, TopicSettings, is_internal_topic,
};
use millrace_replication::{Change, Command, Metadata, Override, Refusal, Topic};

/// See the module's documentation.
pub(crate) struct Topics {
    metadata: RefCell<Metadata>,
    settings: RefCell<HashMap<TopicId, Rc<TopicSettings>>>,
    defaults: TopicSettings,
}

impl Topics {
    /// A copy that starts as `metadata`, for a broker with these defaults.
    pub(crate) fn new(metadata: Metadata, defaults: TopicSettings) -> Self {
        Self {
            metadata: RefCell::new(metadata),
            settings: RefCell::default(),
            defaults,
        }
    }

    /// Carries out what the registry has decided.
    ///
    /// # Panics
    /// If the command does not follow from those before: a broadcast was lost.
    pub(crate) fn apply(&self, command: &Command) -> Change {
        let change = self.metadata.borrow_mut().apply(command);
        let change = change.expect("the registry broadcasts each command once, in order");
        match &change {
            Change::TopicAltered(id) => self.settings.borrow_mut().remove(id),
            Change::TopicDeleted(topic) => self.settings.borrow_mut().remove(&topic.id),
            _ => None,
        };
        change
    }

    /// The metadata.
    pub(crate) fn metadata(&self) -> Ref<'_, Metadata> {
        self.metadata.borrow()
    }

    /// The broker's defaults.
    pub(crate) fn defaults(&self) -> &TopicSettings {
        &self.defaults
    }

    /// The settings of a partition's topic, if the partition exists.
    pub(crate) fn settings(&self, log: LogId) -> Result<Rc<TopicSettings>, Refusal> {
        let metadata = self.metadata.borrow();
        let Some(topic) = metadata.topic(log.topic) else {
            let message = format!("no topic has the id {}", log.topic);
            return Err(Refusal::new(ErrorCode::UnknownTopicId, message));
        };
        if log.partition.0 >= topic.partitions {
            let (name, count) = (&topic.name, topic.partitions);
            let message = format!("`{name}` has {count} partitions, no {}", log.partition);
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        let mut settings = self.settings.borrow_mut();
        let known = settings.entry(log.topic);
        Ok(Rc::clone(known.or_insert_with(|| {
            Rc::new(resolve(&self.defaults, &topic.overrides))
        })))
    }

    /// Refuses a partition of the broker's own topics to a client that would change it.
    pub(crate) fn refuse_internal(&self, log: LogId) -> Result<(), Refusal> {
        let metadata = self.metadata.borrow();
        match metadata.topic(log.topic) {
            Some(topic) if is_internal_topic(&topic.name) => {
                let message = format!(
                    "`{}` belongs to the broker; clients only read it",
                    topic.name
                );
                Err(Refusal::new(ErrorCode::InvalidTopicException, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the partition exists.
    pub(crate) fn exists(&self, log: LogId) -> bool {
        let metadata = self.metadata.borrow();
        metadata
            .topic(log.topic)
            .is_some_and(|topic| log.partition.0 < topic.partitions)
    }

    /// How many partitions a shard owns.
    pub(crate) fn partitions_of(&self, shard: ShardId, shards: ShardCount) -> u64 {
        let metadata = self.metadata.borrow();
        let owned = metadata.topics().map(|topic| {
            let first = LogId {
                topic: topic.id,
                partition: PartitionId(0),
            }
            .shard(shards);
            // Partitions go round the shards: the shard's first one, and every further turn.
            let (shards, first) = (u64::from(shards.get()), u64::from(first.0));
            let at = (u64::from(shard.0) + shards - first) % shards;
            u64::from(topic.partitions)
                .saturating_sub(at)
                .div_ceil(shards)
        });
        owned.sum()
    }
}

/// The settings of a topic of this shard's metadata.
pub(crate) fn settings_of(shard: &super::Shard, topic: &Topic) -> TopicSettings {
    resolve(&shard.topics.defaults, &topic.overrides)
}

/// Settings that the registry took were checked then. One that a later version refuses is
/// passed over with a warning, so that its topic can still be served and altered.
fn resolve(defaults: &TopicSettings, overrides: &[Override]) -> TopicSettings {
    let mut settings = defaults.clone();
    for entry in overrides {
        if let Err(error) = settings.set(&entry.name, &entry.value) {
            tracing::warn!(%error, "a topic's setting is passed over");
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(partitions: u32) -> Topics {
        let mut metadata = Metadata::default();
        let topic = Topic {
            name: "t".to_owned(),
            id: TopicId([7; 16]),
            partitions,
            overrides: vec![Override {
                name: "retention.ms".to_owned(),
                value: "5".to_owned(),
            }],
        };
        metadata.apply(&Command::CreateTopic(topic)).unwrap();
        Topics::new(metadata, TopicSettings::default())
    }

    fn log(partition: u32) -> LogId {
        LogId {
            topic: TopicId([7; 16]),
            partition: PartitionId(partition),
        }
    }

    #[test]
    fn settings_are_those_of_the_topic_and_only_of_partitions_that_exist() {
        let topics = topics(2);
        assert_eq!(topics.settings(log(1)).unwrap().retention_ms, Some(5));
        let refusal = topics.settings(log(2)).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::UnknownTopicOrPartition);
        let unknown = LogId {
            topic: TopicId([8; 16]),
            partition: PartitionId(0),
        };
        assert_eq!(
            topics.settings(unknown).unwrap_err().code,
            ErrorCode::UnknownTopicId
        );
    }

    #[test]
    fn the_count_of_owned_partitions_is_that_of_placement() {
        for partitions in 1..20 {
            let topics = topics(partitions);
            for shards in 1..5 {
                let shards = ShardCount::new(shards).unwrap();
                for shard in 0..shards.get() {
                    let owned = (0..partitions).filter(|p| log(*p).shard(shards).0 == shard);
                    let counted = topics.partitions_of(ShardId(shard), shards);
                    assert_eq!(counted, owned.count() as u64);
                }
            }
        }
    }
}
