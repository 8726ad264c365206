//! Who leads a partition, and what follows from a change of it.
//!
//! Every change of a partition goes through [`Cluster::settle`]: the caller says what replicas
//! and in-sync set it wants, this completes what hangs on them (a reassignment that can end,
//! a leader that cannot stay, eligible replicas, epochs) and puts the result into the state.

use std::sync::Arc;

use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, LogId};

use super::partition::{among, without};
use super::{
    Answer, Applied, BrokerState, Changed, Cluster, ClusterTopic, ElectionKind, LeaderRecovery,
    Partition, PartitionOutcome,
};
use crate::metadata::Refusal;
use crate::planted::{Planted, is_planted};

/// What a change asks of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Whoever leads goes on if it can.
    Stay,
    /// The first replica leads, if it can.
    Preferred,
    /// Any replica that serves leads, if no better one can.
    Unclean,
}

/// What settling needs to know of the topic.
#[derive(Clone, Copy)]
struct Rules {
    min_in_sync: usize,
    unclean: bool,
}

impl Cluster {
    /// Completes a partition's change and puts it into the state. Returns what is new, if anything is.
    pub(super) fn settle(
        &mut self,
        log: LogId,
        mut next: Partition,
        wish: Wish,
    ) -> Option<Changed> {
        let topic = self.topic(log.topic)?;
        let before = self.partition(log)?;
        let rules = Rules {
            min_in_sync: self.min_in_sync(topic),
            unclean: self.allows_unclean_leader(topic)
                || wish == Wish::Unclean
                || is_planted(Planted::UncleanElection),
        };
        let completed = complete_reassignment(&mut next, rules.min_in_sync);
        next.in_sync = among(&next.replicas, &next.in_sync);
        populate_eligible(before, &mut next, rules);
        self.elect(&mut next, rules, wish);
        drop_eligible(&mut next, rules);
        if next == *before {
            return None;
        }
        let removed = before
            .replicas
            .iter()
            .any(|broker| !next.replicas.contains(broker));
        let is_reused = is_planted(Planted::ReusedLeaderEpoch);
        if (next.leader != before.leader || removed || completed) && !is_reused {
            next.leader_epoch = LeaderEpoch(next.leader_epoch.0.saturating_add(1));
        }
        next.partition_epoch = next.partition_epoch.next();
        debug_assert_eq!(next.check(), Ok(()), "{next:?}");
        let changed = Changed::partition(log, &next);
        *self.partition_mut(log)? = next;
        Some(changed)
    }

    /// Settles every partition that `change` says something about.
    pub(super) fn settle_all(
        &mut self,
        wish: Wish,
        change: impl Fn(&Partition) -> Option<Partition>,
    ) -> Vec<Changed> {
        let mut wanted = Vec::new();
        for topic in self.topics.values() {
            let changed = |(log, partition)| Some((log, change(partition)?));
            wanted.extend(topic.logs().filter_map(changed));
        }
        wanted
            .into_iter()
            .filter_map(|(log, next)| self.settle(log, next, wish))
            .collect()
    }

    pub(super) fn partition_mut(&mut self, log: LogId) -> Option<&mut Partition> {
        let topic = self.topic_mut(log.topic)?;
        let partition = usize::try_from(log.partition.0).ok()?;
        topic.partitions.get_mut(partition).map(Arc::make_mut)
    }

    pub(super) fn topic_mut(&mut self, id: millrace_model::TopicId) -> Option<&mut ClusterTopic> {
        Arc::make_mut(&mut self.topics)
            .get_mut(&id)
            .map(Arc::make_mut)
    }

    /// Leaves the leader, or finds one (R9).
    fn elect(&self, next: &mut Partition, rules: Rules, wish: Wish) {
        let before = next.leader;
        let elected = self.choose(next, rules, wish);
        next.leader = elected.map(|(leader, _)| leader);
        match elected {
            Some((leader, clean)) => {
                next.last_leader = None;
                if !next.in_sync.contains(&leader) {
                    next.in_sync = vec![leader];
                    if !clean {
                        next.recovery = LeaderRecovery::Recovering;
                        next.eligible.clear();
                    }
                }
            }
            None => next.last_leader = before.or(next.last_leader),
        }
    }

