//! `AlterPartition`: a leader proposes an in-sync set (R6, R8).
//!
//! Or it gives up leading, because its log has failed ([`Cluster::resign_leaders`]): it leaves the in-sync set,
//! and another in it leads. It may be chosen again when nobody else can lead, for its log holds all
//! that was acknowledged.
//!
//! A proposal is a compare-and-set: the leader states its own life, the leader epoch and the version of the
//! partition that it changes, and for each member the life in which that member fetched. Whatever
//! has moved on meanwhile makes the proposal fail, with the code that says what the leader must do.

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LogId};

use super::elect::Wish;
use super::partition::{once, without};
use super::{
    AlterPartition, Answer, Applied, Cluster, LeaderRecovery, Partition, PartitionOutcome,
    Resignation, refuse,
};
use crate::metadata::Refusal;
use crate::planted::{Planted, is_planted};

impl Cluster {
    pub(super) fn alter_partitions(
        &mut self,
        broker: BrokerId,
        epoch: BrokerEpoch,
        partitions: &[AlterPartition],
    ) -> Result<Applied, Refusal> {
        self.check_life(broker, epoch)?;
        let mut changes = Vec::new();
        let mut outcomes = Vec::with_capacity(partitions.len());
        for alter in partitions {
            let outcome = match self.check_alter(broker, alter) {
                Err(code) => PartitionOutcome {
                    code,
                    partition: None,
                },
                Ok(next) => {
                    changes.extend(self.settle(alter.log, next, Wish::Stay));
                    self.outcome_for(broker, alter.log)
                }
            };
            outcomes.push(outcome);
        }
        let answer = Answer::Partitions(outcomes);
        Ok(Applied { answer, changes })
    }

    pub(super) fn resign_leaders(
        &mut self,
        broker: BrokerId,
        epoch: BrokerEpoch,
        partitions: &[Resignation],
    ) -> Result<Applied, Refusal> {
        self.check_life(broker, epoch)?;
        let mut changes = Vec::new();
        let mut outcomes = Vec::with_capacity(partitions.len());
        for resignation in partitions {
            let code = match self.check_resignation(broker, resignation) {
                Err(code) => code,
                Ok(next) => {
                    changes.extend(self.settle(resignation.log, next, Wish::Stay));
                    ErrorCode::None
                }
            };
            let partition = self.partition(resignation.log).cloned();
            outcomes.push(PartitionOutcome { code, partition });
        }
        let answer = Answer::Partitions(outcomes);
        Ok(Applied { answer, changes })
    }

    /// The partition without its leader, or the code that says why it cannot be.
    fn check_resignation(
        &self,
        broker: BrokerId,
        resignation: &Resignation,
    ) -> Result<Partition, ErrorCode> {
        let partition = self.partition(resignation.log);
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let leads = partition.leader == Some(broker);
        if !leads || partition.leader_epoch != resignation.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        let others = without(&partition.in_sync, &[broker]);
        if !others.iter().any(|other| self.is_active(*other)) {
            return Err(ErrorCode::EligibleLeadersNotAvailable);
        }
        Ok(Partition {
            in_sync: others,
            ..partition.clone()
        })
    }

    /// Checks that the command is from this life of the broker.
    pub(super) fn check_life(&self, broker: BrokerId, epoch: BrokerEpoch) -> Result<(), Refusal> {
        match self.broker(broker) {
            None => refuse(
                ErrorCode::BrokerIdNotRegistered,
                format!("broker {broker} is not registered"),
            ),
            Some(registered) if registered.epoch != epoch => refuse(
                ErrorCode::StaleBrokerEpoch,
                format!(
                    "broker {broker} has epoch {}, not {epoch}",
                    registered.epoch
                ),
            ),
            Some(_) => Ok(()),
        }
    }

    fn outcome_for(&self, broker: BrokerId, log: LogId) -> PartitionOutcome {
        let partition = self.partition(log).cloned();
        let leads = partition
            .as_ref()
            .is_some_and(|now| now.leader == Some(broker));
        let code = match leads {
            true => ErrorCode::None,
            false => ErrorCode::NewLeaderElected,
        };
        PartitionOutcome { code, partition }
    }

    /// The partition as the leader wants it, or the code that says why it cannot be.
    fn check_alter(
        &self,
        broker: BrokerId,
        alter: &AlterPartition,
    ) -> Result<Partition, ErrorCode> {
        if self.topic(alter.log.topic).is_none() {
            return Err(ErrorCode::UnknownTopicId);
        }
        let partition = self.partition(alter.log);
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        // What is ahead of this state was learnt from a later one: the leader asked a copy that lags.
        if alter.leader_epoch > partition.leader_epoch
            || alter.partition_epoch > partition.partition_epoch
        {
            return Err(ErrorCode::NotController);
        }
        if alter.leader_epoch < partition.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if partition.leader != Some(broker) {
            return Err(ErrorCode::InvalidRequest);
        }
        let is_blind = is_planted(Planted::BlindAlterPartition);
        if alter.partition_epoch < partition.partition_epoch && !is_blind {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        self.check_in_sync(broker, alter, partition)?;
        Ok(Partition {
            in_sync: alter.in_sync.iter().map(|member| member.broker).collect(),
            recovery: alter.recovery,
            ..partition.clone()
        })
    }

    fn check_in_sync(
        &self,
        broker: BrokerId,
        alter: &AlterPartition,
        partition: &Partition,
    ) -> Result<(), ErrorCode> {
        let members: Vec<BrokerId> = alter.in_sync.iter().map(|member| member.broker).collect();
        let are_replicas = members
            .iter()
            .all(|member| partition.replicas.contains(member));
        if once(&members).is_err() || !are_replicas || !members.contains(&broker) {
            return Err(ErrorCode::InvalidRequest);
        }
        if alter.recovery == LeaderRecovery::Recovering
            && (members.len() > 1 || partition.recovery == LeaderRecovery::Recovered)
        {
            return Err(ErrorCode::InvalidRequest);
        }
        for member in &alter.in_sync {
            let is_in = partition.in_sync.contains(&member.broker);
            let life = self.broker(member.broker).map(|broker| broker.epoch);
            // A member that is going away may stay until it is gone, but not come in.
            let may_be = is_in || self.is_active(member.broker);
            let may_be = may_be || is_planted(Planted::FencedInSync);
            if life != Some(member.epoch) || !may_be {
                return Err(ErrorCode::IneligibleReplica);
            }
        }
        Ok(())
    }
}
