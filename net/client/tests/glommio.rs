//! The same client inside a glommio executor, against a broker on tokio.
#![cfg(feature = "glommio")]
#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod fake;

use fake::{FakeBroker, TOPIC};
use glommio::{LocalExecutorBuilder, Placement};
use millrace_client::{
    Client, ConnectOptions, ConsumerOptions, GroupOptions, ProducerOptions, ProducerRecord,
    RuntimeKind,
};

#[test]
fn records_go_there_and_back() {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let broker = tokio.block_on(async { FakeBroker::start(2) });
    let options = ConnectOptions {
        runtime: RuntimeKind::Glommio,
        ..broker.options()
    };
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .spawn(move || there_and_back(options))
        .unwrap();
    executor.join().unwrap();
    assert_eq!(broker.values(0).len() + broker.values(1).len(), 500);
    let committed = broker.state().group.committed.clone();
    assert_eq!(committed.values().sum::<u64>(), 500);
}

async fn there_and_back(options: ConnectOptions) {
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(TOPIC)).await.unwrap();
    let mut deliveries = Vec::new();
    for index in 0..500_u32 {
        let key = index.to_le_bytes().to_vec();
        let record = ProducerRecord::new(vec![1; 100]).with_key(key);
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close().await;
    let mut consumer = client.consumer(ConsumerOptions::new(TOPIC)).await.unwrap();
    let mut count = 0;
    while consumer.next_before_end().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 500);
    let options = GroupOptions::new("billing").topic(TOPIC);
    let mut member = client.group_consumer(options).await.unwrap();
    let mut count = 0;
    while member.next_before_end().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 500);
    member.close().await.unwrap();
}
