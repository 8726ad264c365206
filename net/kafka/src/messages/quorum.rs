//! The brokers and their metadata quorum, as an administrator sees and changes them: DescribeQuorum,
//! UpdateFeatures and UnregisterBroker.

use millrace_model::TopicId;

use crate::table::{empty, messages};

messages! {
    /// Request of DescribeQuorum.
    DescribeQuorumRequest {
        topics: Vec<DescribeQuorumTopic>,
    }

    /// Part of [`DescribeQuorumRequest`].
    DescribeQuorumTopic {
        topic_name: String,
        partitions: Vec<DescribeQuorumPartition>,
    }

    /// Part of [`DescribeQuorumRequest`].
    DescribeQuorumPartition {
        partition_index: i32,
    }

    /// Response of DescribeQuorum.
    DescribeQuorumResponse {
        error_code: i16,
        error_message: Option<String> [2.., else omitted] = empty(),
        topics: Vec<DescribeQuorumResponseTopic>,
        nodes: Vec<QuorumNode> [2.., else omitted],
    }

    /// Part of [`DescribeQuorumResponse`].
    DescribeQuorumResponseTopic {
        topic_name: String,
        partitions: Vec<DescribeQuorumResponsePartition>,
    }

    /// Part of [`DescribeQuorumResponse`].
    DescribeQuorumResponsePartition {
        partition_index: i32,
        error_code: i16,
        error_message: Option<String> [2.., else omitted] = empty(),
        leader_id: i32,
        leader_epoch: i32,
        high_watermark: i64,
        current_voters: Vec<QuorumReplicaState>,
        observers: Vec<QuorumReplicaState>,
    }

    /// Part of [`DescribeQuorumResponse`].
    QuorumReplicaState {
        replica_id: i32,
        replica_directory_id: TopicId [2.., else omitted],
        log_end_offset: i64,
        last_fetch_timestamp: i64 [1.., else omitted] = -1,
        last_caught_up_timestamp: i64 [1.., else omitted] = -1,
    }

    /// Part of [`DescribeQuorumResponse`].
    QuorumNode {
        node_id: i32,
        listeners: Vec<QuorumListener>,
    }

    /// Part of [`DescribeQuorumResponse`].
    QuorumListener {
        name: String,
        host: String,
        port: u16,
    }

    /// Request of UpdateFeatures.
    UpdateFeaturesRequest {
        timeout_ms: i32 = 60000,
        feature_updates: Vec<FeatureUpdateKey>,
        validate_only: bool [1..],
    }

    /// Part of [`UpdateFeaturesRequest`].
    FeatureUpdateKey {
        feature: String,
        max_version_level: i16,
        allow_downgrade: bool [0],
        upgrade_type: i8 [1..] = 1,
    }

    /// Response of UpdateFeatures.
    UpdateFeaturesResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String> = empty(),
        results: Vec<UpdatableFeatureResult> [0..=1, else omitted],
    }

    /// Part of [`UpdateFeaturesResponse`].
    UpdatableFeatureResult {
        feature: String,
        error_code: i16,
        error_message: Option<String> = empty(),
    }

    /// Request of UnregisterBroker.
    UnregisterBrokerRequest {
        broker_id: i32,
    }

    /// Response of UnregisterBroker.
    UnregisterBrokerResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String> = empty(),
    }
}
