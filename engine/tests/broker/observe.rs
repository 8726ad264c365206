//! What the broker tells of its latencies, over HTTP and in its own protocol.

use millrace_client::Client;
use millrace_latency::{Document, SlowDocument, Stage};

use crate::http::get;
use crate::rig::{Rig, consume_all, produce, producer};

/// The body of an answer that must be a good one.
fn body(rig: &Rig, path: &str) -> String {
    let answer = get(rig, path);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}

fn document(rig: &Rig, query: &str) -> Document {
    serde_json::from_str(&body(rig, &format!("/hist?format=json{query}"))).unwrap()
}

async fn send(client: &Client, topic: &str, count: u32) {
    let producer = producer(client, topic).await;
    for n in 0..count {
        // One batch each.
        produce(&producer, [n.to_string()]).await;
    }
}

fn count(document: &Document, stage: Stage) -> u64 {
    document.stage(stage).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_batch_is_in_the_histograms_of_its_stages() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(2), &[]).await.unwrap();
    send(&client, "t", 40).await;
    assert_eq!(consume_all(&client, "t").await.len(), 40);
    let all = document(&rig, "&per=shard");
    for stage in [
        Stage::Receive,
        Stage::Queue,
        Stage::Append,
        Stage::Device,
        Stage::Ack,
    ] {
        assert_eq!(count(&all, stage), 40, "{stage:?}");
        let shards = all
            .shards
            .iter()
            .map(|shard| shard.stage(stage).unwrap().count());
        assert_eq!(shards.sum::<u64>(), 40, "the shards add up");
    }
    assert_eq!(all.shards.len(), 2);
    let batches = all
        .shards
        .iter()
        .map(|shard| shard.counters["produced_batches"]);
    assert_eq!(batches.sum::<u64>(), 40);
    assert!(all.sum_of_produce_medians_us().unwrap() > 0.0);
    let one = document(&rig, "&shard=1&stage=device");
    let counts = one.stage(Stage::Device).unwrap();
    assert_eq!(Some(counts), all.shards[1].stage(Stage::Device));
    assert_eq!(one.stages.len(), 1);

    let told = client
        .observe("/hist?format=json&window=10m")
        .await
        .unwrap();
    let told: Document = serde_json::from_str(&told).unwrap();
    assert_eq!(
        count(&told, Stage::Append),
        40,
        "a young broker's window goes back to its start"
    );
    let text = body(&rig, "/hist");
    assert!(
        text.contains("Since the start") && text.contains("The last 1m"),
        "{text}"
    );
    let html = body(&rig, "/hist?format=html");
    assert!(html.starts_with("<!doctype html>") && html.contains("<td>append</td><td>40</td>"));
    let hgrm = body(&rig, "/hist?stage=append&format=hgrm");
    assert!(
        hgrm.trim_end().ends_with("Total count    =           40]"),
        "{hgrm}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_counted_stays_counted() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let names = [
        "device_writes",
        "device_write",
        "task_microseconds",
        "cpu_microseconds",
    ];
    let mut before = [0; 4];
    for _ in 0..3 {
        send(&client, "t", 5).await;
        let all = document(&rig, "&per=shard");
        let now = names.map(|name| {
            all.shards
                .iter()
                .map(|shard| shard.counters[name])
                .sum::<u64>()
        });
        let rose = now.iter().zip(before).all(|(now, before)| *now > before);
        assert!(rose, "{names:?}: {before:?}, then {now:?}");
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_recorded_from_the_first_question_on() {
    let rig = Rig::start();
    let client = rig.client().await;
    for topic in ["watched", "other"] {
        client.create_topic(topic, Some(2), &[]).await.unwrap();
        send(&client, topic, 5).await;
    }
    let first = document(&rig, "&topic=watched");
    assert_eq!(count(&first, Stage::Append), 0);
    send(&client, "watched", 7).await;
    send(&client, "other", 5).await;
    let second = document(&rig, "&topic=watched");
    for stage in [
        Stage::Receive,
        Stage::Queue,
        Stage::Append,
        Stage::Device,
        Stage::Ack,
    ] {
        assert_eq!(count(&second, stage), 7, "{stage:?}");
    }
    assert_eq!(second.topic.as_deref(), Some("watched"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_topics_are_watched_at_a_time() {
    let rig = Rig::start();
    let client = rig.client().await;
    for n in 0..9 {
        client
            .create_topic(&format!("t{n}"), Some(1), &[])
            .await
            .unwrap();
    }
    for n in 0..8 {
        document(&rig, &format!("&topic=t{n}"));
    }
    let answer = get(&rig, "/hist?topic=t8");
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    document(&rig, "&topic=t0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slowest_batches_are_kept_with_their_stages() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    send(&client, "t", 50).await;
    let slow: SlowDocument = serde_json::from_str(&body(&rig, "/slow?format=json")).unwrap();
    assert_eq!(slow.batches.len(), 32, "of one minute, on one shard");
    assert!(slow.batches.is_sorted_by(|a, b| a.total_us >= b.total_us));
    for batch in &slow.batches {
        assert_eq!((batch.topic.as_str(), batch.partition), ("t", 0));
        assert_eq!(
            (batch.protocol.as_str(), batch.peer.as_str()),
            ("native", "127.0.0.1")
        );
        let sum: f64 = batch.stages_us.iter().sum();
        assert!((sum - batch.total_us).abs() < 0.01, "{batch:?}");
        assert!(batch.bytes > 0 && batch.at_ms > 0);
    }
    let text = client.observe("/slow?limit=3").await.unwrap();
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_told_is_explained() {
    let rig = Rig::start();
    let client = rig.client().await;
    for (path, status, why) in [
        ("/hist?stge=ack", 400, "`stge` is not one of format"),
        ("/hist?stage=sleep", 400, "receive, queue"),
        ("/hist?window=2m", 400, "start, 1m, 5m, 10m"),
        ("/hist?format=hgrm", 400, "add stage="),
        ("/hist?shard=2", 404, "only 0 to 1"),
        ("/hist?topic=nothing", 404, "no topic is called `nothing`"),
        ("/slow?limit=x", 400, "limit is a number"),
    ] {
        let answer = get(&rig, path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
        assert!(answer.contains(why), "{path}: {answer}");
        let error = client.observe(path).await.unwrap_err().to_string();
        assert!(error.contains(why), "{path}: {error}");
    }
    assert!(client.observe("/else").await.is_err());
}
