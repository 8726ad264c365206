//! Administration: topics, partitions, settings, the cluster and its disks.
//!
//! What changes the metadata goes through the topic registry, one change after another; when the
//! answer is sent the change is durable and known to every shard. `validate_only` asks this shard's
//! copy of the metadata, which decides as the registry would.
//!
//! There is one broker, so a topic has one replica, on it.

mod alter_configs;
mod cluster;
mod configs;
mod log_dirs;
mod partitions;
mod topics;

use std::collections::HashSet;
use std::hash::Hash;

use millrace_model::ErrorCode;
use millrace_replication::{Refusal, Request as Registration};

use super::cluster::node_id;
use crate::shard::Shard;

pub(super) use alter_configs::{alter_configs, incremental_alter_configs};
pub(super) use cluster::{describe_cluster, describe_topic_partitions};
pub(super) use configs::{describe_configs, list_config_resources};
pub(super) use log_dirs::describe_log_dirs;
pub(super) use partitions::create_partitions;
pub(super) use topics::{create_topics, delete_topics};

/// "Not asked for", where Kafka has a set of operations as bits.
const NO_OPERATIONS: i32 = i32::MIN;

/// Makes a change, or says whether it could be made.
async fn change(shard: &Shard, request: Registration, validate_only: bool) -> Result<(), Refusal> {
    if validate_only {
        return shard.topics().metadata().validate(request).map(drop);
    }
    shard.registry().submit(request).await.map(drop)
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

/// The replicas that a client names for new partitions can only be this broker.
fn check_replicas<'a>(
    shard: &Shard,
    assignments: impl Iterator<Item = &'a [i32]>,
) -> Result<(), Refusal> {
    let broker = node_id(shard);
    for brokers in assignments {
        if brokers != [broker] {
            let message = format!("each partition has one replica, on broker {broker}");
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    Ok(())
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
