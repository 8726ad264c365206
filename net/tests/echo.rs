//! 100 MB over one stream between two executors arrive as they were sent.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use futures_lite::future;
use support::{Broker, ClientExecutor};

const BYTES: usize = 100_000_000;
const CHUNK: usize = 1 << 20;

#[test]
fn a_hundred_megabytes_come_back_unchanged() {
    let broker = Broker::start(1);
    let addr = broker.addr();
    let trust = broker.trust();
    let (sent, received) = ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let connection = endpoint
            .connect(addr, millrace_net::tls::SERVER_NAME)
            .unwrap();
        let connection = connection.await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        let sending = async {
            let mut sent = support::Checksum::default();
            for chunk in support::chunks(BYTES, CHUNK) {
                sent.update(&chunk);
                send.write_all(&chunk).await.unwrap();
            }
            send.finish().unwrap();
            sent
        };
        let receiving = async {
            let mut received = support::Checksum::default();
            while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.unwrap() {
                received.update(&chunk.bytes);
            }
            received
        };
        future::zip(sending, receiving).await
    });
    assert_eq!(received, sent);
    assert_eq!(received.len, BYTES as u64);
}
