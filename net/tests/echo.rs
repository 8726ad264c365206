//! 100 MB over one stream between two executors arrive as they were sent, in packets as long as the
//! path takes them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use futures_lite::future;
use support::{Broker, ClientExecutor};

const BYTES: usize = 100_000_000;
const CHUNK: usize = 1 << 20;
const LONGEST: u16 = millrace_wire::MAX_DATAGRAM_LEN;
/// The search for the longest packet ends when it is known to so many bytes.
const SEARCH_STEP: u16 = 20;

#[test]
fn a_hundred_megabytes_come_back_unchanged() {
    let broker = Broker::start(1);
    let addr = broker.addr();
    let trust = broker.trust();
    let (sent, received, packet) = ClientExecutor::run(move || async move {
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
        let (sent, received) = future::zip(sending, receiving).await;
        (sent, received, connection.stats().path.current_mtu)
    });
    assert_eq!(received, sent);
    assert_eq!(received.len, BYTES as u64);
    assert!(
        (LONGEST - SEARCH_STEP..=LONGEST).contains(&packet),
        "loopback carries the longest packets, and {packet} bytes were found"
    );
}
