//! A group as administrators see it.

use bytes::Bytes;

use super::{ConsumerGroup, Member, Partitions};
use crate::{
    ConsumerAssignment, DescribedGroup, DescribedMember, GroupSettings, GroupType, TopicsImage,
};

/// The protocol type that all groups of this protocol have.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

impl ConsumerGroup {
    /// The group as it stands. Partitions of topics that are gone are left out.
    #[must_use]
    pub fn describe(&self, topics: &TopicsImage, settings: &GroupSettings) -> DescribedGroup {
        let members = self.members.iter();
        DescribedGroup {
            group: self.name.clone(),
            state: self.state(),
            group_type: GroupType::Consumer,
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocol_name: self.assignor(settings).name().to_owned(),
            epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            members: members
                .map(|(id, member)| self.describe_one(id, member, topics))
                .collect(),
        }
    }

    fn describe_one(&self, id: &str, member: &Member, topics: &TopicsImage) -> DescribedMember {
        let nothing = Partitions::new();
        let target = self.targets.get(id).unwrap_or(&nothing);
        let details = member.details.clone();
        DescribedMember {
            member: id.to_owned(),
            is_classic: member.is_classic(),
            instance: details.instance,
            rack: details.rack,
            member_epoch: member.current.epoch,
            client: details.client,
            metadata: Bytes::new(),
            assignment: Bytes::new(),
            subscribed_topics: details.subscribed_topics,
            subscribed_regex: details.subscribed_regex,
            consumer: Some(ConsumerAssignment {
                current: named(&member.current.assigned, topics),
                target: named(target, topics),
            }),
        }
    }
}

fn named(
    partitions: &Partitions,
    topics: &TopicsImage,
) -> Vec<(millrace_model::TopicId, String, Vec<u32>)> {
    let named = partitions.by_topic().filter_map(|(topic, partitions)| {
        let name = topics.by_id.get(&topic)?.clone();
        Some((topic, name, partitions.iter().copied().collect()))
    });
    named.collect()
}
