//! The target assignment: what each member shall read at an epoch.

use super::assignor::{MemberSpec, Spec, assign};
use super::{ConsumerGroup, Member, Moment};
use crate::{AssignorName, GroupRecord, GroupSettings, TopicsImage};

impl ConsumerGroup {
    /// Computes the target for the group's epoch, unless it has been.
    pub(super) fn retarget(&mut self, moment: &Moment<'_>, records: &mut Vec<GroupRecord>) {
        if self.epoch <= self.target_epoch {
            return;
        }
        let spec = self.spec(moment.topics);
        for (member, target) in assign(self.assignor(moment.settings), &spec) {
            if self.targets.get(&member) != Some(&target) {
                let targeted = self.target_record(&member, &target);
                self.write(records, targeted);
            }
        }
        let epoch = self.target_epoch_record(self.epoch);
        self.write(records, epoch);
    }

    /// The assignor that most members ask for, of those that the broker has; else its default.
    pub(super) fn assignor(&self, settings: &GroupSettings) -> AssignorName {
        let asks = |member: &Member, assignor: AssignorName| {
            member.details.assignor.as_deref() == Some(assignor.name())
        };
        let votes = |assignor| self.members.values().filter(|m| asks(m, assignor)).count();
        // Of equals `max_by_key` takes the last one, and the first one of the settings shall win.
        let known = settings.consumer_assignors.iter().rev().copied();
        known
            .max_by_key(|assignor| votes(*assignor))
            .unwrap_or(AssignorName::Uniform)
    }

    fn spec(&self, topics: &TopicsImage) -> Spec {
        let mut spec = Spec::default();
        for (id, subscribed) in self.subscriptions(topics) {
            for topic in &*subscribed {
                let image = topics
                    .by_id
                    .get(topic)
                    .and_then(|name| topics.by_name.get(name));
                spec.topics
                    .insert(*topic, image.map_or(0, |image| image.partitions));
            }
            let member = MemberSpec {
                instance: self.members[id].details.instance.clone(),
                topics: subscribed,
                current: self.targets.get(id).cloned().unwrap_or_default(),
            };
            spec.members.insert(id.to_owned(), member);
        }
        spec
    }
}
