//! One message of each kind, and of each variant.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod cluster;
mod groups;
mod replica;

pub(crate) use replica::records;

use millrace_model::{
    BrokerId, LeaderEpoch, LogId, Offset, PartitionId, ProducerEpoch, ProducerId, ShardId,
    Timestamp, TopicId,
};
use millrace_wire::{
    Acks, BrokerInfo, ConsumeOpen, ConsumeOpened, Metadata, OffsetSpec, PartitionLeader,
    PartitionReplicas, PartitionState, ProduceOpen, ProduceOpened, Request, Response, StreamKind,
    Topic, TopicConfig, TopicDescription, WireError, encode,
};

pub(crate) fn log() -> LogId {
    let topic = TopicId(std::array::from_fn(|at| u8::try_from(at).unwrap() + 0xa0));
    LogId {
        topic,
        partition: PartitionId(7),
    }
}

pub(crate) fn requests() -> Vec<(&'static str, Request)> {
    let (log, name) = (log(), "orders".to_owned());
    let configs = vec![("retention.ms".to_owned(), "60000".to_owned())];
    let changes = vec![
        ("retention.ms".to_owned(), None),
        ("a".to_owned(), Some("b".to_owned())),
    ];
    let none = None::<Vec<String>>;
    vec![
        ("metadata_all", Request::Metadata { topics: none }),
        (
            "metadata_some",
            Request::Metadata {
                topics: Some(vec![name.clone(), "x".repeat(20)]),
            },
        ),
        (
            "create",
            Request::CreateTopic {
                name: name.clone(),
                partitions: Some(4),
                replication: Some(3),
                configs,
            },
        ),
        ("delete", Request::DeleteTopic { name: name.clone() }),
        (
            "alter",
            Request::AlterTopic {
                name: name.clone(),
                partitions: None,
                configs: changes,
            },
        ),
        ("describe", Request::DescribeTopic { name }),
        (
            "delete_records",
            Request::DeleteRecords {
                log,
                before: Some(Offset(5)),
            },
        ),
        (
            "list_offset",
            Request::ListOffset {
                log,
                at: OffsetSpec::Timestamp(Timestamp(-1)),
            },
        ),
        ("describe_partition", Request::DescribePartition { log }),
        ("init_producer_id", Request::InitProducerId),
        ("metrics", Request::Metrics),
        (
            "observe",
            Request::Observe {
                path: "/hist?format=json".into(),
            },
        ),
        ("peer", Request::Peer(b"controller".to_vec())),
    ]
    .into_iter()
    .chain(cluster::requests())
    .chain(groups::requests())
    .collect()
}

pub(crate) fn responses() -> Vec<(&'static str, Response)> {
    let topic = log().topic;
    let topics = vec![Topic {
        name: "orders".into(),
        id: topic,
        leaders: vec![
            PartitionLeader {
                broker: Some(BrokerId(2)),
                epoch: LeaderEpoch(5),
            },
            PartitionLeader {
                broker: None,
                epoch: LeaderEpoch(6),
            },
        ],
        max_message_bytes: 1 << 20,
    }];
    let metadata = Metadata {
        cluster_id: "cluster-0001".into(),
        version: "0.1.0".into(),
        broker: BrokerId(2),
        shards: 2,
        connected_shard: ShardId(1),
        brokers: vec![BrokerInfo {
            id: BrokerId(2),
            address: Some(("broker.example".into(), 9644)),
            shards: 2,
            rack: Some("r1".into()),
            serves: true,
        }],
        topics,
    };
    let config = TopicConfig {
        name: "retention.ms".into(),
        value: "60000".into(),
        is_default: true,
    };
    let state = PartitionState {
        partition: PartitionId(7),
        shard: ShardId(1),
        log_start: Offset(1),
        high_watermark: Offset(2),
        log_end: Offset(3),
        leader_epoch: LeaderEpoch(4),
        segments: 5,
        bytes: 6,
    };
    let (offset, timestamp, leader_epoch) = (Offset(9), Timestamp(10), LeaderEpoch(11));
    vec![
        (
            "error",
            Response::Error(WireError {
                code: 3,
                message: "no such topic".into(),
            }),
        ),
        ("done", Response::Done),
        ("metadata", Response::Metadata(metadata)),
        ("topic_created", Response::TopicCreated(topic)),
        (
            "topic",
            Response::Topic(TopicDescription {
                configs: vec![config],
                partitions: vec![PartitionReplicas {
                    leader: PartitionLeader {
                        broker: Some(BrokerId(2)),
                        epoch: LeaderEpoch(5),
                    },
                    replicas: vec![BrokerId(2), BrokerId(3)],
                    in_sync: vec![BrokerId(2)],
                }],
            }),
        ),
        (
            "offset",
            Response::Offset {
                offset,
                timestamp,
                leader_epoch,
            },
        ),
        ("partition", Response::Partition(state)),
        (
            "producer_id",
            Response::ProducerId {
                id: ProducerId(12),
                epoch: ProducerEpoch(13),
            },
        ),
        ("text", Response::Text("# HELP".into())),
        ("peer", Response::Peer(b"answer".to_vec())),
    ]
    .into_iter()
    .chain(cluster::responses())
    .chain(groups::responses())
    .collect()
}

/// Every sample as bytes on the wire.
pub(crate) fn encoded() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, request) in requests() {
        all.push((
            format!("request.{name}"),
            encode(StreamKind::Control, &request).unwrap(),
        ));
    }
    for (name, response) in responses() {
        all.push((
            format!("response.{name}"),
            encode(StreamKind::Control, &response).unwrap(),
        ));
    }
    let (log, kinds) = (log(), [StreamKind::Produce, StreamKind::Consume]);
    let open = ProduceOpen {
        log,
        acks: Acks::All,
    };
    all.push(("produce_open".into(), encode(kinds[0], &open).unwrap()));
    let opened = ProduceOpened {
        max_message_bytes: 1 << 20,
        on_owning_shard: true,
    };
    all.push(("produce_opened".into(), encode(kinds[0], &opened).unwrap()));
    let open = ConsumeOpen {
        log,
        from: OffsetSpec::At(Offset(17)),
    };
    all.push(("consume_open".into(), encode(kinds[1], &open).unwrap()));
    let opened = ConsumeOpened {
        start: Offset(17),
        log_start: Offset(3),
        high_watermark: Offset(99),
        on_owning_shard: false,
    };
    all.push(("consume_opened".into(), encode(kinds[1], &opened).unwrap()));
    all.extend(replica::opens());
    all.push(("quorum_open".into(), replica::quorum_open()));
    all.into_iter()
        .map(|(name, bytes)| (name, bytes.to_vec()))
        .collect()
}
