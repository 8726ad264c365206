//! Peers that do not tell the truth: they are refused, and cost nothing.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use glommio::timer::sleep;
use millrace_model::{
    BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, LogId, Offset, PartitionId, ShardId,
};
use millrace_replication::partition::Acks;
use millrace_wire::{
    FollowerRecord, FollowerSaid, LeaderRecord, LeaderSaid, Message, MessageReader, Record,
    RecordReader, ReplicaMark, ReplicaOpen, ReplicaOpened, ReplicaPosition, StreamKind, encode,
};

use super::world::{Broker, Fates, LOG, World, run, until};

fn open_as(broker: u32, life: u64) -> ReplicaOpen {
    ReplicaOpen {
        cluster: ClusterId([3; 16]),
        broker: BrokerId(broker),
        life: BrokerEpoch(life),
        shard: ShardId(0),
        partitions: Vec::new(),
    }
}

fn bytes(record: &FollowerRecord) -> Bytes {
    let mut out = BytesMut::new();
    record.put(&mut out);
    out.freeze()
}

/// What comes behind the message that opens a direction of a stream.
async fn opened<M: Message>(from: &flume::Receiver<Bytes>) -> RecordReader {
    let mut reader = MessageReader::default();
    while reader.message::<M>().unwrap().is_none() {
        reader.push(from.recv_async().await.unwrap());
    }
    RecordReader::new(reader.into_rest())
}

async fn next<R: Record>(reader: &mut RecordReader, from: &flume::Receiver<Bytes>) -> R {
    loop {
        match reader.next_record::<R>().unwrap() {
            Some(record) => return record,
            None => reader.push(from.recv_async().await.unwrap()),
        }
    }
}

/// Reads until the leader refuses.
async fn refused(from: &flume::Receiver<Bytes>) {
    let mut reader = opened::<ReplicaOpened>(from).await;
    loop {
        let record: LeaderRecord = next(&mut reader, from).await;
        if matches!(record.said, LeaderSaid::Refused(_)) {
            return;
        }
    }
}

async fn leader(world: &Rc<World>) -> Rc<Broker> {
    let leader = world.broker(1);
    until("broker 1 leads", || leader.partition.is_leader()).await;
    let fates = Rc::<Fates>::default();
    leader.produce((&fates, 0), Acks::Leader, "one").unwrap();
    until("it is there", || fates.of(0).is_some()).await;
    leader
}

#[test]
fn a_stranger_has_no_stream() {
    run(|| async {
        let world = World::new(2, 1).await;
        let leader = leader(&world).await;
        let elsewhere = ReplicaOpen {
            cluster: ClusterId([4; 16]),
            ..open_as(2, 100)
        };
        for open in [elsewhere, open_as(1, 100)] {
            let (_out, from) = world.stream_to(&leader, BrokerId(2), open);
            // A refusal, and the end.
            assert!(from.recv_async().await.is_ok());
            assert!(from.recv_async().await.is_err());
        }
    });
}

#[test]
fn a_follower_that_lies_is_refused_and_counts_for_nothing() {
    run(|| async {
        let world = World::new(2, 1).await;
        let leader = leader(&world).await;
        let epoch = leader.partition.leader_epoch();
        let position = |end, last_epoch| ReplicaPosition {
            end: Offset(end),
            log_start: Offset(0),
            last_epoch,
        };
        let subscribe = |session, epoch, position| FollowerRecord {
            log: LOG,
            session,
            epoch,
            said: FollowerSaid::Subscribe(position),
        };
        let unknown = FollowerRecord {
            log: LogId {
                partition: PartitionId(77),
                ..LOG
            },
            ..subscribe(1, epoch, position(0, None))
        };
        let later = LeaderEpoch(epoch.0 + 1);
        let cases = [
            subscribe(1, later, position(0, None)),
            subscribe(2, epoch, position(u64::MAX, Some(epoch))),
            subscribe(3, epoch, position(u64::MAX, None)),
            subscribe(4, epoch, position(5, Some(later))),
            unknown,
        ];
        // A broker that holds no replica, in a life that may be.
        for case in cases {
            let (out, from) = world.stream_to(&leader, BrokerId(9), open_as(9, 10_000));
            out.send_async(bytes(&case)).await.unwrap();
            refused(&from).await;
        }
        // What is no record ends the stream.
        let (out, from) = world.stream_to(&leader, BrokerId(2), open_as(2, 10_000));
        out.send_async(Bytes::from(vec![0xff; 4096])).await.unwrap();
        while from.recv_async().await.is_ok() {}
        // Progress beyond what there is.
        let life = 10_000;
        let (out, from) = world.stream_to(&leader, BrokerId(2), open_as(2, life));
        let whole = subscribe(9, epoch, position(10, Some(epoch)));
        out.send_async(bytes(&whole)).await.unwrap();
        let beyond = FollowerRecord {
            said: FollowerSaid::Progress(Offset(1 << 40)),
            ..whole
        };
        out.send_async(bytes(&beyond)).await.unwrap();
        refused(&from).await;
        assert!(leader.partition.high_watermark() <= Offset(10));
    });
}

