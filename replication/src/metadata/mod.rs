//! The metadata of the cluster: topics, epochs of brokers, producer ids.
//!
//! The way of a change: [`Metadata::validate`] turns a client's [`Request`] into a
//! [`Command`] that cannot fail on this state, or refuses it; the command is made durable;
//! [`Metadata::apply`] carries it out, here and at every other copy. A command carries
//! everything that is not derived from the state (the random id of a topic, too), so every
//! copy comes to the same state.
//!
//! **Invariant:** the state is a function of the sequence of commands.
//! **Invariant:** no id, epoch or producer id is given out twice.
//!
//! Absent here: the broker's defaults for settings. What a topic does not override is
//! decided where the topic is used.

mod command;
mod limits;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{
    BrokerId, ErrorCode, LeaderEpoch, ProducerId, SettingError, TopicId, TopicName, TopicSettings,
    is_internal_topic,
};

pub use command::{Command, CommandError, Override};
pub(crate) use command::{PrefixError, decode, encode};
pub use limits::{
    MAX_BROKERS, MAX_PARTITIONS, MAX_PARTITIONS_PER_TOPIC, MAX_TOPICS, PRODUCER_ID_BLOCK,
};
pub use snapshot::SnapshotError;

pub(crate) use limits::MAX_OVERRIDE_LEN;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Topic {
    /// Its name, unique among the topics that exist.
    pub name: String,
    /// Its id, unique for ever.
    pub id: TopicId,
    /// Number of partitions, which only grows.
    pub partitions: u32,
    /// Settings that differ from the broker's defaults, sorted by name, each name once.
    pub overrides: Vec<Override>,
}

impl Topic {
    /// The settings in force where `defaults` are the broker's.
    ///
    /// # Errors
    /// This version does not know an override: a later one wrote it.
    pub fn settings(&self, defaults: &TopicSettings) -> Result<TopicSettings, SettingError> {
        let mut settings = defaults.clone();
        for entry in &self.overrides {
            settings.set(&entry.name, &entry.value)?;
        }
        Ok(settings)
    }

    /// Whether the topic itself sets this setting.
    #[must_use]
    pub fn overrides(&self, name: &str) -> bool {
        self.overrides.iter().any(|entry| entry.name == name)
    }
}

/// What somebody wants of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its id, which the asker draws at random.
        id: TopicId,
        /// Number of partitions.
        partitions: u32,
        /// Settings by Kafka's names and their values.
        overrides: Vec<(String, String)>,
    },
    /// A new topic that belongs to the broker itself, which clients cannot ask for.
    CreateInternalTopic {
        /// Its name, one of [`millrace_model::is_internal_topic`].
        name: String,
        /// Its id, which the asker draws at random.
        id: TopicId,
        /// Number of partitions.
        partitions: u32,
        /// Settings by Kafka's names and their values.
        overrides: Vec<(String, String)>,
    },
    /// A topic and its data shall go.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// Other settings or more partitions.
    AlterTopic {
        /// Its name.
        name: String,
        /// The new number of partitions; `None` leaves it.
        partitions: Option<u32>,
        /// Settings to set, or with `None` to reset to the default.
        overrides: Vec<(String, Option<String>)>,
    },
    /// A block of [`PRODUCER_ID_BLOCK`] producer ids.
    AllocateProducerIds,
    /// A broker begins a life under this epoch.
    BrokerStarted {
        /// The broker.
        broker: BrokerId,
        /// Its epoch, above that of every earlier life.
        epoch: LeaderEpoch,
    },
}

/// Why a request is refused, as its sender is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What happened and what would be legal.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// A command does not fit the state: it was not validated against it, or the log of
/// commands is damaged or has a gap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a metadata command does not fit the state: {0}")]
pub struct ApplyError(String);

/// What a command changed, for whoever carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This topic is new.
    TopicCreated(TopicId),
    /// This topic is gone; its data can go.
    TopicDeleted(Topic),
    /// This topic has other settings or more partitions.
    TopicAltered(TopicId),
    /// These producer ids belong to whoever asked: `count` from `first`.
    ProducerIds {
        /// The first of the block.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// This broker began a life.
    BrokerStarted(BrokerId),
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    topics: BTreeMap<TopicId, Topic>,
    names: BTreeMap<String, TopicId>,
    partitions: u32,
    next_producer_id: i64,
    brokers: BTreeMap<BrokerId, LeaderEpoch>,
}

impl Metadata {
    /// Carries out a command. On an error nothing has changed.
    ///
    /// # Errors
    /// The command does not fit this state.
    pub fn apply(&mut self, command: &Command) -> Result<Change, ApplyError> {
        match command {
            Command::CreateTopic(topic) => self.create(topic),
            Command::DeleteTopic { id } => self.delete(*id),
            Command::AlterTopic {
                id,
                partitions,
                overrides,
            } => self.alter(*id, *partitions, overrides),
            Command::AllocateProducerIds { first, count } => self.allocate(*first, *count),
            Command::BrokerStarted { broker, epoch } => self.start(*broker, *epoch),
        }
    }

