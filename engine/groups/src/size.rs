//! How large a write can become, before anything is changed for it. A write that the log refuses for its size would be
//! refused again each time that its client tries: the request is refused instead.
//!
//! Sizes are upper bounds, a little above what records take: [`FIELDS`] stands for all of a record, or of a member in it,
//! that has no length of its own, with what the batch adds.

use crate::{Client, CommitOffset, GroupSettings};

/// Numbers and lengths of one record, and of its frame in a batch; or of one member in a record of its group.
const FIELDS: usize = 96;

/// The header of the batch, and what a record of a group has besides its members.
const BATCH: usize = 256;

impl GroupSettings {
    /// Whether a write of so many bytes will fit in a batch of the log.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        bytes + BATCH <= self.max_write_bytes
    }
}

impl CommitOffset {
    /// The most that its records can take.
    pub(crate) fn most_bytes(&self) -> usize {
        let each = self.offsets.iter().map(|offset| {
            FIELDS + self.group.len() + offset.topic.len() + offset.committed.metadata.len()
        });
        each.sum()
    }
}

/// The most that a member with these blobs can take in a record of its group.
pub(crate) fn most_bytes_of_member(
    id: &str,
    instance: Option<&str>,
    client: &Client,
    blobs: [usize; 2],
) -> usize {
    let names = [
        id,
        instance.unwrap_or_default(),
        client.id.as_str(),
        client.host.as_str(),
    ];
    FIELDS + names.map(str::len).iter().sum::<usize>() + blobs.iter().sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClassicGroupValue, ClassicMemberValue, OffsetValue};
    use crate::{AlterOffsets, CommittedOffset, GroupRecord, SaidOffset};
    use millrace_model::{BatchBuilder, BatchSpec, LeaderEpoch, Timestamp};

    fn batch_len(records: &[GroupRecord]) -> usize {
        let mut builder = BatchBuilder::new();
        for record in records {
            let record = record.encode();
            builder
                .append(
                    Some(&record.key),
                    record.value.as_deref(),
                    [],
                    Timestamp(i64::MAX),
                )
                .expect("small records");
        }
        builder
            .build(&BatchSpec::default())
            .expect("a small batch")
            .len()
    }

    #[test]
    fn a_commit_takes_no_more_than_was_said() {
        let offset = |partition| AlterOffsets {
            topic: "a-topic".to_owned(),
            partition,
            committed: CommittedOffset {
                offset: SaidOffset(i64::MAX),
                leader_epoch: Some(LeaderEpoch(7)),
                metadata: "words".to_owned(),
            },
        };
        let commit = CommitOffset {
            group: "a-group".to_owned(),
            generation_or_epoch: -1,
            member: String::new(),
            instance: None,
            retention_ms: None,
            offsets: (0..100).map(offset).collect(),
        };
        let offsets = commit.offsets.iter();
        let records: Vec<GroupRecord> = offsets
            .map(|offset| GroupRecord::Offset {
                group: commit.group.clone(),
                topic: offset.topic.clone(),
                partition: offset.partition,
                value: Some(OffsetValue {
                    committed: offset.committed.clone(),
                    commit_timestamp: Timestamp(i64::MAX),
                    expire_timestamp: None,
                }),
            })
            .collect();
        assert!(batch_len(&records) <= commit.most_bytes() + BATCH);
    }

    #[test]
    fn a_group_takes_no_more_than_was_said() {
        let client = Client {
            id: "a-client".to_owned(),
            host: "/127.0.0.1".to_owned(),
        };
        let member = |at| ClassicMemberValue {
            member: format!("member-{at}"),
            instance: Some(format!("instance-{at}")),
            client: client.clone(),
            rebalance_timeout_ms: i32::MAX,
            session_timeout_ms: i32::MAX,
            subscription: vec![1; 100].into(),
            assignment: vec![2; 200].into(),
        };
        let value = ClassicGroupValue {
            protocol_type: "consumer".to_owned(),
            generation: i32::MAX,
            protocol: Some("range".to_owned()),
            leader: Some("member-1".to_owned()),
            state_timestamp: Timestamp(i64::MAX),
            members: (0..100).map(member).collect(),
        };
        let members = value.members.iter().map(|member| {
            let blobs = [member.subscription.len(), member.assignment.len()];
            most_bytes_of_member(
                &member.member,
                member.instance.as_deref(),
                &member.client,
                blobs,
            )
        });
        let most: usize = members.sum();
        let record = GroupRecord::ClassicGroup {
            group: "a-group".to_owned(),
            value: Some(value),
        };
        assert!(batch_len(&[record]) <= most + BATCH);
    }
}
