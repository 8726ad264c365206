//! Idempotent producers: InitProducerId and DescribeProducers.

use std::rc::Rc;

use millrace_kafka::{
    DescribeProducersPartitionResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeProducersTopicResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerState,
};
use millrace_model::ErrorCode;
use millrace_storage::ActiveProducer;

use super::context::RequestContext;
use super::names::{self, Asked};
use super::owners::ask_owners_unless;
use crate::shard::Shard;

/// InitProducerId: a new id, whatever id the producer had. With a transactional id, the refusal that
/// clients take as final.
pub(super) async fn init(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |code: ErrorCode| InitProducerIdResponse {
        error_code: code as i16,
        producer_epoch: -1,
        ..Default::default()
    };
    if request.transactional_id.is_some() {
        return refused(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    match shard.producer_id().await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            ..Default::default()
        },
        Err(refusal) => refused(refusal.code),
    }
}

/// DescribeProducers.
pub(super) async fn describe(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut questions = Vec::new();
    for topic in &request.topics {
        let named = names::find(shard, Asked::Name(&topic.name));
        for index in &topic.partition_indexes {
            let log = named
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|named| named.partition(*index));
            questions.push(log.map(|log| (log, ())));
        }
    }
    let list = |shard: Rc<Shard>, log, ()| async move {
        let partition = shard.partition(log).await?;
        Ok(partition.log().producers())
    };
    let mut answers = ask_owners_unless(shard, questions, list).await.into_iter();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partition_indexes.iter().map(|&partition_index| {
            match answers.next().expect("one answer a partition") {
                Ok(producers) => DescribeProducersPartitionResponse {
                    partition_index,
                    active_producers: producers.iter().map(state).collect(),
                    ..Default::default()
                },
                Err(refusal) => DescribeProducersPartitionResponse {
                    partition_index,
                    error_code: refusal.code as i16,
                    error_message: Some(refusal.message),
                    ..Default::default()
                },
            }
        });
        topics.push(DescribeProducersTopicResponse {
            partitions: partitions.collect(),
            name: topic.name,
        });
    }
    DescribeProducersResponse {
        topics,
        ..Default::default()
    }
}

fn state(producer: &ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last.map_or(-1, |last| last.0),
        last_timestamp: producer.last_appended.0,
        // There are no transactions.
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}
