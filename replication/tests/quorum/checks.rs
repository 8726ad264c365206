//! What must always hold, seen from outside: by what the nodes say they lead, commit and
//! restore, and by what the partitions' histories look like.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{BrokerId, ErrorCode, LogId, PartitionEpoch};
use millrace_replication::cluster::{
    Answer, Applied, BrokerState, Cluster, Command, ElectionKind, Partition,
};
use millrace_replication::quorum::{Entry, Index, ProposalId, Refused, Term};

#[derive(Default)]
pub(crate) struct Checks {
    leaders: BTreeMap<Term, BrokerId>,
    /// What is at each place of the log, with what applying it came to.
    history: BTreeMap<Index, (Entry, String)>,
    acknowledged: BTreeMap<ProposalId, Index>,
    refused_for_good: BTreeSet<ProposalId>,
    pub(crate) proposed: BTreeMap<ProposalId, Vec<u8>>,
    pub(crate) accepted: u64,
}

impl Checks {
    pub(crate) fn leads(&mut self, node: BrokerId, term: Term) -> Result<(), String> {
        match self.leaders.insert(term, node) {
            Some(other) if other != node => Err(format!("{other} and {node} lead in term {term}")),
            _ => Ok(()),
        }
    }

    /// A node has applied an entry and come to `outcome`.
    pub(crate) fn applied(
        &mut self,
        node: BrokerId,
        entry: &Entry,
        outcome: &str,
    ) -> Result<(), String> {
        match self.history.get(&entry.index) {
            Some((known, _)) if known != entry => Err(format!(
                "{node} applied {entry:?}, another node had {known:?} there"
            )),
            Some((_, known)) if known != outcome => Err(format!(
                "{node} came to {outcome} by entry {}, another node to {known}",
                entry.index
            )),
            Some(_) => Ok(()),
            None if entry.index.0 != self.last().0 + 1 => Err(format!(
                "{node} applied {}, but the one before was not",
                entry.index
            )),
            None => {
                let known = (entry.clone(), outcome.to_owned());
                self.history.insert(entry.index, known);
                Ok(())
            }
        }
    }

    pub(crate) fn last(&self) -> Index {
        self.history
            .last_key_value()
            .map_or(Index::ZERO, |(index, _)| *index)
    }

    pub(crate) fn acknowledged(&mut self, id: ProposalId, entry: &Entry) -> Result<(), String> {
        let proposed = self.proposed.get(&id);
        if let millrace_replication::quorum::Payload::Command(command) = &entry.payload
            && proposed.is_none_or(|proposed| proposed[..] != command[..])
        {
            return Err(format!("{id:?} was acknowledged for another command"));
        }
        self.acknowledged.insert(id, entry.index);
        Ok(())
    }

    pub(crate) fn refused(&mut self, id: ProposalId, why: &Refused) {
        if !matches!(why, Refused::Unknown) {
            self.refused_for_good.insert(id);
        }
    }

    /// What was acknowledged is there; what was refused is not.
    pub(crate) fn at_the_end(&self) -> Result<(), String> {
        for (id, index) in &self.acknowledged {
            if !self.history.contains_key(index) {
                return Err(format!("{id:?} was acknowledged and is gone"));
            }
            if self.refused_for_good.contains(id) {
                return Err(format!("{id:?} was acknowledged and refused"));
            }
        }
        Ok(())
    }

    pub(crate) fn acknowledgements(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// A command took the cluster from one state to another.
    pub(crate) fn step(
        &mut self,
        before: &Cluster,
        after: &Cluster,
        command: &Command,
        applied: Option<&Applied>,
    ) -> Result<(), String> {
        for topic in after.topics() {
            let least = after.min_in_sync(topic);
            let unclean = after.allows_unclean_leader(topic) || is_unclean(command);
            for (log, now) in topic.logs() {
                if let Some(was) = before.partition(log) {
                    changed(log, was, now)?;
                    if !unclean && now.leader != was.leader {
                        clean(log, was, now, command)?;
                    }
                }
                if now.eligible.len() > now.replicas.len()
                    || (least == 1 && !now.eligible.is_empty() && !now.in_sync.is_empty())
                {
                    return Err(format!(
                        "{log} has eligible replicas beside a full set: {now:?}"
                    ));
                }
                serving(log, after, now)?;
            }
        }
        if let (Command::AlterPartitions { partitions, .. }, Some(applied)) = (command, applied)
            && let Answer::Partitions(outcomes) = &applied.answer
        {
            for (alter, outcome) in partitions.iter().zip(outcomes) {
                if outcome.code != ErrorCode::None && outcome.code != ErrorCode::NewLeaderElected {
                    continue;
                }
                self.accepted += 1;
                let was = before.partition(alter.log).expect("it was changed");
                if (was.partition_epoch, was.leader_epoch)
                    != (alter.partition_epoch, alter.leader_epoch)
                {
                    return Err(format!(
                        "a stale in-sync set was accepted: {alter:?} on {was:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn is_unclean(command: &Command) -> bool {
    let unclean = ElectionKind::Unclean;
    matches!(command, Command::ElectLeaders { kind, .. } if *kind == unclean)
}

fn changed(log: LogId, was: &Partition, now: &Partition) -> Result<(), String> {
    now.check().map_err(|fault| format!("{log}: {fault}"))?;
    let next = PartitionEpoch(was.partition_epoch.0 + 1);
    let is_same = was == now;
    if !is_same && now.partition_epoch != next {
        return Err(format!("{log} changed from {was:?} to {now:?}"));
    }
    if now.leader != was.leader && now.leader_epoch <= was.leader_epoch {
        return Err(format!(
            "{log} has another leader in the same epoch: {now:?}"
        ));
    }
    Ok(())
}

/// A new leader was in sync or eligible, or it was the last one.
fn clean(log: LogId, was: &Partition, now: &Partition, command: &Command) -> Result<(), String> {
    let Some(leader) = now.leader else {
        return Ok(());
    };
    // The change that ends a reassignment may make a leader of who has just come in.
    let proposed = matches!(command, Command::AlterPartitions { partitions, .. }
    if partitions.iter().any(|alter| {
        alter.log == log && alter.in_sync.iter().any(|member| member.broker == leader)
    }));
    let is_clean = was.in_sync.contains(&leader)
        || proposed
        || was.eligible.contains(&leader)
        || (was.last_leader == Some(leader) && was.in_sync.is_empty() && now.eligible.is_empty());
    match is_clean {
        true => Ok(()),
        false => Err(format!("{log} elected {leader} from {was:?}")),
    }
}

/// Nobody who is fenced leads or is in sync.
fn serving(log: LogId, cluster: &Cluster, now: &Partition) -> Result<(), String> {
    let is_fenced = |broker: &&BrokerId| {
        cluster
            .broker(**broker)
            .is_none_or(|broker| broker.state == BrokerState::Fenced)
    };
    match now.in_sync.iter().find(is_fenced) {
        Some(broker) => Err(format!("{log} has fenced broker {broker} in sync")),
        None => Ok(()),
    }
}
