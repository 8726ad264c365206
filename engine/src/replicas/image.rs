//! What the cluster's image says of a partition, as its replicas are told.

use std::collections::BTreeMap;

use millrace_model::BrokerId;
use millrace_replication::cluster::{BrokerState, Cluster, Partition};
use millrace_replication::partition::{Assignment, Standing};

/// Who holds a partition, and who leads it.
pub(crate) fn assignment(partition: &Partition) -> Assignment {
    Assignment {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.iter().copied().collect(),
        in_sync: partition.in_sync.iter().copied().collect(),
    }
}

/// What is known of those who hold it.
pub(crate) fn standings(cluster: &Cluster, partition: &Partition) -> BTreeMap<BrokerId, Standing> {
    let brokers = partition
        .replicas
        .iter()
        .filter_map(|id| cluster.broker(*id));
    let standing = |broker: &millrace_replication::cluster::Broker| Standing {
        life: broker.epoch,
        eligible: broker.state == BrokerState::Active,
    };
    brokers
        .map(|broker| (broker.id, standing(broker)))
        .collect()
}
