//! A connection stays on its shard when the client's port changes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_net::tls::SERVER_NAME;
use std::net::{Ipv4Addr, UdpSocket};
use support::{Broker, ClientExecutor};

const SHARDS: u8 = 2;
const MOVES: usize = 8;

#[test]
fn a_connection_stays_on_its_shard_when_the_port_changes() {
    let broker = Broker::start(SHARDS);
    let (addr, trust) = (broker.addr(), broker.trust());
    let ports = ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let config = support::client_config_for(&trust, 1, SHARDS);
        let connection = endpoint
            .connect_with(config, addr, SERVER_NAME)
            .unwrap()
            .await
            .unwrap();
        let mut ports = vec![endpoint.local_addr().unwrap().port()];
        for nr in 0..MOVES {
            let message = format!("from port {nr}").into_bytes();
            assert_eq!(support::echo_once(&connection, &message).await, message);
            endpoint
                .rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
                .unwrap();
            ports.push(endpoint.local_addr().unwrap().port());
        }
        assert_eq!(
            support::echo_once(&connection, b"the last").await,
            b"the last"
        );
        ports
    });
    assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "{ports:?}");
    let (other, owner) = (broker.counts(0), broker.counts(1));
    assert_eq!(
        (owner.accepted, owner.forwarded_in, owner.forwarded_out),
        (1, 0, 0)
    );
    assert_eq!((other.accepted, other.received), (0, 0), "{other:?}");
}
