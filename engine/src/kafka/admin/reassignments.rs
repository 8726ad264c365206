//! AlterPartitionReassignments and ListPartitionReassignments: partitions move to other brokers.

use std::rc::Rc;

use millrace_kafka::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopic, ReassignableTopicResponse,
};
use millrace_model::{BrokerId, ErrorCode};
use millrace_replication::Refusal;
use millrace_replication::cluster::{ClusterTopic, Command, Partition};

use super::{assignments, told};
use crate::kafka::cluster::signed_ids;
use crate::kafka::context::RequestContext;
use crate::kafka::join::all;
use crate::kafka::names::{self, Asked, Named};
use crate::shard::Shard;

/// Commands of one request on their way at a time: many share a write of the metadata's log, and
/// others have changes to make as well.
const COMMANDS_AT_A_TIME: usize = 64;

/// Answers AlterPartitionReassignments: each partition by itself, moved or called back.
pub(in crate::kafka) async fn alter_partition_reassignments(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let may_resize = request.allow_replication_factor_change;
    let topics: Vec<(ReassignableTopic, Result<Named, Refusal>)> = request
        .topics
        .into_iter()
        .map(|topic| {
            let named = names::find(shard, Asked::Name(&topic.name));
            (topic, named)
        })
        .collect();
    let changes = topics.iter().flat_map(|(topic, named)| {
        let partitions = topic.partitions.iter();
        partitions.map(move |partition| reassign(shard, named, partition, may_resize))
    });
    let mut results = all(changes, COMMANDS_AT_A_TIME).await.into_iter();
    let mut response = |partition: ReassignablePartition| {
        let (error_code, error_message) = told(results.next().expect("one result a partition"));
        ReassignablePartitionResponse {
            partition_index: partition.partition_index,
            error_code,
            error_message,
        }
    };
    let mut responses = Vec::with_capacity(topics.len());
    for (topic, _) in topics {
        responses.push(ReassignableTopicResponse {
            name: topic.name,
            partitions: topic.partitions.into_iter().map(&mut response).collect(),
        });
    }
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_resize,
        error_message: None,
        responses,
        ..AlterPartitionReassignmentsResponse::default()
    }
}

async fn reassign(
    shard: &Shard,
    named: &Result<Named, Refusal>,
    partition: &ReassignablePartition,
    may_resize: bool,
) -> Result<(), Refusal> {
    let named = named.as_ref().map_err(Clone::clone)?;
    let log = named.partition(partition.partition_index)?;
    let target = partition.replicas.as_deref();
    let target = assignments(target.into_iter())?.pop();
    if let Some(target) = target.as_deref().filter(|_| !may_resize) {
        check_size(&shard.topics().partition(log)?, target)?;
    }
    let command = Command::Reassign {
        partition: log,
        target,
    };
    shard.controller().propose(command).await.map(drop)
}

/// Refuses another number of replicas than the partition has without the move that may be under way.
fn check_size(partition: &Partition, target: &[BrokerId]) -> Result<(), Refusal> {
    let present = partition.replicas.len() - partition.adding.len();
    match target.len() == present {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "the partition has {present} replicas and would have {}",
                target.len()
            ),
        )),
    }
}

/// Answers ListPartitionReassignments: of the partitions named, or of all, those whose replicas are
/// changing.
pub(in crate::kafka) async fn list_partition_reassignments(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let cluster = shard.topics().cluster();
    let topics = match &request.topics {
        None => cluster
            .topics()
            .filter_map(|topic| ongoing(topic, None))
            .collect(),
        Some(asked) => {
            let known = asked.iter().filter_map(|asked| {
                let topic = cluster.topic_named(&asked.name)?;
                ongoing(topic, Some(&asked.partition_indexes))
            });
            known.collect()
        }
    };
    ListPartitionReassignmentsResponse {
        error_message: None,
        topics,
        ..ListPartitionReassignmentsResponse::default()
    }
}

fn ongoing(topic: &ClusterTopic, which: Option<&[i32]>) -> Option<OngoingTopicReassignment> {
    let partitions = (0..).zip(&topic.partitions);
    let partitions = partitions.filter(|(index, partition)| {
        partition.is_reassigning() && which.is_none_or(|which| which.contains(index))
    });
    let partitions: Vec<_> = partitions
        .map(
            |(partition_index, partition)| OngoingPartitionReassignment {
                partition_index,
                replicas: signed_ids(&partition.replicas),
                adding_replicas: signed_ids(&partition.adding),
                removing_replicas: signed_ids(&partition.removing),
            },
        )
        .collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment {
        name: topic.name.to_string(),
        partitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_under_way_does_not_count_towards_the_size() {
        let ids = |ids: &[u32]| -> Vec<BrokerId> { ids.iter().copied().map(BrokerId).collect() };
        let moving = Partition {
            replicas: ids(&[4, 2, 1]),
            adding: ids(&[4]),
            removing: ids(&[1]),
            ..Partition::default()
        };
        assert!(check_size(&moving, &ids(&[3, 2])).is_ok());
        let refused = check_size(&moving, &ids(&[3, 2, 1])).map_err(|refusal| refusal.code);
        assert_eq!(refused, Err(ErrorCode::InvalidReplicationFactor));
    }
}
