//! DescribeCluster and DescribeTopicPartitions.

use std::collections::BTreeSet;
use std::rc::Rc;

use millrace_kafka::{
    Cursor, DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use millrace_model::{ErrorCode, is_internal_topic};
use millrace_replication::cluster::{Cluster, Partition};

use super::NO_OPERATIONS;
use crate::kafka::cluster::{
    controller_id, known_brokers, leader_error, living_brokers, offline_replicas, signed_epoch,
    signed_id, signed_ids,
};
use crate::kafka::context::RequestContext;
use crate::shard::{Shard, partition_count};

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
    let brokers = match request.include_fenced_brokers {
        true => known_brokers(shard, context),
        false => living_brokers(shard, context),
    };
    // Who does not ask for fenced brokers is told of this one, fenced or not, and before version 2
    // there is no word for it.
    let tells_fenced = request.include_fenced_brokers;
    let brokers = brokers.into_iter().map(|broker| DescribeClusterBroker {
        broker_id: broker.id,
        host: broker.host,
        port: broker.port,
        rack: broker.rack,
        is_fenced: broker.is_fenced && tells_fenced,
    });
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: shard.cluster_id().to_owned(),
        controller_id: controller_id(shard),
        brokers: brokers.collect(),
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
    let cluster = shard.topics().cluster();
    // No topic named: all of them, as the first page of a list.
    let names: BTreeSet<String> = match request.topics.is_empty() {
        true => cluster
            .topics()
            .map(|topic| topic.name.to_string())
            .collect(),
        false => request.topics.into_iter().map(|topic| topic.name).collect(),
    };
    drop(cluster);
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
        let cluster = self.shard.topics().cluster();
        let Some(topic) = cluster.topic_named(&name) else {
            self.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: ErrorCode::UnknownTopicOrPartition as i16,
                name: Some(name),
                topic_authorized_operations: NO_OPERATIONS,
                ..DescribeTopicPartitionsResponseTopic::default()
            });
            return;
        };
        let left = partition_count(topic).saturating_sub(first);
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
            partitions: (0..)
                .zip(&topic.partitions)
                .skip(first as usize)
                .take(taken as usize)
                .map(|(index, partition)| described(&cluster, index, partition))
                .collect(),
            topic_authorized_operations: NO_OPERATIONS,
            ..DescribeTopicPartitionsResponseTopic::default()
        });
    }
}

fn described(
    cluster: &Cluster,
    index: i32,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let last_leader = partition.last_leader.into_iter();
    DescribeTopicPartitionsResponsePartition {
        error_code: leader_error(partition),
        partition_index: index,
        leader_id: signed_id(partition.leader),
        leader_epoch: signed_epoch(partition.leader_epoch),
        replica_nodes: signed_ids(&partition.replicas),
        isr_nodes: signed_ids(&partition.in_sync),
        eligible_leader_replicas: Some(signed_ids(&partition.eligible)),
        last_known_elr: Some(last_leader.map(|id| signed_id(Some(id))).collect()),
        offline_replicas: offline_replicas(cluster, partition),
    }
}
