//! A shard's image of the cluster, with the settings of each topic as numbers.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use millrace_model::{
    BrokerId, ErrorCode, GROUP_OFFSETS_TOPIC, LeaderEpoch, LogId, ShardCount, ShardId, TopicId,
    TopicSettings, is_internal_topic,
};
use millrace_replication::cluster::{Changed, Cluster, ClusterTopic, Partition};
use millrace_replication::{Override, Refusal};

/// See the module's documentation.
pub(crate) struct Topics {
    broker: BrokerId,
    cluster: RefCell<Cluster>,
    settings: RefCell<HashMap<TopicId, Rc<TopicSettings>>>,
    defaults: TopicSettings,
}

impl Topics {
    /// An image that starts as `cluster`, for a broker with these defaults.
    pub(crate) fn new(broker: BrokerId, cluster: Cluster, defaults: TopicSettings) -> Self {
        Self {
            broker,
            cluster: RefCell::new(cluster),
            settings: RefCell::default(),
            defaults,
        }
    }

    /// Takes over the next image, in which this is different.
    pub(crate) fn become_image(&self, next: &Cluster, changes: &[Changed]) {
        self.cluster.replace(next.clone());
        let mut settings = self.settings.borrow_mut();
        for change in changes {
            match change {
                Changed::TopicConfigs(id) | Changed::TopicDeleted { id, .. } => {
                    settings.remove(id);
                }
                Changed::BrokerConfigs(_) => settings.clear(),
                _ => {}
            }
        }
    }

