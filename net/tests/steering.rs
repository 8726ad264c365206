//! Connections live on the shard that their connection ids name, with the kernel's help and
//! without.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use futures_lite::StreamExt;
use millrace_net::SocketOptions;
use millrace_net::tls::SERVER_NAME;
use support::{Broker, BrokerOptions, ClientExecutor, Counts};

const SHARDS: u8 = 3;
const CONNECTIONS: u8 = 12;
const MESSAGES: usize = 20;

/// Opens connections to each shard in turn, each from a port of its own, and echoes on them.
fn talk_to_all_shards(broker: &Broker) -> Vec<Counts> {
    let (addr, trust) = (broker.addr(), broker.trust());
    ClientExecutor::run(move || async move {
        let visits = (0..CONNECTIONS).map(|nr| {
            let config = support::client_config_for(&trust, nr % SHARDS, SHARDS);
            let endpoint = support::client(&trust);
            async move {
                let connection = endpoint.connect_with(config, addr, SERVER_NAME).unwrap();
                let connection = connection.await.unwrap();
                for _ in 0..MESSAGES {
                    assert_eq!(support::echo_once(&connection, b"hello").await, b"hello");
                }
            }
        });
        futures_lite::stream::iter(visits)
            .then(|visit| visit)
            .collect::<Vec<_>>()
            .await;
    });
    (0..usize::from(SHARDS))
        .map(|shard| broker.counts(shard))
        .collect()
}

#[test]
fn the_kernel_places_every_datagram() {
    let broker = Broker::start(SHARDS);
    for (shard, counts) in talk_to_all_shards(&broker).iter().enumerate() {
        assert_eq!(
            counts.accepted,
            u64::from(CONNECTIONS / SHARDS),
            "shard {shard}: {counts:?}"
        );
        assert_eq!(
            (counts.forwarded_in, counts.forwarded_out),
            (0, 0),
            "shard {shard}"
        );
        assert!(counts.received > 0);
    }
}

#[test]
fn forwarding_carries_what_the_kernel_does_not_place() {
    let socket = SocketOptions {
        kernel_steering: false,
        ..SocketOptions::default()
    };
    let options = BrokerOptions {
        shards: SHARDS,
        socket,
        ..BrokerOptions::default()
    };
    let broker = Broker::with(options);
    let counts = talk_to_all_shards(&broker);
    for (shard, counts) in counts.iter().enumerate() {
        assert_eq!(
            counts.accepted,
            u64::from(CONNECTIONS / SHARDS),
            "shard {shard}: {counts:?}"
        );
        assert_eq!(counts.dropped_full, 0);
    }
    let sum = |count: fn(&Counts) -> u64| counts.iter().map(count).sum::<u64>();
    assert!(sum(|counts| counts.forwarded_out) > 0, "{counts:?}");
    assert_eq!(
        sum(|counts| counts.forwarded_out),
        sum(|counts| counts.forwarded_in)
    );
}
