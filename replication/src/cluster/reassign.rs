//! Replicas move: grow, catch up, shrink (R13).
//!
//! At first the partition has the replicas that it had and those that it shall have. Those that are
//! added fetch and enter the in-sync set as any follower does; the change that brings in the last
//! of them also takes out those that go (`elect.rs`).

use millrace_model::{BrokerId, ErrorCode, LogId};

use super::elect::Wish;
use super::partition::{among, without};
use super::{Applied, Cluster, Partition, refuse};
use crate::metadata::Refusal;

impl Cluster {
    pub(super) fn reassign(
        &mut self,
        log: LogId,
        target: Option<&[BrokerId]>,
    ) -> Result<Applied, Refusal> {
        let Some(partition) = self.partition(log).cloned() else {
            return refuse(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no partition {log}"),
            );
        };
        let next = match target {
            Some(target) => {
                self.check_replicas(target)?;
                self.check_cordons(&partition, target)?;
                towards(&partition, target)
            }
            None if partition.is_reassigning() => back(&partition),
            None => {
                return refuse(
                    ErrorCode::NoReassignmentInProgress,
                    format!("the replicas of {log} are not changing"),
                );
            }
        };
        // A replica that is added first must not count as in sync from an earlier time.
        let remaining = among(&next.in_sync, &next.replicas);
        if remaining.is_empty() && !partition.in_sync.is_empty() {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("none of the replicas that would be left of {log} is in sync"),
            );
        }
        let next = Partition {
            in_sync: remaining,
            ..next
        };
        let changed = self.settle(log, next, Wish::Stay);
        Ok(Applied::done(changed.into_iter().collect()))
    }

    fn check_cordons(&self, partition: &Partition, target: &[BrokerId]) -> Result<(), Refusal> {
        let is_cordoned = |broker: &BrokerId| self.broker(*broker).is_some_and(|it| it.cordoned);
        let added = without(target, &partition.replicas);
        match added.into_iter().find(is_cordoned) {
            Some(broker) => refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("broker {broker} is cordoned: it gets no new replicas"),
            ),
            None => Ok(()),
        }
    }
}

/// The partition on its way to these replicas.
fn towards(partition: &Partition, target: &[BrokerId]) -> Partition {
    let origin = without(&partition.replicas, &partition.adding);
    let removing = without(&origin, target);
    let mut replicas = target.to_vec();
    replicas.extend(&removing);
    let next = Partition {
        adding: without(target, &origin),
        removing,
        replicas,
        ..partition.clone()
    };
    keep_to_replicas(next)
}

/// The partition as it was before its replicas began to change.
fn back(partition: &Partition) -> Partition {
    let next = Partition {
        replicas: without(&partition.replicas, &partition.adding),
        adding: Vec::new(),
        removing: Vec::new(),
        ..partition.clone()
    };
    keep_to_replicas(next)
}

fn keep_to_replicas(next: Partition) -> Partition {
    Partition {
        in_sync: among(&next.in_sync, &next.replicas),
        eligible: among(&next.eligible, &next.replicas),
        ..next
    }
}
