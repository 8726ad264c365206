//! Consumer groups in the native protocol: between its messages and those of the coordinators.
//!
//! What only one of the two knows is translated here: members get the names of the topics that they read,
//! and what classic members were assigned is read out of the bytes that their leader made for them.

use std::net::IpAddr;
use std::rc::Rc;

use millrace_groups as groups;
use millrace_groups::consumer::ConsumerProtocolAssignment;
use millrace_groups::{Client, GroupState, GroupType};
use millrace_model::ErrorCode;
use millrace_replication::Refusal;
use millrace_wire::{
    AssignedPartitions, CommittedOffset, DescribedGroup, DescribedMember, GroupAssignment,
    GroupCommit, GroupHeartbeat, GroupOffset, GroupRequest, GroupResponse, ListedGroup,
    MAX_MESSAGE_LEN, NO_EPOCH, OwnedPartitions, Response, TopicPartitions,
};

use crate::shard::Shard;

/// Groups in one part of the list take up to this; an id has 32,767 bytes at most, so that one fits always.
const PART_LEN: usize = MAX_MESSAGE_LEN / 2;

/// What a line of the list takes besides its words: four of them, each with an offset, a length and padding.
const LINE_LEN: usize = 64;

/// Characters of a client's id that are kept: it goes into the records of its group, which have room
/// for 32,767 bytes, and is there to be read.
const MAX_CLIENT_ID_CHARS: usize = 1024;

/// Answers one request of a client at this address.
pub(super) async fn answer(
    shard: &Rc<Shard>,
    peer: Option<IpAddr>,
    request: GroupRequest,
) -> Result<Response, Refusal> {
    let client = Client {
        id: client_id(&request),
        host: peer.map_or_else(String::new, |address| {
            format!("/{}", address.to_canonical())
        }),
    };
    let wanted = Wanted::of(&request);
    let response = shard.groups().ask(client, asked(request)).await;
    let response = told(shard, response, &wanted)?;
    Ok(Response::Group(Box::new(response)))
}

/// What the answer depends on besides the coordinator's.
enum Wanted {
    Nothing,
    /// The group, which the coordinator may not know.
    Group(String),
    /// A part of the groups: those after this one.
    After(String),
}

impl Wanted {
    fn of(request: &GroupRequest) -> Self {
        match request {
            GroupRequest::Describe { group } => Self::Group(group.clone()),
            GroupRequest::ListAfter { after } => Self::After(after.clone()),
            _ => Self::Nothing,
        }
    }
}

fn client_id(request: &GroupRequest) -> String {
    match request {
        GroupRequest::Heartbeat(heartbeat) => heartbeat
            .client_id
            .chars()
            .take(MAX_CLIENT_ID_CHARS)
            .collect(),
        _ => String::new(),
    }
}

fn asked(request: GroupRequest) -> groups::Request {
    match request {
        GroupRequest::Heartbeat(heartbeat) => {
            groups::Request::ConsumerHeartbeat(asked_heartbeat(heartbeat))
        }
        GroupRequest::Commit(commit) => groups::Request::Commit(asked_commit(commit)),
        GroupRequest::FetchOffsets { group, partitions } => {
            let by_topic = |of: TopicPartitions| (of.topic, of.partitions);
            groups::Request::FetchOffsets(groups::FetchOffsets {
                group,
                member: None,
                member_epoch: NO_EPOCH,
                partitions: partitions.map(|all| all.into_iter().map(by_topic).collect()),
                require_stable: false,
            })
        }
        GroupRequest::List | GroupRequest::ListAfter { .. } => groups::Request::List,
        GroupRequest::Describe { group } => groups::Request::Describe { group, only: None },
        GroupRequest::Delete { group } => groups::Request::Delete { group },
        GroupRequest::DeleteOffsets { group, partitions } => groups::Request::DeleteOffsets {
            group,
            partitions: partitions
                .into_iter()
                .flat_map(|of| {
                    let topic = of.topic;
                    let each = of.partitions.into_iter();
                    each.map(move |partition| (topic.clone(), partition))
                })
                .collect(),
        },
    }
}

fn asked_heartbeat(heartbeat: GroupHeartbeat) -> groups::ConsumerHeartbeat {
    let owned = heartbeat
        .owned
        .into_iter()
        .map(|OwnedPartitions { topic, partitions }| groups::OwnedPartitions { topic, partitions });
    groups::ConsumerHeartbeat {
        group: heartbeat.group,
        member: heartbeat.member,
        member_epoch: heartbeat.epoch,
        instance: heartbeat.instance,
        rack: heartbeat.rack,
        rebalance_timeout_ms: i32::try_from(heartbeat.rebalance_timeout_ms).unwrap_or(i32::MAX),
        subscribed_topics: Some(heartbeat.topics),
        // Empty takes a regular expression back.
        subscribed_regex: Some(heartbeat.pattern.unwrap_or_default()),
        assignor: heartbeat.assignor,
        owned: Some(owned.collect()),
    }
}

