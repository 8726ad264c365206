//! A broker inside this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millrace_client::Trust;
use millrace_engine::config::Layers;
use millrace_engine::{Broker, BrokerConfig, RunningBroker, ShardPlacement};

use crate::BenchError;
use crate::options::Load;

/// A broker inside this process, unpinned: it shares the cores with the load.
pub(crate) struct Embedded {
    broker: RunningBroker,
    certificate: PathBuf,
}

impl Embedded {
    /// Starts it on a directory under `scratch`, or anew on what it left there.
    pub(crate) fn start(load: &Load, scratch: &Path) -> Result<Self, BenchError> {
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

    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.quic()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::File(self.certificate.clone())
    }

    pub(crate) fn stop(self) -> Result<(), BenchError> {
        self.broker
            .shutdown()
            .map_err(|error| BenchError::Embedded(error.to_string()))
    }
}
