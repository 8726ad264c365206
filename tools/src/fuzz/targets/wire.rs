//! Messages, streams that open, frames in pieces, acknowledgements.

use millrace_model::{
    BrokerId, ErrorCode, FrameHeader, LeaderEpoch, LogId, Offset, PartitionId, ProducerEpoch,
    ProducerId, ShardId, Timestamp, TopicId,
};
use millrace_wire::{
    Ack, Acks, BrokerInfo, ClusterAsk, ConsumeOpen, ConsumeOpened, FollowerRecord, FollowerSaid,
    LeaderRecord, LeaderSaid, Message, Metadata, OffsetSpec, PREFACE_LEN, PartitionLeader,
    PartitionReplicas, PartitionState, ProduceOpen, ProduceOpened, Record, ReplicaMark, Request,
    Response, StreamKind, Topic, TopicConfig, TopicDescription, WireError, encode, fuzz,
    put_quorum_message,
};

use super::super::Target;
use super::wire_groups;

/// Starts an input of the bodies that feed a reader in pieces: pieces of 11 bytes, and
/// frames sealed with seed 0.
const PIECES: u8 = 10;

/// The targets of `millrace-wire`.
pub(super) fn targets() -> Vec<Target> {
    vec![
        Target::new("wire::messages", fuzz::messages, messages()),
        Target::new("wire::opening", fuzz::opening, openings()),
        Target::new("wire::frames", fuzz::frames, frames()),
        Target::new("wire::acks", fuzz::acks, acks()),
        Target::new("wire::records", fuzz::records, records()),
        Target::new("wire::quorum", fuzz::quorum, quorum()),
    ]
}

fn log() -> LogId {
    LogId {
        topic: TopicId([0xa5; 16]),
        partition: PartitionId(7),
    }
}

fn requests() -> Vec<Request> {
    let (log, name) = (log(), "orders".to_owned());
    vec![
        Request::Metadata { topics: None },
        Request::Metadata {
            topics: Some(vec![name.clone(), "payments".into()]),
        },
        Request::CreateTopic {
            name: name.clone(),
            partitions: Some(4),
            replication: None,
            configs: vec![("retention.ms".into(), "60000".into())],
        },
        Request::AlterTopic {
            name: name.clone(),
            partitions: None,
            configs: vec![
                ("retention.ms".into(), None),
                ("flush.ms".into(), Some("1".into())),
            ],
        },
        Request::DeleteTopic { name: name.clone() },
        Request::DescribeTopic { name },
        Request::Cluster(ClusterAsk::Cordon {
            broker: BrokerId(2),
            cordoned: true,
        }),
        Request::DeleteRecords {
            log,
            before: Some(Offset(5)),
        },
        Request::ListOffset {
            log,
            at: OffsetSpec::Timestamp(Timestamp(1)),
        },
        Request::DescribePartition { log },
        Request::InitProducerId,
        Request::Metrics,
        Request::Peer(vec![7; 24]),
    ]
}

fn responses() -> Vec<Response> {
    let state = PartitionState {
        partition: PartitionId(7),
        shard: ShardId(1),
        log_start: Offset(3),
        high_watermark: Offset(9),
        log_end: Offset(10),
        leader_epoch: LeaderEpoch(2),
        segments: 4,
        bytes: 1 << 33,
    };
    let topic = Topic {
        name: "orders".into(),
        id: log().topic,
        leaders: vec![
            PartitionLeader {
                broker: Some(BrokerId(1)),
                epoch: LeaderEpoch(3),
            };
            4
        ],
        max_message_bytes: 1_048_588,
    };
    let config = TopicConfig {
        name: "retention.ms".into(),
        value: "60000".into(),
        is_default: false,
    };
    vec![
        Response::Error(WireError {
            code: 3,
            message: "no such topic".into(),
        }),
        Response::Done,
        Response::Metadata(Metadata {
            broker: BrokerId(1),
            brokers: vec![BrokerInfo {
                id: BrokerId(1),
                address: Some(("127.0.0.1".into(), 9644)),
                shards: 2,
                rack: None,
                serves: true,
            }],
            cluster_id: "0123456789abcdef".into(),
            version: "0.1.0".into(),
            shards: 2,
            connected_shard: ShardId(1),
            topics: vec![topic.clone(), topic],
        }),
        Response::TopicCreated(log().topic),
        Response::Topic(TopicDescription {
            configs: vec![config],
            partitions: vec![PartitionReplicas {
                leader: PartitionLeader {
                    broker: None,
                    epoch: LeaderEpoch(3),
                },
                replicas: vec![BrokerId(1), BrokerId(2)],
                in_sync: vec![BrokerId(1)],
            }],
        }),
        Response::Offset {
            offset: Offset(8),
            timestamp: Timestamp::NONE,
            leader_epoch: LeaderEpoch(2),
        },
        Response::Partition(state),
        Response::ProducerId {
            id: ProducerId(9),
            epoch: ProducerEpoch(0),
        },
        Response::Text("# HELP".into()),
    ]
}

