//! Groups whose members do the assignment: FindCoordinator, JoinGroup, Heartbeat, LeaveGroup,
//! SyncGroup, DescribeGroups, ListGroups and DeleteGroups.

use bytes::Bytes;

use crate::table::{empty, messages};

messages! {
    /// Request of FindCoordinator.
    FindCoordinatorRequest {
        key: String [0..=3],
        key_type: i8 [1..],
        coordinator_keys: Vec<String> [4..],
    }

    /// Response of FindCoordinator.
    FindCoordinatorResponse {
        throttle_time_ms: i32 [1.., else omitted],
        error_code: i16 [0..=3],
        error_message: Option<String> [1..=3, else omitted] = empty(),
        node_id: i32 [0..=3],
        host: String [0..=3],
        port: i32 [0..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    /// Part of [`FindCoordinatorResponse`].
    Coordinator {
        key: String,
        node_id: i32,
        host: String,
        port: i32,
        error_code: i16,
        error_message: Option<String> = empty(),
    }

    /// Request of JoinGroup.
    JoinGroupRequest {
        group_id: String,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32 [1.., else omitted] = -1,
        member_id: String,
        group_instance_id: Option<String> [5..],
        protocol_type: String,
        protocols: Vec<JoinGroupRequestProtocol>,
        reason: Option<String> [8.., else omitted],
    }

    /// Part of [`JoinGroupRequest`].
    JoinGroupRequestProtocol {
        name: String,
        metadata: Bytes,
    }

    /// Response of JoinGroup.
    JoinGroupResponse {
        throttle_time_ms: i32 [2.., else omitted],
        error_code: i16,
        generation_id: i32 = -1,
        protocol_type: Option<String> [7.., else omitted],
        protocol_name: Option<String> [_, null 7..] = empty(),
        leader: String,
        skip_assignment: bool [9..],
        member_id: String,
        members: Vec<JoinGroupResponseMember>,
    }

    /// Part of [`JoinGroupResponse`].
    JoinGroupResponseMember {
        member_id: String,
        group_instance_id: Option<String> [5.., else omitted],
        metadata: Bytes,
    }

    /// Request of Heartbeat.
    HeartbeatRequest {
        group_id: String,
        generation_id: i32,
        member_id: String,
        group_instance_id: Option<String> [3..],
    }

    /// Response of Heartbeat.
    HeartbeatResponse {
        throttle_time_ms: i32 [1.., else omitted],
        error_code: i16,
    }

    /// Request of LeaveGroup.
    LeaveGroupRequest {
        group_id: String,
        member_id: String [0..=2],
        members: Vec<MemberIdentity> [3..],
    }

    /// Part of [`LeaveGroupRequest`].
    MemberIdentity {
        member_id: String,
        group_instance_id: Option<String>,
        reason: Option<String> [5.., else omitted],
    }

    /// Response of LeaveGroup.
    LeaveGroupResponse {
        throttle_time_ms: i32 [1.., else omitted],
        error_code: i16,
        members: Vec<MemberResponse> [3..],
    }

    /// Part of [`LeaveGroupResponse`].
    MemberResponse {
        member_id: String,
        group_instance_id: Option<String> = empty(),
        error_code: i16,
    }

    /// Request of SyncGroup.
    SyncGroupRequest {
        group_id: String,
        generation_id: i32,
        member_id: String,
        group_instance_id: Option<String> [3..],
        protocol_type: Option<String> [5.., else omitted],
        protocol_name: Option<String> [5.., else omitted],
        assignments: Vec<SyncGroupRequestAssignment>,
    }

    /// Part of [`SyncGroupRequest`].
    SyncGroupRequestAssignment {
        member_id: String,
        assignment: Bytes,
    }

    /// Response of SyncGroup.
    SyncGroupResponse {
        throttle_time_ms: i32 [1.., else omitted],
        error_code: i16,
        protocol_type: Option<String> [5.., else omitted],
        protocol_name: Option<String> [5.., else omitted],
        assignment: Bytes,
    }

    /// Request of DescribeGroups.
    DescribeGroupsRequest {
        groups: Vec<String>,
        include_authorized_operations: bool [3..],
    }

    /// Response of DescribeGroups.
    DescribeGroupsResponse {
        throttle_time_ms: i32 [1.., else omitted],
        groups: Vec<DescribedGroup>,
    }

    /// Part of [`DescribeGroupsResponse`].
    DescribedGroup {
        error_code: i16,
        error_message: Option<String> [6.., else omitted],
        group_id: String,
        group_state: String,
        protocol_type: String,
        protocol_data: String,
        members: Vec<DescribedGroupMember>,
        authorized_operations: i32 [3..] = i32::MIN,
    }

    /// Part of [`DescribeGroupsResponse`].
    DescribedGroupMember {
        member_id: String,
        group_instance_id: Option<String> [4.., else omitted],
        client_id: String,
        client_host: String,
        member_metadata: Bytes,
        member_assignment: Bytes,
    }

    /// Request of ListGroups.
    ListGroupsRequest {
        states_filter: Vec<String> [4..],
        types_filter: Vec<String> [5..],
    }

    /// Response of ListGroups.
    ListGroupsResponse {
        throttle_time_ms: i32 [1.., else omitted],
        error_code: i16,
        groups: Vec<ListedGroup>,
    }

    /// Part of [`ListGroupsResponse`].
    ListedGroup {
        group_id: String,
        protocol_type: String,
        group_state: String [4.., else omitted],
        group_type: String [5.., else omitted],
    }

    /// Request of DeleteGroups.
    DeleteGroupsRequest {
        groups_names: Vec<String>,
    }

    /// Response of DeleteGroups.
    DeleteGroupsResponse {
        throttle_time_ms: i32,
        results: Vec<DeletableGroupResult>,
    }

    /// Part of [`DeleteGroupsResponse`].
    DeletableGroupResult {
        group_id: String,
        error_code: i16,
    }
}
