//! A group with its offsets.

use millrace_model::{ErrorCode, Timestamp};

use crate::members::Members;
use crate::offsets::Offsets;
use crate::planted::{Planted, is_planted};
use crate::record::OffsetValue;
use crate::turn::Turn;
use crate::{CommitOffset, Failure, GroupRecord, ListedGroup};

/// See the module.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) offsets: Offsets,
    pub(crate) members: Members,
}

impl Group {
    pub(crate) fn new(name: &str, now: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            offsets: Offsets::default(),
            members: Members::none(name, now),
        }
    }

    /// Applies a record of the log.
    pub(crate) fn replay(&mut self, record: GroupRecord, timestamp: Timestamp) {
        match record {
            GroupRecord::Offset {
                topic,
                partition,
                value,
                ..
            } => match value {
                _ if is_planted(Planted::OffsetsNotReplayed) => {}
                Some(value) => self.offsets.set(&topic, partition, value),
                None => {
                    self.offsets.remove(&topic, partition);
                }
            },
            other => self.members.replay(other, timestamp),
        }
    }

    /// Commits what may be committed, and tells each offset's fate.
    pub(crate) fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        request: CommitOffset,
    ) -> Result<Vec<ErrorCode>, Failure> {
        self.members.check_commit(turn.now, &request)?;
        if !turn.settings.fits(request.most_bytes()) {
            return Err(ErrorCode::InvalidCommitOffsetSize.into());
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

    /// Forgets offsets of topics that nobody reads, and tells each one's fate.
    pub(crate) fn delete_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        partitions: Vec<(String, u32)>,
    ) -> Result<Vec<ErrorCode>, Failure> {
        self.members.check_delete_offsets()?;
        let is_read = self.members.subscription();
        let mut fates = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            if is_read(&topic) {
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
    pub(crate) fn delete(&mut self, turn: &mut Turn<'_>) -> Result<(), Failure> {
        if !self.members.has_no_members() {
            return Err(ErrorCode::NonEmptyGroup.into());
        }
        let tombstones = self.offsets.retain(&self.name, |_, _, _| false);
        turn.records.extend(tombstones);
        self.members.erase(&mut turn.records, turn.now);
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
        if let Some(expiry) = self.members.expiry() {
            let is_read = self.members.subscription();
            let retention_ms = turn.settings.offsets_retention_ms;
            let tombstones =
                self.offsets
                    .expire(&self.name, turn.now, retention_ms, expiry, is_read);
            turn.records.extend(tombstones);
        }
        if self.offsets.is_empty() && self.members.is_empty() {
            self.members.erase(&mut turn.records, turn.now);
        }
    }

    /// The whole durable state, as the log holds it.
    pub(crate) fn snapshot(&self, records: &mut Vec<GroupRecord>) {
        self.members.snapshot(records);
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
        self.offsets.is_empty() && self.members.is_vacuous()
    }

    pub(crate) fn list(&self) -> ListedGroup {
        ListedGroup {
            group: self.name.clone(),
            protocol_type: self.members.protocol_type().to_owned(),
            state: self.members.state(),
            group_type: self.members.group_type(),
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
