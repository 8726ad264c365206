//! What a calm cluster does to get better: leaders go back to where they are preferred, and a
//! cordoned broker is emptied. A few at a time; whoever calls decides how often.

use std::collections::BTreeMap;

use millrace_model::{BrokerId, LogId};

use super::Cluster;
use super::partition::without;

/// A broker may lead this share less than it is preferred for before leaders move:
/// `leader.imbalance.per.broker.percentage`, Kafka's default.
const TOLERATED_PERCENT: usize = 10;

/// A leader that should move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderMove {
    /// The partition.
    pub log: LogId,
    /// Who leads it.
    pub from: Option<BrokerId>,
    /// Who is preferred, is in sync and serves.
    pub to: BrokerId,
}

impl Cluster {
    /// Leaders that should go back to the preferred replica: at most `most`, and only to
    /// brokers that lead much less than they should.
    #[must_use]
    pub fn unbalanced_leaders(&self, most: usize) -> Vec<LeaderMove> {
        let mut preferred: BTreeMap<BrokerId, usize> = BTreeMap::new();
        let mut away: BTreeMap<BrokerId, Vec<LeaderMove>> = BTreeMap::new();
        for (log, partition) in self.topics().flat_map(|topic| topic.logs()) {
            let Some(to) = partition.target().first().copied() else {
                continue;
            };
            *preferred.entry(to).or_default() += 1;
            let can = self.is_active(to) && partition.in_sync.contains(&to);
            if partition.leader != Some(to) && can && !partition.is_reassigning() {
                let from = partition.leader;
                away.entry(to)
                    .or_default()
                    .push(LeaderMove { log, from, to });
            }
        }
        away.retain(|to, moves| moves.len() * 100 > preferred[to] * TOLERATED_PERCENT);
        away.into_values().flatten().take(most).collect()
    }

    /// Partitions that a cordoned broker should give up, each with the replicas it should have:
    /// at most `most`, counting those on their way.
    #[must_use]
    pub fn drains(&self, most: usize) -> Vec<(LogId, Vec<BrokerId>)> {
        let cordoned: Vec<BrokerId> = self
            .brokers()
            .filter(|broker| broker.cordoned)
            .map(|broker| broker.id)
            .collect();
        if cordoned.is_empty() {
            return Vec::new();
        }
        let partitions = || self.topics().flat_map(|topic| topic.logs());
        let moving = partitions().filter(|(_, partition)| partition.is_reassigning());
        let room = most.saturating_sub(moving.count());
        let drain = |(log, partition): (LogId, &super::Partition)| {
            let held = partition.replicas.iter();
            let leaving = held.copied().find(|broker| cordoned.contains(broker))?;
            if partition.is_reassigning() {
                return None;
            }
            let staying = without(&partition.replicas, &[leaving]);
            let instead = self.replacement(&staying)?;
            // The newcomer takes the place of the one that goes: also that of the preferred leader.
            let place = |broker: &BrokerId| match *broker == leaving {
                true => instead,
                false => *broker,
            };
            Some((log, partition.replicas.iter().map(place).collect()))
        };
        partitions().filter_map(drain).take(room).collect()
    }
}
