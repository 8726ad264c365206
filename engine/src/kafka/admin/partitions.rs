//! CreatePartitions.

use std::rc::Rc;

use millrace_kafka::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use millrace_model::ErrorCode;
use millrace_replication::{Refusal, Request as Registration};

use super::{change, check_replicas, doubles, told};
use crate::kafka::context::RequestContext;
use crate::shard::Shard;

/// Answers CreatePartitions.
pub(in crate::kafka) async fn create_partitions(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let doubles = doubles(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut results: Vec<CreatePartitionsTopicResult> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        if results.iter().any(|told| told.name == topic.name) {
            continue;
        }
        let result = match doubles.contains(topic.name.as_str()) {
            true => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "the topic stands in the request twice",
            )),
            false => grow(shard, topic, request.validate_only).await,
        };
        let (error_code, error_message) = told(result);
        results.push(CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code,
            error_message,
        });
    }
    CreatePartitionsResponse {
        results,
        ..CreatePartitionsResponse::default()
    }
}

async fn grow(
    shard: &Shard,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    let wanted = u32::try_from(topic.count).unwrap_or(0);
    if let Some(assignments) = &topic.assignments {
        let present = shard
            .topics()
            .metadata()
            .topic_named(&topic.name)
            .map(|t| t.partitions);
        let new = u64::from(wanted.saturating_sub(present.unwrap_or(0)));
        if present.is_some() && assignments.len() as u64 != new {
            let message = format!(
                "{new} new partitions cannot have {} assignments",
                assignments.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        check_replicas(shard, assignments.iter().map(|a| &a.broker_ids[..]))?;
    }
    let request = Registration::AlterTopic {
        name: topic.name.clone(),
        partitions: Some(wanted),
        overrides: Vec::new(),
    };
    change(shard, request, validate_only).await
}
