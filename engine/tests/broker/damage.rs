//! Damage to what was acknowledged is told, not passed over.

use std::path::PathBuf;

use millrace_client::{ConsumerOptions, ErrorCode, OffsetSpec};

use crate::rig::{Rig, produce, producer};

const RECORDS: usize = 20;

/// The only segment of the only partition.
fn segment(rig: &Rig) -> PathBuf {
    let logs = rig.data_dir().join("logs");
    let partition = std::fs::read_dir(logs).unwrap().next().unwrap().unwrap();
    partition.path().join("00000000000000000000.log")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_comes_to_the_damage_and_is_told() {
    let mut rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(1), &[]).await.unwrap();
    let producer = producer(&client, "t").await;
    for number in 0..RECORDS {
        // Each in a write of its own, which vouches for those before it.
        produce(&producer, [number.to_string()]).await;
    }
    producer.close().await;
    drop(client);
    rig.shut_down();

    let path = segment(&rig);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    rig.start_again();

    let client = rig.client().await;
    let options = ConsumerOptions::new("t").from(OffsetSpec::Earliest);
    let mut consumer = client.consumer(options).await.unwrap();
    let mut read = 0;
    let error = loop {
        match consumer.next_before_end().await {
            Ok(Some(record)) => {
                assert_eq!(record.value.unwrap(), read.to_string());
                read += 1;
            }
            Ok(None) => panic!("the consumer ended contented after {read} records"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::KafkaStorageError, "{error}");
    assert!(0 < read && read < RECORDS, "{read}");
}
