//! `uniform`: as even as can be, and as little moved as can be.
//!
//! Where all subscribe to the same, everybody has the same number of partitions, or one more. Members keep what
//! they have up to that; only the rest moves, dealt around so that each topic is spread.
//! Where they do not, each keeps what it has, what is free goes to the least loaded subscriber, and then
//! partitions move from the most to the least loaded subscriber of their topic while that evens the two out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millrace_model::TopicId;

use super::{Assignment, MemberSpec, Spec};
use crate::consumer::Partitions;

/// Rounds over all topics in which partitions are moved. Each move lowers the sum of the squares of loads,
/// so it ends by itself, after a handful of rounds; this bounds what nobody has thought of.
const MAX_BALANCE_ROUNDS: usize = 64;

pub(super) fn assign(spec: &Spec) -> Assignment {
    let members: Vec<(&String, &MemberSpec)> = spec.members.iter().collect();
    let targets = match spec.common_topics() {
        Some(topics) => homogeneous(spec, topics, &members),
        None => heterogeneous(spec, &members),
    };
    let ids = members.iter().map(|(id, _)| (*id).clone());
    ids.zip(targets).collect()
}

fn homogeneous(
    spec: &Spec,
    topics: &BTreeSet<TopicId>,
    members: &[(&String, &MemberSpec)],
) -> Vec<Partitions> {
    let counts: Vec<(TopicId, u32)> = topics.iter().map(|t| (*t, spec.partitions(*t))).collect();
    let total: usize = counts.iter().map(|(_, count)| *count as usize).sum();
    let (quota, mut longer) = (total / members.len(), total % members.len());
    let mut free: Partitions = counts
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(|partition| (*topic, partition)))
        .collect();
    let mut targets = vec![Partitions::new(); members.len()];
    let mut wanted = vec![quota; members.len()];
    for (at, (_, member)) in members.iter().enumerate() {
        for (topic, partition) in member.current.iter() {
            if wanted[at] == 0 {
                // One more may stay while there are members to be longer by one.
                if longer == 0 || targets[at].len() > quota {
                    break;
                }
                if free.remove(topic, partition) {
                    targets[at].insert(topic, partition);
                    longer -= 1;
                    break;
                }
            } else if free.remove(topic, partition) {
                targets[at].insert(topic, partition);
                wanted[at] -= 1;
            }
        }
    }
    for (at, target) in targets.iter().enumerate() {
        if longer > 0 && target.len() <= quota {
            wanted[at] += 1;
            longer -= 1;
        }
    }
    let mut turns: VecDeque<usize> = (0..members.len()).filter(|at| wanted[*at] > 0).collect();
    for (topic, partition) in free.iter() {
        let at = turns.pop_front().expect("members want as much as is free");
        targets[at].insert(topic, partition);
        wanted[at] -= 1;
        if wanted[at] > 0 {
            turns.push_back(at);
        }
    }
    targets
}

/// A topic, with members by their index.
struct Topic {
    subscribers: Vec<usize>,
    owners: Vec<Option<usize>>,
}

fn heterogeneous(spec: &Spec, members: &[(&String, &MemberSpec)]) -> Vec<Partitions> {
    let mut topics = BTreeMap::new();
    for (at, (_, member)) in members.iter().enumerate() {
        for topic in &*member.topics {
            let new = || Topic {
                subscribers: Vec::new(),
                owners: vec![None; spec.partitions(*topic) as usize],
            };
            topics
                .entry(*topic)
                .or_insert_with(new)
                .subscribers
                .push(at);
        }
    }
    let mut loads = vec![0usize; members.len()];
    for (at, (_, member)) in members.iter().enumerate() {
        for (topic, partition) in member.current.iter() {
            if !member.topics.contains(&topic) {
                continue;
            }
            let owners = topics.get_mut(&topic).map(|topic| &mut topic.owners);
            if let Some(owner @ None) = owners.and_then(|owners| owners.get_mut(partition as usize))
            {
                *owner = Some(at);
                loads[at] += 1;
            }
        }
    }
    // Topics with the fewest subscribers first: they have the least choice.
    let mut order: Vec<&mut Topic> = topics.values_mut().collect();
    order.sort_by_key(|topic| topic.subscribers.len());
    for topic in &mut order {
        topic.fill(&mut loads);
    }
    for _ in 0..MAX_BALANCE_ROUNDS {
        let moved = order.iter_mut().map(|topic| topic.balance(&mut loads));
        if moved.sum::<usize>() == 0 {
            break;
        }
    }
    let mut targets = vec![Partitions::new(); members.len()];
    for (id, topic) in &topics {
        for (partition, owner) in (0..).zip(&topic.owners) {
            let at = owner.expect("every topic here has a subscriber");
            targets[at].insert(*id, partition);
        }
    }
    targets
}

impl Topic {
    /// Gives what nobody has to whoever has least.
    fn fill(&mut self, loads: &mut [usize]) {
        let mut least = self.by_load(loads);
        for owner in self.owners.iter_mut().filter(|owner| owner.is_none()) {
            let (load, at) = least.pop_first().expect("a topic here has subscribers");
            least.insert((load + 1, at));
            loads[at] += 1;
            *owner = Some(at);
        }
    }

    /// Moves partitions from the most to the least loaded while that evens the two out. Says how many.
    fn balance(&mut self, loads: &mut [usize]) -> usize {
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners.iter().enumerate() {
            let at = owner.expect("it was filled");
            owned.entry(at).or_default().push(partition);
        }
        let mut least = self.by_load(loads);
        let mut most: BTreeSet<(usize, usize)> = owned.keys().map(|at| (loads[*at], *at)).collect();
        let mut moved = 0;
        while let (Some(&(high, from)), Some(&(low, to))) = (most.last(), least.first())
            && high >= low + 2
        {
            let partitions = owned.get_mut(&from).expect("it owns some");
            let partition = partitions.pop().expect("it owns some");
            let is_last = partitions.is_empty();
            self.owners[partition] = Some(to);
            owned.entry(to).or_default().push(partition);
            for (at, load) in [(from, high - 1), (to, low + 1)] {
                least.remove(&(loads[at], at));
                most.remove(&(loads[at], at));
                loads[at] = load;
                least.insert((load, at));
                if at == to || !is_last {
                    most.insert((load, at));
                }
            }
            moved += 1;
        }
        moved
    }

    fn by_load(&self, loads: &[usize]) -> BTreeSet<(usize, usize)> {
        self.subscribers
            .iter()
            .map(|at| (loads[*at], *at))
            .collect()
    }
}
