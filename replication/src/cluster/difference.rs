//! What is different between two states, for whoever was given a snapshot instead of commands.

use std::sync::Arc;

use millrace_model::{BrokerId, LogId, PartitionId};

use super::{Changed, Cluster, ClusterTopic, ConfigOwner};

impl Cluster {
    /// What changes from this state to a later one. Whoever carries it out in this order comes
    /// to the same as if told of every command between: a topic that was deleted and made again
    /// under its name is first gone, then new.
    #[must_use]
    pub fn changes_to(&self, later: &Self) -> Vec<Changed> {
        let mut changes = Vec::new();
        if (self.id, self.feature_level) != (later.id, later.feature_level) {
            changes.push(Changed::Cluster);
        }
        changes.extend(self.broker_changes(later));
        changes.extend(self.config_changes(later));
        let gone = self.topics.values();
        changes.extend(
            gone.filter(|topic| later.topic(topic.id).is_none())
                .map(|topic| topic.deleted()),
        );
        for topic in later.topics.values() {
            match self.topics.get(&topic.id) {
                None => changes.push(Changed::TopicCreated(topic.id)),
                Some(before) if Arc::ptr_eq(before, topic) => {}
                Some(before) => changes.extend(before.changes_to(topic)),
            }
        }
        changes
    }

    fn broker_changes(&self, later: &Self) -> Vec<Changed> {
        let changed = later
            .brokers()
            .filter(|broker| self.broker(broker.id) != Some(broker))
            .map(|broker| Changed::Broker(broker.id));
        let gone = self
            .brokers()
            .filter(|broker| later.broker(broker.id).is_none())
            .map(|broker| Changed::BrokerGone(broker.id));
        changed.chain(gone).collect()
    }

    fn config_changes(&self, later: &Self) -> Vec<Changed> {
        let owners = later.configs.keys();
        let gone = self
            .configs
            .keys()
            .filter(|owner| !later.configs.contains_key(owner));
        let differs = |owner: &&ConfigOwner| self.configs(**owner) != later.configs(**owner);
        let changed = |owner: &ConfigOwner| match *owner {
            ConfigOwner::AllBrokers => Changed::BrokerConfigs(None),
            ConfigOwner::Broker(broker) => Changed::BrokerConfigs(Some(broker)),
            ConfigOwner::Topic(topic) => Changed::TopicConfigs(topic),
        };
        owners.chain(gone).filter(differs).map(changed).collect()
    }

    /// Whether this run of a broker's process is the one that is registered.
    #[must_use]
    pub fn is_life_of(&self, id: BrokerId, incarnation: millrace_model::IncarnationId) -> bool {
        self.broker(id)
            .is_some_and(|broker| broker.incarnation == incarnation)
    }
}

impl ClusterTopic {
    fn deleted(&self) -> Changed {
        Changed::TopicDeleted {
            id: self.id,
            name: self.name.to_string(),
            partitions: u32::try_from(self.partitions.len()).expect("it is within the limit"),
        }
    }

    fn changes_to(&self, later: &Self) -> Vec<Changed> {
        let mut changes = Vec::new();
        if self.overrides != later.overrides {
            changes.push(Changed::TopicConfigs(self.id));
        }
        for (number, partition) in (0..).zip(&later.partitions) {
            let before = usize::try_from(number)
                .ok()
                .and_then(|at| self.partitions.get(at));
            if before != Some(partition) {
                let log = LogId {
                    topic: self.id,
                    partition: PartitionId(number),
                };
                changes.push(Changed::partition(log, partition));
            }
        }
        changes
    }
}
