//! Idempotent producers: what is sent twice is stored once, a gap is refused.

use millrace_client::{Acks, ErrorCode, Offset};
use millrace_model::{ProducerEpoch, ProducerStamp, Sequence};

use crate::raw::{Raw, frame};
use crate::rig::{Rig, consume_all, log_of, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_get_their_first_offset_and_gaps_an_error() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    let (id, _) = client.init_producer_id().await.unwrap();
    let (other, _) = client.init_producer_id().await.unwrap();
    assert_ne!(id, other);
    let stamped = |sequence: i32, values: &[&str]| {
        let base_sequence = Sequence(sequence);
        frame(
            log,
            values,
            Some(ProducerStamp {
                id,
                epoch: ProducerEpoch(0),
                base_sequence,
            }),
        )
    };
    let raw = Raw::connect(rig.addr(), log.shard(rig.broker().shards()).0, 2).await;
    let (mut stream, _) = raw.produce(log, Acks::All).await;
    let sent = [
        (stamped(0, &["a", "b"]), ErrorCode::None, 0),
        (stamped(2, &["c"]), ErrorCode::None, 2),
        (stamped(0, &["a", "b"]), ErrorCode::None, 0),
        (stamped(4, &["e"]), ErrorCode::OutOfOrderSequenceNumber, 0),
        (stamped(3, &["d"]), ErrorCode::None, 3),
    ];
    for (frame, _, _) in &sent {
        stream.send.write_all(frame).await.unwrap();
    }
    for (at, (_, code, offset)) in sent.iter().enumerate() {
        let ack = stream.ack().await.unwrap();
        assert_eq!(
            (ack.error(), ack.base_offset),
            (*code, Offset(*offset)),
            "frame {at}"
        );
    }
    assert_eq!(
        texts(&consume_all(&client, "t").await),
        ["a", "b", "c", "d"]
    );
}