    /// The image.
    pub(crate) fn cluster(&self) -> Ref<'_, Cluster> {
        self.cluster.borrow()
    }

    /// The broker's defaults.
    pub(crate) fn defaults(&self) -> &TopicSettings {
        &self.defaults
    }

    /// The settings of a partition's topic, if the partition exists.
    pub(crate) fn settings(&self, log: LogId) -> Result<Rc<TopicSettings>, Refusal> {
        let cluster = self.cluster.borrow();
        let (topic, _) = find(&cluster, log)?;
        let mut settings = self.settings.borrow_mut();
        let known = settings.entry(log.topic);
        Ok(Rc::clone(known.or_insert_with(|| {
            Rc::new(resolve(&self.defaults, &topic.overrides))
        })))
    }

    /// The epoch in which this broker leads a partition.
    ///
    /// # Errors
    /// There is no such partition, or this broker does not lead it.
    pub(crate) fn led(&self, log: LogId) -> Result<LeaderEpoch, Refusal> {
        let cluster = self.cluster.borrow();
        let (_, partition) = find(&cluster, log)?;
        match partition.leader {
            Some(leader) if leader == self.broker => Ok(partition.leader_epoch),
            leader => Err(not_leader(log, leader)),
        }
    }

    /// Refuses consumers of a partition of which this broker has no replica that is in sync.
    ///
    /// # Errors
    /// There is no such partition, this broker holds none of it, or its replica has fallen behind.
    pub(crate) fn in_sync(&self, log: LogId) -> Result<(), Refusal> {
        let cluster = self.cluster.borrow();
        let (_, partition) = find(&cluster, log)?;
        if partition.in_sync.contains(&self.broker) {
            return Ok(());
        }
        // The one code that sends every client for news of the leader.
        Err(match partition.replicas.contains(&self.broker) {
            true => {
                let message = format!("this broker's replica of {log} is not in sync");
                Refusal::new(ErrorCode::NotLeaderOrFollower, message)
            }
            false => not_leader(log, partition.leader),
        })
    }

    /// The state of a partition.
    ///
    /// # Errors
    /// There is no such partition.
    pub(crate) fn partition(&self, log: LogId) -> Result<Partition, Refusal> {
        find(&self.cluster.borrow(), log).map(|(_, partition)| partition.clone())
    }

    /// Refuses a partition of the broker's own topics to a client that would change it.
    pub(crate) fn refuse_internal(&self, log: LogId) -> Result<(), Refusal> {
        let cluster = self.cluster.borrow();
        match cluster.topic(log.topic) {
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

    /// Whether it is the log of a coordinator of groups.
    pub(crate) fn is_coordinators(&self, log: LogId) -> bool {
        let cluster = self.cluster.borrow();
        let topic = cluster.topic_named(GROUP_OFFSETS_TOPIC);
        topic.is_some_and(|topic| topic.id == log.topic)
    }

    /// Whether the partition exists and this broker holds a replica of it.
    pub(crate) fn is_held(&self, log: LogId) -> bool {
        let cluster = self.cluster.borrow();
        cluster
            .partition(log)
            .is_some_and(|partition| partition.replicas.contains(&self.broker))
    }

    /// How many replicas a shard of this broker owns.
    pub(crate) fn partitions_of(&self, shard: ShardId, shards: ShardCount) -> u64 {
        let cluster = self.cluster.borrow();
        let logs = cluster.topics().flat_map(ClusterTopic::logs);
        let owned = logs.filter(|(log, partition)| {
            partition.replicas.contains(&self.broker) && log.shard(shards) == shard
        });
        owned.count() as u64
    }
}

/// The number of a topic's partitions.
pub(crate) fn partition_count(topic: &ClusterTopic) -> u32 {
    u32::try_from(topic.partitions.len()).expect("the metadata bounds them")
}

fn find(cluster: &Cluster, log: LogId) -> Result<(&ClusterTopic, &Partition), Refusal> {
    let Some(topic) = cluster.topic(log.topic) else {
        let message = format!("no topic has the id {}", log.topic);
        return Err(Refusal::new(ErrorCode::UnknownTopicId, message));
    };
    let missing = || {
        let (name, count) = (&topic.name, topic.partitions.len());
        let message = format!("`{name}` has {count} partitions, no {}", log.partition);
        Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
    };
    let partition = usize::try_from(log.partition.0).ok();
    let partition = partition.and_then(|at| topic.partitions.get(at));
    Ok((topic, partition.ok_or_else(missing)?))
}

fn not_leader(log: LogId, leader: Option<BrokerId>) -> Refusal {
    let message = match leader {
        Some(leader) => format!("broker {leader} leads {log}"),
        None => format!("nobody leads {log} at present"),
    };
    Refusal::new(ErrorCode::NotLeaderOrFollower, message)
}

/// Whether the topic itself sets this setting.
pub(crate) fn overrides(topic: &ClusterTopic, name: &str) -> bool {
    topic.overrides.iter().any(|entry| entry.name == name)
}

/// Replicas of a topic that is created without a number.
pub(crate) fn default_replication(shard: &super::Shard) -> usize {
    usize::try_from(shard.config.default_replication_factor.get()).unwrap_or(usize::MAX)
}

/// The settings of a topic of this shard's metadata.
pub(crate) fn settings_of(shard: &super::Shard, topic: &ClusterTopic) -> TopicSettings {
    resolve(&shard.topics.defaults, &topic.overrides)
}

/// Settings that the cluster took were checked then. One that a later version refuses is
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
    use millrace_model::{BrokerEpoch, ClusterId, IncarnationId, PartitionId};
    use millrace_replication::cluster::{Command, FEATURE_LEVELS, NewTopic, Registration};
    use millrace_replication::quorum::Index;

    const BROKER: BrokerId = BrokerId(1);

    fn topics(partitions: u32) -> Topics {
        let cluster = ClusterId([1; 16]);
        let registration = |id| {
            Command::Register(Registration {
                cluster,
                id,
                incarnation: IncarnationId([id.0 as u8; 16]),
                clean_from: None,
                rack: None,
                endpoints: Vec::new(),
                shards: 1,
                features: FEATURE_LEVELS,
            })
        };
        let assignments = (0..partitions).map(|_| vec![BROKER]).collect();
        let commands = [
            Command::Found {
                cluster,
                level: FEATURE_LEVELS.most,
            },
            registration(BROKER),
            registration(BrokerId(2)),
            Command::Unfence {
                broker: BROKER,
                epoch: BrokerEpoch(2),
            },
            Command::Unfence {
                broker: BrokerId(2),
                epoch: BrokerEpoch(3),
            },
            Command::CreateTopic(NewTopic {
                name: "t".to_owned(),
                id: TopicId([7; 16]),
                overrides: vec![Override {
                    name: "retention.ms".to_owned(),
                    value: "5".to_owned(),
                }],
                assignments,
            }),
            Command::CreateTopic(NewTopic {
                name: "elsewhere".to_owned(),
                id: TopicId([9; 16]),
                overrides: Vec::new(),
                assignments: vec![vec![BrokerId(2)]],
            }),
        ];
        let mut image = Cluster::default();
        for (index, command) in (1..).zip(&commands) {
            image.apply(Index(index), command).unwrap();
        }
        Topics::new(BROKER, image, TopicSettings::default())
    }

    fn log(partition: u32) -> LogId {
        LogId {
            topic: TopicId([7; 16]),
            partition: PartitionId(partition),
        }
    }

    fn elsewhere() -> LogId {
        LogId {
            topic: TopicId([9; 16]),
            partition: PartitionId(0),
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
    fn only_the_leader_leads() {
        let topics = topics(1);
        assert!(topics.led(log(0)).is_ok() && topics.is_held(log(0)));
        let refusal = topics.led(elsewhere()).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::NotLeaderOrFollower);
        assert_eq!(refusal.message, format!("broker 2 leads {}", elsewhere()));
        assert!(!topics.is_held(elsewhere()));
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
