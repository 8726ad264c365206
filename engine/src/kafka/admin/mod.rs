//! Administration: topics, partitions and who holds them, settings, features, the cluster, its quorum
//! and its disks.
//!
//! What changes the metadata goes through the controller, one change after another; when the
//! answer is sent the change is durable and known to every shard. `validate_only` asks this shard's
//! image of the cluster, which decides as the controller would.

mod alter_configs;
mod cluster;
mod configs;
mod elections;
mod features;
mod log_dirs;
mod partitions;
mod quorum;
mod reassignments;
mod topics;

use std::collections::HashSet;
use std::hash::Hash;

use millrace_model::{BrokerId, ErrorCode};
use millrace_replication::Refusal;
use millrace_replication::cluster::ClusterRequest;

use crate::shard::Shard;

pub(super) use alter_configs::{alter_configs, incremental_alter_configs};
pub(super) use cluster::{describe_cluster, describe_topic_partitions};
pub(super) use configs::{describe_configs, list_config_resources};
pub(super) use elections::elect_leaders;
pub(super) use features::{update_features, with_features};
pub(super) use log_dirs::describe_log_dirs;
pub(super) use partitions::create_partitions;
pub(super) use quorum::{describe_quorum, unregister_broker};
pub(super) use reassignments::{alter_partition_reassignments, list_partition_reassignments};
pub(super) use topics::{create_topics, delete_topics};

/// "Not asked for", where Kafka has a set of operations as bits.
const NO_OPERATIONS: i32 = i32::MIN;

/// Makes a change, or says whether it could be made.
async fn change(
    shard: &Shard,
    request: ClusterRequest,
    validate_only: bool,
) -> Result<(), Refusal> {
    if validate_only {
        return shard.topics().cluster().plan(request).map(drop);
    }
    shard.controller().request(request).await.map(drop)
}

/// What stands in a request more than once.
fn doubles<T: Eq + Hash>(items: impl Iterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    let mut doubles = HashSet::new();
    for item in items {
        if seen.contains(&item) {
            doubles.insert(item);
        } else {
            seen.insert(item);
        }
    }
    doubles
}

/// A result as code and message.
fn told(result: Result<(), Refusal>) -> (i16, Option<String>) {
    match result {
        Ok(()) => (ErrorCode::None as i16, None),
        Err(refusal) => (refusal.code as i16, Some(refusal.message)),
    }
}

/// The replicas that a client names for partitions. Whether there are such brokers is judged
/// where the change is.
fn assignments<'a>(
    assignments: impl Iterator<Item = &'a [i32]>,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let broker = |id: &i32| {
        let id = u32::try_from(*id).map_err(|_| {
            let message = format!("no broker has the id {id}");
            Refusal::new(ErrorCode::InvalidReplicaAssignment, message)
        });
        id.map(BrokerId)
    };
    assignments
        .map(|replicas| replicas.iter().map(broker).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_named_once() {
        let doubles = doubles(["a", "b", "a", "a", "c"].into_iter());
        assert_eq!(doubles, HashSet::from(["a"]));
    }
}
