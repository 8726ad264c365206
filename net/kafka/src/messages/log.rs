//! What producers and consumers say about the log of a partition: Produce, Fetch, ListOffsets,
//! InitProducerId, OffsetForLeaderEpoch and DescribeProducers.

use bytes::Bytes;
use millrace_model::TopicId;

use crate::record_set::RecordSet;
use crate::table::{empty, messages};

messages! {
    /// Request of Produce.
    ProduceRequest {
        transactional_id: Option<String>,
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }

    /// Part of [`ProduceRequest`].
    TopicProduceData {
        name: String [3..=12, else omitted],
        topic_id: TopicId [13.., else omitted],
        partition_data: Vec<PartitionProduceData>,
    }

    /// Part of [`ProduceRequest`].
    PartitionProduceData {
        index: i32,
        records: Option<Bytes> = empty(),
    }

    /// Response of Produce.
    ProduceResponse {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32,
        node_endpoints: Vec<ProduceNodeEndpoint> [10.., tag 0],
    }

    /// Part of [`ProduceResponse`].
    TopicProduceResponse {
        name: String [3..=12, else omitted],
        topic_id: TopicId [13.., else omitted],
        partition_responses: Vec<PartitionProduceResponse>,
    }

    /// Part of [`ProduceResponse`].
    PartitionProduceResponse {
        index: i32,
        error_code: i16,
        base_offset: i64,
        log_append_time_ms: i64 = -1,
        log_start_offset: i64 [5.., else omitted] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [8.., else omitted],
        error_message: Option<String> [8.., else omitted],
        current_leader: ProduceLeaderIdAndEpoch [10.., tag 0],
    }

    /// Part of [`ProduceResponse`].
    BatchIndexAndErrorMessage {
        batch_index: i32,
        batch_index_error_message: Option<String>,
    }

    /// Part of [`ProduceResponse`].
    ProduceLeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    /// Part of [`ProduceResponse`].
    ProduceNodeEndpoint {
        node_id: i32,
        host: String,
        port: i32,
        rack: Option<String>,
    }

    /// Request of Fetch.
    FetchRequest {
        cluster_id: Option<String> [12.., tag 0, else omitted],
        replica_id: i32 [4..=14] = -1,
        replica_state: ReplicaState [15.., tag 1],
        max_wait_ms: i32,
        min_bytes: i32,
        max_bytes: i32 = i32::MAX,
        isolation_level: i8,
        session_id: i32 [7.., else omitted],
        session_epoch: i32 [7.., else omitted] = -1,
        topics: Vec<FetchTopic>,
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: String [11.., else omitted],
    }

    /// Part of [`FetchRequest`].
    ReplicaState {
        replica_id: i32 = -1,
        replica_epoch: i64 = -1,
    }

    /// Part of [`FetchRequest`].
    FetchTopic {
        topic: String [4..=12, else omitted],
        topic_id: TopicId [13.., else omitted],
        partitions: Vec<FetchPartition>,
    }

    /// Part of [`FetchRequest`].
    FetchPartition {
        partition: i32,
        current_leader_epoch: i32 [9.., else omitted] = -1,
        fetch_offset: i64,
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5.., else omitted] = -1,
        partition_max_bytes: i32,
        replica_directory_id: TopicId [17.., tag 0, else omitted],
        high_watermark: i64 [18.., tag 1, else omitted] = i64::MAX,
    }

    /// Part of [`FetchRequest`].
    ForgottenTopic {
        topic: String [7..=12, else omitted],
        topic_id: TopicId [13.., else omitted],
        partitions: Vec<i32>,
    }

    /// Response of Fetch.
    FetchResponse {
        throttle_time_ms: i32,
        error_code: i16 [7.., else omitted],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse>,
        node_endpoints: Vec<FetchNodeEndpoint> [16.., tag 0],
    }

    /// Part of [`FetchResponse`].
    FetchableTopicResponse {
        topic: String [4..=12, else omitted],
        topic_id: TopicId [13.., else omitted],
        partitions: Vec<PartitionData>,
    }

    /// Part of [`FetchResponse`].
    PartitionData {
        partition_index: i32,
        error_code: i16,
        high_watermark: i64,
        last_stable_offset: i64 = -1,
        log_start_offset: i64 [5.., else omitted] = -1,
        diverging_epoch: FetchEpochEndOffset [12.., tag 0],
        current_leader: FetchLeaderIdAndEpoch [12.., tag 1],
        snapshot_id: SnapshotId [12.., tag 2],
        aborted_transactions: Option<Vec<AbortedTransaction>> = empty(),
        preferred_read_replica: i32 [11..] = -1,
        records: RecordSet,
    }

    /// Part of [`FetchResponse`].
    FetchEpochEndOffset {
        epoch: i32 = -1,
        end_offset: i64 = -1,
    }

    /// Part of [`FetchResponse`].
    FetchLeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    /// Part of [`FetchResponse`].
    SnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }

    /// Part of [`FetchResponse`].
    AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    /// Part of [`FetchResponse`].
    FetchNodeEndpoint {
        node_id: i32,
        host: String,
        port: i32,
        rack: Option<String>,
    }

    /// Request of ListOffsets.
    ListOffsetsRequest {
        replica_id: i32,
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 [10.., else omitted],
    }

    /// Part of [`ListOffsetsRequest`].
    ListOffsetsTopic {
        name: String,
        partitions: Vec<ListOffsetsPartition>,
    }

    /// Part of [`ListOffsetsRequest`].
    ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4.., else omitted] = -1,
        timestamp: i64,
    }

    /// Response of ListOffsets.
    ListOffsetsResponse {
        throttle_time_ms: i32 [2.., else omitted],
        topics: Vec<ListOffsetsTopicResponse>,
    }

    /// Part of [`ListOffsetsResponse`].
    ListOffsetsTopicResponse {
        name: String,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    /// Part of [`ListOffsetsResponse`].
    ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: i16,
        timestamp: i64 = -1,
        offset: i64 = -1,
        leader_epoch: i32 [4..] = -1,
    }

    /// Request of InitProducerId.
    InitProducerIdRequest {
        transactional_id: Option<String> = empty(),
        transaction_timeout_ms: i32,
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }

    /// Response of InitProducerId.
    InitProducerIdResponse {
        throttle_time_ms: i32,
        error_code: i16,
        producer_id: i64 = -1,
        producer_epoch: i16,
    }

    /// Request of OffsetForLeaderEpoch.
    OffsetForLeaderEpochRequest {
        replica_id: i32 [3.., else omitted] = -2,
        topics: Vec<OffsetForLeaderTopic>,
    }

    /// Part of [`OffsetForLeaderEpochRequest`].
    OffsetForLeaderTopic {
        topic: String,
        partitions: Vec<OffsetForLeaderPartition>,
    }

    /// Part of [`OffsetForLeaderEpochRequest`].
    OffsetForLeaderPartition {
        partition: i32,
        current_leader_epoch: i32 = -1,
        leader_epoch: i32,
    }

    /// Response of OffsetForLeaderEpoch.
    OffsetForLeaderEpochResponse {
        throttle_time_ms: i32,
        topics: Vec<OffsetForLeaderTopicResult>,
    }

    /// Part of [`OffsetForLeaderEpochResponse`].
    OffsetForLeaderTopicResult {
        topic: String,
        partitions: Vec<EpochEndOffset>,
    }

    /// Part of [`OffsetForLeaderEpochResponse`].
    EpochEndOffset {
        error_code: i16,
        partition: i32,
        leader_epoch: i32 = -1,
        end_offset: i64 = -1,
    }

    /// Request of DescribeProducers.
    DescribeProducersRequest {
        topics: Vec<DescribeProducersTopicRequest>,
    }

    /// Part of [`DescribeProducersRequest`].
    DescribeProducersTopicRequest {
        name: String,
        partition_indexes: Vec<i32>,
    }

    /// Response of DescribeProducers.
    DescribeProducersResponse {
        throttle_time_ms: i32,
        topics: Vec<DescribeProducersTopicResponse>,
    }

    /// Part of [`DescribeProducersResponse`].
    DescribeProducersTopicResponse {
        name: String,
        partitions: Vec<DescribeProducersPartitionResponse>,
    }

    /// Part of [`DescribeProducersResponse`].
    DescribeProducersPartitionResponse {
        partition_index: i32,
        error_code: i16,
        error_message: Option<String>,
        active_producers: Vec<ProducerState>,
    }

    /// Part of [`DescribeProducersResponse`].
    ProducerState {
        producer_id: i64,
        producer_epoch: i32,
        last_sequence: i32 = -1,
        last_timestamp: i64 = -1,
        coordinator_epoch: i32,
        current_txn_start_offset: i64 = -1,
    }
}
