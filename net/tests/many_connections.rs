//! A thousand connections at once are served, and forgotten when they end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_net::tls::SERVER_NAME;
use support::{Broker, ClientExecutor};

const SHARDS: u8 = 2;
const CONNECTIONS: u64 = 1000;

#[test]
fn a_thousand_connections_are_served() {
    let broker = Broker::start(SHARDS);
    let (addr, trust) = (broker.addr(), broker.trust());
    let before = support::resident();
    let peak = ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let configs: Vec<_> = (0..SHARDS)
            .map(|shard| support::client_config_for(&trust, shard, SHARDS))
            .collect();
        let attempts: Vec<_> = (0..CONNECTIONS)
            .map(|nr| configs[(nr % u64::from(SHARDS)) as usize].clone())
            .map(|config| endpoint.connect_with(config, addr, SERVER_NAME).unwrap())
            .collect();
        let mut connections = Vec::new();
        for attempt in attempts {
            connections.push(attempt.await.unwrap());
        }
        for connection in &connections {
            assert_eq!(support::echo_once(connection, b"hello").await, b"hello");
        }
        let peak = support::resident();
        for connection in &connections {
            connection.close(0_u32.into(), b"done");
        }
        endpoint.wait_idle().await;
        peak
    });
    // Both sides are in this process, so one broker's share is less than this.
    let each = (peak - before) / CONNECTIONS;
    assert!(
        each < 256 << 10,
        "{each} bytes resident for each connection"
    );
    for shard in 0..usize::from(SHARDS) {
        assert_eq!(
            broker.counts(shard).accepted,
            CONNECTIONS / u64::from(SHARDS)
        );
        support::until(|| (broker.counts(shard).connections == 0).then_some(()));
    }
}
