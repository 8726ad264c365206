//! Many connections, and datagrams that are none.

use std::net::UdpSocket;

use millrace_client::{Acks, ErrorCode};

use crate::raw::{Raw, frame};
use crate::rig::{Rig, consume_all, log_of};

const CONNECTIONS: usize = 250;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_connections_produce_to_one_partition() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    let shards = rig.broker().shards();
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let raw = Raw::connect(rig.addr(), log.shard(shards).0, shards.get()).await;
        let (mut stream, _) = raw.produce(log, Acks::All).await;
        stream
            .send
            .write_all(&frame(log, &["x"], None))
            .await
            .unwrap();
        streams.push((raw, stream));
    }
    for (_, stream) in &mut streams {
        assert_eq!(stream.ack().await.unwrap().error(), ErrorCode::None);
    }
    assert_eq!(consume_all(&client, "t").await.len(), CONNECTIONS);
}

/// More than a connection is allowed at first: a producer has a stream for each partition.
const STREAMS_OF_ONE: usize = 2_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_may_have_thousands_of_streams() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    let shards = rig.broker().shards();
    let raw = Raw::connect(rig.addr(), log.shard(shards).0, shards.get()).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_OF_ONE {
        streams.push(raw.produce(log, Acks::All).await.0);
    }
    for stream in [0, STREAMS_OF_ONE - 1] {
        let stream = &mut streams[stream];
        stream
            .send
            .write_all(&frame(log, &["x"], None))
            .await
            .unwrap();
        assert_eq!(stream.ack().await.unwrap().error(), ErrorCode::None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_datagrams_change_nothing() {
    let rig = Rig::start();
    let client = rig.client().await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for len in (0..1_400).step_by(7) {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.to_le_bytes()[0]
            })
            .collect();
        socket.send_to(&bytes, rig.addr()).unwrap();
    }
    client.create_topic("t", Some(1), &[]).await.unwrap();
    assert!(consume_all(&client, "t").await.is_empty());
}
