//! Groups whose coordinator does the assignment: ConsumerGroupHeartbeat and ConsumerGroupDescribe.

use millrace_model::TopicId;

use crate::table::messages;

messages! {
    /// Request of ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeatRequest {
        group_id: String,
        member_id: String,
        member_epoch: i32,
        instance_id: Option<String>,
        rack_id: Option<String>,
        rebalance_timeout_ms: i32 = -1,
        subscribed_topic_names: Option<Vec<String>>,
        subscribed_topic_regex: Option<String> [1..],
        server_assignor: Option<String>,
        topic_partitions: Option<Vec<ConsumerGroupHeartbeatRequestTopicPartitions>>,
    }

    /// Part of [`ConsumerGroupHeartbeatRequest`].
    ConsumerGroupHeartbeatRequestTopicPartitions {
        topic_id: TopicId,
        partitions: Vec<i32>,
    }

    /// Response of ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeatResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        member_id: Option<String>,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        assignment: Option<ConsumerGroupHeartbeatAssignment>,
    }

    /// Part of [`ConsumerGroupHeartbeatResponse`].
    ConsumerGroupHeartbeatAssignment {
        topic_partitions: Vec<ConsumerGroupHeartbeatResponseTopicPartitions>,
    }

    /// Part of [`ConsumerGroupHeartbeatResponse`].
    ConsumerGroupHeartbeatResponseTopicPartitions {
        topic_id: TopicId,
        partitions: Vec<i32>,
    }

    /// Request of ConsumerGroupDescribe.
    ConsumerGroupDescribeRequest {
        group_ids: Vec<String>,
        include_authorized_operations: bool,
    }

    /// Response of ConsumerGroupDescribe.
    ConsumerGroupDescribeResponse {
        throttle_time_ms: i32,
        groups: Vec<ConsumerGroupDescribedGroup>,
    }

    /// Part of [`ConsumerGroupDescribeResponse`].
    ConsumerGroupDescribedGroup {
        error_code: i16,
        error_message: Option<String>,
        group_id: String,
        group_state: String,
        group_epoch: i32,
        assignment_epoch: i32,
        assignor_name: String,
        members: Vec<Member>,
        authorized_operations: i32 = i32::MIN,
    }

    /// Part of [`ConsumerGroupDescribeResponse`].
    Member {
        member_id: String,
        instance_id: Option<String>,
        rack_id: Option<String>,
        member_epoch: i32,
        client_id: String,
        client_host: String,
        subscribed_topic_names: Vec<String>,
        subscribed_topic_regex: Option<String>,
        assignment: ConsumerGroupDescribeAssignment,
        target_assignment: ConsumerGroupDescribeAssignment,
        member_type: i8 [1.., else omitted] = -1,
    }

    /// Part of [`ConsumerGroupDescribeResponse`].
    ConsumerGroupDescribeAssignment {
        topic_partitions: Vec<ConsumerGroupDescribeTopicPartitions>,
    }

    /// Part of [`ConsumerGroupDescribeResponse`].
    ConsumerGroupDescribeTopicPartitions {
        topic_id: TopicId,
        topic_name: String,
        partitions: Vec<i32>,
    }
}
