//! A group with its offsets, whichever protocol it runs.

use millrace_model::{ErrorCode, Timestamp};

use crate::classic::ClassicGroup;
use crate::offsets::{Expiry, Offsets};
use crate::record::OffsetValue;
use crate::turn::Turn;
use crate::{
    CommitOffset, DescribedGroup, FetchOffsets, GroupRecord, GroupState, GroupType, ListedGroup,
};

/// See the module.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) offsets: Offsets,
    pub(crate) members: Members,
}

/// The group without its offsets.
pub(crate) enum Members {
    /// Of the classic protocol, or a group that only has offsets.
    Classic(ClassicGroup),
}

impl Group {
    pub(crate) fn new(name: &str, now: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            offsets: Offsets::default(),
            members: Members::Classic(ClassicGroup::new(name, now)),
        }
    }

    /// Applies a record of the log.
    pub(crate) fn replay(&mut self, record: GroupRecord, timestamp: Timestamp) {
        match record {
            GroupRecord::Offset {
                topic,
                partition,
                value: Some(value),
                ..
            } => self.offsets.set(&topic, partition, value),
            GroupRecord::Offset {
                topic, partition, ..
            } => {
                self.offsets.remove(&topic, partition);
            }
            GroupRecord::ClassicGroup {
                value: Some(value), ..
            } => self.members = Members::Classic(ClassicGroup::replayed(&self.name, value)),
            GroupRecord::ClassicGroup { value: None, .. } => {
                self.members = Members::Classic(ClassicGroup::new(&self.name, timestamp));
            }
            _ => {}
        }
    }

    pub(crate) fn loaded(&mut self, turn: &mut Turn<'_>) {
        match &mut self.members {
            Members::Classic(group) => group.loaded(turn),
        }
    }

    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        match &mut self.members {
            Members::Classic(group) => group.tick(turn),
        }
    }

    /// Commits what may be committed, and tells each offset's fate.
    pub(crate) fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        request: CommitOffset,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let instance = request.instance.as_deref();
        match &mut self.members {
            Members::Classic(group) => {
                group.may_commit(&request.member, instance, request.generation_or_epoch)?;
                group.touch(turn.now, &request.member);
            }
        }
        let expire_timestamp = request.retention_ms.map(|retention_ms| {
            let retention_ms = i64::try_from(retention_ms).unwrap_or(i64::MAX);
            Timestamp(turn.now.0.saturating_add(retention_ms))
        });
        let mut fates = Vec::with_capacity(request.offsets.len());
        for offset in request.offsets {
            let fate = offset.check(turn);
            fates.push(fate);
            if fate != ErrorCode::None {
                continue;
            }
            let mut committed = offset.committed;
            if expire_timestamp.is_some() {
                // That version of the record has no room for it.
                committed.leader_epoch = None;
            }
            let value = OffsetValue {
                committed,
                commit_timestamp: turn.now,
                expire_timestamp,
            };
            self.offsets
                .set(&offset.topic, offset.partition, value.clone());
            turn.records.push(GroupRecord::Offset {
                group: self.name.clone(),
                topic: offset.topic,
                partition: offset.partition,
                value: Some(value),
            });
        }
        Ok(fates)
    }

    /// Whether this member may read the offsets.
    pub(crate) fn may_fetch(&self, request: &FetchOffsets) -> Result<(), ErrorCode> {
        match &self.members {
            // Only members of the other protocol name themselves.
            Members::Classic(_) => {
                let _ = request;
                Ok(())
            }
        }
    }

    /// Forgets offsets of topics that nobody reads, and tells each one's fate.
    pub(crate) fn delete_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        partitions: Vec<(String, u32)>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        match &self.members {
            Members::Classic(group) if !group.has_no_members() && !group.has_consumers() => {
                return Err(ErrorCode::NonEmptyGroup);
            }
            Members::Classic(_) => {}
        }
        let subscribed = self.subscription();
        let mut fates = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            if subscribed(&topic) {
                fates.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            fates.push(ErrorCode::None);
            if self.offsets.remove(&topic, partition) {
                turn.records.push(GroupRecord::Offset {
                    group: self.name.clone(),
                    topic,
                    partition,
                    value: None,
                });
            }
        }
        Ok(fates)
    }

    /// Removes the group with all that the log holds of it.
    pub(crate) fn delete(&mut self, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        if !self.has_no_members() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let tombstones = self.offsets.retain(&self.name, |_, _, _| false);
        turn.records.extend(tombstones);
        self.erase(turn);
        Ok(())
    }

    /// Forgets offsets of topics that are gone.
    pub(crate) fn topics_gone(&mut self, turn: &mut Turn<'_>, is_gone: impl Fn(&str) -> bool) {
        let tombstones = self
            .offsets
            .retain(&self.name, |topic, _, _| !is_gone(topic));
        turn.records.extend(tombstones);
    }

    /// Forgets offsets that have expired, and a group that is left with nothing.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>) {
        if let Some(expiry) = self.expiry() {
            let subscribed = self.subscription();
            let retention_ms = turn.settings.offsets_retention_ms;
            let tombstones =
                self.offsets
                    .expire(&self.name, turn.now, retention_ms, expiry, subscribed);
            turn.records.extend(tombstones);
        }
        if self.offsets.is_empty() && self.is_empty() {
            self.erase(turn);
        }
    }

    fn erase(&mut self, turn: &mut Turn<'_>) {
        match &mut self.members {
            Members::Classic(group) => group.erase(&mut turn.records),
        }
    }

    /// The whole durable state, as the log holds it.
    pub(crate) fn snapshot(&self, records: &mut Vec<GroupRecord>) {
        match &self.members {
            Members::Classic(group) => records.extend(group.durable()),
        }
        let offsets = self.offsets.iter();
        records.extend(
            offsets.map(|(topic, partition, value)| GroupRecord::Offset {
                group: self.name.clone(),
                topic: topic.to_owned(),
                partition,
                value: Some(value.clone()),
            }),
        );
    }

    /// Whether nothing would be lost if the group were forgotten.
    pub(crate) fn is_vacuous(&self) -> bool {
        self.offsets.is_empty()
            && match &self.members {
                Members::Classic(group) => group.is_vacuous(),
            }
    }

    /// Whether it has neither members nor anybody who is about to become one.
    fn is_empty(&self) -> bool {
        match &self.members {
            Members::Classic(group) => group.is_empty(),
        }
    }

    pub(crate) fn has_no_members(&self) -> bool {
        match &self.members {
            Members::Classic(group) => group.has_no_members(),
        }
    }

    fn expiry(&self) -> Option<Expiry> {
        match &self.members {
            Members::Classic(group) => group.expiry(),
        }
    }

    fn subscription(&self) -> impl Fn(&str) -> bool + use<> {
        match &self.members {
            Members::Classic(group) => group.subscription(),
        }
    }

    pub(crate) const fn group_type(&self) -> GroupType {
        match &self.members {
            Members::Classic(_) => GroupType::Classic,
        }
    }

    pub(crate) const fn state(&self) -> GroupState {
        match &self.members {
            Members::Classic(group) => group.state(),
        }
    }

    pub(crate) fn describe(&self) -> DescribedGroup {
        match &self.members {
            Members::Classic(group) => group.describe(),
        }
    }

    pub(crate) fn list(&self) -> ListedGroup {
        let protocol_type = match &self.members {
            Members::Classic(group) => group.protocol_type().unwrap_or_default(),
        };
        ListedGroup {
            group: self.name.clone(),
            protocol_type: protocol_type.to_owned(),
            state: self.state(),
            group_type: self.group_type(),
        }
    }

    /// Nothing is due before this.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        match &self.members {
            Members::Classic(group) => group.next_deadline(),
        }
    }
}

impl crate::AlterOffsets {
    fn check(&self, turn: &Turn<'_>) -> ErrorCode {
        let max_metadata = turn.settings.offset_metadata_max_bytes;
        let topic = turn.topics.by_name.get(&self.topic);
        if self.committed.metadata.len() > usize::try_from(max_metadata).unwrap_or(usize::MAX) {
            ErrorCode::OffsetMetadataTooLarge
        } else if topic.is_none_or(|topic| self.partition >= topic.partitions) {
            ErrorCode::UnknownTopicOrPartition
        } else {
            ErrorCode::None
        }
    }
}
