//! What is asked of a cluster before and after the load.

use std::time::{Duration, Instant};

use millrace_kafka::{
    ApiKey, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, DeleteTopicsRequest,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, MetadataRequest,
    MetadataRequestTopic, MetadataResponse, Response,
};
use millrace_model::{ErrorCode, Offset, PartitionId, TopicId};

use super::connection::Connection;
use super::{FetchStream, KafkaError, ProduceAcks, ProduceSender, accepted, produce};
use crate::options::AcksOption;

/// How long a request that changes the cluster may take.
const CHANGE_MS: i32 = 30_000;

/// How long the partitions of a new topic may be without leaders, and how often they are asked
/// for.
const LEADER_WAIT: Duration = Duration::from_secs(30);
const LEADER_POLL: Duration = Duration::from_millis(20);

/// The offset after the last record, in ListOffsets.
const LATEST: i64 = -1;

/// From this version on a topic may leave its replication factor to the broker.
const DEFAULT_REPLICATION_SINCE: i16 = 4;

/// A cluster by one of its brokers.
pub(crate) struct Cluster {
    bootstrap: String,
}

impl Cluster {
    /// Sees that a broker answers there.
    pub(crate) async fn reach(bootstrap: &str) -> Result<Self, KafkaError> {
        Connection::open(bootstrap).await?;
        Ok(Self {
            bootstrap: bootstrap.to_owned(),
        })
    }

    /// Makes a topic and waits until its partitions have leaders. Its id is zero where the
    /// broker does not tell.
    pub(crate) async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Result<TopicId, KafkaError> {
        let mut connection = Connection::open(&self.bootstrap).await?;
        let api = ApiKey::CreateTopics;
        let by_default = connection.version(api)? >= DEFAULT_REPLICATION_SINCE;
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        });
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            replication_factor: if by_default { -1 } else { 1 },
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: CHANGE_MS,
            ..CreateTopicsRequest::default()
        };
        let Response::CreateTopics(mut answer) = connection.call(request).await? else {
            unreachable!("an answer is of the API that it was decoded as")
        };
        let made = answer.topics.pop();
        let made = made.ok_or(KafkaError::Protocol("an answer without the topic"))?;
        accepted(api, made.error_code, made.error_message)?;
        self.await_leaders(name, partitions).await?;
        Ok(made.topic_id)
    }

    /// Deletes a topic.
    pub(crate) async fn delete_topic(&self, name: &str) -> Result<(), KafkaError> {
        let mut connection = Connection::open(&self.bootstrap).await?;
        let request = DeleteTopicsRequest {
            topic_names: vec![name.to_owned()],
            timeout_ms: CHANGE_MS,
            ..DeleteTopicsRequest::default()
        };
        let Response::DeleteTopics(mut answer) = connection.call(request).await? else {
            unreachable!("an answer is of the API that it was decoded as")
        };
        let gone = answer.responses.pop();
        let gone = gone.ok_or(KafkaError::Protocol("an answer without the topic"))?;
        accepted(ApiKey::DeleteTopics, gone.error_code, gone.error_message)
    }

    /// The offset after the last record that consumers see.
    pub(crate) async fn end(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<Offset, KafkaError> {
        let mut connection = self.connect_to_leader(topic, partition).await?;
        let asked = ListOffsetsPartition {
            partition_index: index(partition),
            timestamp: LATEST,
            ..ListOffsetsPartition::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: vec![asked],
            }],
            ..ListOffsetsRequest::default()
        };
        let Response::ListOffsets(mut answer) = connection.call(request).await? else {
            unreachable!("an answer is of the API that it was decoded as")
        };
        let found = answer.topics.pop().and_then(|mut of| of.partitions.pop());
        let found = found.ok_or(KafkaError::Protocol("an answer without the partition"))?;
        accepted(ApiKey::ListOffsets, found.error_code, None)?;
        let offset = u64::try_from(found.offset);
        Ok(Offset(offset.map_err(|_| {
            KafkaError::Protocol("the end of a partition is negative")
        })?))
    }

    /// A producer of a partition.
    pub(crate) async fn producer(
        &self,
        topic: &str,
        partition: PartitionId,
        acks: AcksOption,
    ) -> Result<(ProduceSender, ProduceAcks), KafkaError> {
        let connection = self.connect_to_leader(topic, partition).await?;
        produce::halves(connection, topic, index(partition), acks)
    }

    /// A consumer of a partition from this offset on, asking for up to `max_bytes` at a time.
    pub(crate) async fn consumer(
        &self,
        topic: &str,
        partition: PartitionId,
        position: Offset,
        max_bytes: u64,
    ) -> Result<FetchStream, KafkaError> {
        let connection = self.connect_to_leader(topic, partition).await?;
        FetchStream::new(connection, (topic, index(partition)), position, max_bytes)
    }

    async fn connect_to_leader(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<Connection, KafkaError> {
        let mut connection = Connection::open(&self.bootstrap).await?;
        let found = metadata(&mut connection, topic).await?;
        let mut partitions = found.topics.iter().flat_map(|topic| &topic.partitions);
        let leader = partitions
            .find(|of| of.partition_index == index(partition))
            .and_then(|of| found.brokers.iter().find(|to| to.node_id == of.leader_id))
            .ok_or(KafkaError::NoLeader)?;
        Connection::open(&format!("{}:{}", leader.host, leader.port)).await
    }

    /// Waits until each partition answers at its leader: the metadata may name a leader that
    /// does not know of it yet.
    async fn await_leaders(&self, topic: &str, partitions: u32) -> Result<(), KafkaError> {
        let deadline = Instant::now() + LEADER_WAIT;
        for partition in (0..partitions).map(PartitionId) {
            while let Err(error) = self.end(topic, partition).await {
                if !not_yet(&error) {
                    return Err(error);
                }
                if Instant::now() > deadline {
                    return Err(KafkaError::TimedOut("the election of leaders"));
                }
                tokio::time::sleep(LEADER_POLL).await;
            }
        }
        Ok(())
    }
}

/// Whether the reason is that the topic is new.
fn not_yet(error: &KafkaError) -> bool {
    match error {
        KafkaError::NoLeader => true,
        KafkaError::Refused { code, .. } => matches!(
            code,
            ErrorCode::NotLeaderOrFollower | ErrorCode::UnknownTopicOrPartition
        ),
        _ => false,
    }
}

async fn metadata(
    connection: &mut Connection,
    topic: &str,
) -> Result<MetadataResponse, KafkaError> {
    let asked = MetadataRequestTopic {
        name: Some(topic.to_owned()),
        ..MetadataRequestTopic::default()
    };
    // Versions below 4 cannot say so, and there the topic has been made already.
    let allow_auto_topic_creation = connection.version(ApiKey::Metadata)? < 4;
    let request = MetadataRequest {
        topics: Some(vec![asked]),
        allow_auto_topic_creation,
        ..MetadataRequest::default()
    };
    let Response::Metadata(found) = connection.call(request).await? else {
        unreachable!("an answer is of the API that it was decoded as")
    };
    Ok(found)
}

fn index(partition: PartitionId) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}
