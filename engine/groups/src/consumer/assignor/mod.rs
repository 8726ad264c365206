//! Who shall read which partition: pure functions of members, topics, and the target so far.
//!
//! **Invariant:** each partition of a topic that somebody subscribes to is given to exactly one of those who
//! do, and no other partition to anybody.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millrace_model::TopicId;

use super::Partitions;
use crate::AssignorName;

/// What an assignment depends on.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Topics with the number of their partitions.
    pub topics: BTreeMap<TopicId, u32>,
    /// The members.
    pub members: BTreeMap<String, MemberSpec>,
}

/// A member, as assignors see it.
#[derive(Clone, Debug, Default)]
pub struct MemberSpec {
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// What it subscribes to, as far as it exists. Shared by members that subscribe to the same.
    pub topics: Rc<BTreeSet<TopicId>>,
    /// Its target so far.
    pub current: Partitions,
}

/// The target of each member.
pub type Assignment = BTreeMap<String, Partitions>;

/// Assigns.
#[must_use]
pub fn assign(assignor: AssignorName, spec: &Spec) -> Assignment {
    match assignor {
        AssignorName::Uniform => uniform::assign(spec),
        AssignorName::Range => range::assign(spec),
    }
}

impl AssignorName {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }
}

impl Spec {
    /// What all members subscribe to, if that is the same.
    fn common_topics(&self) -> Option<&BTreeSet<TopicId>> {
        let first = &self.members.values().next()?.topics;
        let same =
            |member: &MemberSpec| Rc::ptr_eq(&member.topics, first) || member.topics == *first;
        self.members.values().all(same).then_some(&**first)
    }

    fn partitions(&self, topic: TopicId) -> u32 {
        self.topics.get(&topic).copied().unwrap_or(0)
    }
}
