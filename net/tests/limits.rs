//! A shard lets in so many connections and handshakes, and no more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_net::tls::SERVER_NAME;
use millrace_net::{ConnectionLimits, TransportLimits};
use quinn::ConnectionError;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;
use support::{Broker, BrokerOptions, ClientExecutor};

const LIMIT: usize = 4;

fn broker(limits: ConnectionLimits) -> Broker {
    Broker::with(BrokerOptions {
        limits,
        ..BrokerOptions::default()
    })
}

#[test]
fn a_connection_over_the_limit_is_told_so() {
    let limits = ConnectionLimits {
        connections: LIMIT,
        ..ConnectionLimits::default()
    };
    let broker = broker(limits);
    let (addr, trust) = (broker.addr(), broker.trust());
    let error = ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let mut held = Vec::new();
        for _ in 0..LIMIT {
            held.push(endpoint.connect(addr, SERVER_NAME).unwrap().await.unwrap());
        }
        let error = match endpoint.connect(addr, SERVER_NAME).unwrap().await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        };
        for connection in &held {
            assert_eq!(
                support::echo_once(connection, b"still here").await,
                b"still here"
            );
        }
        error
    });
    let ConnectionError::ApplicationClosed(close) = error else {
        panic!("{error:?}")
    };
    let code = millrace_wire::reset_error(close.error_code.into_inner());
    assert_eq!(code, millrace_model::ErrorCode::ThrottlingQuotaExceeded);
    assert_eq!(close.reason, "this shard serves its limit of 4 connections");
    let counts = broker.counts(0);
    assert_eq!((counts.accepted, counts.turned_away), (LIMIT as u64, 1));
}

#[test]
fn attempts_beyond_the_handshake_limit_are_let_in_later() {
    let limits = ConnectionLimits {
        handshakes: 2,
        ..ConnectionLimits::default()
    };
    let broker = broker(limits);
    let (addr, trust) = (broker.addr(), broker.trust());
    const CLIENTS: u64 = 8;
    ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let attempts: Vec<_> = (0..CLIENTS)
            .map(|_| endpoint.connect(addr, SERVER_NAME).unwrap())
            .collect();
        for attempt in attempts {
            let connection = attempt.await.unwrap();
            assert_eq!(support::echo_once(&connection, b"in").await, b"in");
        }
    });
    let counts = broker.counts(0);
    assert_eq!(counts.accepted, CLIENTS);
    assert!(counts.postponed > 0, "{counts:?}");
}

#[test]
fn an_address_must_be_proved_when_many_shake_hands() {
    let broker = broker(ConnectionLimits {
        retry_above: 0,
        ..ConnectionLimits::default()
    });
    let (addr, trust) = (broker.addr(), broker.trust());
    ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let connection = endpoint.connect(addr, SERVER_NAME).unwrap().await.unwrap();
        assert_eq!(support::echo_once(&connection, b"proved").await, b"proved");
    });
    let counts = broker.counts(0);
    assert_eq!((counts.retried, counts.accepted), (1, 1));
}

#[test]
fn half_open_connections_end() {
    let limits = ConnectionLimits {
        handshake_timeout: Duration::from_millis(100),
        ..ConnectionLimits::default()
    };
    let broker = broker(limits);
    let initial = record_initial(broker.trust());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(&initial, broker.addr()).unwrap();
    let counts = support::until(|| {
        let counts = broker.counts(0);
        (counts.timed_out == 1 && counts.connections == 0).then_some(counts)
    });
    assert_eq!(counts.accepted, 0);
}

#[test]
fn idle_connections_end() {
    let idle_timeout = Duration::from_millis(200);
    let transport = TransportLimits {
        idle_timeout,
        ..TransportLimits::broker()
    };
    let broker = Broker::with(BrokerOptions {
        transport,
        ..BrokerOptions::default()
    });
    let (addr, trust) = (broker.addr(), broker.trust());
    let error = ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let connection = endpoint.connect(addr, SERVER_NAME).unwrap().await.unwrap();
        support::echo_once(&connection, b"then silence").await;
        connection.closed().await
    });
    assert_eq!(error, ConnectionError::TimedOut);
    support::until(|| (broker.counts(0).connections == 0).then_some(()));
}

/// The first datagram of a client that never says more.
fn record_initial(trust: std::path::PathBuf) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    ClientExecutor::run(move || async move {
        let endpoint = support::client(&trust);
        let connecting = endpoint.connect(addr, SERVER_NAME).unwrap();
        glommio::timer::Timer::new(Duration::from_millis(50)).await;
        drop(connecting);
    });
    let mut bytes = vec![0; 2000];
    let len = socket.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}
