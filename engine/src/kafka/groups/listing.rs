//! DescribeGroups, ListGroups and DeleteGroups.

use std::rc::Rc;

use millrace_groups::{self as groups, GroupState, GroupType, Request, Response};
use millrace_kafka::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember, ListGroupsRequest,
    ListGroupsResponse, ListedGroup,
};
use millrace_model::ErrorCode;

use super::super::context::RequestContext;
use super::{client, failure, operations};
use crate::shard::Shard;

/// DescribeGroups: classic groups only, others are not found.
pub(in super::super) async fn describe_groups(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut described = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let describe = Request::Describe {
            group: group.clone(),
            only: Some(GroupType::Classic),
        };
        let mut entry = match shard.groups().ask(client(context), describe).await {
            Response::Described(group) => described_group(group),
            other => undescribed(group, failure(other), context.version),
        };
        entry.authorized_operations = operations(request.include_authorized_operations);
        described.push(entry);
    }
    DescribeGroupsResponse {
        groups: described,
        ..DescribeGroupsResponse::default()
    }
}

fn described_group(group: groups::DescribedGroup) -> DescribedGroup {
    let members = group.members.into_iter();
    DescribedGroup {
        group_id: group.group,
        group_state: group.state.name().to_owned(),
        protocol_type: group.protocol_type,
        protocol_data: group.protocol_name,
        members: members
            .map(|member| DescribedGroupMember {
                member_id: member.member,
                group_instance_id: member.instance,
                client_id: member.client.id,
                client_host: member.client.host,
                member_metadata: member.metadata,
                member_assignment: member.assignment,
            })
            .collect(),
        ..DescribedGroup::default()
    }
}

/// Up to version 5 a group that is not there is a dead one, and no error.
fn undescribed(group: String, failure: groups::Failure, version: i16) -> DescribedGroup {
    let is_missing = failure.code == ErrorCode::GroupIdNotFound;
    let code = match is_missing && version < 6 {
        true => ErrorCode::None,
        false => failure.code,
    };
    let state = if is_missing {
        GroupState::Dead.name()
    } else {
        ""
    };
    DescribedGroup {
        error_code: code as i16,
        error_message: failure.message,
        group_id: group,
        group_state: state.to_owned(),
        ..DescribedGroup::default()
    }
}

/// ListGroups: names of states and types that nobody knows match nothing.
pub(in super::super) async fn list_groups(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let listed = match shard.groups().ask(client(context), Request::List).await {
        Response::Listed(listed) => listed,
        other => {
            return ListGroupsResponse {
                error_code: failure(other).code as i16,
                ..ListGroupsResponse::default()
            };
        }
    };
    let wanted = |filter: &[String], name: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let groups = listed.into_iter().filter(|group| {
        wanted(&request.states_filter, group.state.name())
            && wanted(&request.types_filter, group.group_type.name())
    });
    let groups = groups.map(|group| ListedGroup {
        group_id: group.group,
        protocol_type: group.protocol_type,
        group_state: group.state.name().to_owned(),
        group_type: group.group_type.name().to_owned(),
    });
    ListGroupsResponse {
        groups: groups.collect(),
        ..ListGroupsResponse::default()
    }
}

/// DeleteGroups.
pub(in super::super) async fn delete_groups(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let delete = Request::Delete {
            group: group_id.clone(),
        };
        let code = match shard.groups().ask(client(context), delete).await {
            Response::Done => ErrorCode::None,
            other => failure(other).code,
        };
        results.push(DeletableGroupResult {
            group_id,
            error_code: code as i16,
        });
    }
    DeleteGroupsResponse {
        results,
        ..DeleteGroupsResponse::default()
    }
}
