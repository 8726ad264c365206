//! A shutdown finishes what was received; a restart finds everything that was acknowledged.

use std::path::{Path, PathBuf};

use millrace_client::{ConsumerOptions, OffsetSpec, ProducerRecord};

use millrace_engine::StartError;

use crate::rig::{Rig, consume_all, produce, producer, texts};

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_survive_restarts() {
    let mut rig = Rig::start();
    {
        let client = rig.client().await;
        client.create_topic("t", Some(1), &[]).await.unwrap();
        produce(&producer(&client, "t").await, numbers(0..1_000)).await;
    }
    rig.shut_down();
    rig.start_again();
    let client = rig.client().await;
    assert_eq!(texts(&consume_all(&client, "t").await), numbers(0..1_000));
    produce(&producer(&client, "t").await, numbers(1_000..1_010)).await;
    assert_eq!(texts(&consume_all(&client, "t").await), numbers(0..1_010));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_under_load_keeps_every_acknowledged_record() {
    let mut rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let producer = producer(&client, "t").await;
    let (say, acknowledged) = std::sync::mpsc::channel();
    let load = tokio::spawn(async move {
        for number in 0_u64.. {
            let record = ProducerRecord::new(number.to_string());
            let Ok(delivery) = producer.send(record).await else {
                return;
            };
            let say = say.clone();
            tokio::spawn(async move {
                if delivery.await.is_ok() {
                    let _ = say.send(number);
                }
            });
        }
    });
    // Some have been acknowledged, many are on their way.
    let mut ledger = vec![acknowledged.recv().unwrap()];
    tokio::task::block_in_place(|| rig.shut_down());
    load.abort();
    drop(client);
    ledger.extend(acknowledged.try_iter());
    rig.start_again();
    let client = rig.client().await;
    let stored = texts(&consume_all(&client, "t").await);
    for number in &ledger {
        let number = usize::try_from(*number).unwrap();
        assert_eq!(
            stored.get(number),
            Some(&number.to_string()),
            "acknowledged and not there"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_consumers_that_wait() {
    let mut rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(2), &[]).await.unwrap();
    let options = ConsumerOptions::new("t").from(OffsetSpec::Earliest);
    let mut consumer = client.consumer(options).await.unwrap();
    let waiting = tokio::spawn(async move { consumer.next().await });
    tokio::task::block_in_place(|| rig.shut_down());
    waiting.abort();
}

/// The first segment below `directory`.
fn segment(directory: &Path) -> PathBuf {
    let mut entries: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|name| name == "log");
    match entries.iter().find(|path| is_segment(path)) {
        Some(path) => path.clone(),
        None => segment(entries.iter().find(|path| path.is_dir()).unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_metadata_is_no_start_and_holds_nothing() {
    let mut rig = Rig::start();
    let client = rig.client().await;
    for number in 0..10 {
        client
            .create_topic(&format!("t{number}"), Some(1), &[])
            .await
            .unwrap();
    }
    drop(client);
    tokio::task::block_in_place(|| rig.shut_down());
    let path = segment(&rig.data_dir().join("metadata"));
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let refused = tokio::task::block_in_place(|| rig.start_refused());
    assert!(matches!(refused, StartError::Metadata(_)), "{refused}");
    std::fs::write(&path, whole).unwrap();
    tokio::task::block_in_place(|| rig.start_again());
    assert_eq!(
        rig.client()
            .await
            .metadata(None)
            .await
            .unwrap()
            .topics
            .len(),
        10
    );
}
