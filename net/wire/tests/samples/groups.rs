//! One message of each kind that concerns consumer groups.

use millrace_model::{LeaderEpoch, Offset};
use millrace_wire::{
    AssignedPartitions, CommitOffset, CommittedOffset, DescribedGroup, DescribedMember,
    GroupAssignment, GroupCommit, GroupHeartbeat, GroupOffset, GroupRequest, GroupResponse,
    JOIN_EPOCH, ListedGroup, NO_EPOCH, OwnedPartitions, Request, Response, TopicPartitions,
};

fn partitions() -> Vec<TopicPartitions> {
    vec![TopicPartitions {
        topic: "orders".into(),
        partitions: vec![0, 7],
    }]
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: Offset(0x0102),
        leader_epoch: Some(LeaderEpoch(3)),
        metadata: "by a person".into(),
    }
}

pub(super) fn requests() -> Vec<(&'static str, Request)> {
    let group = || "billing".to_owned();
    let joining = GroupHeartbeat {
        group: group(),
        member: "member-0001".into(),
        epoch: JOIN_EPOCH,
        instance: None,
        rack: None,
        client_id: String::new(),
        rebalance_timeout_ms: 300_000,
        topics: vec!["orders".into()],
        pattern: None,
        assignor: None,
        owned: Vec::new(),
    };
    let staying = GroupHeartbeat {
        epoch: 5,
        instance: Some("till-1".into()),
        rack: Some("b".into()),
        client_id: "millctl".into(),
        topics: Vec::new(),
        pattern: Some("ord.*".into()),
        assignor: Some("uniform".into()),
        owned: vec![OwnedPartitions {
            topic: super::log().topic,
            partitions: vec![7, 8],
        }],
        ..joining.clone()
    };
    let commit = GroupCommit {
        group: group(),
        member: String::new(),
        epoch: NO_EPOCH,
        instance: None,
        offsets: vec![CommitOffset {
            topic: "orders".into(),
            partition: 7,
            committed: committed(),
        }],
    };
    let all = [
        ("group.join", GroupRequest::Heartbeat(joining)),
        ("group.heartbeat", GroupRequest::Heartbeat(staying)),
        ("group.commit", GroupRequest::Commit(commit)),
        (
            "group.fetch_all",
            GroupRequest::FetchOffsets {
                group: group(),
                partitions: None,
            },
        ),
        (
            "group.fetch_some",
            GroupRequest::FetchOffsets {
                group: group(),
                partitions: Some(partitions()),
            },
        ),
        ("group.list", GroupRequest::List),
        (
            "group.list_after",
            GroupRequest::ListAfter { after: group() },
        ),
        ("group.describe", GroupRequest::Describe { group: group() }),
        ("group.delete", GroupRequest::Delete { group: group() }),
        (
            "group.delete_offsets",
            GroupRequest::DeleteOffsets {
                group: group(),
                partitions: partitions(),
            },
        ),
    ];
    all.map(|(name, request)| (name, Request::Group(Box::new(request))))
        .into()
}

pub(super) fn responses() -> Vec<(&'static str, Response)> {
    let assigned = AssignedPartitions {
        id: super::log().topic,
        topic: "orders".into(),
        partitions: vec![7],
    };
    let assignment = GroupAssignment {
        epoch: 6,
        heartbeat_interval_ms: 5_000,
        partitions: Some(vec![assigned]),
    };
    let unchanged = GroupAssignment {
        partitions: None,
        ..assignment.clone()
    };
    let offset = GroupOffset {
        topic: "orders".into(),
        partition: 7,
        committed: Some(committed()),
        code: 0,
    };
    let nothing = GroupOffset {
        committed: None,
        code: 3,
        ..offset.clone()
    };
    let listed = ListedGroup {
        group: "billing".into(),
        group_type: "classic".into(),
        protocol_type: "consumer".into(),
        state: "PreparingRebalance".into(),
    };
    let member = DescribedMember {
        member: "member-0001".into(),
        instance: Some("till-1".into()),
        rack: Some("b".into()),
        client_id: "millctl".into(),
        host: "/127.0.0.1".into(),
        epoch: Some(6),
        current: partitions(),
        target: partitions(),
    };
    let described = DescribedGroup {
        group: "billing".into(),
        group_type: "consumer".into(),
        protocol_type: "consumer".into(),
        state: "Stable".into(),
        assignor: "uniform".into(),
        epoch: 7,
        target_epoch: Some(6),
        members: vec![member],
    };
    let all = [
        ("group.assignment", GroupResponse::Heartbeat(assignment)),
        ("group.unchanged", GroupResponse::Heartbeat(unchanged)),
        ("group.committed", GroupResponse::Committed(vec![0, 113])),
        (
            "group.offsets",
            GroupResponse::Offsets(vec![offset, nothing]),
        ),
        ("group.listed", GroupResponse::Listed(vec![listed.clone()])),
        (
            "group.listed_part",
            GroupResponse::ListedPart {
                groups: vec![listed],
                is_last: true,
            },
        ),
        ("group.described", GroupResponse::Described(described)),
        ("group.done", GroupResponse::Done),
        (
            "group.offsets_deleted",
            GroupResponse::OffsetsDeleted(vec![86]),
        ),
    ];
    all.map(|(name, response)| (name, Response::Group(Box::new(response))))
        .into()
}
