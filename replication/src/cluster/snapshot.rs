//! The whole state as bytes.
//!
//! Byte map as of a command, with the magic `MRCS`. The checksum is the business of the file
//! that holds it. What is decoded is checked as if it came from a stranger: a snapshot that
//! was cut, mixed or made up is refused, never half believed.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_model::{BrokerId, ClusterId, TopicId};
use rkyv::rancor;

use super::topics::check_overrides;
use super::{Broker, Cluster, ClusterTopic, ConfigOwner, Partition, PartitionFault};
use crate::metadata::{MAX_PARTITIONS, Override, PrefixError, decode, encode};
use crate::quorum::Index;

const MAGIC: [u8; 4] = *b"MRCS";
const VERSION: u16 = 1;

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Image {
    id: Option<ClusterId>,
    feature_level: u16,
    applied: u64,
    next_producer_id: i64,
    brokers: Vec<Broker>,
    configs: Vec<Configs>,
    topics: Vec<TopicImage>,
}

/// The settings of one broker, or of all.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Configs {
    owner: ConfigOwner,
    overrides: Vec<Override>,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct TopicImage {
    name: String,
    id: TopicId,
    overrides: Vec<Override>,
    partitions: Vec<Partition>,
}

/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterSnapshotError {
    /// They do not start as one.
    #[error("a snapshot of the cluster's metadata starts with MRCS")]
    Magic,
    /// A later version of Millrace wrote them.
    #[error(
        "cluster snapshot of version {0}, but this broker knows up to {VERSION}; run the version that wrote it or a later one"
    )]
    Version(u16),
    /// The archive does not hold.
    #[error("damaged cluster snapshot: {0}")]
    Damaged(String),
    /// A partition that cannot be.
    #[error("damaged cluster snapshot: a partition of `{topic}`: {fault}")]
    Partition {
        /// Its topic.
        topic: String,
        /// Why.
        fault: PartitionFault,
    },
}

impl Cluster {
    /// The state as bytes.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        let image = Image {
            id: self.id,
            feature_level: self.feature_level,
            applied: self.applied.0,
            next_producer_id: self.next_producer_id,
            brokers: self.brokers().cloned().collect(),
            configs: self
                .configs
                .iter()
                .map(|(&owner, overrides)| Configs {
                    owner,
                    overrides: overrides.clone(),
                })
                .collect(),
            topics: self.topics.values().map(|topic| image_of(topic)).collect(),
        };
        let body = rkyv::to_bytes::<rancor::Error>(&image).expect("memory is the only limit");
        encode(MAGIC, VERSION, &body)
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    /// They are none, or damaged, or of a later version.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, ClusterSnapshotError> {
        let body = match decode(MAGIC, VERSION, bytes) {
            Ok(body) => body,
            Err(PrefixError::Magic) => return Err(ClusterSnapshotError::Magic),
            Err(PrefixError::Version(found)) => return Err(ClusterSnapshotError::Version(found)),
        };
        let image = rkyv::from_bytes::<Image, rancor::Error>(&body)
            .map_err(|error| ClusterSnapshotError::Damaged(error.to_string()))?;
        if image.next_producer_id < 0 {
            return Err(damaged("a producer id below zero"));
        }
        let mut state = Self {
            id: image.id,
            feature_level: image.feature_level,
            applied: Index(image.applied),
            next_producer_id: image.next_producer_id,
            ..Self::default()
        };
        state.brokers = Arc::new(brokers_of(image.brokers, state.applied)?);
        let mut configs = BTreeMap::new();
        for Configs { owner, overrides } in image.configs {
            check_overrides(&overrides).map_err(|refusal| damaged(refusal.message))?;
            configs.insert(owner, overrides);
        }
        state.configs = Arc::new(configs);
        for topic in image.topics {
            state.restore_topic(topic)?;
        }
        Ok(state)
    }

    fn restore_topic(&mut self, topic: TopicImage) -> Result<(), ClusterSnapshotError> {
        check_overrides(&topic.overrides).map_err(|refusal| damaged(refusal.message))?;
        for partition in &topic.partitions {
            partition
                .check()
                .map_err(|fault| ClusterSnapshotError::Partition {
                    topic: topic.name.clone(),
                    fault,
                })?;
            if let Some(broker) = self.unknown_among(&partition.replicas) {
                return Err(damaged(format!(
                    "a replica on broker {broker}, which is unknown"
                )));
            }
        }
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let partitions = self.partitions.saturating_add(count);
        if count == 0 || partitions > MAX_PARTITIONS {
            return Err(damaged("too many partitions, or a topic without any"));
        }
        self.partitions = partitions;
        let name: Arc<str> = topic.name.into();
        let restored = ClusterTopic {
            name: name.clone(),
            id: topic.id,
            overrides: topic.overrides,
            partitions: topic.partitions.into_iter().map(Arc::new).collect(),
        };
        let named = Arc::make_mut(&mut self.names).insert(name, topic.id);
        let known = Arc::make_mut(&mut self.topics).insert(topic.id, Arc::new(restored));
        match (named, known) {
            (None, None) => Ok(()),
            _ => Err(damaged(format!("topic {} is there twice", topic.id))),
        }
    }

    fn unknown_among(&self, replicas: &[BrokerId]) -> Option<BrokerId> {
        let unknown = |broker: &&BrokerId| self.broker(**broker).is_none();
        replicas.iter().find(unknown).copied()
    }
}

fn image_of(topic: &ClusterTopic) -> TopicImage {
    TopicImage {
        name: topic.name.to_string(),
        id: topic.id,
        overrides: topic.overrides.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| (**partition).clone())
            .collect(),
    }
}

fn brokers_of(
    brokers: Vec<Broker>,
    applied: Index,
) -> Result<BTreeMap<BrokerId, Broker>, ClusterSnapshotError> {
    let mut known = BTreeMap::new();
    for broker in brokers {
        let (id, epoch) = (broker.id, broker.epoch);
        if epoch.0 > applied.0 || known.insert(id, broker).is_some() {
            return Err(damaged(format!(
                "broker {id} is there twice, or from the future"
            )));
        }
    }
    Ok(known)
}

fn damaged(what: impl Into<String>) -> ClusterSnapshotError {
    ClusterSnapshotError::Damaged(what.into())
}
