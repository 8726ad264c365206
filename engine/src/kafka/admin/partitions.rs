//! CreatePartitions.

use std::rc::Rc;

use millrace_kafka::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use millrace_model::ErrorCode;
use millrace_replication::Refusal;
use millrace_replication::cluster::ClusterRequest;

use super::{assignments, change, doubles, told};
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
    let chosen = topic.assignments.as_ref();
    let chosen = chosen.map(|chosen| assignments(chosen.iter().map(|a| &a.broker_ids[..])));
    let request = ClusterRequest::CreatePartitions {
        name: topic.name.clone(),
        total: u32::try_from(topic.count).unwrap_or(0),
        assignments: chosen.transpose()?,
    };
    change(shard, request, validate_only).await
}
