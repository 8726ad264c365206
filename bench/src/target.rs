//! The broker under load: one inside this process, or one elsewhere; and the topic that is
//! made for the run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millrace_client::{Acks, Client, ConnectOptions, OffsetSpec, Trust};
use millrace_engine::config::Layers;
use millrace_engine::{Broker, BrokerConfig, RunningBroker, ShardPlacement};
use millrace_model::{LogId, Offset, PartitionId, TopicId};

use crate::BenchError;
use crate::kafka::Cluster;
use crate::options::{AcksOption, Load};
use crate::payload::{BatchMaker, Form};
use crate::stages::Probe;
use crate::transport::{Acknowledgements, BatchReceiver, BatchSender};
use crate::usage::{BrokerProcess, Meter};

/// A broker, and a client of it.
pub(crate) struct Target {
    broker: Reached,
    embedded: Option<Embedded>,
    _scratch: tempfile::TempDir,
}

/// A broker by the protocol over which it is reached.
enum Reached {
    /// The native one.
    Quic(Client),
    /// Kafka's.
    Kafka(Cluster),
}

/// A topic made for one run.
#[derive(Clone, Debug)]
pub(crate) struct BenchTopic {
    name: String,
    id: TopicId,
    partitions: u32,
}

impl BenchTopic {
    /// Its partitions.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.partitions).map(PartitionId)
    }

    /// The partition that client `index` uses.
    pub(crate) fn partition(&self, index: usize) -> PartitionId {
        let partition = index % self.partitions as usize;
        PartitionId(u32::try_from(partition).expect("below a u32"))
    }

    fn log(&self, partition: PartitionId) -> LogId {
        LogId {
            topic: self.id,
            partition,
        }
    }
}

impl Target {
    /// Starts or reaches the broker that `load` names.
    ///
    /// # Errors
    /// The broker does not start or cannot be reached.
    pub(crate) async fn open(load: &Load) -> Result<Self, BenchError> {
        let mut directory = tempfile::Builder::new();
        directory.prefix("millrace-bench.");
        let scratch = match &load.data_dir {
            Some(parent) => directory.tempdir_in(parent)?,
            None => directory.tempdir()?,
        };
        let (broker, embedded) = match (&load.kafka, load.broker) {
            (Some(address), _) => (Reached::Kafka(Cluster::reach(address).await?), None),
            (None, Some(address)) => {
                let first_use = || Trust::FirstUse(scratch.path().join("known_brokers"));
                let trust = load.ca.clone().map_or_else(first_use, Trust::File);
                (Reached::quic(address, trust).await?, None)
            }
            (None, None) => {
                let broker = Embedded::start(load, scratch.path())?;
                let reached = Reached::quic(broker.address(), broker.trust()).await?;
                (reached, Some(broker))
            }
        };
        Ok(Self {
            broker,
            embedded,
            _scratch: scratch,
        })
    }

    /// Makes a topic of an unused name.
    ///
    /// # Errors
    /// The broker refuses it.
    pub(crate) async fn topic(&self, load: &Load) -> Result<BenchTopic, BenchError> {
        let name = format!("bench-{:016x}", fastrand::u64(..));
        let partitions = load.partitions.get();
        let caching = [("write.caching", "true")];
        let configs = if load.write_caching {
            &caching[..]
        } else {
            &[]
        };
        let id = match &self.broker {
            Reached::Quic(client) => {
                client
                    .create_topic(&name, Some(partitions), configs)
                    .await?
            }
            Reached::Kafka(cluster) => cluster.create_topic(&name, partitions, configs).await?,
        };
        Ok(BenchTopic {
            name,
            id,
            partitions,
        })
    }

