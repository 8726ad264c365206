//! What the cluster knows of a broker.

use millrace_model::{BrokerEpoch, BrokerId, ClusterId, IncarnationId};

/// Where clients of one listener reach a broker.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Endpoint {
    /// The listener's name, for example `QUIC` or `KAFKA`.
    pub listener: String,
    /// A host name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The feature levels that a version can work at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FeatureRange {
    /// The least.
    pub least: u16,
    /// The most.
    pub most: u16,
}

impl FeatureRange {
    /// Whether it can work at this level.
    #[must_use]
    pub const fn contains(self, level: u16) -> bool {
        self.least <= level && level <= self.most
    }
}

/// A broker announces itself.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Registration {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Its number.
    pub id: BrokerId,
    /// This run of its process.
    pub incarnation: IncarnationId,
    /// Its epoch before its last stop, if that was a clean one (R11): then its log has lost nothing.
    pub clean_from: Option<BrokerEpoch>,
    /// Its rack.
    pub rack: Option<String>,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// Its cores: its share of the load.
    pub shards: u8,
    /// What its version can do.
    pub features: FeatureRange,
}

/// What a broker may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum BrokerState {
    /// It leads nothing and is in no in-sync set: it is starting, or its lease has run out.
    Fenced,
    /// It serves.
    Active,
    /// It is going away: it gives up what others can lead and joins no in-sync set.
    ShuttingDown,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Broker {
    /// Its number.
    pub id: BrokerId,
    /// This life of it.
    pub epoch: BrokerEpoch,
    /// The run of its process that registered.
    pub incarnation: IncarnationId,
    /// Its rack.
    pub rack: Option<String>,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// Its cores.
    pub shards: u8,
    /// What its version can do.
    pub features: FeatureRange,
    /// What it may do.
    pub state: BrokerState,
    /// It gets no new replicas: it is being emptied.
    pub cordoned: bool,
}

impl Broker {
    /// Where its listener of this name is reached, if it has one.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        let mut endpoints = self.endpoints.iter();
        endpoints.find(|endpoint| endpoint.listener == listener)
    }
}
