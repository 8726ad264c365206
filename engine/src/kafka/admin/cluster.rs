//! DescribeCluster and DescribeTopicPartitions.

use std::collections::BTreeSet;
use std::rc::Rc;

use millrace_kafka::{
    Cursor, DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use millrace_model::{ErrorCode, is_internal_topic};

use super::NO_OPERATIONS;
use crate::kafka::cluster::{advertised, leader_epoch, node_id};
use crate::kafka::context::RequestContext;
use crate::shard::Shard;

/// DescribeCluster asks for brokers (1) or controllers (2).
const ENDPOINT_BROKERS: i8 = 1;

/// Partitions in one answer to DescribeTopicPartitions; what is left is asked for by cursor. Kafka's
/// `max.request.partition.size.limit`.
const MAX_PARTITIONS_AN_ANSWER: usize = 2_000;

/// Answers DescribeCluster.
pub(in crate::kafka) async fn describe_cluster(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if context.version > 0 && request.endpoint_type != ENDPOINT_BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType as i16,
            error_message: Some("this is the address of a broker, not of a controller".to_owned()),
            ..DescribeClusterResponse::default()
        };
    }
    let (host, port) = advertised(shard, context);
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: shard.cluster_id().to_owned(),
        controller_id: node_id(shard),
        brokers: vec![DescribeClusterBroker {
            broker_id: node_id(shard),
            host,
            port,
            ..DescribeClusterBroker::default()
        }],
        cluster_authorized_operations: NO_OPERATIONS,
        ..DescribeClusterResponse::default()
    }
}

/// Answers DescribeTopicPartitions: topics by name, from the cursor on, as many partitions as fit.
pub(in crate::kafka) async fn describe_topic_partitions(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut answer = Answer {
        shard,
        room: limit.clamp(1, MAX_PARTITIONS_AN_ANSWER),
        topics: Vec::new(),
        next: None,
    };
    let metadata = shard.topics().metadata();
    // No topic named: all of them, as the first page of a list.
    let names: BTreeSet<String> = match request.topics.is_empty() {
        true => metadata.topics().map(|topic| topic.name.clone()).collect(),
        false => request.topics.into_iter().map(|topic| topic.name).collect(),
    };
    drop(metadata);
    let from = request.cursor;
    let begins = |name: &str| {
        from.as_ref()
            .is_none_or(|cursor| name >= cursor.topic_name.as_str())
    };
    for name in names.into_iter().filter(|name| begins(name)) {
        let first = from
            .as_ref()
            .filter(|cursor| cursor.topic_name == name)
            .map_or(0, |cursor| {
                u32::try_from(cursor.partition_index).unwrap_or(0)
            });
        answer.topic(name, first);
        if answer.next.is_some() {
            break;
        }
    }
    DescribeTopicPartitionsResponse {
        topics: answer.topics,
        next_cursor: answer.next,
        ..DescribeTopicPartitionsResponse::default()
    }
}

struct Answer<'a> {
    shard: &'a Shard,
    room: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
}

impl Answer<'_> {
    /// Adds the partitions of a topic from `first` on, or says where to go on.
    fn topic(&mut self, name: String, first: u32) {
        let metadata = self.shard.topics().metadata();
        let Some(topic) = metadata.topic_named(&name) else {
            self.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: ErrorCode::UnknownTopicOrPartition as i16,
                name: Some(name),
                topic_authorized_operations: NO_OPERATIONS,
                ..DescribeTopicPartitionsResponseTopic::default()
            });
            return;
        };
        let left = topic.partitions.saturating_sub(first);
        let taken = left.min(u32::try_from(self.room).unwrap_or(u32::MAX));
        self.room -= taken as usize;
        if taken < left {
            self.next = Some(Cursor {
                topic_name: name.clone(),
                partition_index: i32::try_from(first + taken).unwrap_or(i32::MAX),
            });
            if taken == 0 {
                return;
            }
        }
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name),
            topic_id: topic.id,
            is_internal: is_internal_topic(&topic.name),
            partitions: (first..first + taken)
                .map(|index| self.partition(index))
                .collect(),
            topic_authorized_operations: NO_OPERATIONS,
            ..DescribeTopicPartitionsResponseTopic::default()
        });
    }

    fn partition(&self, index: u32) -> DescribeTopicPartitionsResponsePartition {
        let broker = node_id(self.shard);
        DescribeTopicPartitionsResponsePartition {
            partition_index: i32::try_from(index).unwrap_or(i32::MAX),
            leader_id: broker,
            leader_epoch: leader_epoch(self.shard),
            replica_nodes: vec![broker],
            isr_nodes: vec![broker],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..DescribeTopicPartitionsResponsePartition::default()
        }
    }
}
