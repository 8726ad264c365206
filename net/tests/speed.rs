//! How fast the runtime is on loopback, one core a side. Not a test: it asserts nothing.
//!
//! `cargo test --release -p millrace-net --test speed -- --ignored --nocapture --test-threads 1`

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use millrace_model::ShardId;
use millrace_net::tls::SERVER_NAME;
use millrace_net::{
    EndpointOptions, Forwarding, GlommioRuntime, ServerIdentity, ShardEndpoint, SocketOptions,
    TransportLimits, bind_group,
};
use quinn::{Connection, Endpoint, EndpointConfig, TransportConfig, congestion};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const STREAM_BYTES: usize = 2 << 30;
const CHUNK: usize = 256 << 10;
const MESSAGE: usize = 1024;
const ROUND_TRIPS: usize = 20_000;
const PAUSED_ROUND_TRIPS: usize = 2_000;

/// What is varied between runs.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    spin: Duration,
    change: fn(&mut TransportConfig),
}

fn unchanged(_: &mut TransportConfig) {}

#[test]
#[ignore = "takes a minute, and measures"]
fn round_trips_by_spin() {
    for spin in [0, 10, 30, 50, 100].map(Duration::from_micros) {
        run(
            Case {
                name: "round trips",
                spin,
                change: unchanged,
            },
            round_trips,
        );
    }
}

#[test]
#[ignore = "takes a minute, and measures"]
fn streams_by_congestion_control() {
    let cases = [
        Case {
            name: "as it is",
            spin: Duration::from_micros(30),
            change: unchanged,
        },
        Case {
            name: "as it is, no spin",
            spin: Duration::ZERO,
            change: unchanged,
        },
        Case {
            name: "default window",
            spin: Duration::from_micros(30),
            change: |config| {
                config.congestion_controller_factory(Arc::new(congestion::CubicConfig::default()));
            },
        },
        Case {
            name: "new reno",
            spin: Duration::from_micros(30),
            change: |config| {
                config
                    .congestion_controller_factory(Arc::new(congestion::NewRenoConfig::default()));
            },
        },
        Case {
            name: "bbr",
            spin: Duration::from_micros(30),
            change: |config| {
                config.congestion_controller_factory(Arc::new(congestion::BbrConfig::default()));
            },
        },
        Case {
            name: "ack frequency 10",
            spin: Duration::from_micros(30),
            change: |config| {
                let mut acks = quinn::AckFrequencyConfig::default();
                acks.ack_eliciting_threshold(10_u32.into());
                acks.max_ack_delay(Some(Duration::from_millis(1)));
                config.ack_frequency_config(Some(acks));
            },
        },
    ];
    for _ in 0..2 {
        for case in cases {
            run(case, stream);
        }
    }
}

/// Runs `measure` on a client against an echoing shard, each on a core of its own.
fn run(case: Case, measure: impl AsyncFnOnce(Case, Connection) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::in_data_dir(dir.path()).unwrap();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let group = bind_group(loopback, support::shards(1), &SocketOptions::default()).unwrap();
    let addr = group.addr;
    let socket = group.sockets.into_iter().next().unwrap();
    let (stop, stopped) = flume::bounded::<()>(0);
    let server = LocalExecutorBuilder::new(Placement::Fixed(0)).spawn(move || async move {
        let endpoint = ShardEndpoint::start(EndpointOptions {
            socket,
            forwarding: Forwarding::between(support::shards(1)).remove(0),
            identity,
            transport: TransportLimits::broker(),
            limits: millrace_net::ConnectionLimits::default(),
            queue: glommio::executor().current_task_queue(),
            spin: case.spin,
        })
        .unwrap();
        let connection = endpoint.accept().await.unwrap();
        glommio::spawn_local(serve(connection)).detach();
        stopped.recv_async().await.ok();
        let cpu = support::thread_cpu();
        let datagrams = endpoint.datagrams();
        println!(
            "    server: cpu {cpu:?}, {} datagrams, {} wake-ups, {} spins",
            datagrams.received.get(),
            datagrams.wakeups.get(),
            datagrams.spins.get()
        );
    });
    let trust = dir.path().join("tls/cert.pem");
    let client = LocalExecutorBuilder::new(Placement::Fixed(1)).spawn(move || async move {
        let queue = glommio::executor().current_task_queue();
        let runtime = Arc::new(GlommioRuntime::new(queue, case.spin));
        let group = bind_group(loopback, support::shards(1), &SocketOptions::default()).unwrap();
        let socket = group.sockets.into_iter().next().unwrap();
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime).unwrap();
        let mut config = support::client_config_for(&trust, ShardId(0).0, 1);
        let mut transport = TransportLimits::client().to_quinn();
        (case.change)(&mut transport);
        config.transport_config(Arc::new(transport));
        let connecting = endpoint.connect_with(config, addr, SERVER_NAME).unwrap();
        measure(case, connecting.await.unwrap()).await;
        stop.send_async(()).await.ok();
    });
    client.unwrap().join().unwrap();
    server.unwrap().join().unwrap();
}

/// Echoes streams that start with 1, swallows those that start with 0 and says when they end.
async fn serve(connection: Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let mut kind = [0];
        receive.read_exact(&mut kind).await.unwrap();
        while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
            if kind[0] == 1 {
                send.write_chunk(chunk.bytes).await.unwrap();
            }
        }
        send.finish().ok();
    }
}

async fn stream(case: Case, connection: Connection) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    let chunk = Bytes::from(vec![7; CHUNK]);
    let started = Instant::now();
    for _ in 0..STREAM_BYTES / CHUNK {
        send.write_chunk(chunk.clone()).await.unwrap();
    }
    send.finish().unwrap();
    receive.read_to_end(0).await.unwrap();
    let rate = STREAM_BYTES as f64 / started.elapsed().as_secs_f64() / 1e6;
    let stats = connection.stats();
    println!(
        "{:20} spin {:?}: {rate:.0} MB/s, {} lost, mtu {}, window {}",
        case.name, case.spin, stats.path.lost_packets, stats.path.current_mtu, stats.path.cwnd
    );
}

async fn round_trips(case: Case, connection: Connection) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[1]).await.unwrap();
    let message = vec![7; MESSAGE];
    let mut back = vec![0; MESSAGE];
    for (name, count, pause) in [
        ("back to back", ROUND_TRIPS, None),
        (
            "1 ms apart",
            PAUSED_ROUND_TRIPS,
            Some(Duration::from_millis(1)),
        ),
    ] {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            if let Some(pause) = pause {
                glommio::timer::Timer::new(pause).await;
            }
            let started = Instant::now();
            send.write_all(&message).await.unwrap();
            receive.read_exact(&mut back).await.unwrap();
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let at = |percent: usize| times[count * percent / 100];
        println!(
            "{:20} spin {:?} {name}: median {:?}, 90 % {:?}, 99 % {:?}",
            case.name,
            case.spin,
            at(50),
            at(90),
            at(99)
        );
    }
}
