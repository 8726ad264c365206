//! ConsumerGroupHeartbeat and ConsumerGroupDescribe: groups whose coordinator does the assignment
//! (KIP-848).

use std::rc::Rc;

use millrace_groups::{
    ConsumerAssignment, ConsumerHeartbeat, DescribedGroup, DescribedMember, Failure, GroupType,
    OwnedPartitions, Request, Response,
};
use millrace_kafka::{
    ConsumerGroupDescribeAssignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
    ConsumerGroupDescribeTopicPartitions, ConsumerGroupDescribedGroup,
    ConsumerGroupHeartbeatAssignment, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions, ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseTopicPartitions, Member,
};
use millrace_model::{ErrorCode, TopicId};

use super::super::context::RequestContext;
use super::{client, failure, operations};
use crate::shard::Shard;

/// `member_type` of a member that speaks the classic protocol, and of one that does not.
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

/// ConsumerGroupHeartbeat.
pub(in super::super) async fn consumer_group_heartbeat(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let Ok(owned) = request.topic_partitions.map(owned).transpose() else {
        return refused(Failure {
            code: ErrorCode::InvalidRequest,
            message: Some("a partition's number is negative".to_owned()),
        });
    };
    let heartbeat = ConsumerHeartbeat {
        group: request.group_id,
        member: request.member_id,
        member_epoch: request.member_epoch,
        instance: request.instance_id,
        rack: request.rack_id,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_topics: request.subscribed_topic_names,
        subscribed_regex: request.subscribed_topic_regex,
        assignor: request.server_assignor,
        owned,
    };
    let asked = shard
        .groups()
        .ask(client(context), Request::ConsumerHeartbeat(heartbeat));
    match asked.await {
        Response::ConsumerHeartbeat {
            member,
            member_epoch,
            heartbeat_interval_ms,
            assignment,
        } => ConsumerGroupHeartbeatResponse {
            member_id: Some(member),
            member_epoch,
            heartbeat_interval_ms: i32::try_from(heartbeat_interval_ms).unwrap_or(i32::MAX),
            assignment: assignment.map(assigned),
            ..ConsumerGroupHeartbeatResponse::default()
        },
        other => refused(failure(other)),
    }
}

fn owned(
    topics: Vec<ConsumerGroupHeartbeatRequestTopicPartitions>,
) -> Result<Vec<OwnedPartitions>, std::num::TryFromIntError> {
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(u32::try_from);
        let mut partitions = partitions.collect::<Result<Vec<_>, _>>()?;
        partitions.sort_unstable();
        partitions.dedup();
        Ok(OwnedPartitions {
            topic: topic.topic_id,
            partitions,
        })
    });
    topics.collect()
}

fn assigned(assignment: Vec<OwnedPartitions>) -> ConsumerGroupHeartbeatAssignment {
    let topics = assignment.into_iter();
    let topics = topics.map(|topic| ConsumerGroupHeartbeatResponseTopicPartitions {
        topic_id: topic.topic,
        partitions: numbers(topic.partitions),
    });
    ConsumerGroupHeartbeatAssignment {
        topic_partitions: topics.collect(),
    }
}

fn refused(failure: Failure) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: failure.code as i16,
        error_message: failure.message,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

/// ConsumerGroupDescribe: groups of this protocol only, others are not found.
pub(in super::super) async fn consumer_group_describe(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let mut described = Vec::with_capacity(request.group_ids.len());
    for group in request.group_ids {
        let describe = Request::Describe {
            group: group.clone(),
            only: Some(GroupType::Consumer),
        };
        let mut entry = match shard.groups().ask(client(context), describe).await {
            Response::Described(group) => described_group(group),
            other => undescribed(group, failure(other)),
        };
        entry.authorized_operations = operations(request.include_authorized_operations);
        described.push(entry);
    }
    ConsumerGroupDescribeResponse {
        groups: described,
        ..ConsumerGroupDescribeResponse::default()
    }
}

fn described_group(group: DescribedGroup) -> ConsumerGroupDescribedGroup {
    ConsumerGroupDescribedGroup {
        group_id: group.group,
        group_state: group.state.name().to_owned(),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: group.protocol_name,
        members: group.members.into_iter().map(described_member).collect(),
        ..ConsumerGroupDescribedGroup::default()
    }
}

fn described_member(member: DescribedMember) -> Member {
    let ConsumerAssignment { current, target } = member.consumer.unwrap_or_default();
    Member {
        member_id: member.member,
        instance_id: member.instance,
        rack_id: member.rack,
        member_epoch: member.member_epoch,
        client_id: member.client.id,
        client_host: member.client.host,
        subscribed_topic_names: member.subscribed_topics,
        subscribed_topic_regex: member.subscribed_regex,
        assignment: described_assignment(current),
        target_assignment: described_assignment(target),
        member_type: match member.is_classic {
            true => CLASSIC_MEMBER,
            false => CONSUMER_MEMBER,
        },
    }
}

fn described_assignment(
    topics: Vec<(TopicId, String, Vec<u32>)>,
) -> ConsumerGroupDescribeAssignment {
    let topics = topics.into_iter();
    let topics =
        topics.map(
            |(topic_id, topic_name, partitions)| ConsumerGroupDescribeTopicPartitions {
                topic_id,
                topic_name,
                partitions: numbers(partitions),
            },
        );
    ConsumerGroupDescribeAssignment {
        topic_partitions: topics.collect(),
    }
}

fn undescribed(group: String, failure: Failure) -> ConsumerGroupDescribedGroup {
    ConsumerGroupDescribedGroup {
        error_code: failure.code as i16,
        error_message: failure.message,
        group_id: group,
        ..ConsumerGroupDescribedGroup::default()
    }
}

/// Partitions as Kafka counts them; a topic has far less than 2^31.
fn numbers(partitions: Vec<u32>) -> Vec<i32> {
    let partitions = partitions.into_iter();
    partitions.filter_map(|p| i32::try_from(p).ok()).collect()
}
