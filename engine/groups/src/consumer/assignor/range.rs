//! `range`: each topic is cut into contiguous ranges, one for each of its subscribers in order, the first ones
//! longer by one where it does not divide. Topics with equal partitions and subscribers are cut alike, so that
//! partitions of one number come together (what joins of streams need).
//!
//! Static members come first, by instance id: a restart of one, under another member id, moves nothing.

use std::collections::BTreeMap;

use super::{Assignment, MemberSpec, Spec};
use crate::consumer::Partitions;

pub(super) fn assign(spec: &Spec) -> Assignment {
    let mut members: Vec<(&String, &MemberSpec)> = spec.members.iter().collect();
    members.sort_by_key(|(id, member)| (member.instance.is_none(), &member.instance, *id));
    let mut subscribers = BTreeMap::new();
    for topic in members.iter().flat_map(|(_, member)| &*member.topics) {
        *subscribers.entry(*topic).or_insert(0u32) += 1;
    }
    // How many of a topic's subscribers, and of its partitions, have had their turn.
    let mut progress = BTreeMap::new();
    let mut assignment = Assignment::new();
    for (id, member) in members {
        let mut target = Partitions::new();
        for topic in &*member.topics {
            let (turn, start) = progress.entry(*topic).or_insert((0u32, 0u32));
            let (partitions, of) = (spec.partitions(*topic), subscribers[topic]);
            let end = *start + partitions / of + u32::from(*turn < partitions % of);
            target.extend((*start..end).map(|partition| (*topic, partition)));
            (*turn, *start) = (*turn + 1, end);
        }
        assignment.insert(id.clone(), target);
    }
    assignment
}
