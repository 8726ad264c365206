//! Who leads partitions and who holds them, as an administrator changes it: ElectLeaders,
//! AlterPartitionReassignments and ListPartitionReassignments.

use crate::table::{empty, messages};

messages! {
    /// Request of ElectLeaders.
    ElectLeadersRequest {
        election_type: i8 [1..],
        topic_partitions: Option<Vec<ElectLeadersTopicPartitions>> = empty(),
        timeout_ms: i32 = 60000,
    }

    /// Part of [`ElectLeadersRequest`].
    ElectLeadersTopicPartitions {
        topic: String,
        partitions: Vec<i32>,
    }

    /// Response of ElectLeaders.
    ElectLeadersResponse {
        throttle_time_ms: i32,
        error_code: i16 [1.., else omitted],
        replica_election_results: Vec<ReplicaElectionResult>,
    }

    /// Part of [`ElectLeadersResponse`].
    ReplicaElectionResult {
        topic: String,
        partition_result: Vec<ElectionPartitionResult>,
    }

    /// Part of [`ElectLeadersResponse`].
    ElectionPartitionResult {
        partition_id: i32,
        error_code: i16,
        error_message: Option<String> = empty(),
    }

    /// Request of AlterPartitionReassignments.
    AlterPartitionReassignmentsRequest {
        timeout_ms: i32 = 60000,
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<ReassignableTopic>,
    }

    /// Part of [`AlterPartitionReassignmentsRequest`].
    ReassignableTopic {
        name: String,
        partitions: Vec<ReassignablePartition>,
    }

    /// Part of [`AlterPartitionReassignmentsRequest`].
    ReassignablePartition {
        partition_index: i32,
        replicas: Option<Vec<i32>>,
    }

    /// Response of AlterPartitionReassignments.
    AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32,
        allow_replication_factor_change: bool [1.., else omitted] = true,
        error_code: i16,
        error_message: Option<String> = empty(),
        responses: Vec<ReassignableTopicResponse>,
    }

    /// Part of [`AlterPartitionReassignmentsResponse`].
    ReassignableTopicResponse {
        name: String,
        partitions: Vec<ReassignablePartitionResponse>,
    }

    /// Part of [`AlterPartitionReassignmentsResponse`].
    ReassignablePartitionResponse {
        partition_index: i32,
        error_code: i16,
        error_message: Option<String> = empty(),
    }

    /// Request of ListPartitionReassignments.
    ListPartitionReassignmentsRequest {
        timeout_ms: i32 = 60000,
        topics: Option<Vec<ListPartitionReassignmentsTopics>>,
    }

    /// Part of [`ListPartitionReassignmentsRequest`].
    ListPartitionReassignmentsTopics {
        name: String,
        partition_indexes: Vec<i32>,
    }

    /// Response of ListPartitionReassignments.
    ListPartitionReassignmentsResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String> = empty(),
        topics: Vec<OngoingTopicReassignment>,
    }

    /// Part of [`ListPartitionReassignmentsResponse`].
    OngoingTopicReassignment {
        name: String,
        partitions: Vec<OngoingPartitionReassignment>,
    }

    /// Part of [`ListPartitionReassignmentsResponse`].
    OngoingPartitionReassignment {
        partition_index: i32,
        replicas: Vec<i32>,
        adding_replicas: Vec<i32>,
        removing_replicas: Vec<i32>,
    }
}