    /// What reads the broker's usage: that of the process named, or of the embedded one.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn meter(&self, load: &Load) -> Result<Meter, BenchError> {
        let process = match (load.broker_pid, &self.embedded) {
            (Some(pid), _) => BrokerProcess::Pid(pid),
            (None, Some(_)) => BrokerProcess::This,
            (None, None) => BrokerProcess::Unknown,
        };
        Ok(Meter::new(process)?)
    }

    /// What reads the broker's own histograms. There are none over the Kafka protocol.
    pub(crate) fn probe(&self) -> Probe {
        Probe::new(match &self.broker {
            Reached::Quic(client) => Some(client.clone()),
            Reached::Kafka(_) => None,
        })
    }

    /// What makes the batches of one producer of a partition.
    pub(crate) fn batch_maker(
        &self,
        topic: &BenchTopic,
        partition: PartitionId,
        load: &Load,
        seed: u64,
    ) -> BatchMaker {
        let form = match self.broker {
            Reached::Quic(_) => Form::Frame(topic.log(partition)),
            Reached::Kafka(_) => Form::Bare,
        };
        BatchMaker::new(form, load, seed)
    }

    /// A producer of a partition.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub(crate) async fn producer(
        &self,
        topic: &BenchTopic,
        partition: PartitionId,
        acks: AcksOption,
    ) -> Result<(BatchSender, Acknowledgements), BenchError> {
        Ok(match &self.broker {
            Reached::Quic(client) => {
                let log = topic.log(partition);
                let (sender, acks, _) = client.produce_stream(log, acks.into()).await?;
                (BatchSender::Quic(sender), Acknowledgements::Quic(acks))
            }
            Reached::Kafka(cluster) => {
                let (sender, acks) = cluster.producer(&topic.name, partition, acks).await?;
                (BatchSender::Kafka(sender), Acknowledgements::Kafka(acks))
            }
        })
    }

    /// A consumer of a partition from its start.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub(crate) async fn consumer(
        &self,
        topic: &BenchTopic,
        partition: PartitionId,
        load: &Load,
    ) -> Result<BatchReceiver, BenchError> {
        Ok(match &self.broker {
            Reached::Quic(client) => {
                let log = topic.log(partition);
                let (frames, _) = client.consume_stream(log, OffsetSpec::Earliest).await?;
                BatchReceiver::Quic(log, frames)
            }
            Reached::Kafka(cluster) => {
                let fetches = cluster.consumer(&topic.name, partition, load.fetch).await?;
                BatchReceiver::Kafka(fetches)
            }
        })
    }

    /// The offset after the last record that a partition's consumers see.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub(crate) async fn end(
        &self,
        topic: &BenchTopic,
        partition: PartitionId,
    ) -> Result<Offset, BenchError> {
        Ok(match &self.broker {
            Reached::Quic(client) => {
                let log = topic.log(partition);
                client.list_offset(log, OffsetSpec::Latest).await?.offset
            }
            Reached::Kafka(cluster) => cluster.end(&topic.name, partition).await?,
        })
    }

    /// Removes the topic, and stops the broker if it is embedded.
    ///
    /// # Errors
    /// The broker refuses, or does not stop cleanly.
    pub(crate) async fn close(self, topic: &BenchTopic) -> Result<(), BenchError> {
        match self.broker {
            Reached::Quic(client) => {
                client.delete_topic(&topic.name).await?;
                client.close().await;
            }
            Reached::Kafka(cluster) => cluster.delete_topic(&topic.name).await?,
        }
        if let Some(embedded) = self.embedded {
            embedded.stop()?;
        }
        Ok(())
    }
}

impl Reached {
    async fn quic(address: SocketAddr, trust: Trust) -> Result<Self, BenchError> {
        let options = ConnectOptions::new(address, trust);
        Ok(Self::Quic(Client::connect(options).await?))
    }
}

impl From<AcksOption> for Acks {
    fn from(option: AcksOption) -> Self {
        match option {
            AcksOption::None => Self::None,
            AcksOption::Leader => Self::Leader,
            AcksOption::All => Self::All,
        }
    }
}

/// A broker inside this process, unpinned: it shares the cores with the load.
struct Embedded {
    broker: RunningBroker,
    certificate: PathBuf,
}

impl Embedded {
    fn start(load: &Load, scratch: &Path) -> Result<Self, BenchError> {
        let refused = |error: &dyn std::fmt::Display| BenchError::Embedded(error.to_string());
        let data_dir = scratch.join("data");
        let mut layers = Layers::default();
        for (key, value) in [
            ("data.dir", data_dir.to_string_lossy().as_ref()),
            ("quic", "127.0.0.1:0"),
            ("kafka", "none"),
            ("http", "none"),
            ("cores", load.shards.to_string().as_str()),
        ] {
            layers = layers.flag(key, value).map_err(|error| refused(&error))?;
        }
        let config = layers.build().map_err(|error| refused(&error))?.config;
        let placement = ShardPlacement::Unpinned;
        let broker = Broker::start(BrokerConfig { config, placement });
        let broker = broker.map_err(|error| refused(&error))?;
        Ok(Self {
            broker,
            certificate: data_dir.join("tls/cert.pem"),
        })
    }

    fn address(&self) -> SocketAddr {
        self.broker.quic()
    }

    fn trust(&self) -> Trust {
        Trust::File(self.certificate.clone())
    }

    fn stop(self) -> Result<(), BenchError> {
        self.broker
            .shutdown()
            .map_err(|error| BenchError::Embedded(error.to_string()))
    }
}