fn encoded<M: Message>(kind: StreamKind, message: &M) -> Vec<u8> {
    encode(kind, message)
        .expect("a small message can be sent")
        .to_vec()
}

/// Messages without their preface.
fn messages() -> Vec<Vec<u8>> {
    let log = log();
    let opened = ConsumeOpened {
        start: Offset(3),
        log_start: Offset(1),
        high_watermark: Offset(9),
        on_owning_shard: true,
    };
    let kind = StreamKind::Control;
    let opens = [
        encoded(
            kind,
            &ProduceOpen {
                log,
                acks: Acks::All,
            },
        ),
        encoded(
            kind,
            &ProduceOpened {
                max_message_bytes: 1_000,
                on_owning_shard: false,
            },
        ),
        encoded(
            kind,
            &ConsumeOpen {
                log,
                from: OffsetSpec::At(Offset(3)),
            },
        ),
        encoded(kind, &opened),
    ];
    let requests = requests()
        .iter()
        .chain(&wire_groups::requests())
        .map(|request| encoded(kind, request))
        .collect::<Vec<_>>();
    let responses = responses()
        .iter()
        .chain(&wire_groups::responses())
        .map(|response| encoded(kind, response))
        .collect();
    [requests, responses, opens.to_vec()]
        .concat()
        .into_iter()
        .map(|bytes| bytes[PREFACE_LEN..].to_vec())
        .collect()
}

fn openings() -> Vec<Vec<u8>> {
    requests()
        .iter()
        .map(|request| encoded(StreamKind::Control, request))
        .collect()
}

/// Two frames in a row, sealed for the reader that the body makes.
fn frames() -> Vec<Vec<u8>> {
    let seed = LogId::default().checksum_seed();
    let resealed = |mut frame: Vec<u8>| {
        let header = FrameHeader::parse(&frame, seed)
            .expect("the frame was just built")
            .seal(0);
        frame[..header.len()].copy_from_slice(&header);
        frame
    };
    let frames: Vec<_> = super::model::frames().into_iter().map(resealed).collect();
    frames
        .chunks(2)
        .map(|pair| [&[PIECES], pair.concat().as_slice()].concat())
        .collect()
}

fn acks() -> Vec<Vec<u8>> {
    let acks = [
        Ack::appended(Offset(1 << 40), Timestamp(1_700_000_000_000), Offset(5)),
        Ack::refused(ErrorCode::MessageTooLarge, Offset(5)),
    ];
    let bytes: Vec<u8> = acks.iter().flat_map(|ack| ack.to_bytes()).collect();
    vec![[&[PIECES], bytes.as_slice()].concat()]
}

/// Messages of a quorum, and the name of a broker.
fn quorum() -> Vec<Vec<u8>> {
    let mut messages = bytes::BytesMut::from(&[PIECES][..]);
    for message in [&b"pre-vote"[..], b"", b"append"] {
        put_quorum_message(&mut messages, message);
    }
    let name = b"broker-1.c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace";
    vec![messages.to_vec(), name.to_vec()]
}

/// One direction of a replica stream each: records, and frames where they are announced.
fn records() -> Vec<Vec<u8>> {
    let (log, session) = (log(), 3);
    let followers = [FollowerSaid::Progress(Offset(9)), FollowerSaid::Unsubscribe];
    let mut follower = bytes::BytesMut::from(&[PIECES][..]);
    for said in followers {
        let epoch = LeaderEpoch(5);
        let record = FollowerRecord {
            log,
            session,
            epoch,
            said,
        };
        record.put(&mut follower);
    }
    let mark = ReplicaMark {
        high_watermark: Offset(7),
        log_start: Offset(1),
        end: Offset(9),
    };
    let mut leader = bytes::BytesMut::from(&[PIECES][..]);
    for said in [
        LeaderSaid::Frames { len: 32, mark },
        LeaderSaid::Watermark(mark),
    ] {
        LeaderRecord { log, session, said }.put(&mut leader);
        leader.extend_from_slice(&vec![0; said.run_len()]);
    }
    vec![follower.to_vec(), leader.to_vec()]
}