#[test]
fn subscriptions_without_end_cost_a_message_each_partition() {
    run(|| async {
        let world = World::new(2, 1).await;
        let leader = leader(&world).await;
        let (out, from) = world.stream_to(&leader, BrokerId(2), open_as(2, 10_000));
        // Nothing is read of what comes back.
        for session in 0..20_000 {
            let record = FollowerRecord {
                log: LOG,
                session,
                epoch: LeaderEpoch(99),
                said: FollowerSaid::Subscribe(ReplicaPosition {
                    end: Offset(session),
                    log_start: Offset(0),
                    last_epoch: None,
                }),
            };
            out.send_async(bytes(&record)).await.unwrap();
        }
        sleep(Duration::from_millis(20)).await;
        assert!(from.len() <= 8);
        assert!(leader.partition.is_leader());
    });
}

/// What a leader could say that cannot be, with the bytes behind it.
fn lies(frames: &[u8]) -> Vec<(LeaderSaid, Vec<u8>)> {
    let mark = |end| ReplicaMark {
        high_watermark: Offset(end),
        log_start: Offset(0),
        end: Offset(end),
    };
    let run = |len: usize, mark| LeaderSaid::Frames {
        len: u32::try_from(len).unwrap(),
        mark,
    };
    let mut rotten = frames.to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    rotten[frames.len() / 2] ^= 1;
    let most = Offset(u64::MAX);
    vec![
        // Longer than any run, and than the memory of this shard.
        (run(u32::MAX as usize, mark(10)), Vec::new()),
        (run(8 << 20, mark(10)), vec![0; 100]),
        (run(0, mark(10)), Vec::new()),
        (run(500, mark(10)), vec![7; 500]),
        (run(frames.len(), mark(10)), rotten),
        // Whole frames that do not follow.
        (run(frames.len(), mark(10)), frames.to_vec()),
        (
            LeaderSaid::Diverging {
                epoch: LeaderEpoch(9),
                end: most,
            },
            Vec::new(),
        ),
        (LeaderSaid::OutOfRange(most), Vec::new()),
    ]
}

#[test]
fn a_leader_that_lies_costs_its_follower_nothing() {
    run(|| async {
        let world = World::new(2, 1).await;
        let first = leader(&world).await;
        let follower = world.broker(2);
        until("the follower has it", || follower.end() == 10).await;
        let frames = first.bytes().await;
        let (liar, asked) = flume::bounded(8);
        *world.liar.borrow_mut() = Some(liar);
        world.lose(2);
        world.find_again(2);
        for (said, behind) in lies(&frames) {
            let (out, from) = asked.recv_async().await.unwrap();
            let hello = ReplicaOpened {
                broker: BrokerId(1),
                life: BrokerEpoch(1),
                shard: ShardId(0),
            };
            let hello = encode(StreamKind::Replicate, &hello).unwrap();
            out.send_async(hello).await.unwrap();
            let mut reader = opened::<ReplicaOpen>(&from).await;
            let record: FollowerRecord = next(&mut reader, &from).await;
            assert!(
                matches!(record.said, FollowerSaid::Subscribe(_)),
                "{record:?}"
            );
            let session = record.session;
            let mut bytes = BytesMut::new();
            LeaderRecord {
                log: LOG,
                session,
                said,
            }
            .put(&mut bytes);
            bytes.extend_from_slice(&behind);
            out.send_async(bytes.freeze()).await.unwrap();
            // It ends the stream, or the session, and then asks again; a leader that goes meanwhile is
            // a stream that is lost.
            sleep(Duration::from_millis(10)).await;
            drop((out, from));
            assert_eq!(follower.host.budget.used(), 0, "{said:?}");
            assert!(
                follower.partition.high_watermark() <= Offset(10),
                "{said:?}"
            );
        }
        *world.liar.borrow_mut() = None;
        drop(asked);
        let fates = Rc::<Fates>::default();
        first.produce((&fates, 1), Acks::All, "two").unwrap();
        until("both have all", || {
            [&first, &follower]
                .iter()
                .all(|one| one.partition.high_watermark() == Offset(20))
        })
        .await;
        assert!(first.bytes().await == follower.bytes().await);
    });
}
