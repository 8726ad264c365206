//! CreateTopics and DeleteTopics.

use std::rc::Rc;

use millrace_kafka::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse, DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest,
    DeleteTopicsResponse,
};
use millrace_model::{BrokerId, ErrorCode, TopicId, TopicSettings};
use millrace_replication::Refusal;
use millrace_replication::cluster::ClusterRequest;

use super::configs::topic_entries;
use super::{assignments, change, doubles, told};
use crate::controller::random_topic_id;
use crate::kafka::context::RequestContext;
use crate::shard::{Shard, default_replication};

/// Kafka's way to leave a number to the broker.
const BROKER_DEFAULT: i32 = -1;

/// Answers CreateTopics.
pub(in crate::kafka) async fn create_topics(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let doubles = doubles(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut topics: Vec<CreatableTopicResult> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        if topics.iter().any(|told| told.name == topic.name) {
            continue;
        }
        let created = match doubles.contains(topic.name.as_str()) {
            true => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("topic `{}` stands in the request twice", topic.name),
            )),
            false => create(shard, topic, request.validate_only).await,
        };
        topics.push(created.unwrap_or_else(|refusal| CreatableTopicResult {
            name: topic.name.clone(),
            error_code: refusal.code as i16,
            error_message: Some(refusal.message),
            ..CreatableTopicResult::default()
        }));
    }
    CreateTopicsResponse {
        topics,
        ..CreateTopicsResponse::default()
    }
}

async fn create(
    shard: &Shard,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Refusal> {
    let placement = placement_of(shard, topic)?;
    let overrides = overrides_of(shard, topic)?;
    let settings = TopicSettings::resolve(shard.topics().defaults(), &overrides)
        .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))?;
    let id = random_topic_id()
        .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
    let is_override = |name: &str| overrides.iter().any(|(known, _)| known == name);
    let configs = topic_entries(shard, &settings, is_override).map(|entry| CreatableTopicConfigs {
        name: entry.name,
        value: Some(entry.value),
        read_only: false,
        config_source: entry.source as i8,
        is_sensitive: false,
    });
    let configs = configs.collect();
    let (partitions, replication) = placement.size();
    let name = topic.name.clone();
    let request = match placement {
        Placement::Chosen(assignments) => ClusterRequest::CreateAssignedTopic {
            name,
            id,
            assignments,
            overrides,
        },
        Placement::Numbers(partitions, replication) => ClusterRequest::CreateTopic {
            name,
            id,
            partitions,
            replication,
            overrides,
            internal: false,
        },
    };
    change(shard, request, validate_only).await?;
    Ok(CreatableTopicResult {
        name: topic.name.clone(),
        error_message: None,
        topic_id: if validate_only {
            TopicId::default()
        } else {
            id
        },
        num_partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replication).unwrap_or(i16::MAX),
        configs: Some(configs),
        ..CreatableTopicResult::default()
    })
}

/// Where a new topic's replicas go.
enum Placement {
    /// Where the client says.
    Chosen(Vec<Vec<BrokerId>>),
    /// So many partitions with so many replicas.
    Numbers(u32, usize),
}

impl Placement {
    /// Partitions, and replicas of the first.
    fn size(&self) -> (u32, usize) {
        match self {
            Self::Chosen(chosen) => (
                u32::try_from(chosen.len()).unwrap_or(u32::MAX),
                chosen.first().map_or(0, Vec::len),
            ),
            Self::Numbers(partitions, replication) => (*partitions, *replication),
        }
    }
}

