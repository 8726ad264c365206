//! Metadata: brokers, topics, partitions and their leaders; and the creation of topics that are
//! asked for and do not exist.

use std::rc::Rc;
use std::sync::Arc;

use millrace_kafka::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use millrace_model::{ErrorCode, TopicId, is_internal_topic};
use millrace_replication::cluster::{Cluster, ClusterRequest, ClusterTopic, Partition};

use super::super::context::RequestContext;
use super::super::names::is_legal;
use super::{
    controller_id, leader_error, listed_brokers, offline_replicas, signed_epoch, signed_id,
    signed_ids,
};
use crate::controller::random_topic_id;
use crate::shard::{Shard, default_replication};

/// What everybody may do with a topic, as bits of Kafka's operations: there are no ACLs.
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// The same of the cluster.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Topics that one request creates. Each takes a durable write; what is asked for beyond is told to
/// come again.
const MAX_CREATED: usize = 100;

/// The first version that may leave a topic unnamed.
const FIRST_WITHOUT_NAMES: i16 = 12;

/// Metadata.
pub(in crate::kafka) async fn metadata(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    shard.settled().await;
    let operations = match request.include_topic_authorized_operations {
        true => TOPIC_OPERATIONS,
        false => i32::MIN,
    };
    let asks_for_all = match &request.topics {
        None => true,
        // Version 0 has no null.
        Some(topics) => topics.is_empty() && context.version == 0,
    };
    let topics = if asks_for_all {
        let cluster = shard.topics().cluster();
        let topics = cluster.topics();
        topics.map(|topic| describe(&cluster, topic)).collect()
    } else {
        let may_create = shard.config().auto_create_topics && request.allow_auto_topic_creation;
        let asked = request.topics.unwrap_or_default();
        named(shard, context, asked, may_create).await
    };
    let topics = topics.into_iter().map(|topic| MetadataResponseTopic {
        topic_authorized_operations: operations,
        ..topic
    });
    let brokers = listed_brokers(shard, context).into_iter();
    let brokers = brokers.map(|broker| MetadataResponseBroker {
        node_id: broker.id,
        host: broker.host,
        port: broker.port,
        rack: broker.rack,
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(shard.cluster_id().to_owned()),
        controller_id: controller_id(shard),
        topics: topics.collect(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        ..Default::default()
    }
}

async fn named(
    shard: &Rc<Shard>,
    context: &RequestContext,
    asked: Vec<MetadataRequestTopic>,
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let mut left_to_create = if may_create { MAX_CREATED } else { 0 };
    let mut topics = Vec::with_capacity(asked.len());
    for topic in asked {
        topics.push(match topic.name {
            Some(name) if topic.topic_id == TopicId::default() => {
                by_name(shard, name, may_create, &mut left_to_create).await
            }
            _ => by_id(shard, context, topic.topic_id),
        });
    }
    topics
}

fn by_id(shard: &Shard, context: &RequestContext, id: TopicId) -> MetadataResponseTopic {
    let cluster = shard.topics().cluster();
    match cluster.topic(id) {
        Some(topic) => describe(&cluster, topic),
        None => MetadataResponseTopic {
            error_code: ErrorCode::UnknownTopicId as i16,
            name: (context.version < FIRST_WITHOUT_NAMES).then(String::new),
            topic_id: id,
            ..Default::default()
        },
    }
}

async fn by_name(
    shard: &Rc<Shard>,
    name: String,
    may_create: bool,
    left_to_create: &mut usize,
) -> MetadataResponseTopic {
    if let Some(topic) = known(shard, &name) {
        return topic;
    }
    if !is_legal(&name) {
        return refused(name, ErrorCode::InvalidTopicException);
    }
    if !may_create || is_internal_topic(&name) {
        return refused(name, ErrorCode::UnknownTopicOrPartition);
    }
    let Some(left) = left_to_create.checked_sub(1) else {
        return refused(name, ErrorCode::LeaderNotAvailable);
    };
    *left_to_create = left;
    match create(shard, name.clone()).await {
        // Somebody else may have been faster.
        Ok(()) | Err(ErrorCode::TopicAlreadyExists) => {
            known(shard, &name).unwrap_or_else(|| refused(name, ErrorCode::LeaderNotAvailable))
        }
        Err(code) => refused(name, code),
    }
}

async fn create(shard: &Shard, name: String) -> Result<(), ErrorCode> {
    let id = random_topic_id().map_err(|_| ErrorCode::UnknownServerError)?;
    let request = ClusterRequest::CreateTopic {
        name,
        id,
        partitions: shard.config().num_partitions.get(),
        replication: default_replication(shard),
        overrides: Vec::new(),
        internal: false,
    };
    let created = shard.controller().request(request).await;
    created.map(drop).map_err(|refusal| refusal.code)
}

fn known(shard: &Shard, name: &str) -> Option<MetadataResponseTopic> {
    let cluster = shard.topics().cluster();
    let topic = cluster.topic_named(name)?;
    Some(describe(&cluster, topic))
}

fn refused(name: String, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: code as i16,
        is_internal: is_internal_topic(&name),
        name: Some(name),
        ..Default::default()
    }
}

fn describe(cluster: &Cluster, topic: &ClusterTopic) -> MetadataResponseTopic {
    let partition = |(index, partition): (i32, &Arc<Partition>)| MetadataResponsePartition {
        error_code: leader_error(partition),
        partition_index: index,
        leader_id: signed_id(partition.leader),
        leader_epoch: signed_epoch(partition.leader_epoch),
        replica_nodes: signed_ids(&partition.replicas),
        isr_nodes: signed_ids(&partition.in_sync),
        offline_replicas: offline_replicas(cluster, partition),
    };
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: is_internal_topic(&topic.name),
        partitions: (0..).zip(&topic.partitions).map(partition).collect(),
        ..Default::default()
    }
}
