//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: groups whose members do the assignment.

use std::rc::Rc;

use futures_lite::future::or;
use millrace_groups::{
    Heartbeat, JoinGroup, JoinedGroup, LeaveGroup, LeavingMember, Request, Response, SyncGroup,
};
use millrace_kafka::{
    ApiVersionsRequest, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    JoinGroupResponseMember, LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use millrace_model::ErrorCode;

use super::super::context::RequestContext;
use super::{client, failure};
use crate::shard::Shard;

/// JoinGroup: the answer comes when the generation is complete.
pub(in super::super) async fn join_group(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let version = context.version;
    let member_id = request.member_id.clone();
    let protocols = request.protocols.into_iter();
    let join = JoinGroup {
        group: request.group_id,
        member: request.member_id,
        // A static member is known by its instance.
        needs_member_id: version >= 4 && request.group_instance_id.is_none(),
        instance: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocols: protocols.map(|p| (p.name, p.metadata)).collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match version {
            // There was one timeout for both.
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        can_skip_assignment: version >= 9,
        reason: request.reason,
    };
    let asked = shard.groups().ask(client(context), Request::Join(join));
    match asked.await {
        Response::Joined(joined) => joined_response(joined, version),
        Response::MemberIdRequired { member } => {
            refused_join(ErrorCode::MemberIdRequired, member, version)
        }
        other => refused_join(failure(other).code, member_id, version),
    }
}

fn joined_response(joined: JoinedGroup, version: i16) -> JoinGroupResponse {
    let members = joined.members.into_iter();
    JoinGroupResponse {
        error_code: ErrorCode::None as i16,
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name: nullable(joined.protocol_name, version),
        leader: joined.leader,
        skip_assignment: joined.skip_assignment && version >= 9,
        member_id: joined.member,
        members: members
            .map(|member| JoinGroupResponseMember {
                member_id: member.member,
                group_instance_id: member.instance,
                metadata: member.metadata,
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}

fn refused_join(code: ErrorCode, member_id: String, version: i16) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: code as i16,
        protocol_name: nullable(None, version),
        member_id,
        ..JoinGroupResponse::default()
    }
}

/// The name of a protocol, which may be null from version 7 on.
fn nullable(name: Option<String>, version: i16) -> Option<String> {
    name.or_else(|| (version < 7).then(String::new))
}

/// SyncGroup: the answer comes when the leader has handed in the assignment.
pub(in super::super) async fn sync_group(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let assignments = request.assignments.into_iter();
    let sync = SyncGroup {
        group: request.group_id,
        generation: request.generation_id,
        member: request.member_id,
        instance: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignments: assignments
            .map(|to| (to.member_id, to.assignment))
            .collect(),
    };
    let asked = shard.groups().ask(client(context), Request::Sync(sync));
    match asked.await {
        Response::Synced {
            protocol_type,
            protocol_name,
            assignment,
        } => SyncGroupResponse {
            protocol_type,
            protocol_name,
            assignment,
            ..SyncGroupResponse::default()
        },
        other => SyncGroupResponse {
            error_code: failure(other).code as i16,
            ..SyncGroupResponse::default()
        },
    }
}

/// Clients, by the name of their software, to whose heartbeats the answer may wait for news.
///
/// - `apache-kafka-java`: a thread of its own sends a heartbeat each interval, whether or not the one before was answered
///   (so the next one releases it), on a connection that only the coordinator's requests use. Up to 100 requests may be in
///   flight there, and the oldest fails after `request.timeout.ms`, 30 s by default. It counts its session from the last
///   answer. On a rebalance it joins again if it is in the generation that it asked about, else it passes over the answer.
///   Before it closes without leaving the group it waits for what is in flight.
///
/// Not `kafkajs`, which reads nothing while it waits for the answer; nor `librdkafka`, which sends no heartbeat while one is
/// in flight, so that one which waits too long makes the next come late.
const PATIENT_CLIENTS: [&str; 1] = ["apache-kafka-java"];

/// Whether the client that says this of itself lets a heartbeat wait. Clients that say nothing are taken for those that do not.
pub(in super::super) fn is_patient(hello: &ApiVersionsRequest) -> bool {
    PATIENT_CLIENTS.contains(&hello.client_software_name.as_str())
}

/// Heartbeat: the answer may come with the next news of the group.
pub(in super::super) async fn heartbeat(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        group: request.group_id,
        generation: request.generation_id,
        member: request.member_id,
        instance: request.group_instance_id,
        can_wait: context.behind.is_some(),
    };
    let (client, request) = (client(context), Request::Heartbeat(heartbeat));
    let answer = match &context.behind {
        None => shard.groups().ask(client, request).await,
        Some(behind) => {
            let (came, ended) = (behind.clone().came(), behind.clone().ended());
            let asked = shard.groups().ask_until(client, request, came);
            // Who hangs up may not want to wait, and the coordinator shall know it.
            let hung_up = async {
                ended.await;
                Response::Done
            };
            or(asked, hung_up).await
        }
    };
    let code = match answer {
        Response::Done => ErrorCode::None,
        other => failure(other).code,
    };
    HeartbeatResponse {
        error_code: code as i16,
        ..HeartbeatResponse::default()
    }
}

/// LeaveGroup: one member up to version 2, any number later.
pub(in super::super) async fn leave_group(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let is_single = context.version < 3;
    let members: Vec<LeavingMember> = match is_single {
        true => vec![LeavingMember {
            member: request.member_id,
            instance: None,
            reason: None,
        }],
        false => {
            let members = request.members.into_iter();
            let leaving = members.map(|member| LeavingMember {
                member: member.member_id,
                instance: member.group_instance_id,
                reason: member.reason,
            });
            leaving.collect()
        }
    };
    let leave = LeaveGroup {
        group: request.group_id,
        members: members.clone(),
    };
    let asked = shard.groups().ask(client(context), Request::Leave(leave));
    let (code, members) = match asked.await {
        Response::Left(codes) if is_single => (
            codes.first().copied().unwrap_or(ErrorCode::None),
            Vec::new(),
        ),
        Response::Left(codes) => {
            let left = members.into_iter().zip(codes);
            let left = left.map(|(member, code)| MemberResponse {
                member_id: member.member,
                group_instance_id: member.instance,
                error_code: code as i16,
            });
            (ErrorCode::None, left.collect())
        }
        other => (failure(other).code, Vec::new()),
    };
    LeaveGroupResponse {
        error_code: code as i16,
        members,
        ..LeaveGroupResponse::default()
    }
}
