//! What a client asks about the cluster: Metadata, ApiVersions, DescribeLogDirs, DescribeCluster and
//! DescribeTopicPartitions.

use millrace_model::TopicId;

use crate::table::{empty, messages};

messages! {
    /// Request of Metadata.
    MetadataRequest {
        topics: Option<Vec<MetadataRequestTopic>> [_, null 1..] = empty(),
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    /// Part of [`MetadataRequest`].
    MetadataRequestTopic {
        topic_id: TopicId [10.., else omitted],
        name: Option<String> [_, null 10..] = empty(),
    }

    /// Response of Metadata.
    MetadataResponse {
        throttle_time_ms: i32 [3.., else omitted],
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<String> [2.., else omitted],
        controller_id: i32 [1.., else omitted] = -1,
        topics: Vec<MetadataResponseTopic>,
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        error_code: i16 [13.., else omitted],
    }

    /// Part of [`MetadataResponse`].
    MetadataResponseBroker {
        node_id: i32,
        host: String,
        port: i32,
        rack: Option<String> [1.., else omitted],
    }

    /// Part of [`MetadataResponse`].
    MetadataResponseTopic {
        error_code: i16,
        name: Option<String> [_, null 12..] = empty(),
        topic_id: TopicId [10.., else omitted],
        is_internal: bool [1.., else omitted],
        partitions: Vec<MetadataResponsePartition>,
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    /// Part of [`MetadataResponse`].
    MetadataResponsePartition {
        error_code: i16,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7.., else omitted] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5.., else omitted],
    }

    /// Request of ApiVersions.
    ApiVersionsRequest {
        client_software_name: String [3.., else omitted],
        client_software_version: String [3.., else omitted],
    }

    /// Response of ApiVersions.
    ApiVersionsResponse {
        error_code: i16,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1.., else omitted],
        supported_features: Vec<SupportedFeatureKey> [3.., tag 0, else omitted],
        finalized_features_epoch: i64 [3.., tag 1, else omitted] = -1,
        finalized_features: Vec<FinalizedFeatureKey> [3.., tag 2, else omitted],
        zk_migration_ready: bool [3.., tag 3, else omitted],
    }

    /// Part of [`ApiVersionsResponse`].
    ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    /// Part of [`ApiVersionsResponse`].
    SupportedFeatureKey {
        name: String,
        min_version: i16,
        max_version: i16,
    }

    /// Part of [`ApiVersionsResponse`].
    FinalizedFeatureKey {
        name: String,
        max_version_level: i16,
        min_version_level: i16,
    }

    /// Request of DescribeLogDirs.
    DescribeLogDirsRequest {
        topics: Option<Vec<DescribableLogDirTopic>> = empty(),
    }

    /// Part of [`DescribeLogDirsRequest`].
    DescribableLogDirTopic {
        topic: String,
        partitions: Vec<i32>,
    }

    /// Response of DescribeLogDirs.
    DescribeLogDirsResponse {
        throttle_time_ms: i32,
        error_code: i16 [3.., else omitted],
        results: Vec<DescribeLogDirsResult>,
    }

    /// Part of [`DescribeLogDirsResponse`].
    DescribeLogDirsResult {
        error_code: i16,
        log_dir: String,
        topics: Vec<DescribeLogDirsTopic>,
        total_bytes: i64 [4.., else omitted] = -1,
        usable_bytes: i64 [4.., else omitted] = -1,
    }

    /// Part of [`DescribeLogDirsResponse`].
    DescribeLogDirsTopic {
        name: String,
        partitions: Vec<DescribeLogDirsPartition>,
    }

    /// Part of [`DescribeLogDirsResponse`].
    DescribeLogDirsPartition {
        partition_index: i32,
        partition_size: i64,
        offset_lag: i64,
        is_future_key: bool,
    }

    /// Request of DescribeCluster.
    DescribeClusterRequest {
        include_cluster_authorized_operations: bool,
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    /// Response of DescribeCluster.
    DescribeClusterResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        endpoint_type: i8 [1..] = 1,
        cluster_id: String,
        controller_id: i32 = -1,
        brokers: Vec<DescribeClusterBroker>,
        cluster_authorized_operations: i32 = i32::MIN,
    }

    /// Part of [`DescribeClusterResponse`].
    DescribeClusterBroker {
        broker_id: i32,
        host: String,
        port: i32,
        rack: Option<String>,
        is_fenced: bool [2..],
    }

    /// Request of DescribeTopicPartitions.
    DescribeTopicPartitionsRequest {
        topics: Vec<DescribeTopicPartitionsTopicRequest>,
        response_partition_limit: i32 = 2000,
        cursor: Option<Cursor>,
    }

    /// Part of [`DescribeTopicPartitionsRequest`].
    DescribeTopicPartitionsTopicRequest {
        name: String,
    }

    /// Part of [`DescribeTopicPartitionsRequest`].
    Cursor {
        topic_name: String,
        partition_index: i32,
    }

    /// Response of DescribeTopicPartitions.
    DescribeTopicPartitionsResponse {
        throttle_time_ms: i32,
        topics: Vec<DescribeTopicPartitionsResponseTopic>,
        next_cursor: Option<Cursor>,
    }

    /// Part of [`DescribeTopicPartitionsResponse`].
    DescribeTopicPartitionsResponseTopic {
        error_code: i16,
        name: Option<String> = empty(),
        topic_id: TopicId,
        is_internal: bool,
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        topic_authorized_operations: i32 = i32::MIN,
    }

    /// Part of [`DescribeTopicPartitionsResponse`].
    DescribeTopicPartitionsResponsePartition {
        error_code: i16,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_elr: Option<Vec<i32>>,
        offline_replicas: Vec<i32>,
    }
}
