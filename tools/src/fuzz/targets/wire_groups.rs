//! Messages of consumer groups, for the fuzzer to start from.

use millrace_model::{LeaderEpoch, Offset, TopicId};
use millrace_wire::{
    AssignedPartitions, CommitOffset, CommittedOffset, DescribedGroup, DescribedMember,
    GroupAssignment, GroupCommit, GroupHeartbeat, GroupOffset, GroupRequest, GroupResponse,
    ListedGroup, OwnedPartitions, Request, Response, TopicPartitions,
};

const TOPIC: TopicId = TopicId([0xa5; 16]);

fn partitions() -> Vec<TopicPartitions> {
    vec![TopicPartitions {
        topic: "orders".into(),
        partitions: vec![0, 7],
    }]
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: Offset(1 << 40),
        leader_epoch: Some(LeaderEpoch(3)),
        metadata: "by a person".into(),
    }
}

pub(super) fn requests() -> Vec<Request> {
    let group = || "billing".to_owned();
    let heartbeat = GroupHeartbeat {
        group: group(),
        member: "0123456789abcdef0123456789abcdef".into(),
        epoch: 5,
        instance: Some("till-1".into()),
        rack: None,
        client_id: "millctl".into(),
        rebalance_timeout_ms: 300_000,
        topics: vec!["orders".into()],
        pattern: Some("ord.*".into()),
        assignor: None,
        owned: vec![OwnedPartitions {
            topic: TOPIC,
            partitions: vec![7, 8],
        }],
    };
    let commit = GroupCommit {
        group: group(),
        member: "m".into(),
        epoch: 5,
        instance: None,
        offsets: vec![CommitOffset {
            topic: "orders".into(),
            partition: 7,
            committed: committed(),
        }],
    };
    let requests = [
        GroupRequest::Heartbeat(heartbeat),
        GroupRequest::Commit(commit),
        GroupRequest::FetchOffsets {
            group: group(),
            partitions: Some(partitions()),
        },
        GroupRequest::List,
        GroupRequest::ListAfter { after: group() },
        GroupRequest::Describe { group: group() },
        GroupRequest::Delete { group: group() },
        GroupRequest::DeleteOffsets {
            group: group(),
            partitions: partitions(),
        },
    ];
    requests
        .map(|request| Request::Group(Box::new(request)))
        .into()
}

pub(super) fn responses() -> Vec<Response> {
    let assigned = AssignedPartitions {
        id: TOPIC,
        topic: "orders".into(),
        partitions: vec![7, 8],
    };
    let offset = GroupOffset {
        topic: "orders".into(),
        partition: 7,
        committed: Some(committed()),
        code: 0,
    };
    let listed = ListedGroup {
        group: "billing".into(),
        group_type: "consumer".into(),
        protocol_type: "consumer".into(),
        state: "Stable".into(),
    };
    let member = DescribedMember {
        member: "m".into(),
        instance: None,
        rack: None,
        client_id: "millctl".into(),
        host: "/127.0.0.1".into(),
        epoch: Some(5),
        current: partitions(),
        target: partitions(),
    };
    let described = DescribedGroup {
        group: "billing".into(),
        group_type: "consumer".into(),
        protocol_type: "consumer".into(),
        state: "Stable".into(),
        assignor: "uniform".into(),
        epoch: 5,
        target_epoch: Some(5),
        members: vec![member],
    };
    let responses = [
        GroupResponse::Heartbeat(GroupAssignment {
            epoch: 6,
            heartbeat_interval_ms: 5_000,
            partitions: Some(vec![assigned]),
        }),
        GroupResponse::Committed(vec![0, 113]),
        GroupResponse::Offsets(vec![offset]),
        GroupResponse::Listed(vec![listed.clone()]),
        GroupResponse::ListedPart {
            groups: vec![listed],
            is_last: false,
        },
        GroupResponse::Described(described),
        GroupResponse::Done,
        GroupResponse::OffsetsDeleted(vec![86]),
    ];
    responses
        .map(|response| Response::Group(Box::new(response)))
        .into()
}
