//! A broker on a temporary directory, and clients of it.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::Path;

use millrace_client::{
    Client, ConnectOptions, Consumer, ConsumerOptions, ConsumerRecord, LogId, OffsetSpec,
    PartitionId, Producer, ProducerOptions, ProducerRecord, Trust,
};
use millrace_engine::config::{Config, Cores, Layers, Listener};
use millrace_engine::{Broker, BrokerConfig, RunningBroker, ShardPlacement, StartError};
use millrace_net::tls::ServerIdentity;

/// A broker that ends with the test.
pub(crate) struct Rig {
    broker: Option<RunningBroker>,
    config: Config,
    _directory: tempfile::TempDir,
}

/// A configuration on `directory`: two shards, free ports.
fn config(directory: &Path) -> Config {
    let mut config = Layers::default().build().unwrap().config;
    config.data_dir = directory.join("data");
    config.quic = "127.0.0.1:0".parse().unwrap();
    config.kafka = Listener(Some("127.0.0.1:0".parse().unwrap()));
    config.http = Listener(Some("127.0.0.1:0".parse().unwrap()));
    config.cores = Cores::Count(NonZeroU8::new(2).unwrap());
    config
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        change(&mut config);
        let broker = Some(start(&config));
        Self {
            broker,
            config,
            _directory: directory,
        }
    }

    pub(crate) fn broker(&self) -> &RunningBroker {
        self.broker.as_ref().unwrap()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.broker().quic()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    pub(crate) fn shut_down(&mut self) {
        self.broker.take().unwrap().shutdown().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.broker = Some(start(&self.config));
    }

    /// Tries to start again where that must fail.
    pub(crate) fn start_refused(&self) -> StartError {
        let placement = ShardPlacement::Unpinned;
        let config = self.config.clone();
        Broker::start(BrokerConfig { config, placement }).unwrap_err()
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        let identity = ServerIdentity::in_data_dir(self.data_dir()).unwrap();
        let fingerprint = identity.fingerprint().0;
        ConnectOptions::new(self.addr(), Trust::Fingerprint(fingerprint))
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }
}

fn start(config: &Config) -> RunningBroker {
    let placement = ShardPlacement::Unpinned;
    Broker::start(BrokerConfig {
        config: config.clone(),
        placement,
    })
    .unwrap()
}

/// Produces values one by one and waits for all acknowledgements.
pub(crate) async fn produce(producer: &Producer, values: impl IntoIterator<Item = String>) {
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(producer.send(ProducerRecord::new(value)).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

/// Everything that is in a topic now.
pub(crate) async fn consume_all(client: &Client, topic: &str) -> Vec<ConsumerRecord> {
    let options = ConsumerOptions::new(topic).from(OffsetSpec::Earliest);
    let mut consumer = client.consumer(options).await.unwrap();
    drain(&mut consumer).await
}

pub(crate) async fn drain(consumer: &mut Consumer) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    while let Some(record) = consumer.next_before_end().await.unwrap() {
        records.push(record);
    }
    records
}

/// The values of records as text.
pub(crate) fn texts(records: &[ConsumerRecord]) -> Vec<String> {
    let text = |record: &ConsumerRecord| {
        String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap()
    };
    records.iter().map(text).collect()
}

pub(crate) async fn producer(client: &Client, topic: &str) -> Producer {
    client.producer(ProducerOptions::new(topic)).await.unwrap()
}

/// The log of a topic's partition.
pub(crate) async fn log_of(client: &Client, topic: &str, partition: u32) -> LogId {
    let topic = client.topic(topic).await.unwrap().id;
    LogId {
        topic,
        partition: PartitionId(partition),
    }
}
