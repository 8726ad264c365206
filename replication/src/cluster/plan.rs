//! From what a client asks to the command that does it.
//!
//! Everything that a version judges by what it happens to know is judged here, before the
//! command is made: names, settings, where replicas go. The command may still be refused when it is
//! applied, because the state has moved on.

use millrace_model::{BrokerId, ErrorCode, TopicId, is_internal_topic};

use super::{Cluster, ClusterTopic, Command, ConfigChange, ConfigOwner, NewTopic, refuse};
use crate::metadata::{MAX_PARTITIONS_PER_TOPIC, Refusal, merge_overrides, refuse_internal};

/// What a client, or the broker itself, asks for.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ClusterRequest {
    /// A new topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its id, which the asker draws at random.
        id: TopicId,
        /// Number of partitions.
        partitions: u32,
        /// Replicas of each.
        replication: usize,
        /// Settings by Kafka's names and their values.
        overrides: Vec<(String, String)>,
        /// Whether it is the broker that asks, for a topic of its own.
        internal: bool,
    },
    /// A new topic whose replicas the client has chosen.
    CreateAssignedTopic {
        /// Its name.
        name: String,
        /// Its id, which the asker draws at random.
        id: TopicId,
        /// The replicas of each partition, the preferred leader first.
        assignments: Vec<Vec<BrokerId>>,
        /// Settings by Kafka's names and their values.
        overrides: Vec<(String, String)>,
    },
    /// A topic and its data shall go.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// A topic shall have more partitions.
    CreatePartitions {
        /// Its name.
        name: String,
        /// How many it shall have.
        total: u32,
        /// The replicas of each new one, if the client has chosen them.
        assignments: Option<Vec<Vec<BrokerId>>>,
    },
    /// A topic shall have other settings.
    AlterTopicConfigs {
        /// Its name.
        name: String,
        /// Settings to set, or with `None` to reset.
        changes: Vec<(String, Option<String>)>,
    },
}

impl Cluster {
    /// The command that does what is asked.
    ///
    /// # Errors
    /// What the asker is told: names, limits, settings, things that exist or do not.
    pub fn plan(&self, request: ClusterRequest) -> Result<Command, Refusal> {
        match request {
            ClusterRequest::CreateTopic {
                name,
                id,
                partitions,
                replication,
                overrides,
                internal,
            } => {
                self.check_name(&name, internal)?;
                if partitions == 0 || partitions > MAX_PARTITIONS_PER_TOPIC {
                    return refuse(
                        ErrorCode::InvalidPartitions,
                        format!(
                            "a topic has 1 to {MAX_PARTITIONS_PER_TOPIC} partitions, not {partitions}"
                        ),
                    );
                }
                let assignments = self.place(id, partitions, replication)?;
                create(name, id, assignments, overrides)
            }
            ClusterRequest::CreateAssignedTopic {
                name,
                id,
                assignments,
                overrides,
            } => {
                self.check_name(&name, false)?;
                create(name, id, assignments, overrides)
            }
            ClusterRequest::DeleteTopic { name } => {
                refuse_internal(&name)?;
                let id = self.named(&name)?.id;
                Ok(Command::DeleteTopic { id })
            }
            ClusterRequest::CreatePartitions {
                name,
                total,
                assignments,
            } => self.plan_partitions(&name, total, assignments),
            ClusterRequest::AlterTopicConfigs { name, changes } => {
                let topic = self.named(&name)?;
                merge_overrides(&topic.overrides, changes.clone())?;
                let change = |(name, value)| ConfigChange { name, value };
                Ok(Command::AlterConfigs {
                    owner: ConfigOwner::Topic(topic.id),
                    changes: changes.into_iter().map(change).collect(),
                })
            }
        }
    }

    fn check_name(&self, name: &str, internal: bool) -> Result<(), Refusal> {
        match internal {
            true if is_internal_topic(name) => {}
            true => {
                return refuse(
                    ErrorCode::InvalidTopicException,
                    format!("`{name}` is no topic of the broker's own"),
                );
            }
            false => refuse_internal(name)?,
        }
        match self.topic_named(name) {
            Some(_) => refuse(
                ErrorCode::TopicAlreadyExists,
                format!("topic `{name}` exists"),
            ),
            None => Ok(()),
        }
    }

    fn plan_partitions(
        &self,
        name: &str,
        total: u32,
        assignments: Option<Vec<Vec<BrokerId>>>,
    ) -> Result<Command, Refusal> {
        refuse_internal(name)?;
        let topic = self.named(name)?;
        let present = u32::try_from(topic.partitions.len()).expect("it is within the limit");
        if total <= present || total > MAX_PARTITIONS_PER_TOPIC {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!(
                    "topic `{name}` has {present} partitions, which only grow, to {MAX_PARTITIONS_PER_TOPIC}"
                ),
            );
        }
        let more = total - present;
        let assignments = match assignments {
            Some(chosen) if chosen.len() as u64 != u64::from(more) => {
                return refuse(
                    ErrorCode::InvalidReplicaAssignment,
                    format!(
                        "replicas of {} partitions for {more} new ones",
                        chosen.len()
                    ),
                );
            }
            Some(chosen) => chosen,
            None => {
                let replication = topic
                    .partitions
                    .first()
                    .map_or(1, |first| first.target().len());
                self.place(topic.id, more, replication)?
            }
        };
        Ok(Command::CreatePartitions {
            topic: topic.id,
            present,
            assignments,
        })
    }

    fn named(&self, name: &str) -> Result<&ClusterTopic, Refusal> {
        let none = || {
            Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic `{name}`"),
            )
        };
        self.topic_named(name).ok_or_else(none)
    }
}

fn create(
    name: String,
    id: TopicId,
    assignments: Vec<Vec<BrokerId>>,
    overrides: Vec<(String, String)>,
) -> Result<Command, Refusal> {
    let set = overrides
        .into_iter()
        .map(|(name, value)| (name, Some(value)));
    let overrides = merge_overrides(&[], set.collect())?;
    Ok(Command::CreateTopic(NewTopic {
        name,
        id,
        overrides,
        assignments,
    }))
}
