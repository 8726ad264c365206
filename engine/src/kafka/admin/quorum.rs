//! DescribeQuorum and UnregisterBroker.

use std::rc::Rc;

use millrace_kafka::{
    DescribeQuorumRequest, DescribeQuorumResponse, DescribeQuorumResponsePartition,
    DescribeQuorumResponseTopic, QuorumListener, QuorumNode, QuorumReplicaState,
    UnregisterBrokerRequest, UnregisterBrokerResponse,
};
use millrace_model::{BrokerId, ErrorCode};
use millrace_replication::Refusal;
use millrace_replication::cluster::{Cluster, Command};
use millrace_replication::quorum::{MemberReport, QuorumReport};

use super::told;
use crate::kafka::cluster::signed_id;
use crate::kafka::context::RequestContext;
use crate::shard::{Shard, clock};

/// What Kafka's clients call the log of the metadata: its one partition is number 0.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Answers DescribeQuorum. The leader of the metadata quorum knows; whoever is asked asks it.
pub(in crate::kafka) async fn describe_quorum(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    if !is_about_metadata(&request) {
        return unknown(request);
    }
    let report = match shard.controller().quorum_report().await {
        Ok(report) => report,
        Err(refusal) => {
            let (error_code, error_message) = told(Err(retriable(refusal)));
            return DescribeQuorumResponse {
                error_code,
                error_message,
                ..DescribeQuorumResponse::default()
            };
        }
    };
    let now = clock::timestamp().0;
    let (voters, observers): (Vec<_>, Vec<_>) = report.members.iter().partition(|it| it.votes);
    let states = |members: Vec<&MemberReport>| {
        let states = members.into_iter();
        states.map(|member| state(member, now)).collect()
    };
    let partition = DescribeQuorumResponsePartition {
        error_message: None,
        leader_id: signed_id(Some(report.leader)),
        leader_epoch: i32::try_from(report.term).unwrap_or(i32::MAX),
        high_watermark: signed(report.commit),
        current_voters: states(voters),
        observers: states(observers),
        ..DescribeQuorumResponsePartition::default()
    };
    DescribeQuorumResponse {
        error_message: None,
        topics: vec![DescribeQuorumResponseTopic {
            topic_name: METADATA_TOPIC.to_owned(),
            partitions: vec![partition],
        }],
        nodes: nodes(&shard.topics().cluster(), &report),
        ..DescribeQuorumResponse::default()
    }
}

fn is_about_metadata(request: &DescribeQuorumRequest) -> bool {
    let [topic] = &request.topics[..] else {
        return false;
    };
    let [partition] = &topic.partitions[..] else {
        return false;
    };
    topic.topic_name == METADATA_TOPIC && partition.partition_index == 0
}

/// Every other partition is replicated without a quorum.
fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter();
    let topics = topics.map(|topic| DescribeQuorumResponseTopic {
        topic_name: topic.topic_name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| DescribeQuorumResponsePartition {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition as i16,
                error_message: None,
                leader_id: signed_id(None),
                leader_epoch: -1,
                high_watermark: -1,
                ..DescribeQuorumResponsePartition::default()
            })
            .collect(),
    });
    DescribeQuorumResponse {
        error_message: None,
        topics: topics.collect(),
        ..DescribeQuorumResponse::default()
    }
}

/// Clients take `NOT_CONTROLLER` as news of another controller, which here nobody need look for.
fn retriable(refusal: Refusal) -> Refusal {
    match refusal.code {
        ErrorCode::NotController => Refusal::new(ErrorCode::LeaderNotAvailable, refusal.message),
        _ => refusal,
    }
}

fn state(member: &MemberReport, now: i64) -> QuorumReplicaState {
    let silent = i64::try_from(member.silent_ms).unwrap_or(i64::MAX);
    let heard = now.checked_sub(silent).filter(|heard| *heard > 0);
    let heard = heard.unwrap_or(-1);
    QuorumReplicaState {
        replica_id: signed_id(Some(member.id)),
        log_end_offset: signed(member.matched),
        last_fetch_timestamp: heard,
        // When a member that is behind was last not, nobody has written down.
        last_caught_up_timestamp: match member.is_caught_up {
            true => heard,
            false => -1,
        },
        ..QuorumReplicaState::default()
    }
}

fn nodes(cluster: &Cluster, report: &QuorumReport) -> Vec<QuorumNode> {
    let node = |member: &MemberReport| {
        let endpoints = cluster.broker(member.id).into_iter();
        let endpoints = endpoints.flat_map(|broker| &broker.endpoints);
        QuorumNode {
            node_id: signed_id(Some(member.id)),
            listeners: endpoints
                .map(|endpoint| QuorumListener {
                    name: endpoint.listener.clone(),
                    host: endpoint.host.clone(),
                    port: endpoint.port,
                })
                .collect(),
        }
    };
    report.members.iter().map(node).collect()
}

fn signed(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// Answers UnregisterBroker: a broker that has stopped and holds nothing is struck off.
pub(in crate::kafka) async fn unregister_broker(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let unregistered = match u32::try_from(request.broker_id) {
        Ok(id) => {
            let broker = BrokerId(id);
            let command = Command::Unregister { broker };
            shard.controller().propose(command).await.map(drop)
        }
        Err(_) => Err(Refusal::new(
            ErrorCode::BrokerIdNotRegistered,
            format!("no broker has the id {}", request.broker_id),
        )),
    };
    let (error_code, error_message) = told(unregistered);
    UnregisterBrokerResponse {
        error_code,
        error_message,
        ..UnregisterBrokerResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_become_times_and_what_is_unknown_stays_so() {
        let member = |silent_ms, is_caught_up| MemberReport {
            id: BrokerId(2),
            votes: true,
            matched: 7,
            is_caught_up,
            silent_ms,
        };
        let told = state(&member(30, true), 1_000);
        assert_eq!(
            (told.last_fetch_timestamp, told.last_caught_up_timestamp),
            (970, 970)
        );
        let told = state(&member(30, false), 1_000);
        assert_eq!(
            (told.last_fetch_timestamp, told.last_caught_up_timestamp),
            (970, -1)
        );
        let told = state(&member(u64::MAX, false), 1_000);
        assert_eq!(
            (told.last_fetch_timestamp, told.last_caught_up_timestamp),
            (-1, -1)
        );
    }
}
