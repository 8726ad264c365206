//! `millctl cluster health`: what is not as it should be, the worst first.

use millrace_client::Client;
use millrace_model::BrokerId;
use millrace_wire::{BrokerMode, ClusterDescription, Trouble, TroubledPartition};
use serde::Serialize;

use super::super::connect::failure;
use super::super::exit::{Exit, Failure};
use super::super::output::Output;
use super::describe::{Partitions, mode};
use super::listed;

#[derive(Serialize)]
struct Health {
    healthy: bool,
    problems: Vec<String>,
    partitions: Partitions,
}

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let found = client.describe_cluster().await;
    let found = found.map_err(|error| failure(&error))?;
    let problems = problems(&found);
    let health = Health {
        healthy: problems.is_empty(),
        problems,
        partitions: found.partitions.into(),
    };
    output.result(&health, |h| match h.healthy {
        true => "the cluster is healthy".to_owned(),
        false => h.problems.join("\n"),
    })?;
    match health.healthy {
        true => Ok(()),
        false => Err(Failure::new(Exit::Other, "the cluster is not healthy")),
    }
}

fn problems(found: &ClusterDescription) -> Vec<String> {
    let mut problems = Vec::new();
    if found.controller.is_none() {
        problems.push(
            "the metadata quorum has no leader that this broker knows: nothing can be changed"
                .to_owned(),
        );
    }
    // Its copy of the metadata may be empty, in which all is well.
    if !found.brokers.iter().any(|it| it.info.id == found.broker) {
        problems.push(format!(
            "broker {}, which says this, is not registered in its cluster; its log says why",
            found.broker
        ));
    }
    for standing in &found.brokers {
        if standing.mode != BrokerMode::Active {
            problems.push(format!(
                "broker {} is {}: it holds {} partitions",
                standing.info.id,
                mode(standing.mode),
                standing.replicas
            ));
        }
    }
    problems.extend(found.troubled.iter().map(said));
    let counts = found.partitions;
    let all = counts.leaderless.max(counts.under_min_in_sync);
    let all = all.max(counts.under_replicated);
    let named = u32::try_from(found.troubled.len()).unwrap_or(u32::MAX);
    if all > named {
        problems.push(format!("and {} partitions more", all - named));
    }
    problems
}

fn said(partition: &TroubledPartition) -> String {
    let ids = |brokers: &[BrokerId]| {
        let ids: Vec<u32> = brokers.iter().map(|id| id.0).collect();
        listed(&ids)
    };
    let what = match partition.trouble {
        Trouble::Leaderless => "has no leader",
        Trouble::UnderMinInSync => "has fewer replicas in sync than min.insync.replicas",
        Trouble::UnderReplicated => "is under-replicated",
    };
    format!(
        "{}-{} {what}: replicas {}, in sync {}",
        partition.topic,
        partition.partition,
        ids(&partition.replicas),
        ids(&partition.in_sync),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::{BrokerEpoch, PartitionId};
    use millrace_wire::{BrokerInfo, BrokerStanding, PartitionCounts};

    fn cluster() -> ClusterDescription {
        ClusterDescription {
            cluster_id: "c".into(),
            broker: BrokerId(1),
            controller: Some(BrokerId(1)),
            term: 1,
            committed: 1,
            quorum: Vec::new(),
            feature_level: 1,
            brokers: vec![BrokerStanding {
                info: BrokerInfo {
                    id: BrokerId(1),
                    address: None,
                    shards: 1,
                    rack: None,
                    serves: true,
                },
                mode: BrokerMode::Active,
                cordoned: false,
                epoch: BrokerEpoch(1),
                leaders: 1,
                replicas: 1,
            }],
            partitions: PartitionCounts::default(),
            troubled: Vec::new(),
        }
    }

    #[test]
    fn a_cluster_without_trouble_is_healthy() {
        assert!(problems(&cluster()).is_empty());
    }

    #[test]
    fn a_broker_that_is_not_registered_says_so() {
        let found = ClusterDescription {
            brokers: Vec::new(),
            ..cluster()
        };
        let problems = problems(&found);
        assert!(problems[0].contains("not registered"), "{problems:?}");
    }

    #[test]
    fn what_is_wrong_is_named_and_the_rest_counted() {
        let found = ClusterDescription {
            controller: None,
            partitions: PartitionCounts {
                total: 9,
                under_replicated: 3,
                ..PartitionCounts::default()
            },
            troubled: vec![TroubledPartition {
                topic: "orders".into(),
                partition: PartitionId(2),
                leader: Some(BrokerId(1)),
                replicas: vec![BrokerId(1), BrokerId(2)],
                in_sync: vec![BrokerId(1)],
                trouble: Trouble::UnderReplicated,
            }],
            ..cluster()
        };
        let problems = problems(&found);
        assert!(problems[0].contains("no leader"));
        assert_eq!(
            problems[1],
            "orders-2 is under-replicated: replicas 1,2, in sync 1"
        );
        assert_eq!(problems[2], "and 2 partitions more");
    }
}
