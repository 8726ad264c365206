//! Topics come, grow and go.

use std::sync::Arc;

use millrace_model::{
    BrokerId, ErrorCode, LeaderEpoch, LogId, PartitionId, TopicId, TopicName, is_internal_topic,
};

use super::partition::once;
use super::{
    Applied, Changed, Cluster, ClusterTopic, MAX_OVERRIDES, MAX_REPLICAS, NewTopic, Partition,
    refuse,
};
use crate::metadata::{
    MAX_PARTITIONS, MAX_PARTITIONS_PER_TOPIC, MAX_TOPICS, Override, Refusal, Topic,
};

impl Cluster {
    /// What a broker that was alone brings with it, once, before it has anything else.
    pub(super) fn adopt(
        &mut self,
        broker: BrokerId,
        epoch: LeaderEpoch,
        topics: &[Topic],
        next_producer_id: i64,
    ) -> Result<Applied, Refusal> {
        if !self.topics.is_empty() || self.next_producer_id != 0 {
            return refuse(ErrorCode::InvalidRequest, "the cluster has topics already");
        }
        if !self.is_active(broker) {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("broker {broker} is not active"),
            );
        }
        // Applied to a copy: it is all or nothing.
        let mut grown = self.clone();
        let mut changes = Vec::new();
        for topic in topics {
            grown.check_new(&topic.name, topic.id, &topic.overrides)?;
            grown.check_room(topic.partitions, 0)?;
            let partition = Arc::new(Partition {
                replicas: vec![broker],
                in_sync: vec![broker],
                leader: Some(broker),
                leader_epoch: LeaderEpoch(epoch.0.saturating_add(1)),
                ..Partition::default()
            });
            let count = usize::try_from(topic.partitions).expect("it is within the limit");
            let partitions = vec![partition; count];
            changes.push(grown.insert_topic(&topic.name, topic.id, &topic.overrides, partitions));
        }
        grown.next_producer_id = next_producer_id.max(0);
        *self = grown;
        Ok(Applied::done(changes))
    }

    pub(super) fn create_topic(&mut self, topic: &NewTopic) -> Result<Applied, Refusal> {
        self.check_new(&topic.name, topic.id, &topic.overrides)?;
        self.check_room(count_of(&topic.assignments)?, 0)?;
        let replication = topic.assignments.first().map_or(0, Vec::len);
        let partitions = self.new_partitions(&topic.assignments, replication)?;
        let changed = self.insert_topic(&topic.name, topic.id, &topic.overrides, partitions);
        Ok(Applied::done(vec![changed]))
    }

    pub(super) fn delete_topic(&mut self, id: TopicId) -> Result<Applied, Refusal> {
        let Some(topic) = Arc::make_mut(&mut self.topics).remove(&id) else {
            return unknown(id);
        };
        Arc::make_mut(&mut self.names).remove(&topic.name);
        let partitions = u32::try_from(topic.partitions.len()).expect("it is within the limit");
        self.partitions -= partitions;
        let name = topic.name.to_string();
        let changed = Changed::TopicDeleted {
            id,
            name,
            partitions,
        };
        Ok(Applied::done(vec![changed]))
    }

    pub(super) fn create_partitions(
        &mut self,
        id: TopicId,
        present: u32,
        assignments: &[Vec<BrokerId>],
    ) -> Result<Applied, Refusal> {
        let Some(topic) = self.topic(id) else {
            return unknown(id);
        };
        let before = u32::try_from(topic.partitions.len()).expect("it is within the limit");
        if before != present {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!(
                    "topic `{}` has {before} partitions meanwhile, not {present}",
                    topic.name
                ),
            );
        }
        let more = count_of(assignments)?;
        self.check_room(more, before)?;
        let replication = topic
            .partitions
            .first()
            .map_or(0, |first| first.target().len());
        let partitions = self.new_partitions(assignments, replication)?;
        let mut changes = Vec::with_capacity(partitions.len());
        for (number, partition) in (before..).zip(&partitions) {
            let log = LogId {
                topic: id,
                partition: PartitionId(number),
            };
            changes.push(Changed::partition(log, partition));
        }
        self.topic_mut(id)
            .expect("it was found")
            .partitions
            .extend(partitions);
        self.partitions += more;
        Ok(Applied::done(changes))
    }

    fn insert_topic(
        &mut self,
        name: &str,
        id: TopicId,
        overrides: &[Override],
        partitions: Vec<Arc<Partition>>,
    ) -> Changed {
        let name: Arc<str> = name.into();
        self.partitions += u32::try_from(partitions.len()).expect("it is within the limit");
        Arc::make_mut(&mut self.names).insert(name.clone(), id);
        let topic = ClusterTopic {
            name,
            id,
            overrides: overrides.to_vec(),
            partitions,
        };
        Arc::make_mut(&mut self.topics).insert(id, Arc::new(topic));
        Changed::TopicCreated(id)
    }

    fn check_new(&self, name: &str, id: TopicId, overrides: &[Override]) -> Result<(), Refusal> {
        if let Err(error) = TopicName::parse(name)
            && !is_internal_topic(name)
        {
            return refuse(ErrorCode::InvalidTopicException, error.to_string());
        }
        if self.names.contains_key(name) || self.topics.contains_key(&id) {
            return refuse(
                ErrorCode::TopicAlreadyExists,
                format!("topic `{name}` exists"),
            );
        }
        if self.topics.len() >= MAX_TOPICS {
            return refuse(
                ErrorCode::PolicyViolation,
                format!("there are {MAX_TOPICS} topics, the limit"),
            );
        }
        check_overrides(overrides)
    }

    fn check_room(&self, more: u32, present: u32) -> Result<(), Refusal> {
        let in_topic = u64::from(more) + u64::from(present);
        if more == 0 || in_topic > u64::from(MAX_PARTITIONS_PER_TOPIC) {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!("a topic has 1 to {MAX_PARTITIONS_PER_TOPIC} partitions, not {in_topic}"),
            );
        }
        if u64::from(self.partitions) + u64::from(more) > u64::from(MAX_PARTITIONS) {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!("{more} more partitions are over the limit of {MAX_PARTITIONS}"),
            );
        }
        Ok(())
    }

    fn new_partitions(
        &self,
        assignments: &[Vec<BrokerId>],
        replication: usize,
    ) -> Result<Vec<Arc<Partition>>, Refusal> {
        let partition = |replicas: &Vec<BrokerId>| {
            self.check_replicas(replicas)?;
            if replicas.len() != replication {
                return refuse(
                    ErrorCode::InvalidReplicaAssignment,
                    format!(
                        "{} replicas beside partitions of {replication}",
                        replicas.len()
                    ),
                );
            }
            let active = replicas.iter().filter(|broker| self.is_active(**broker));
            let in_sync: Vec<BrokerId> = active.copied().collect();
            let Some(&leader) = in_sync.first() else {
                return refuse(
                    ErrorCode::InvalidReplicaAssignment,
                    "none of the brokers of a new partition is running",
                );
            };
            Ok(Arc::new(Partition {
                replicas: replicas.clone(),
                in_sync,
                leader: Some(leader),
                ..Partition::default()
            }))
        };
        assignments.iter().map(partition).collect()
    }

    /// Checks that these brokers can be a partition's replicas.
    pub(super) fn check_replicas(&self, replicas: &[BrokerId]) -> Result<(), Refusal> {
        if replicas.is_empty() || replicas.len() > MAX_REPLICAS || once(replicas).is_err() {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("a partition has 1 to {MAX_REPLICAS} replicas, each on another broker"),
            );
        }
        match replicas
            .iter()
            .find(|broker| self.broker(**broker).is_none())
        {
            Some(broker) => refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("broker {broker} is not registered"),
            ),
            None => Ok(()),
        }
    }
}

fn count_of(assignments: &[Vec<BrokerId>]) -> Result<u32, Refusal> {
    u32::try_from(assignments.len())
        .or_else(|_| refuse(ErrorCode::InvalidPartitions, "too many partitions"))
}

/// Checks that overrides are in order and within their limits.
pub(super) fn check_overrides(overrides: &[Override]) -> Result<(), Refusal> {
    let are_sorted = overrides.windows(2).all(|pair| pair[0].name < pair[1].name);
    let long = |entry: &Override| {
        entry.name.len().max(entry.value.len()) > crate::metadata::MAX_OVERRIDE_LEN
    };
    if !are_sorted || overrides.len() > MAX_OVERRIDES || overrides.iter().any(long) {
        return refuse(
            ErrorCode::InvalidConfig,
            format!("at most {MAX_OVERRIDES} settings, sorted, each once and short"),
        );
    }
    Ok(())
}

pub(super) fn unknown<T>(id: TopicId) -> Result<T, Refusal> {
    refuse(ErrorCode::UnknownTopicId, format!("there is no topic {id}"))
}
