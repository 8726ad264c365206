//! A group's state, and what its records mean.

use std::collections::BTreeMap;

use millrace_model::{Timestamp, TopicId};

use super::timers::{Duty, Timers};
use super::{Current, Member, Moment, Partitions};
use crate::record::{
    ConsumerGroupValue, ConsumerMemberValue, CurrentMemberValue, MemberState, RegexValue,
    TargetMemberValue, TargetMetadataValue,
};
use crate::{GroupRecord, GroupState};

/// One group of the broker-driven protocol.
#[derive(Clone, Debug, Default)]
pub struct ConsumerGroup {
    pub(super) name: String,
    pub(super) epoch: i32,
    pub(super) metadata_hash: i64,
    pub(super) target_epoch: i32,
    pub(super) members: BTreeMap<String, Member>,
    pub(super) targets: BTreeMap<String, Partitions>,
    pub(super) regexes: BTreeMap<String, RegexValue>,
    /// Member by instance id.
    pub(super) instances: BTreeMap<String, String>,
    /// How many members may read a partition. More than one only where a classic group came like this.
    held: BTreeMap<TopicId, BTreeMap<u32, u32>>,
    pub(super) timers: Timers,
}

impl ConsumerGroup {
    /// A group without members.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Applies a record of this group. Records of other kinds change nothing.
    pub fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::ConsumerGroup { value, .. } => {
                self.epoch = value.map_or(0, |value| value.epoch);
                self.metadata_hash = value.map_or(0, |value| value.metadata_hash);
            }
            GroupRecord::TargetMetadata { value, .. } => {
                self.target_epoch = value.map_or(0, |value| value.epoch);
            }
            GroupRecord::ConsumerMember { member, value, .. } => match value {
                Some(value) => self.describe_member(member, value),
                None => self.forget_member(member),
            },
            GroupRecord::TargetMember { member, value, .. } => match value {
                Some(value) => {
                    let target = Partitions::from_list(&value.partitions);
                    self.targets.insert(member.clone(), target);
                }
                None => {
                    self.targets.remove(member);
                }
            },
            GroupRecord::CurrentMember { member, value, .. } => match value {
                Some(value) => self.set_current(member, Current::from_value(value)),
                None if self.members.contains_key(member) => {
                    self.set_current(member, Current::default());
                }
                None => {}
            },
            GroupRecord::Regex { regex, value, .. } => match value {
                Some(value) => {
                    self.regexes.insert(regex.clone(), value.clone());
                }
                None => {
                    self.regexes.remove(regex);
                }
            },
            GroupRecord::Offset { .. } | GroupRecord::ClassicGroup { .. } => {}
        }
    }

    /// The log has been replayed: every member has the time of its session, and of what it must give up,
    /// from now.
    pub fn started(&mut self, moment: &Moment<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            self.renew_session(moment, &id);
            self.watch_revocation(moment, &id);
        }
    }

    /// Removes members that did not do in time what they had to. The records are for one batch.
    pub fn expire(&mut self, moment: &Moment<'_>) -> Vec<GroupRecord> {
        let expired: Vec<String> = self.timers.expired(moment.now).into_iter().collect();
        let mut records = Vec::new();
        self.remove_members(moment, &expired, &mut records);
        records
    }

    /// When [`ConsumerGroup::expire`] has to be called, if nothing comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The group epoch. 0: nothing of the group is in the log.
    #[must_use]
    pub const fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The members, by id.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// What a member shall read.
    #[must_use]
    pub fn target(&self, member: &str) -> Option<&Partitions> {
        self.targets.get(member)
    }

    /// Where the group stands.
    #[must_use]
    pub fn state(&self) -> GroupState {
        let reconciled = |member: &Member| member.current.is_reconciled_to(self.target_epoch);
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.target_epoch {
            GroupState::Assigning
        } else if self.members.values().all(reconciled) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// The records that make this state from nothing.
    #[must_use]
    pub fn records(&self) -> Vec<GroupRecord> {
        let group = || self.name.clone();
        let members = self
            .members
            .iter()
            .map(|(id, member)| GroupRecord::ConsumerMember {
                group: group(),
                member: id.clone(),
                value: Some(member.details.clone()),
            });
        let regexes = self
            .regexes
            .iter()
            .map(|(regex, value)| GroupRecord::Regex {
                group: group(),
                regex: regex.clone(),
                value: Some(value.clone()),
            });
        let epoch = GroupRecord::ConsumerGroup {
            group: group(),
            value: Some(ConsumerGroupValue {
                epoch: self.epoch,
                metadata_hash: self.metadata_hash,
            }),
        };
        let targets = self
            .targets
            .iter()
            .map(|(id, target)| self.target_record(id, target));
        let target_epoch = self.target_epoch_record(self.target_epoch);
        let currents = self.members.iter();
        let currents = currents.map(|(id, member)| self.current_record(id, &member.current));
        [epoch]
            .into_iter()
            .chain(regexes)
            .chain(members)
            .chain([target_epoch])
            .chain(targets)
            .chain(currents)
            .collect()
    }

    /// The records that take all of the group out of the log: before it is deleted, or moves to the
    /// classic protocol. They are not applied.
    #[must_use]
    pub fn tombstones(&self) -> Vec<GroupRecord> {
        let removed = |record| match record {
            GroupRecord::ConsumerGroup { group, .. } => {
                GroupRecord::ConsumerGroup { group, value: None }
            }
            GroupRecord::ConsumerMember { group, member, .. } => GroupRecord::ConsumerMember {
                group,
                member,
                value: None,
            },
            GroupRecord::TargetMetadata { group, .. } => {
                GroupRecord::TargetMetadata { group, value: None }
            }
            GroupRecord::TargetMember { group, member, .. } => GroupRecord::TargetMember {
                group,
                member,
                value: None,
            },
            GroupRecord::CurrentMember { group, member, .. } => GroupRecord::CurrentMember {
                group,
                member,
                value: None,
            },
            GroupRecord::Regex { group, regex, .. } => GroupRecord::Regex {
                group,
                regex,
                value: None,
            },
            other => other,
        };
        // What refers to members goes before them, and they before the group.
        self.records().into_iter().rev().map(removed).collect()
    }

    /// Writes a record, and changes the state by it.
    pub(super) fn write(&mut self, records: &mut Vec<GroupRecord>, record: GroupRecord) {
        self.replay(&record);
        records.push(record);
    }

    /// Removes members, and lets the group's epoch rise once.
    pub(super) fn remove_members(
        &mut self,
        moment: &Moment<'_>,
        ids: &[String],
        records: &mut Vec<GroupRecord>,
    ) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            self.remove_member(id, records);
        }
        self.drop_unused_regexes(records);
        self.raise_epoch(moment.topics, records);
        if self.members.is_empty() {
            let caught_up = self.target_epoch_record(self.epoch);
            self.write(records, caught_up);
        }
    }

    /// A static member comes back under another id: it has what the one before had.
    pub(super) fn replace_member(
        &mut self,
        old: &str,
        new: &str,
        details: ConsumerMemberValue,
        records: &mut Vec<GroupRecord>,
    ) {
        let current = Current {
            epoch: 0,
            previous_epoch: 0,
            ..self.members[old].current.clone()
        };
        let target = self.targets.get(old).cloned().unwrap_or_default();
        self.remove_member(old, records);
        let described = self.member_record(new, details);
        self.write(records, described);
        let targeted = self.target_record(new, &target);
        self.write(records, targeted);
        let moved = self.current_record(new, &current);
        self.write(records, moved);
    }

    fn remove_member(&mut self, id: &str, records: &mut Vec<GroupRecord>) {
        let (group, member) = (self.name.clone(), id.to_owned());
        let current = GroupRecord::CurrentMember {
            group: group.clone(),
            member: member.clone(),
            value: None,
        };
        let target = GroupRecord::TargetMember {
            group: group.clone(),
            member: member.clone(),
            value: None,
        };
        let described = GroupRecord::ConsumerMember {
            group,
            member,
            value: None,
        };
        for record in [current, target, described] {
            self.write(records, record);
        }
    }

    pub(super) fn member_record(&self, id: &str, details: ConsumerMemberValue) -> GroupRecord {
        GroupRecord::ConsumerMember {
            group: self.name.clone(),
            member: id.to_owned(),
            value: Some(details),
        }
    }

    pub(super) fn target_record(&self, id: &str, target: &Partitions) -> GroupRecord {
        GroupRecord::TargetMember {
            group: self.name.clone(),
            member: id.to_owned(),
            value: Some(TargetMemberValue {
                partitions: target.to_list(),
            }),
        }
    }

    pub(super) fn target_epoch_record(&self, epoch: i32) -> GroupRecord {
        GroupRecord::TargetMetadata {
            group: self.name.clone(),
            value: Some(TargetMetadataValue { epoch }),
        }
    }

    pub(super) fn current_record(&self, id: &str, current: &Current) -> GroupRecord {
        let value: CurrentMemberValue = current.to_value();
        GroupRecord::CurrentMember {
            group: self.name.clone(),
            member: id.to_owned(),
            value: Some(value),
        }
    }

    /// How many members may read a partition.
    pub(super) fn held(&self, topic: TopicId, partition: u32) -> u32 {
        let holders = self
            .held
            .get(&topic)
            .and_then(|topic| topic.get(&partition));
        holders.copied().unwrap_or(0)
    }

    /// The member lives: its session begins anew.
    pub(super) fn renew_session(&mut self, moment: &Moment<'_>, id: &str) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        let ms = match &member.details.classic {
            Some(classic) => i64::from(classic.session_timeout_ms),
            None => i64::from(moment.settings.consumer_session_timeout_ms),
        };
        self.timers.set(id, Duty::Session, moment.after(ms));
    }

    /// What a member must give up, it must give up in time; a classic one too, however often it joins.
    pub(super) fn watch_revocation(&mut self, moment: &Moment<'_>, id: &str) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        let revokes = member.current.state == MemberState::UnrevokedPartitions;
        if revokes && !member.is_away() {
            let ms = i64::from(member.details.rebalance_timeout_ms);
            self.timers.set(id, Duty::Revoke, moment.after(ms));
        } else {
            self.timers.clear(id, Duty::Revoke);
        }
    }

    fn describe_member(&mut self, id: &str, value: &ConsumerMemberValue) {
        let mut details = value.clone();
        details.subscribed_topics.sort_unstable();
        details.subscribed_topics.dedup();
        details.subscribed_regex = details.subscribed_regex.filter(|regex| !regex.is_empty());
        self.forget_instance(id);
        if let Some(instance) = &details.instance {
            self.instances.insert(instance.clone(), id.to_owned());
        }
        self.members.entry(id.to_owned()).or_default().details = details;
    }

    fn forget_member(&mut self, id: &str) {
        self.forget_instance(id);
        if let Some(member) = self.members.remove(id) {
            self.release(&member.current);
        }
        self.timers.forget(id);
    }

    /// Unless another member has taken the identity since.
    fn forget_instance(&mut self, id: &str) {
        let instance = self
            .members
            .get(id)
            .and_then(|member| member.details.instance.as_ref());
        if let Some(instance) = instance
            && self
                .instances
                .get(instance)
                .is_some_and(|holder| holder == id)
        {
            self.instances.remove(instance);
        }
    }

    fn set_current(&mut self, id: &str, current: Current) {
        for (topic, partition) in current
            .assigned
            .iter()
            .chain(current.pending_revocation.iter())
        {
            *self
                .held
                .entry(topic)
                .or_default()
                .entry(partition)
                .or_default() += 1;
        }
        let member = self.members.entry(id.to_owned()).or_default();
        let before = std::mem::replace(&mut member.current, current);
        self.release(&before);
    }

    fn release(&mut self, current: &Current) {
        for (topic, partition) in current
            .assigned
            .iter()
            .chain(current.pending_revocation.iter())
        {
            let Some(holders) = self.held.get_mut(&topic) else {
                continue;
            };
            match holders.get_mut(&partition) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    holders.remove(&partition);
                }
            }
            if holders.is_empty() {
                self.held.remove(&topic);
            }
        }
    }
}