    /// The command that does what is asked, sure to apply to this state.
    ///
    /// # Errors
    /// What the sender is told: names, limits, things that exist or do not.
    pub fn validate(&self, request: Request) -> Result<Command, Refusal> {
        match request {
            Request::CreateTopic {
                name,
                id,
                partitions,
                overrides,
            } => {
                refuse_internal(&name)?;
                self.validate_create(name, id, partitions, overrides)
            }
            Request::CreateInternalTopic {
                name,
                id,
                partitions,
                overrides,
            } => {
                assert!(is_internal_topic(&name), "`{name}` is a topic of clients");
                self.validate_create(name, id, partitions, overrides)
            }
            Request::DeleteTopic { name } => {
                refuse_internal(&name)?;
                let topic = self.named(&name)?;
                Ok(Command::DeleteTopic { id: topic.id })
            }
            Request::AlterTopic {
                name,
                partitions,
                overrides,
            } => self.validate_alter(&name, partitions, overrides),
            Request::AllocateProducerIds => self.validate_allocate(),
            Request::BrokerStarted { broker, epoch } => self.validate_start(broker, epoch),
        }
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.names.get(name).and_then(|id| self.topics.get(id))
    }

    /// The topic of this id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.names
            .values()
            .map(|id| self.topics.get(id).expect("a name leads to a topic"))
    }

    /// Partitions of all topics.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The epoch of a broker's latest life: the leader epoch of the partitions it leads.
    #[must_use]
    pub fn broker_epoch(&self, broker: BrokerId) -> Option<LeaderEpoch> {
        self.brokers.get(&broker).copied()
    }

    /// The first producer id that was never given out.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        ProducerId(self.next_producer_id)
    }

    fn create(&mut self, topic: &Topic) -> Result<Change, ApplyError> {
        let all = self.partitions.checked_add(topic.partitions);
        let Some(all) = all.filter(|_| topic.partitions > 0) else {
            return Err(misfit("a number of partitions", topic.partitions));
        };
        if self.names.contains_key(&topic.name) || self.topics.contains_key(&topic.id) {
            return Err(misfit("a topic that exists", &topic.name));
        }
        self.names.insert(topic.name.clone(), topic.id);
        self.topics.insert(topic.id, topic.clone());
        self.partitions = all;
        Ok(Change::TopicCreated(topic.id))
    }

    fn delete(&mut self, id: TopicId) -> Result<Change, ApplyError> {
        let topic = self
            .topics
            .remove(&id)
            .ok_or_else(|| misfit("no topic", id))?;
        self.names.remove(&topic.name);
        self.partitions -= topic.partitions;
        Ok(Change::TopicDeleted(topic))
    }

    fn alter(
        &mut self,
        id: TopicId,
        partitions: u32,
        overrides: &[Override],
    ) -> Result<Change, ApplyError> {
        let topic = self
            .topics
            .get_mut(&id)
            .ok_or_else(|| misfit("no topic", id))?;
        let grown = partitions.checked_sub(topic.partitions);
        let all = grown.and_then(|grown| self.partitions.checked_add(grown));
        self.partitions = all.ok_or_else(|| misfit("a number of partitions", partitions))?;
        topic.partitions = partitions;
        topic.overrides = overrides.to_vec();
        Ok(Change::TopicAltered(id))
    }

    fn allocate(&mut self, first: ProducerId, count: u32) -> Result<Change, ApplyError> {
        let next = self.next_producer_id.checked_add(i64::from(count));
        let Some(next) = next.filter(|_| first.0 == self.next_producer_id && count > 0) else {
            return Err(misfit("a block of producer ids", first));
        };
        self.next_producer_id = next;
        Ok(Change::ProducerIds { first, count })
    }

    fn start(&mut self, broker: BrokerId, epoch: LeaderEpoch) -> Result<Change, ApplyError> {
        if self.broker_epoch(broker).is_some_and(|last| last >= epoch) {
            return Err(misfit("an epoch that does not grow", epoch));
        }
        self.brokers.insert(broker, epoch);
        Ok(Change::BrokerStarted(broker))
    }

    fn named(&self, name: &str) -> Result<&Topic, Refusal> {
        self.topic_named(name).ok_or_else(|| {
            let message = match TopicName::parse(name) {
                Ok(name) => format!("there is no topic `{name}`"),
                Err(error) => format!("there is no such topic: {error}"),
            };
            Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
        })
    }

    fn validate_create(
        &self,
        name: String,
        id: TopicId,
        partitions: u32,
        overrides: Vec<(String, String)>,
    ) -> Result<Command, Refusal> {
        TopicName::parse(&name)
            .map_err(|error| Refusal::new(ErrorCode::InvalidTopicException, error.to_string()))?;
        if self.names.contains_key(&name) {
            let message = format!("topic `{name}` exists");
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
        }
        if self.topics.contains_key(&id) || id == TopicId::default() {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("topic id {id} is taken"),
            ));
        }
        if self.topics.len() >= MAX_TOPICS {
            let message = format!("there are {MAX_TOPICS} topics, the limit");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        self.check_partitions(partitions, 0)?;
        let changes = overrides
            .into_iter()
            .map(|(name, value)| (name, Some(value)))
            .collect();
        let overrides = merge_overrides(&[], changes)?;
        Ok(Command::CreateTopic(Topic {
            name,
            id,
            partitions,
            overrides,
        }))
    }

    fn validate_alter(
        &self,
        name: &str,
        partitions: Option<u32>,
        overrides: Vec<(String, Option<String>)>,
    ) -> Result<Command, Refusal> {
        refuse_internal(name)?;
        let topic = self.named(name)?;
        if let Some(wanted) = partitions {
            if wanted <= topic.partitions {
                let message = format!(
                    "topic `{name}` has {} partitions, which only grow",
                    topic.partitions
                );
                return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
            }
            self.check_partitions(wanted, topic.partitions)?;
        }
        let partitions = partitions.unwrap_or(topic.partitions);
        let overrides = merge_overrides(&topic.overrides, overrides)?;
        Ok(Command::AlterTopic {
            id: topic.id,
            partitions,
            overrides,
        })
    }

    fn check_partitions(&self, wanted: u32, present: u32) -> Result<(), Refusal> {
        let refuse = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        if wanted == 0 || wanted > MAX_PARTITIONS_PER_TOPIC {
            return refuse(format!(
                "a topic has 1 to {MAX_PARTITIONS_PER_TOPIC} partitions, not {wanted}"
            ));
        }
        if self.partitions - present > MAX_PARTITIONS - wanted {
            return refuse(format!(
                "{wanted} partitions beside the {} of other topics are over the limit of {MAX_PARTITIONS}",
                self.partitions - present
            ));
        }
        Ok(())
    }

    fn validate_allocate(&self) -> Result<Command, Refusal> {
        if self.next_producer_id > i64::MAX - i64::from(PRODUCER_ID_BLOCK) {
            let message = "every producer id was given out";
            return Err(Refusal::new(ErrorCode::UnknownServerError, message));
        }
        let first = ProducerId(self.next_producer_id);
        Ok(Command::AllocateProducerIds {
            first,
            count: PRODUCER_ID_BLOCK,
        })
    }

    fn validate_start(&self, broker: BrokerId, epoch: LeaderEpoch) -> Result<Command, Refusal> {
        let refuse = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        match self.broker_epoch(broker) {
            Some(last) if last >= epoch => refuse(format!(
                "broker {broker} started with epoch {epoch}, but an earlier life had {last}"
            )),
            None if self.brokers.len() >= MAX_BROKERS => {
                refuse(format!("there are {MAX_BROKERS} brokers, the limit"))
            }
            _ => Ok(Command::BrokerStarted { broker, epoch }),
        }
    }
}

