//! Which brokers get a new partition's replicas.
//!
//! Each partition in turn takes for its preferred leader the broker that leads least for its
//! number of cores, and for the others those that hold least, in racks that the partition is
//! not yet in, as long as there are any. Ties go round from a start that differs with the topic.

use std::collections::BTreeMap;

use millrace_model::{BrokerId, ErrorCode, TopicId};

use super::{BrokerState, Cluster, MAX_REPLICAS, refuse};
use crate::metadata::Refusal;

/// What a broker has by now.
#[derive(Clone, Debug)]
struct Load {
    broker: BrokerId,
    rack: Option<String>,
    shards: u64,
    leaders: u64,
    replicas: u64,
}

/// Loads are compared per core, in steps fine enough for any number of cores.
const SCALE: u64 = 1 << 16;

impl Cluster {
    /// Replicas for `count` new partitions, the preferred leader of each first.
    ///
    /// # Errors
    /// There are fewer brokers to choose from than replicas.
    pub fn place(
        &self,
        topic: TopicId,
        count: u32,
        replication: usize,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let mut loads = self.loads();
        if replication == 0 || replication > loads.len().min(MAX_REPLICAS) {
            return refuse(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "{replication} replicas, with {} brokers to hold them",
                    loads.len()
                ),
            );
        }
        let start = topic.0.iter().map(|byte| usize::from(*byte)).sum::<usize>() % loads.len();
        loads.rotate_left(start);
        let place = |_| {
            // So that equal brokers take turns.
            loads.rotate_left(1);
            place_one(&mut loads, replication, &[])
        };
        Ok((0..count).map(place).collect())
    }

    /// Who could take over from `leaving` in a partition with these other replicas.
    pub(super) fn replacement(&self, staying: &[BrokerId]) -> Option<BrokerId> {
        let mut loads = self.loads();
        let free = loads.iter().any(|load| !staying.contains(&load.broker));
        free.then(|| {
            let placed = place_one(&mut loads, staying.len() + 1, staying);
            placed
                .last()
                .copied()
                .expect("one more than those that stay")
        })
    }

    /// The brokers that can get replicas, with what each has.
    fn loads(&self) -> Vec<Load> {
        let mut leaders: BTreeMap<BrokerId, u64> = BTreeMap::new();
        let mut replicas: BTreeMap<BrokerId, u64> = BTreeMap::new();
        for partition in self.topics.values().flat_map(|topic| &topic.partitions) {
            let target = partition.target();
            if let Some(first) = target.first() {
                *leaders.entry(*first).or_default() += 1;
            }
            for broker in target {
                *replicas.entry(broker).or_default() += 1;
            }
        }
        let can = |broker: &&super::Broker| broker.state == BrokerState::Active && !broker.cordoned;
        self.brokers()
            .filter(can)
            .map(|broker| Load {
                broker: broker.id,
                rack: broker.rack.clone(),
                shards: u64::from(broker.shards.max(1)),
                leaders: leaders.get(&broker.id).copied().unwrap_or(0),
                replicas: replicas.get(&broker.id).copied().unwrap_or(0),
            })
            .collect()
    }
}

/// One partition's replicas, behind those that it has.
fn place_one(loads: &mut [Load], replication: usize, present: &[BrokerId]) -> Vec<BrokerId> {
    let mut chosen = present.to_vec();
    while chosen.len() < replication {
        let racks: Vec<Option<String>> = loads
            .iter()
            .filter(|load| chosen.contains(&load.broker))
            .map(|load| load.rack.clone())
            .collect();
        let is_first = chosen.is_empty();
        let burden = |load: &&mut Load| {
            // A broker without a rack is a rack of its own.
            let shared = racks
                .iter()
                .filter(|rack| rack.is_some() && **rack == load.rack);
            let leaders = if is_first {
                load.leaders * SCALE / load.shards
            } else {
                0
            };
            (shared.count(), leaders, load.replicas * SCALE / load.shards)
        };
        let free = loads
            .iter_mut()
            .filter(|load| !chosen.contains(&load.broker));
        let Some(best) = free.min_by_key(burden) else {
            break;
        };
        best.replicas += 1;
        best.leaders += u64::from(is_first);
        chosen.push(best.broker);
    }
    chosen
}
