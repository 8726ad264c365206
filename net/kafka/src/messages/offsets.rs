//! The offsets that groups commit: OffsetCommit, OffsetFetch and OffsetDelete.

use crate::table::{empty, messages};

messages! {
    /// Request of OffsetCommit.
    OffsetCommitRequest {
        group_id: String,
        generation_id_or_member_epoch: i32 = -1,
        member_id: String,
        group_instance_id: Option<String> [7..],
        retention_time_ms: i64 [2..=4, else omitted] = -1,
        topics: Vec<OffsetCommitRequestTopic>,
    }

    /// Part of [`OffsetCommitRequest`].
    OffsetCommitRequestTopic {
        name: String,
        partitions: Vec<OffsetCommitRequestPartition>,
    }

    /// Part of [`OffsetCommitRequest`].
    OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [6.., else omitted] = -1,
        committed_metadata: Option<String> = empty(),
    }

    /// Response of OffsetCommit.
    OffsetCommitResponse {
        throttle_time_ms: i32 [3.., else omitted],
        topics: Vec<OffsetCommitResponseTopic>,
    }

    /// Part of [`OffsetCommitResponse`].
    OffsetCommitResponseTopic {
        name: String,
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    /// Part of [`OffsetCommitResponse`].
    OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: i16,
    }

    /// Request of OffsetFetch.
    OffsetFetchRequest {
        group_id: String [1..=7],
        topics: Option<Vec<OffsetFetchRequestTopic>> [1..=7, null 2..=7] = empty(),
        groups: Vec<OffsetFetchRequestGroup> [8..],
        require_stable: bool [7..],
    }

    /// Part of [`OffsetFetchRequest`].
    OffsetFetchRequestTopic {
        name: String,
        partition_indexes: Vec<i32>,
    }

    /// Part of [`OffsetFetchRequest`].
    OffsetFetchRequestGroup {
        group_id: String,
        member_id: Option<String> [9.., else omitted],
        member_epoch: i32 [9.., else omitted] = -1,
        topics: Option<Vec<OffsetFetchRequestTopics>> = empty(),
    }

    /// Part of [`OffsetFetchRequest`].
    OffsetFetchRequestTopics {
        name: String,
        partition_indexes: Vec<i32>,
    }

    /// Response of OffsetFetch.
    OffsetFetchResponse {
        throttle_time_ms: i32 [3.., else omitted],
        topics: Vec<OffsetFetchResponseTopic> [1..=7],
        error_code: i16 [2..=7, else omitted],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    /// Part of [`OffsetFetchResponse`].
    OffsetFetchResponseTopic {
        name: String,
        partitions: Vec<OffsetFetchResponsePartition>,
    }

    /// Part of [`OffsetFetchResponse`].
    OffsetFetchResponsePartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [5.., else omitted] = -1,
        metadata: Option<String> = empty(),
        error_code: i16,
    }

    /// Part of [`OffsetFetchResponse`].
    OffsetFetchResponseGroup {
        group_id: String,
        topics: Vec<OffsetFetchResponseTopics>,
        error_code: i16,
    }

    /// Part of [`OffsetFetchResponse`].
    OffsetFetchResponseTopics {
        name: String,
        partitions: Vec<OffsetFetchResponsePartitions>,
    }

    /// Part of [`OffsetFetchResponse`].
    OffsetFetchResponsePartitions {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 = -1,
        metadata: Option<String> = empty(),
        error_code: i16,
    }

    /// Request of OffsetDelete.
    OffsetDeleteRequest {
        group_id: String,
        topics: Vec<OffsetDeleteRequestTopic>,
    }

    /// Part of [`OffsetDeleteRequest`].
    OffsetDeleteRequestTopic {
        name: String,
        partitions: Vec<OffsetDeleteRequestPartition>,
    }

    /// Part of [`OffsetDeleteRequest`].
    OffsetDeleteRequestPartition {
        partition_index: i32,
    }

    /// Response of OffsetDelete.
    OffsetDeleteResponse {
        error_code: i16,
        throttle_time_ms: i32,
        topics: Vec<OffsetDeleteResponseTopic>,
    }

    /// Part of [`OffsetDeleteResponse`].
    OffsetDeleteResponseTopic {
        name: String,
        partitions: Vec<OffsetDeleteResponsePartition>,
    }

    /// Part of [`OffsetDeleteResponse`].
    OffsetDeleteResponsePartition {
        partition_index: i32,
        error_code: i16,
    }
}
