//! Metrics and health over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::rig::{Rig, consume_all, produce, producer};

pub(crate) fn get(rig: &Rig, path: &str) -> String {
    let mut stream = TcpStream::connect(rig.broker().http().unwrap()).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stage_of_a_batch_is_counted() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(2), &[]).await.unwrap();
    produce(
        &producer(&client, "t").await,
        (0..100).map(|n| n.to_string()),
    )
    .await;
    assert_eq!(consume_all(&client, "t").await.len(), 100);
    assert!(get(&rig, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&rig, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(&rig, "/else").starts_with("HTTP/1.1 404"));
    let metrics = get(&rig, "/metrics");
    assert!(metrics.contains("openmetrics"));
    for counter in [
        "produced_batches",
        "device_writes",
        "datagrams",
        "cache_hits",
    ] {
        let counted = metrics.lines().any(|line| {
            line.starts_with(&format!("millrace_{counter}_total")) && !line.ends_with(" 0")
        });
        assert!(counted, "nothing is counted for {counter}:\n{metrics}");
    }
    for stage in ["receive", "queue", "append", "device", "ack"] {
        let label = format!("stage=\"{stage}\"");
        let counted = metrics
            .lines()
            .any(|line| line.contains("_count") && line.contains(&label) && !line.ends_with(" 0"));
        assert!(counted, "nothing is recorded for {stage}:\n{metrics}");
    }
}
