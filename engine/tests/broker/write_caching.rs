//! `write.caching`: acknowledged from memory, and yet no faster than the device takes it.

use bytes::Bytes;
use millrace_client::{Acks, ErrorCode, LogId};
use millrace_engine::config::ByteSize;
use millrace_wire::{ACK_LEN, Ack};

use crate::raw::{Raw, Stream, frame};
use crate::rig::{Rig, log_of};

/// What a shard may hold, and what is sent without waiting: many times as much.
const MEMORY: u64 = 2 << 20;
const FRAMES: u64 = 512;
const FRAME_LEN: usize = 64 << 10;

async fn rig_with_topic() -> (Rig, LogId) {
    let rig = Rig::start_with(|config| config.shard_memory_bytes = ByteSize(MEMORY));
    let client = rig.client().await;
    let caching = [("write.caching", "true")];
    client.create_topic("t", Some(1), &caching).await.unwrap();
    let log = log_of(&client, "t", 0).await;
    (rig, log)
}

/// Sends as fast as the broker reads, and looks at every acknowledgement.
async fn none_is_refused(rig: &Rig, log: LogId, shard: u8) {
    let raw = Raw::connect(rig.addr(), shard, rig.broker().shards().get()).await;
    let (stream, _) = raw.produce(log, Acks::All).await;
    let Stream { mut send, mut recv } = stream;
    let bytes: Bytes = frame(log, &[&"x".repeat(FRAME_LEN)], None);
    let sending = tokio::spawn(async move {
        for _ in 0..FRAMES {
            send.write_chunk(bytes.clone()).await.unwrap();
        }
        send
    });
    for number in 0..FRAMES {
        let mut ack = [0; ACK_LEN];
        recv.read_exact(&mut ack).await.unwrap();
        let ack = Ack::from_bytes(&ack);
        assert_eq!(
            (ack.error(), ack.base_offset.0),
            (ErrorCode::None, number),
            "a frame waits where it finds no room"
        );
    }
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_without_a_pause_waits_and_is_not_refused() {
    let (rig, log) = rig_with_topic().await;
    let owner = log.shard(rig.broker().shards()).0;
    none_is_refused(&rig, log, owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_is_one_whose_frames_cross_to_the_owner() {
    let (rig, log) = rig_with_topic().await;
    let shards = rig.broker().shards();
    let other = (log.shard(shards).0 + 1) % shards.get();
    none_is_refused(&rig, log, other).await;
}