fn asked_commit(commit: GroupCommit) -> groups::CommitOffset {
    let offset = |offset: millrace_wire::CommitOffset| groups::AlterOffsets {
        topic: offset.topic,
        partition: offset.partition,
        committed: groups::CommittedOffset {
            offset: offset.committed.offset.into(),
            leader_epoch: offset.committed.leader_epoch,
            metadata: offset.committed.metadata,
        },
    };
    groups::CommitOffset {
        group: commit.group,
        generation_or_epoch: commit.epoch,
        member: commit.member,
        instance: commit.instance,
        retention_ms: None,
        offsets: commit.offsets.into_iter().map(offset).collect(),
    }
}

fn told(
    shard: &Shard,
    response: groups::Response,
    wanted: &Wanted,
) -> Result<GroupResponse, Refusal> {
    let numbers = |codes: Vec<ErrorCode>| codes.into_iter().map(|code| code as i16).collect();
    match response {
        groups::Response::Failed(failure) => {
            let message = failure
                .message
                .unwrap_or_else(|| reason(failure.code).into());
            Err(Refusal::new(failure.code, message))
        }
        groups::Response::Done => Ok(GroupResponse::Done),
        groups::Response::ConsumerHeartbeat {
            member: _,
            member_epoch,
            heartbeat_interval_ms,
            assignment,
        } => Ok(GroupResponse::Heartbeat(GroupAssignment {
            epoch: member_epoch,
            heartbeat_interval_ms,
            partitions: assignment.map(|all| all.into_iter().map(|of| named(shard, of)).collect()),
        })),
        groups::Response::Committed(codes) => Ok(GroupResponse::Committed(numbers(codes))),
        groups::Response::OffsetsDeleted(codes) => {
            Ok(GroupResponse::OffsetsDeleted(numbers(codes)))
        }
        groups::Response::Offsets(offsets) => Ok(GroupResponse::Offsets(
            offsets.into_iter().map(told_offset).collect(),
        )),
        groups::Response::Listed(groups) => {
            let mut listed: Vec<_> = groups.into_iter().map(told_listed).collect();
            listed.sort_by(|a, b| a.group.cmp(&b.group));
            Ok(match wanted {
                Wanted::After(after) => part_of(listed, after),
                _ => GroupResponse::Listed(listed),
            })
        }
        groups::Response::Described(group) if group.state == GroupState::Dead => {
            let name = match wanted {
                Wanted::Group(name) => name,
                _ => &group.group,
            };
            let message = format!("there is no group `{name}`");
            Err(Refusal::new(ErrorCode::GroupIdNotFound, message))
        }
        groups::Response::Described(group) => Ok(GroupResponse::Described(told_group(group))),
        groups::Response::MemberIdRequired { .. }
        | groups::Response::Joined(_)
        | groups::Response::Synced { .. }
        | groups::Response::Left(_) => {
            let message = "the coordinator has answered another request";
            Err(Refusal::new(ErrorCode::UnknownServerError, message))
        }
    }
}

/// What a code means where the coordinator has said no more.
fn reason(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::GroupIdNotFound => "there is no such group",
        ErrorCode::NonEmptyGroup => "the group has members",
        ErrorCode::UnknownMemberId => {
            "the group has no such member, or has members while none was named"
        }
        ErrorCode::FencedMemberEpoch => "the member was fenced",
        ErrorCode::UnreleasedInstanceId => "a living member has this instance id",
        ErrorCode::InvalidGroupId => "the group's id is not a legal one",
        _ => "the coordinator refuses it",
    }
}

/// A topic that this shard has not heard of yet has no name.
fn named(shard: &Shard, of: groups::OwnedPartitions) -> AssignedPartitions {
    let cluster = shard.topics().cluster();
    let topic = cluster.topic(of.topic);
    AssignedPartitions {
        id: of.topic,
        topic: topic.map_or_else(String::new, |topic| topic.name.to_string()),
        partitions: of.partitions,
    }
}

fn told_offset(offset: groups::DescribedOffset) -> GroupOffset {
    // A mark that a Kafka client left is no offset to this protocol.
    let committed = |committed: groups::CommittedOffset| {
        let offset = committed.offset.offset()?;
        Some(CommittedOffset {
            offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata,
        })
    };
    GroupOffset {
        topic: offset.topic,
        partition: offset.partition,
        committed: offset.committed.and_then(committed),
        code: offset.error as i16,
    }
}

fn told_listed(group: groups::ListedGroup) -> ListedGroup {
    ListedGroup {
        group: group.group,
        group_type: group.group_type.name().to_owned(),
        protocol_type: group.protocol_type,
        state: group.state.name().to_owned(),
    }
}

/// The first of the groups whose ids come after this one, as many as a message holds.
fn part_of(listed: Vec<ListedGroup>, after: &str) -> GroupResponse {
    // The empty id is one, and comes before all others.
    let is_after = |group: &ListedGroup| after.is_empty() || group.group.as_str() > after;
    let mut room = PART_LEN;
    let mut rest = listed.into_iter().filter(is_after).peekable();
    let mut groups = Vec::new();
    while let Some(group) = rest.next_if(|group| len_of(group) <= room) {
        room -= len_of(&group);
        groups.push(group);
    }
    let is_last = rest.peek().is_none();
    GroupResponse::ListedPart { groups, is_last }
}

