//! Settings of topics and brokers.
//!
//! Which settings there are and what they may be is judged before the command is made, for
//! versions differ in it. Here a setting is a name and a value. Two of them mean something to
//! the state itself: `min.insync.replicas` and `unclean.leader.election.enable`.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_model::{BrokerId, ErrorCode};

use super::elect::Wish;
use super::topics::{check_overrides, unknown};
use super::{Applied, Changed, Cluster, ConfigChange, ConfigOwner, Partition, refuse};
use crate::metadata::{Override, Refusal};

impl Cluster {
    pub(super) fn alter_configs(
        &mut self,
        owner: ConfigOwner,
        changes: &[ConfigChange],
    ) -> Result<Applied, Refusal> {
        match owner {
            ConfigOwner::Topic(id) if self.topic(id).is_none() => return unknown(id),
            ConfigOwner::Broker(id) if self.broker(id).is_none() => return unregistered(id),
            _ => {}
        }
        let merged = merge(self.configs(owner), changes);
        check_overrides(&merged)?;
        if merged == self.configs(owner) {
            return Ok(Applied::done(Vec::new()));
        }
        let changed = match owner {
            ConfigOwner::Topic(id) => Changed::TopicConfigs(id),
            ConfigOwner::Broker(id) => Changed::BrokerConfigs(Some(id)),
            ConfigOwner::AllBrokers => Changed::BrokerConfigs(None),
        };
        let before = self.minimums();
        match owner {
            ConfigOwner::Topic(id) => {
                self.topic_mut(id).expect("it was found").overrides = merged;
            }
            _ => {
                Arc::make_mut(&mut self.configs).insert(owner, merged);
            }
        }
        let mut applied = Applied::done(vec![changed]);
        applied.changes.extend(self.forget_eligible(&before));
        applied
            .changes
            .extend(self.settle_all(Wish::Stay, |partition| {
                partition.leader.is_none().then(|| partition.clone())
            }));
        Ok(applied)
    }

    fn minimums(&self) -> BTreeMap<millrace_model::TopicId, usize> {
        let topics = self.topics.values();
        topics
            .map(|topic| (topic.id, self.min_in_sync(topic)))
            .collect()
    }

    /// Whoever was eligible by another `min.insync.replicas` may lack what is acknowledged by
    /// the new one (R10).
    fn forget_eligible(
        &mut self,
        before: &BTreeMap<millrace_model::TopicId, usize>,
    ) -> Vec<Changed> {
        let topics = self.topics.values();
        let moved = topics.filter(|topic| before.get(&topic.id) != Some(&self.min_in_sync(topic)));
        let logs: Vec<_> = moved
            .flat_map(|topic| topic.logs())
            .filter(|(_, partition)| !partition.eligible.is_empty())
            .map(|(log, partition)| (log, partition.clone()))
            .collect();
        let settle = |(log, partition)| {
            let next = Partition {
                eligible: Vec::new(),
                ..partition
            };
            self.settle(log, next, Wish::Stay)
        };
        logs.into_iter().filter_map(settle).collect()
    }
}

fn unregistered<T>(id: BrokerId) -> Result<T, Refusal> {
    refuse(
        ErrorCode::BrokerIdNotRegistered,
        format!("broker {id} is not registered"),
    )
}

fn merge(present: &[Override], changes: &[ConfigChange]) -> Vec<Override> {
    let pair = |entry: &Override| (entry.name.clone(), entry.value.clone());
    let mut merged: BTreeMap<String, String> = present.iter().map(pair).collect();
    for ConfigChange { name, value } in changes {
        match value {
            Some(value) => merged.insert(name.clone(), value.clone()),
            None => merged.remove(name),
        };
    }
    merged
        .into_iter()
        .map(|(name, value)| Override { name, value })
        .collect()
}
