//! Replica streams: what opens them, and one record of each variant.

use bytes::{Bytes, BytesMut};
use millrace_model::{BrokerEpoch, BrokerId, ClusterId, ErrorCode, LeaderEpoch, Offset, ShardId};
use millrace_wire::{
    FollowerRecord, FollowerSaid, LeaderRecord, LeaderSaid, QuorumOpen, Record, ReplicaMark,
    ReplicaOpen, ReplicaOpened, ReplicaPosition, StreamKind, Subscription, encode,
};

use super::log;

fn position() -> ReplicaPosition {
    ReplicaPosition {
        end: Offset(0x0102),
        log_start: Offset(0x03),
        last_epoch: Some(LeaderEpoch(4)),
    }
}

pub(super) fn opens() -> Vec<(String, Bytes)> {
    let subscription = Subscription {
        log: log(),
        session: 9,
        epoch: LeaderEpoch(5),
        position: position(),
    };
    let empty = Subscription {
        position: ReplicaPosition {
            last_epoch: None,
            ..position()
        },
        ..subscription
    };
    let open = ReplicaOpen {
        cluster: ClusterId([0xc1; 16]),
        broker: BrokerId(2),
        life: BrokerEpoch(0x0607),
        shard: ShardId(1),
        partitions: vec![subscription, empty],
    };
    let opened = ReplicaOpened {
        broker: BrokerId(1),
        life: BrokerEpoch(0x0608),
        shard: ShardId(3),
    };
    let kind = StreamKind::Replicate;
    vec![
        ("replica_open".into(), encode(kind, &open).unwrap()),
        ("replica_opened".into(), encode(kind, &opened).unwrap()),
    ]
}

/// Opens a quorum stream.
pub(super) fn quorum_open() -> Bytes {
    let open = QuorumOpen {
        cluster: ClusterId([0xc1; 16]),
        broker: BrokerId(2),
    };
    encode(StreamKind::Quorum, &open).unwrap()
}

fn bytes(record: &impl Record) -> Vec<u8> {
    let mut out = BytesMut::new();
    record.put(&mut out);
    out.to_vec()
}

/// Every record as bytes on the wire.
pub(crate) fn records() -> Vec<(&'static str, Vec<u8>)> {
    let mark = ReplicaMark {
        high_watermark: Offset(0x11),
        log_start: Offset(0x12),
        end: Offset(0x13),
    };
    let follower = |said| {
        bytes(&FollowerRecord {
            log: log(),
            session: 9,
            epoch: LeaderEpoch(5),
            said,
        })
    };
    let leader = |said| {
        bytes(&LeaderRecord {
            log: log(),
            session: 9,
            said,
        })
    };
    let diverging = LeaderSaid::Diverging {
        epoch: LeaderEpoch(4),
        end: Offset(0x14),
    };
    vec![
        (
            "follower.subscribe",
            follower(FollowerSaid::Subscribe(position())),
        ),
        (
            "follower.progress",
            follower(FollowerSaid::Progress(Offset(0x21))),
        ),
        ("follower.unsubscribe", follower(FollowerSaid::Unsubscribe)),
        (
            "leader.frames",
            leader(LeaderSaid::Frames { len: 64, mark }),
        ),
        ("leader.watermark", leader(LeaderSaid::Watermark(mark))),
        ("leader.diverging", leader(diverging)),
        (
            "leader.out_of_range",
            leader(LeaderSaid::OutOfRange(Offset(0x15))),
        ),
        (
            "leader.refused",
            leader(LeaderSaid::refused(ErrorCode::FencedLeaderEpoch)),
        ),
    ]
}
