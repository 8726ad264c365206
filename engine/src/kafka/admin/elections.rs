//! ElectLeaders: partitions go back to their preferred leaders, or get any leader at all.

use std::rc::Rc;

use millrace_kafka::{
    ElectLeadersRequest, ElectLeadersResponse, ElectLeadersTopicPartitions,
    ElectionPartitionResult, ReplicaElectionResult,
};
use millrace_model::{ErrorCode, LogId};
use millrace_replication::Refusal;
use millrace_replication::cluster::{Answer, ClusterTopic, Command, ElectionKind, Partition};

use super::told;
use crate::kafka::context::RequestContext;
use crate::kafka::names::{self, Asked};
use crate::shard::Shard;

/// Partitions of one command: its answer holds the state of each, of some hundred bytes.
const ELECTIONS_A_COMMAND: usize = 1_000;

/// Kinds of elections, as the request names them.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// A partition that shall have another leader.
struct Wanted {
    topic: String,
    partition: i32,
    log: Result<LogId, Refusal>,
}

/// Answers ElectLeaders. Of all partitions, where none is named, those are told of that had
/// something to elect.
pub(in crate::kafka) async fn elect_leaders(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let kind = match request.election_type {
        PREFERRED => ElectionKind::Preferred,
        UNCLEAN => ElectionKind::Unclean,
        _ => {
            return ElectLeadersResponse {
                error_code: ErrorCode::InvalidRequest as i16,
                ..ElectLeadersResponse::default()
            };
        }
    };
    let names_all = request.topic_partitions.is_none();
    let wanted = match request.topic_partitions {
        Some(topics) => named(shard, topics),
        None => needed(shard, kind),
    };
    let logs: Vec<LogId> = wanted
        .iter()
        .filter_map(|it| it.log.as_ref().ok().copied())
        .collect();
    let mut elected = elect(shard, kind, &logs).await.into_iter();
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for Wanted {
        topic,
        partition,
        log,
    } in wanted
    {
        let result = log.and_then(|_| elected.next().expect("one outcome a partition"));
        let is_needless =
            matches!(&result, Err(refusal) if refusal.code == ErrorCode::ElectionNotNeeded);
        if names_all && is_needless {
            continue;
        }
        let (error_code, error_message) = told(result);
        let result = ElectionPartitionResult {
            partition_id: partition,
            error_code,
            error_message,
        };
        match results.last_mut() {
            Some(last) if last.topic == topic => last.partition_result.push(result),
            _ => results.push(ReplicaElectionResult {
                topic,
                partition_result: vec![result],
            }),
        }
    }
    ElectLeadersResponse {
        replica_election_results: results,
        ..ElectLeadersResponse::default()
    }
}

fn named(shard: &Shard, topics: Vec<ElectLeadersTopicPartitions>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for topic in topics {
        let named = names::find(shard, Asked::Name(&topic.topic));
        wanted.extend(topic.partitions.iter().map(|index| {
            Wanted {
                topic: topic.topic.clone(),
                partition: *index,
                log: named
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|named| named.partition(*index)),
            }
        }));
    }
    wanted
}

/// The partitions that have something to elect, as far as this broker knows.
fn needed(shard: &Shard, kind: ElectionKind) -> Vec<Wanted> {
    let is_needed = |partition: &Partition| match kind {
        ElectionKind::Preferred => partition.leader != partition.target().first().copied(),
        ElectionKind::Unclean => partition.leader.is_none(),
    };
    let cluster = shard.topics().cluster();
    let needed = |topic: &ClusterTopic| -> Vec<Wanted> {
        let logs = (0..).zip(topic.logs());
        let logs = logs.filter(|(_, (_, partition))| is_needed(partition));
        logs.map(|(index, (log, _))| Wanted {
            topic: topic.name.to_string(),
            partition: index,
            log: Ok(log),
        })
        .collect()
    };
    cluster.topics().flat_map(needed).collect()
}

async fn elect(shard: &Shard, kind: ElectionKind, logs: &[LogId]) -> Vec<Result<(), Refusal>> {
    let mut results = Vec::with_capacity(logs.len());
    for partitions in logs.chunks(ELECTIONS_A_COMMAND) {
        let command = Command::ElectLeaders {
            kind,
            partitions: partitions.to_vec(),
        };
        let refused = match shard.controller().propose(command).await {
            Ok(Answer::Partitions(outcomes)) if outcomes.len() == partitions.len() => {
                results.extend(outcomes.iter().map(|outcome| judged(outcome.code)));
                continue;
            }
            Ok(_) => {
                let message = "the metadata answered something else than was asked";
                Refusal::new(ErrorCode::UnknownServerError, message)
            }
            Err(refusal) => refusal,
        };
        results.extend(partitions.iter().map(|_| Err(refused.clone())));
    }
    results
}

fn judged(code: ErrorCode) -> Result<(), Refusal> {
    let message = match code {
        ErrorCode::None => return Ok(()),
        ErrorCode::ElectionNotNeeded => "the partition has the leader that is asked for",
        ErrorCode::PreferredLeaderNotAvailable => {
            "the preferred leader is not in sync, or not there"
        }
        ErrorCode::EligibleLeadersNotAvailable => "no replica is there that could lead",
        ErrorCode::UnknownTopicOrPartition => "there is no such partition",
        _ => "no leader was elected",
    };
    Err(Refusal::new(code, message))
}
