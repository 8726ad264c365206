//! What one protocol writes the other reads, at the same offsets.

use crate::client::{Kafka, batch, from, records};
use crate::rig::{Rig, consume_all, produce, producer, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_both_protocols_stand_in_one_log() {
    let rig = Rig::start();
    let client = rig.client().await;
    client.create_topic("t", Some(2), &[]).await.unwrap();
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    let native = producer(&client, "t").await;
    for partition in 0..2 {
        for round in 0..5 {
            let value = format!("kafka {round}");
            kafka.produce("t", partition, batch(&[&value]));
        }
    }
    produce(&native, (0..20).map(|n| format!("native {n}"))).await;
    let read = consume_all(&client, "t").await;
    assert_eq!(read.len(), 30);
    for partition in 0..2 {
        let data = kafka.fetch("t", i32::try_from(partition).unwrap(), 0);
        let by_kafka = records(&data);
        let of_partition = read.iter().filter(|record| record.partition.0 == partition);
        let of_partition: Vec<_> = of_partition.cloned().collect();
        let by_native = of_partition.iter().map(|record| record.offset.0);
        let by_native: Vec<_> = by_native.zip(texts(&of_partition)).collect();
        assert_eq!(by_kafka, by_native);
        let kafkas: Vec<String> = (0..5).map(|round| format!("kafka {round}")).collect();
        let kafkas: Vec<&str> = kafkas.iter().map(String::as_str).collect();
        assert_eq!(by_kafka[..5], from(0, &kafkas)[..]);
    }
}
