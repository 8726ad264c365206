//! The broker under load: one inside this process, or one elsewhere; and the topic that is
//! made for the run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millrace_client::{Client, ConnectOptions, Trust};
use millrace_engine::config::Layers;
use millrace_engine::{Broker, BrokerConfig, RunningBroker, ShardPlacement};
use millrace_model::{LogId, PartitionId, TopicId};

use crate::BenchError;
use crate::options::Load;

/// A broker, and a client of it.
pub struct Target {
    /// The client.
    pub client: Client,
    embedded: Option<Embedded>,
    _scratch: tempfile::TempDir,
}

/// A topic made for one run.
#[derive(Clone, Debug)]
pub struct BenchTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: u32,
}

impl BenchTopic {
    /// The log of the partition that client `index` uses.
    #[must_use]
    pub fn log(&self, index: usize) -> LogId {
        let partition = u32::try_from(index % self.partitions as usize).expect("below a u32");
        LogId {
            topic: self.id,
            partition: PartitionId(partition),
        }
    }
}

impl Target {
    /// Starts or reaches the broker that `load` names.
    ///
    /// # Errors
    /// The broker does not start or cannot be reached.
    pub async fn open(load: &Load) -> Result<Self, BenchError> {
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
    pub async fn topic(&self, load: &Load) -> Result<BenchTopic, BenchError> {
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

    /// Removes the topic, and stops the broker if it is embedded.
    ///
    /// # Errors
    /// The broker refuses, or does not stop cleanly.
    pub async fn close(self, topic: &BenchTopic) -> Result<(), BenchError> {
        self.client.delete_topic(&topic.name).await?;
        self.client.close().await;
        if let Some(embedded) = self.embedded {
            embedded.stop()?;
        }
        Ok(())
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
