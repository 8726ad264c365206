//! What the log holds of a classic group, and what administrators see of it.

use millrace_model::Timestamp;

use super::hold::Hold;
use super::{ClassicGroup, Member, State};
use crate::record::{ClassicGroupValue, ClassicMemberValue};
use crate::size::most_bytes_of_member;
use crate::turn::Turn;
use crate::{DescribedGroup, DescribedMember, GroupRecord, GroupType};

impl ClassicGroup {
    /// The group as the log holds it: Stable with its members, or Empty.
    pub(crate) fn replayed(name: &str, value: ClassicGroupValue) -> Self {
        let mut group = Self::new(name, value.state_timestamp);
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
        group.protocol.clone_from(&value.protocol);
        group.leader.clone_from(&value.leader);
        if !value.members.is_empty() {
            group.state = State::Stable;
        }
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in &value.members {
            group.insert_member(
                member.member.clone(),
                Member {
                    instance: member.instance.clone(),
                    client: member.client.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: vec![(protocol.clone(), member.subscription.clone())],
                    assignment: member.assignment.clone(),
                    joining: None,
                    syncing: None,
                    hold: Hold::default(),
                },
            );
        }
        group.written = Some(value);
        group
    }

    /// The log has been replayed: sessions start anew, for nothing was heard while nobody listened.
    pub(crate) fn loaded(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            self.touch(turn.now, id);
        }
        let max_size = usize::try_from(turn.settings.max_size).unwrap_or(usize::MAX);
        // A group without a leader has come from the broker-driven protocol and was not led yet.
        let is_leaderless = self.leader.is_none() && !self.members.is_empty();
        if is_leaderless || self.members.len() > max_size {
            self.begin_again(turn);
        }
    }

    /// What the log holds.
    pub(crate) fn durable(&self) -> Option<GroupRecord> {
        let value = self.written.clone()?;
        Some(GroupRecord::ClassicGroup {
            group: self.name.clone(),
            value: Some(value),
        })
    }

    /// Removes the group from the log, where it is there.
    pub(crate) fn erase(&mut self, records: &mut Vec<GroupRecord>) {
        if self.written.take().is_some() {
            records.push(GroupRecord::ClassicGroup {
                group: self.name.clone(),
                value: None,
            });
        }
    }

    pub(crate) fn describe(&self) -> DescribedGroup {
        let is_stable = self.state == State::Stable;
        let protocol = self.protocol.as_deref().filter(|_| is_stable);
        DescribedGroup {
            group: self.name.clone(),
            state: self.state(),
            group_type: GroupType::Classic,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.unwrap_or_default().to_owned(),
            epoch: self.generation,
            assignment_epoch: self.generation,
            members: self
                .members
                .iter()
                .map(|(id, member)| member.describe(id, protocol))
                .collect(),
        }
    }

    /// Hands the group as it stands to the log.
    pub(super) fn write(&mut self, turn: &mut Turn<'_>) {
        let value = self.value(turn.now);
        self.written = Some(value.clone());
        turn.records.push(GroupRecord::ClassicGroup {
            group: self.name.clone(),
            value: Some(value),
        });
    }

    /// Whether the log takes the group as it stands.
    pub(super) fn can_be_written(&self, turn: &Turn<'_>) -> bool {
        let protocol = self.protocol.as_deref();
        let members = self.members.iter().map(|(id, member)| {
            let blobs = [member.metadata(protocol).len(), member.assignment.len()];
            most_bytes_of_member(id, member.instance.as_deref(), &member.client, blobs)
        });
        let names = [
            Some(&self.name),
            self.protocol_type.as_ref(),
            self.protocol.as_ref(),
            self.leader.as_ref(),
        ];
        let names = names.into_iter().flatten().map(String::len);
        turn.settings.fits(members.chain(names).sum())
    }

    fn value(&self, now: Timestamp) -> ClassicGroupValue {
        let protocol = self.protocol.as_deref();
        ClassicGroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: now,
            members: self
                .members
                .iter()
                .map(|(id, member)| ClassicMemberValue {
                    member: id.clone(),
                    instance: member.instance.clone(),
                    client: member.client.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    subscription: member.metadata(protocol),
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }
}

impl Member {
    /// What it wants and has is shown while the group is stable, as Kafka does.
    fn describe(&self, id: &str, protocol: Option<&str>) -> DescribedMember {
        let assignment = protocol.map(|_| self.assignment.clone());
        DescribedMember {
            member: id.to_owned(),
            instance: self.instance.clone(),
            rack: None,
            member_epoch: -1,
            client: self.client.clone(),
            metadata: self.metadata(protocol),
            assignment: assignment.unwrap_or_default(),
            subscribed_topics: Vec::new(),
            subscribed_regex: None,
            consumer: None,
            is_classic: true,
        }
    }
}
