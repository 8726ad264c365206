//! An endpoint without traffic sleeps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_net::tls::SERVER_NAME;
use std::time::Duration;
use support::{Broker, BrokerOptions, ClientExecutor};

/// How long the endpoints are watched. The asserts are on counts, not on times.
const WATCH: Duration = Duration::from_secs(2);

/// Until endpoints that were just made have nothing more to do.
const START: Duration = Duration::from_millis(200);

#[test]
fn an_endpoint_without_clients_is_never_woken() {
    let options = BrokerOptions {
        shards: 2,
        spin: Duration::from_micros(50),
        ..BrokerOptions::default()
    };
    let broker = Broker::with(options);
    // A socket counts as active when it is made, and is spun on for a moment.
    std::thread::sleep(START);
    let before = [broker.counts(0), broker.counts(1)];
    std::thread::sleep(WATCH);
    let after = [broker.counts(0), broker.counts(1)];
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((after.wakeups, after.spins), (before.wakeups, before.spins));
        let cpu = after.cpu - before.cpu;
        assert!(cpu < WATCH / 100, "an idle shard took {cpu:?} of {WATCH:?}");
    }
}

#[test]
fn an_idle_connection_costs_no_more_than_its_packets() {
    let broker = Broker::with(BrokerOptions {
        spin: Duration::from_micros(50),
        ..BrokerOptions::default()
    });
    let (addr, trust) = (broker.addr(), broker.trust());
    let (settled, settle) = flume::bounded(0);
    let (release, released) = flume::bounded::<()>(0);
    let client = std::thread::spawn(move || {
        ClientExecutor::run(move || async move {
            let endpoint = support::client(&trust);
            let connection = endpoint.connect(addr, SERVER_NAME).unwrap().await.unwrap();
            support::echo_once(&connection, b"hello").await;
            glommio::timer::Timer::new(Duration::from_millis(500)).await;
            settled.send_async(()).await.unwrap();
            released.recv_async().await.ok();
        });
    });
    settle.recv().unwrap();
    let before = broker.counts(0);
    std::thread::sleep(WATCH);
    let after = broker.counts(0);
    assert_eq!(after.connections, 1);
    assert!(after.wakeups - before.wakeups <= after.received - before.received);
    let cpu = after.cpu - before.cpu;
    assert!(
        cpu < WATCH / 100,
        "an idle connection took {cpu:?} of {WATCH:?}"
    );
    drop(release);
    client.join().unwrap();
}