    /// A leader, and whether it surely has all that was acknowledged.
    fn choose(&self, next: &Partition, rules: Rules, wish: Wish) -> Option<(BrokerId, bool)> {
        let target = next.target();
        let can_lead = |broker: &BrokerId| self.is_active(*broker);
        // Who holds the partition only until others do still leads before nobody does.
        let candidates = || target.iter().chain(&next.removing).copied();
        let present = next.leader.filter(|leader| {
            next.in_sync.contains(leader) && self.serves(*leader) && next.replicas.contains(leader)
        });
        let in_sync = |broker: &BrokerId| next.in_sync.contains(broker);
        if wish == Wish::Preferred
            && let Some(first) = target
                .first()
                .filter(|first| in_sync(first) && can_lead(first))
        {
            return Some((*first, true));
        }
        if let Some(leader) = present {
            return Some((leader, true));
        }
        if let Some(leader) = candidates().find(|broker| in_sync(broker) && can_lead(broker)) {
            return Some((leader, true));
        }
        if next.in_sync.is_empty() {
            let eligible = |broker: &BrokerId| next.eligible.contains(broker) && can_lead(broker);
            if let Some(leader) = candidates().find(eligible) {
                return Some((leader, true));
            }
            let last = next.last_leader.filter(|last| next.replicas.contains(last));
            if let Some(leader) = last.filter(|last| next.eligible.is_empty() && can_lead(last)) {
                return Some((leader, false));
            }
        }
        let any = candidates().find(can_lead).filter(|_| rules.unclean);
        any.map(|leader| (leader, false))
    }

    /// Whether a broker that leads may go on.
    fn serves(&self, id: BrokerId) -> bool {
        self.broker(id)
            .is_some_and(|broker| broker.state != BrokerState::Fenced)
    }

    pub(super) fn elect_leaders(
        &mut self,
        kind: ElectionKind,
        partitions: &[LogId],
    ) -> Result<Applied, Refusal> {
        let mut changes = Vec::new();
        let mut outcomes = Vec::with_capacity(partitions.len());
        for &log in partitions {
            let (code, changed) = self.elect_leader(kind, log);
            changes.extend(changed);
            let partition = self.partition(log).cloned();
            outcomes.push(PartitionOutcome { code, partition });
        }
        let answer = Answer::Partitions(outcomes);
        Ok(Applied { answer, changes })
    }

    fn elect_leader(&mut self, kind: ElectionKind, log: LogId) -> (ErrorCode, Option<Changed>) {
        let Some(partition) = self.partition(log).cloned() else {
            return (ErrorCode::UnknownTopicOrPartition, None);
        };
        let preferred = partition.target().first().copied();
        let (is_needed, wish) = match kind {
            ElectionKind::Preferred => (partition.leader != preferred, Wish::Preferred),
            ElectionKind::Unclean => (partition.leader.is_none(), Wish::Unclean),
        };
        if !is_needed {
            return (ErrorCode::ElectionNotNeeded, None);
        }
        if kind == ElectionKind::Preferred {
            let can = |first: BrokerId| partition.in_sync.contains(&first) && self.is_active(first);
            if !preferred.is_some_and(can) {
                return (ErrorCode::PreferredLeaderNotAvailable, None);
            }
        }
        match self.settle(log, partition, wish) {
            Some(changed) => (ErrorCode::None, Some(changed)),
            None => (ErrorCode::EligibleLeadersNotAvailable, None),
        }
    }
}

/// Ends a reassignment when those to be are in sync, and enough of them (R13).
fn complete_reassignment(next: &mut Partition, min_in_sync: usize) -> bool {
    if !next.is_reassigning() {
        return false;
    }
    let target = next.target();
    let in_sync = among(&target, &next.in_sync);
    let arrived = next.adding.iter().all(|broker| in_sync.contains(broker));
    if !arrived || in_sync.len() < min_in_sync.min(target.len()).max(1) {
        return false;
    }
    next.replicas = target;
    next.in_sync = in_sync;
    next.adding.clear();
    next.removing.clear();
    true
}

/// Replicas that leave the in-sync set stay eligible while it is too small (R10).
fn populate_eligible(before: &Partition, next: &mut Partition, rules: Rules) {
    let mut eligible = next.eligible.clone();
    eligible.extend(without(&before.in_sync, &next.in_sync));
    next.eligible = among(&next.replicas, &without(&eligible, &next.in_sync));
    drop_eligible(next, rules);
}

fn drop_eligible(next: &mut Partition, rules: Rules) {
    next.eligible = without(&next.eligible, &next.in_sync);
    if next.in_sync.len() >= rules.min_in_sync.min(next.target().len()) {
        next.eligible.clear();
    }
}
