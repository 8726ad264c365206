//! Many connections, silent ones, slow ones, and the end of a broker.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use millrace_engine::config::Period;
use millrace_kafka::{ApiKey, FetchRequest, MetadataRequest};

use crate::client::{
    FETCH, Kafka, PRODUCE, batch, fetch_request, fetched, from, produce_request, records,
};
use crate::rig::Rig;

fn connect(rig: &Rig) -> Kafka {
    Kafka::connect(rig.broker().kafka().unwrap())
}

/// How many connections this process may well open, both ends.
fn affordable(wanted: usize) -> usize {
    let open = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = open.lines().find(|line| line.starts_with("Max open files"));
    let soft = line
        .and_then(|line| line.split_whitespace().nth(3))
        .unwrap();
    let soft: usize = soft.parse().unwrap_or(usize::MAX);
    wanted.min(soft.saturating_sub(400) / 2)
}

#[test]
fn a_thousand_silent_connections_disturb_nobody() {
    let rig = Rig::start();
    let silent: Vec<Kafka> = (0..affordable(1_000)).map(|_| connect(&rig)).collect();
    assert!(!silent.is_empty());
    let mut kafka = connect(&rig);
    kafka.topic("t");
    for number in 0..50 {
        assert_eq!(kafka.produce("t", 0, batch(&["x"])), number);
    }
    drop(silent);
    assert_eq!(kafka.produce("t", 0, batch(&["x"])), 50);
}

#[test]
fn connections_over_the_limit_are_closed() {
    let rig = Rig::start_with(|config| {
        config.max_connections = 1.try_into().unwrap();
        config.cores = millrace_engine::config::Cores::Count(1.try_into().unwrap());
    });
    let mut first = connect(&rig);
    first.topic("t");
    assert!(connect(&rig).is_closed());
    first.topic("t");
    drop(first);
    // The place is free once the broker has seen the end.
    let served = (0..200).any(|_| {
        let mut next = connect(&rig);
        let (_, frame) = next.frame(12, &MetadataRequest::default().into());
        next.stream().write_all(&frame).unwrap();
        let served = next.receive_frame().is_ok();
        std::thread::sleep(Duration::from_millis(10));
        served
    });
    assert!(served);
}

#[test]
fn idle_connections_are_closed_and_those_that_wait_for_an_answer_are_not() {
    let rig = Rig::start_with(|config| {
        config.connections_max_idle = Period(Duration::from_millis(300));
    });
    let mut idle = connect(&rig);
    let mut waiting = connect(&rig);
    waiting.topic("t");
    let request = FetchRequest {
        max_wait_ms: 1_500,
        ..fetch_request("t", [(0, 0)])
    };
    let id = waiting.send(FETCH, request);
    assert!(idle.is_closed());
    assert_eq!(waiting.receive(ApiKey::Fetch, FETCH).0, id);
}

#[test]
fn a_client_that_never_reads_costs_little_and_nobody_notices() {
    let rig = Rig::start();
    let mut other = connect(&rig);
    other.topic("t");
    let long = "x".repeat(900_000);
    for _ in 0..8 {
        other.produce("t", 0, batch(&[&long]));
    }
    let mut deaf = connect(&rig);
    let timeout = Some(Duration::from_millis(200));
    deaf.stream().set_write_timeout(timeout).unwrap();
    let (_, fetch) = deaf.frame(FETCH, &fetch_request("t", [(0, 0)]).into());
    let (_, metadata) = deaf.frame(12, &MetadataRequest::default().into());
    // Until the broker reads no more.
    let mut sent = 0;
    for _ in 0..1_000_000 {
        if deaf.stream().write_all(&fetch).is_err() || deaf.stream().write_all(&metadata).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 1_000_000, "the broker must push back");
    for number in 8..20 {
        assert_eq!(other.produce("t", 0, batch(&["y"])), number);
    }
}

#[test]
fn a_client_that_reads_late_gets_every_answer_in_order() {
    let rig = Rig::start();
    let mut kafka = connect(&rig);
    kafka.topic("t");
    let long = "x".repeat(500_000);
    for _ in 0..4 {
        kafka.produce("t", 0, batch(&[&long]));
    }
    let ids: Vec<i32> = (0..20)
        .map(|_| kafka.send(FETCH, fetch_request("t", [(0, 0)])))
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    for id in ids {
        let (received, response) = kafka.receive(ApiKey::Fetch, FETCH);
        assert_eq!(received, id);
        let data = fetched(response).responses.remove(0).partitions.remove(0);
        assert_eq!(records(&data), from(0, &[&long[..]; 2]), "1 MiB at a time");
    }
}

#[test]
fn a_shutdown_answers_what_was_begun_and_closes() {
    let mut rig = Rig::start();
    let mut producing = connect(&rig);
    producing.topic("t");
    let mut waiting = connect(&rig);
    let mut idle = connect(&rig);
    waiting.send(FETCH, fetch_request("t", [(0, 0)]));
    std::thread::sleep(Duration::from_millis(50));
    let request = produce_request(1, "t", [(0, Some(batch(&["x"])))]);
    producing.send(PRODUCE, request);
    assert_eq!(producing.receive(ApiKey::Produce, PRODUCE).0, 8);
    waiting.receive(ApiKey::Fetch, FETCH);
    waiting.send(FETCH, fetch_request("t", [(0, 1)]));
    std::thread::sleep(Duration::from_millis(50));
    rig.shut_down();
    let data = fetched(waiting.receive(ApiKey::Fetch, FETCH).1);
    assert!(data.responses[0].partitions[0].records.is_empty());
    assert!(waiting.is_closed() && idle.is_closed() && producing.is_closed());
    rig.start_again();
    assert_eq!(records(&connect(&rig).fetch("t", 0, 0)), from(0, &["x"]));
}

#[test]
fn a_client_that_sends_no_more_is_still_answered() {
    let rig = Rig::start();
    let mut kafka = connect(&rig);
    kafka.topic("t");
    let ids: Vec<i32> = (0..20)
        .map(|_| kafka.send(PRODUCE, produce_request(1, "t", [(0, Some(batch(&["x"])))])))
        .collect();
    kafka.stream().shutdown(std::net::Shutdown::Write).unwrap();
    for id in ids {
        assert_eq!(kafka.receive(ApiKey::Produce, PRODUCE).0, id);
    }
    assert!(kafka.is_closed());
}

#[test]
fn connections_and_requests_are_counted() {
    let rig = Rig::start();
    let mut kafka = connect(&rig);
    kafka.topic("t");
    let mut http = std::net::TcpStream::connect(rig.broker().http().unwrap()).unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    http.read_to_string(&mut text).unwrap();
    let sum = |name: &str| -> u64 {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    assert_eq!(sum("millrace_kafka_connections{"), 1);
    assert!(text.contains("api=\"Metadata\"} 1"), "{text}");
    assert!(sum("millrace_kafka_received_bytes_total") > 0);
    assert!(sum("millrace_kafka_sent_bytes_total") > 0);
}
