//! Topics as an administrator makes them: CreateTopics, DeleteTopics, DeleteRecords and
//! CreatePartitions.

use millrace_model::TopicId;

use crate::table::{empty, messages};

messages! {
    /// Request of CreateTopics.
    CreateTopicsRequest {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32 = 60000,
        validate_only: bool,
    }

    /// Part of [`CreateTopicsRequest`].
    CreatableTopic {
        name: String,
        num_partitions: i32,
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }

    /// Part of [`CreateTopicsRequest`].
    CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }

    /// Part of [`CreateTopicsRequest`].
    CreatableTopicConfig {
        name: String,
        value: Option<String> = empty(),
    }

    /// Response of CreateTopics.
    CreateTopicsResponse {
        throttle_time_ms: i32,
        topics: Vec<CreatableTopicResult>,
    }

    /// Part of [`CreateTopicsResponse`].
    CreatableTopicResult {
        name: String,
        topic_id: TopicId [7.., else omitted],
        error_code: i16,
        error_message: Option<String> = empty(),
        topic_config_error_code: i16 [5.., tag 0, else omitted],
        num_partitions: i32 [5.., else omitted] = -1,
        replication_factor: i16 [5.., else omitted] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5.., else omitted] = empty(),
    }

    /// Part of [`CreateTopicsResponse`].
    CreatableTopicConfigs {
        name: String,
        value: Option<String> = empty(),
        read_only: bool,
        config_source: i8 = -1,
        is_sensitive: bool,
    }

    /// Request of DeleteTopics.
    DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<String> [1..=5, else omitted],
        timeout_ms: i32,
    }

    /// Part of [`DeleteTopicsRequest`].
    DeleteTopicState {
        name: Option<String>,
        topic_id: TopicId,
    }

    /// Response of DeleteTopics.
    DeleteTopicsResponse {
        throttle_time_ms: i32,
        responses: Vec<DeletableTopicResult>,
    }

    /// Part of [`DeleteTopicsResponse`].
    DeletableTopicResult {
        name: Option<String> [_, null 6..] = empty(),
        topic_id: TopicId [6.., else omitted],
        error_code: i16,
        error_message: Option<String> [5.., else omitted],
    }

    /// Request of DeleteRecords.
    DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic>,
        timeout_ms: i32,
    }

    /// Part of [`DeleteRecordsRequest`].
    DeleteRecordsTopic {
        name: String,
        partitions: Vec<DeleteRecordsPartition>,
    }

    /// Part of [`DeleteRecordsRequest`].
    DeleteRecordsPartition {
        partition_index: i32,
        offset: i64,
    }

    /// Response of DeleteRecords.
    DeleteRecordsResponse {
        throttle_time_ms: i32,
        topics: Vec<DeleteRecordsTopicResult>,
    }

    /// Part of [`DeleteRecordsResponse`].
    DeleteRecordsTopicResult {
        name: String,
        partitions: Vec<DeleteRecordsPartitionResult>,
    }

    /// Part of [`DeleteRecordsResponse`].
    DeleteRecordsPartitionResult {
        partition_index: i32,
        low_watermark: i64,
        error_code: i16,
    }

    /// Request of CreatePartitions.
    CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>,
        timeout_ms: i32,
        validate_only: bool,
    }

    /// Part of [`CreatePartitionsRequest`].
    CreatePartitionsTopic {
        name: String,
        count: i32,
        assignments: Option<Vec<CreatePartitionsAssignment>> = empty(),
    }

    /// Part of [`CreatePartitionsRequest`].
    CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }

    /// Response of CreatePartitions.
    CreatePartitionsResponse {
        throttle_time_ms: i32,
        results: Vec<CreatePartitionsTopicResult>,
    }

    /// Part of [`CreatePartitionsResponse`].
    CreatePartitionsTopicResult {
        name: String,
        error_code: i16,
        error_message: Option<String>,
    }
}