/// The broker's own topics are as it makes them: groups are placed by the number of partitions.
pub(crate) fn refuse_internal(name: &str) -> Result<(), Refusal> {
    if !is_internal_topic(name) {
        return Ok(());
    }
    let message = format!("`{name}` belongs to the broker; clients only read it");
    Err(Refusal::new(ErrorCode::InvalidTopicException, message))
}

fn misfit(what: &str, which: impl std::fmt::Display) -> ApplyError {
    ApplyError(format!("{what}: {which}"))
}

/// The overrides after these changes, sorted by name, every one legal.
pub(crate) fn merge_overrides(
    present: &[Override],
    changes: Vec<(String, Option<String>)>,
) -> Result<Vec<Override>, Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidConfig, message));
    let pair = |entry: &Override| (entry.name.clone(), entry.value.clone());
    let mut merged: BTreeMap<String, String> = present.iter().map(pair).collect();
    let mut changed = BTreeSet::new();
    for (name, value) in changes {
        let len = name.len().max(value.as_ref().map_or(0, String::len));
        if len > MAX_OVERRIDE_LEN {
            return refuse(format!(
                "a setting of {len} bytes is over {MAX_OVERRIDE_LEN}"
            ));
        }
        if !changed.insert(name.clone()) {
            return refuse(format!("{name} is given twice"));
        }
        check_setting(&name, value.as_deref())?;
        match value {
            Some(value) => merged.insert(name, value),
            None => merged.remove(&name),
        };
    }
    Ok(merged
        .into_iter()
        .map(|(name, value)| Override { name, value })
        .collect())
}

/// Checks that there is such a setting, and that it can have this value.
fn check_setting(name: &str, value: Option<&str>) -> Result<(), Refusal> {
    let mut settings = TopicSettings::default();
    let present = || {
        settings
            .entries()
            .into_iter()
            .find(|(known, _)| *known == name)
    };
    let value = match value {
        Some(value) => value.to_owned(),
        // Setting the default tells whether the name is known, in the words of a setting.
        None => present().map_or_else(String::new, |(_, value)| value),
    };
    settings
        .set(name, &value)
        .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))
}