/// The most that a line of the list takes in a message: its words, and where they are.
fn len_of(group: &ListedGroup) -> usize {
    let words = [
        &group.group,
        &group.group_type,
        &group.protocol_type,
        &group.state,
    ];
    LINE_LEN + words.map(String::len).iter().sum::<usize>()
}

fn told_group(group: groups::DescribedGroup) -> DescribedGroup {
    let is_consumer = group.group_type == GroupType::Consumer;
    let member = |member| told_member(member, is_consumer);
    DescribedGroup {
        group: group.group,
        group_type: group.group_type.name().to_owned(),
        protocol_type: group.protocol_type,
        state: group.state.name().to_owned(),
        assignor: group.protocol_name,
        epoch: group.epoch,
        target_epoch: is_consumer.then_some(group.assignment_epoch),
        members: group.members.into_iter().map(member).collect(),
    }
}

fn told_member(member: groups::DescribedMember, in_consumer_group: bool) -> DescribedMember {
    let by_topic = |assigned: Vec<(_, String, Vec<u32>)>| {
        let by_name = assigned.into_iter();
        by_name
            .map(|(_, topic, partitions)| TopicPartitions { topic, partitions })
            .collect()
    };
    let (current, target) = match member.consumer {
        Some(assignment) => (by_topic(assignment.current), by_topic(assignment.target)),
        None => {
            // Another protocol than the consumers' may have anything there.
            let assigned = classic_assignment(&member.assignment).unwrap_or_default();
            (assigned.clone(), assigned)
        }
    };
    DescribedMember {
        member: member.member,
        instance: member.instance,
        rack: member.rack,
        client_id: member.client.id,
        host: member.client.host,
        epoch: in_consumer_group.then_some(member.member_epoch),
        current,
        target,
    }
}

/// What the leader of a classic group has assigned, if it is a group of consumers.
fn classic_assignment(blob: &[u8]) -> Option<Vec<TopicPartitions>> {
    let assignment = ConsumerProtocolAssignment::decode(blob).ok()?;
    let assigned = assignment.partitions.into_iter();
    let assigned = assigned.map(|(topic, partitions)| TopicPartitions { topic, partitions });
    Some(assigned.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::StreamKind;

    fn line(group: String) -> ListedGroup {
        ListedGroup {
            group,
            group_type: "classic".to_owned(),
            protocol_type: "consumer".to_owned(),
            state: "CompletingRebalance".to_owned(),
        }
    }

    #[test]
    fn a_list_that_is_longer_than_a_message_comes_in_parts_that_fit() {
        let long = "x".repeat(30_000);
        let name = |at: usize| match at % 3 {
            0 => format!("{at:05}"),
            _ => format!("{at:05}{long}"),
        };
        let all: Vec<_> = (0..600).map(|at| line(name(at))).collect();
        let (mut seen, mut parts) = (Vec::new(), 0);
        loop {
            let after = seen.last().map_or("", |last: &ListedGroup| &last.group);
            let part = part_of(all.clone(), after);
            let message = Response::Group(Box::new(part.clone()));
            let message = millrace_wire::encode(StreamKind::Control, &message).unwrap();
            assert!(message.len() <= MAX_MESSAGE_LEN, "{}", message.len());
            let GroupResponse::ListedPart { groups, is_last } = part else {
                panic!("another answer");
            };
            parts += 1;
            seen.extend(groups);
            if is_last {
                break;
            }
        }
        assert!(parts > 3, "{parts}");
        assert_eq!(seen, all);
    }

    #[test]
    fn a_list_of_nothing_is_complete() {
        for (all, after) in [(Vec::new(), ""), (vec![line("a".to_owned())], "a")] {
            let part = part_of(all, after);
            let is_last = true;
            assert_eq!(
                part,
                GroupResponse::ListedPart {
                    groups: Vec::new(),
                    is_last
                }
            );
        }
    }

    #[test]
    fn what_a_classic_leader_has_assigned_is_read() {
        let blob =
            b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x07\0\x02bc\0\0\0\0\xff\xff\xff\xff";
        let expected =
            [("a", vec![0, 7]), ("bc", vec![])].map(|(topic, partitions)| TopicPartitions {
                topic: topic.to_owned(),
                partitions,
            });
        assert_eq!(classic_assignment(blob).unwrap(), expected);
        assert_eq!(classic_assignment(b""), Some(Vec::new()), "nothing yet");
        for len in 1..blob.len() - 4 {
            assert_eq!(classic_assignment(&blob[..len]), None, "{len} bytes");
        }
        assert_eq!(classic_assignment(b"\0\x01\x7f\xff\xff\xff"), None);
        assert_eq!(
            classic_assignment(b"\0\x01\0\0\0\x01\0\x01a\x7f\xff\xff\xff"),
            None
        );
    }
}
