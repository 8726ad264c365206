//! What administrators ask of a cluster.

use millrace_model::{BrokerId, LogId};
use millrace_wire::{
    ClusterAsk, ClusterDescription, ClusterTold, QuorumStanding, Request, Response,
};

use crate::{Client, ClientError, control};

impl Client {
    /// The brokers of the cluster, its metadata quorum, and how its partitions are.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        match self.ask_cluster(ClusterAsk::Describe).await? {
            ClusterTold::Described(described) => Ok(described),
            other => Err(control::unexpected(Response::Cluster(Box::new(other)))),
        }
    }

    /// How the metadata quorum stands, by its leader.
    ///
    /// # Errors
    /// `NOT_CONTROLLER` while it has none.
    pub async fn describe_voters(&self) -> Result<QuorumStanding, ClientError> {
        match self.ask_cluster(ClusterAsk::Voters).await? {
            ClusterTold::Voters(standing) => Ok(standing),
            other => Err(control::unexpected(Response::Cluster(Box::new(other)))),
        }
    }

    /// Makes a broker that learns the metadata a voter of its quorum.
    ///
    /// # Errors
    /// `BROKER_ID_NOT_REGISTERED`; `INVALID_REQUEST` for one that votes already, does not serve or is to go;
    /// `POLICY_VIOLATION` for one that lags, or while another change is under way.
    pub async fn add_voter(&self, broker: BrokerId) -> Result<(), ClientError> {
        let ask = ClusterAsk::AddVoter { broker };
        self.ask_cluster(ask).await.map(drop)
    }

    /// Makes a voter of the metadata quorum one that only learns.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for one that does not vote, and for the last; `POLICY_VIOLATION` if too few of
    /// the others were alive, or while another change is under way.
    pub async fn remove_voter(&self, broker: BrokerId) -> Result<(), ClientError> {
        let ask = ClusterAsk::RemoveVoter { broker };
        self.ask_cluster(ask).await.map(drop)
    }

    /// Begins to empty a broker, which gets no new replicas from then on; or takes that back.
    ///
    /// # Errors
    /// `BROKER_ID_NOT_REGISTERED`.
    pub async fn cordon_broker(&self, broker: BrokerId, cordoned: bool) -> Result<(), ClientError> {
        let ask = ClusterAsk::Cordon { broker, cordoned };
        self.ask_cluster(ask).await.map(drop)
    }

    /// Strikes a broker off that holds nothing and does not run.
    ///
    /// # Errors
    /// `BROKER_ID_NOT_REGISTERED`; `INVALID_REQUEST` while it runs or holds something.
    pub async fn unregister_broker(&self, broker: BrokerId) -> Result<(), ClientError> {
        let ask = ClusterAsk::Unregister { broker };
        self.ask_cluster(ask).await.map(drop)
    }

    /// Begins to move a partition to these replicas, the preferred leader first; or, with `None`,
    /// back to where it was.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `INVALID_REPLICA_ASSIGNMENT`, `NO_REASSIGNMENT_IN_PROGRESS`.
    pub async fn reassign(
        &self,
        log: LogId,
        replicas: Option<Vec<BrokerId>>,
    ) -> Result<(), ClientError> {
        let ask = ClusterAsk::Reassign { log, replicas };
        self.ask_cluster(ask).await.map(drop)
    }

    /// Gives partitions back to their preferred leaders.
    ///
    /// # Errors
    /// `PREFERRED_LEADER_NOT_AVAILABLE`, `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn elect_preferred(&self, logs: Vec<LogId>) -> Result<(), ClientError> {
        let ask = ClusterAsk::ElectPreferred { logs };
        self.ask_cluster(ask).await.map(drop)
    }

    async fn ask_cluster(&self, ask: ClusterAsk) -> Result<ClusterTold, ClientError> {
        match self.request(&Request::Cluster(ask)).await? {
            Response::Cluster(told) => Ok(*told),
            other => Err(control::unexpected(other)),
        }
    }
}
