//! The broker under load: one inside this process, or one elsewhere; and the topic that is
//! made for the run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millrace_client::{Acks, Client, ConnectOptions, OffsetSpec, Trust};
use millrace_engine::config::Layers;
use millrace_engine::{Broker, BrokerConfig, RunningBroker, ShardPlacement};
use millrace_model::{LogId, Offset, PartitionId, TopicId};

use crate::BenchError;
use crate::options::{AcksOption, Load};
use crate::payload::{BatchMaker, Form};
use crate::transport::{Acknowledgements, BatchReceiver, BatchSender};
use crate::usage::{BrokerProcess, Meter};

/// A broker, and a client of it.
pub(crate) struct Target {
    client: Client,
    embedded: Option<Embedded>,
    _scratch: tempfile::TempDir,
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
        let (address, trust, embedded) = match load.broker {
            Some(address) => {
                let first_use = || Trust::FirstUse(scratch.path().join("known_brokers"));
                (
                    address,
                    load.ca.clone().map_or_else(first_use, Trust::File),
                    None,
                )
            }
            None => {
                let broker = Embedded::start(load, scratch.path())?;
                (broker.address(), broker.trust(), Some(broker))
            }
        };
        let client = Client::connect(ConnectOptions::new(address, trust)).await?;
        Ok(Self {
            client,
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
        let id = self
            .client
            .create_topic(&name, Some(partitions), configs)
            .await?;
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

    /// What makes the batches of one producer of a partition.
    pub(crate) fn batch_maker(
        &self,
        topic: &BenchTopic,
        partition: PartitionId,
        load: &Load,
        seed: u64,
    ) -> BatchMaker {
        BatchMaker::new(Form::Frame(topic.log(partition)), load, seed)
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
        let log = topic.log(partition);
        let (sender, acks, _) = self.client.produce_stream(log, acks.into()).await?;
        Ok((BatchSender::Quic(sender), Acknowledgements::Quic(acks)))
    }

    /// A consumer of a partition from its start.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    pub(crate) async fn consumer(
        &self,
        topic: &BenchTopic,
        partition: PartitionId,
        _load: &Load,
    ) -> Result<BatchReceiver, BenchError> {
        let log = topic.log(partition);
        let (frames, _) = self
            .client
            .consume_stream(log, OffsetSpec::Earliest)
            .await?;
        Ok(BatchReceiver::Quic(log, frames))
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
        let log = topic.log(partition);
        Ok(self
            .client
            .list_offset(log, OffsetSpec::Latest)
            .await?
            .offset)
    }

    /// Removes the topic, and stops the broker if it is embedded.
    ///
    /// # Errors
    /// The broker refuses, or does not stop cleanly.
    pub(crate) async fn close(self, topic: &BenchTopic) -> Result<(), BenchError> {
        self.client.delete_topic(&topic.name).await?;
        self.client.close().await;
        if let Some(embedded) = self.embedded {
            embedded.stop()?;
        }
        Ok(())
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