fn placement_of(shard: &Shard, topic: &CreatableTopic) -> Result<Placement, Refusal> {
    let refuse = |code, message: String| Err(Refusal::new(code, message));
    if !topic.assignments.is_empty() {
        if topic.num_partitions != BROKER_DEFAULT
            || i32::from(topic.replication_factor) != BROKER_DEFAULT
        {
            let message = "both an assignment and numbers are given".to_owned();
            return refuse(ErrorCode::InvalidRequest, message);
        }
        let mut indexes: Vec<i32> = topic
            .assignments
            .iter()
            .map(|a| a.partition_index)
            .collect();
        indexes.sort_unstable();
        if !(0..).zip(&indexes).all(|(at, index)| at == *index) {
            let message = "the partitions of an assignment are 0, 1, 2 and so on".to_owned();
            return refuse(ErrorCode::InvalidReplicaAssignment, message);
        }
        let mut chosen: Vec<_> = topic.assignments.iter().collect();
        chosen.sort_unstable_by_key(|a| a.partition_index);
        let chosen = assignments(chosen.into_iter().map(|a| &a.broker_ids[..]))?;
        return Ok(Placement::Chosen(chosen));
    }
    let replication = match i32::from(topic.replication_factor) {
        BROKER_DEFAULT => default_replication(shard),
        wanted => usize::try_from(wanted).unwrap_or(0),
    };
    let partitions = match topic.num_partitions {
        BROKER_DEFAULT => shard.config().num_partitions.get(),
        wanted => u32::try_from(wanted)
            .ok()
            .filter(|wanted| *wanted > 0)
            .ok_or_else(|| {
                let message = format!("a topic has at least 1 partition, not {wanted}");
                Refusal::new(ErrorCode::InvalidPartitions, message)
            })?,
    };
    Ok(Placement::Numbers(partitions, replication))
}

fn overrides_of(shard: &Shard, topic: &CreatableTopic) -> Result<Vec<(String, String)>, Refusal> {
    let configs = topic.configs.iter();
    let overrides: Result<Vec<_>, _> = configs
        .map(|config| match &config.value {
            Some(value) => Ok((config.name.clone(), value.clone())),
            None => {
                let message = format!("`{}` has no value", config.name);
                Err(Refusal::new(ErrorCode::InvalidConfig, message))
            }
        })
        .collect();
    let overrides = overrides?;
    TopicSettings::resolve(shard.topics().defaults(), &overrides)
        .map(|_| overrides)
        .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))
}

/// Answers DeleteTopics. Topics are named, or from version 6 on identified.
pub(in crate::kafka) async fn delete_topics(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let named = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState {
            name: Some(name),
            ..DeleteTopicState::default()
        });
    let wanted: Vec<DeleteTopicState> = named.chain(request.topics).collect();
    let mut responses = Vec::with_capacity(wanted.len());
    for topic in wanted {
        let result = delete(shard, &topic).await;
        let (name, topic_id) = match &result {
            Ok((name, id)) => (Some(name.clone()), *id),
            Err(_) => (topic.name, topic.topic_id),
        };
        let (error_code, error_message) = told(result.map(drop));
        responses.push(DeletableTopicResult {
            name,
            topic_id,
            error_code,
            error_message,
        });
    }
    DeleteTopicsResponse {
        responses,
        ..DeleteTopicsResponse::default()
    }
}

async fn delete(shard: &Shard, topic: &DeleteTopicState) -> Result<(String, TopicId), Refusal> {
    let (name, id) = identify(shard, topic)?;
    let request = ClusterRequest::DeleteTopic { name: name.clone() };
    change(shard, request, false).await?;
    Ok((name, id))
}

fn identify(shard: &Shard, topic: &DeleteTopicState) -> Result<(String, TopicId), Refusal> {
    let cluster = shard.topics().cluster();
    let (known, code) = match &topic.name {
        Some(_) if topic.topic_id != TopicId::default() => {
            let message = "a topic is named or identified, not both";
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        Some(name) => (
            cluster.topic_named(name),
            ErrorCode::UnknownTopicOrPartition,
        ),
        None => (cluster.topic(topic.topic_id), ErrorCode::UnknownTopicId),
    };
    known
        .map(|known| (known.name.to_string(), known.id))
        .ok_or_else(|| Refusal::new(code, "there is no such topic"))
}
