//! The Kafka side of the load against both ends that this repository has: the broker's listener,
//! and the sink, which keeps nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use clap::Parser;
use millrace_bench::options::{Load, Mode, Options};
use millrace_bench::report::Measured;
use millrace_bench::sink::Delays;
use millrace_bench::{consume, e2e, produce, sink};
use millrace_engine::config::Layers;
use millrace_engine::{Broker, BrokerConfig, RunningBroker, ShardPlacement};

/// A sink that serves as long as the test runs.
async fn listening() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(sink::serve(listener, Delays::default()));
    address
}

/// A broker of two shards on an empty directory, which is removed with what is returned.
struct Started {
    broker: RunningBroker,
    _directory: tempfile::TempDir,
}

impl Started {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let data_dir = directory.path().join("data").display().to_string();
        let mut layers = Layers::default();
        for (key, value) in [
            ("data.dir", data_dir.as_str()),
            ("quic", "127.0.0.1:0"),
            ("kafka", "127.0.0.1:0"),
            ("http", "none"),
            ("cores", "2"),
        ] {
            layers = layers.flag(key, value).expect("the key is known");
        }
        let config = layers.build().expect("the values are legal").config;
        let placement = ShardPlacement::Unpinned;
        let broker = Broker::start(BrokerConfig { config, placement });
        Self {
            broker: broker.expect("the broker starts"),
            _directory: directory,
        }
    }

    fn kafka(&self) -> SocketAddr {
        self.broker.kafka().expect("the listener is on")
    }

    fn stop(self) {
        self.broker.shutdown().expect("the broker stops cleanly");
    }
}

fn load(mode: &str, address: SocketAddr, more: &str) -> Load {
    let line = format!("millrace-bench {mode} --kafka {address} {more}");
    match Options::parse_from(line.split_ascii_whitespace()).mode {
        Mode::Produce(load) | Mode::Consume(load) | Mode::E2e(load) | Mode::Mixed(load) => load,
        other => panic!("not a load: {other:?}"),
    }
}

fn without_errors(measured: &Measured) {
    assert!(
        measured.tally.errors.is_empty(),
        "{:?}",
        measured.tally.errors
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_are_acknowledged() {
    let shape =
        "--producers 3 --partitions 2 --batch 5 --in-flight 4 --duration 200ms --warm-up 0s";
    for acks in ["all", "1", "0"] {
        let more = format!("{shape} --acks {acks}");
        let load = load("produce", listening().await, &more);
        let measured = produce::run(&load).await.unwrap();
        without_errors(&measured);
        let acked = &measured.tally.acked;
        assert!(acked.records > 0, "acks {acks}");
        assert_eq!(acked.records % 5, 0);
        assert_eq!(acked.bytes, acked.records * 1024);
        let measures = acked.latencies.count() > 0;
        assert_eq!(measures, acks != "0", "without answers there is no latency");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_a_filled_topic_is_read_once() {
    let more = "--partitions 2 --batch 7 --record-size 100 --fill 70000 --fetch 4KiB";
    let load = load("consume", listening().await, more);
    let measured = consume::run(&load).await.unwrap();
    without_errors(&measured);
    assert_eq!(measured.tally.delivered.records, 2 * 50 * 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_delivered() {
    let more = "--rate 200 --duration 300ms --warm-up 0s --in-flight 8";
    let load = load("e2e", listening().await, more);
    let measured = e2e::run(&load).await.unwrap();
    without_errors(&measured);
    let tally = &measured.tally;
    assert_eq!(tally.acked.records, 60);
    assert!(tally.delivered.records > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = produce::run(&load("produce", address, ""))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_listener_takes_the_load_and_gives_it_back() {
    let broker = Started::new();
    let more = "--producers 3 --partitions 2 --batch 5 --in-flight 4 --duration 200ms --warm-up 0s";
    let load = load("produce", broker.kafka(), more);
    let measured = produce::run(&load).await.unwrap();
    without_errors(&measured);
    assert!(measured.tally.acked.records > 0);

    let more = "--partitions 3 --batch 7 --record-size 100 --fill 105000 --fetch 4KiB";
    let load = self::load("consume", broker.kafka(), more);
    let measured = consume::run(&load).await.unwrap();
    without_errors(&measured);
    assert_eq!(measured.tally.delivered.records, 3 * 50 * 7);

    let more = "--rate 200 --duration 300ms --warm-up 0s --in-flight 8";
    let load = self::load("e2e", broker.kafka(), more);
    let measured = e2e::run(&load).await.unwrap();
    without_errors(&measured);
    assert_eq!(measured.tally.acked.records, 60);
    assert_eq!(measured.tally.delivered.records, 60, "each arrives once");
    broker.stop();
}
