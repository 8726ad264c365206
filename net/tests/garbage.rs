//! Datagrams that are no QUIC, or none that makes sense, disturb nobody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_net::tls::SERVER_NAME;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use support::{Broker, ClientExecutor};

const SHARDS: u8 = 2;
const DATAGRAMS: usize = 20_000;

/// Sends empty, random, truncated and oversized datagrams, and initials that are almost right.
fn send_garbage(to: SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for (nr, mut bytes) in support::chunks(DATAGRAMS * 1400, 1400).enumerate() {
        match nr % 8 {
            0 => bytes.truncate(0),
            1 => bytes.truncate(nr % 40),
            2 => bytes[0] = 0x40,
            3 => bytes[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]),
            4 => bytes[..6].copy_from_slice(&[0xc3, 0xfa, 0xce, 0xb0, 0x0c, 20]),
            5 => bytes[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 255]),
            6 if nr % 64 == 6 => bytes.resize(60_000, 0xab),
            _ => {}
        }
        socket.send_to(&bytes, to).ok();
    }
}

#[test]
fn a_flood_of_garbage_disturbs_no_connection() {
    let broker = Broker::start(SHARDS);
    let (addr, trust) = (broker.addr(), broker.trust());
    let flood = std::thread::spawn(move || send_garbage(addr));
    ClientExecutor::run(move || async move {
        for shard in 0..SHARDS {
            let endpoint = support::client(&trust);
            let config = support::client_config_for(&trust, shard, SHARDS);
            let connection = endpoint.connect_with(config, addr, SERVER_NAME).unwrap();
            let connection = connection.await.unwrap();
            for chunk in support::chunks(4 << 20, 64 << 10) {
                assert_eq!(support::echo_once(&connection, &chunk).await, chunk);
            }
        }
    });
    flood.join().unwrap();
    let counts = [broker.counts(0), broker.counts(1)];
    for counts in &counts {
        assert_eq!(counts.accepted, 1, "{counts:?}");
        assert_eq!(counts.receive_errors, 0, "{counts:?}");
        assert!(counts.connections <= 1, "{counts:?}");
    }
    assert!(
        counts.iter().map(|counts| counts.garbage).sum::<u64>() > 0,
        "{counts:?}"
    );
}
