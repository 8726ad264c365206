//! Commits of a member: under its present epoch, tried again while that may help.

use std::time::Duration;

use millrace_model::{ErrorCode, Offset};
use millrace_wire::{CommitOffset, GroupCommit};
use tokio::sync::watch;

use super::GroupPartition;
use super::admin::{commit_offset, commit_offsets};
use super::reader::Slot;
use crate::{Client, ClientError};

/// Wait before a commit is tried again. An epoch that has risen is known by then: its answer was on
/// the way.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// How often a commit that must not be lost is tried.
const ATTEMPTS: u32 = 3;

/// How hard a commit is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Once: there is a next time.
    Short,
    /// A few times: the partitions are about to go to others.
    Long,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) client: Client,
    pub(super) group: String,
    pub(super) member: String,
    pub(super) instance: Option<String>,
    /// `None` while the member is none.
    pub(super) epoch: watch::Receiver<Option<i32>>,
}

impl Committer {
    /// Commits these offsets. Fails with the first of their errors.
    pub(super) async fn commit(
        &self,
        offsets: &[CommitOffset],
        patience: Patience,
    ) -> Result<(), ClientError> {
        let mut attempt = 1;
        loop {
            let error = match self.try_once(offsets).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let again = error.is_retriable() || error.code() == ErrorCode::StaleMemberEpoch;
            if patience == Patience::Short || !again || attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
            self.client.shared().runtime.sleep(RETRY_BACKOFF).await;
        }
    }

    async fn try_once(&self, offsets: &[CommitOffset]) -> Result<(), ClientError> {
        let epoch = *self.epoch.borrow();
        let Some(epoch) = epoch else {
            return Err(ClientError::refused(
                ErrorCode::UnknownMemberId,
                "the member was fenced and has not joined again",
            ));
        };
        let commit = GroupCommit {
            group: self.group.clone(),
            member: self.member.clone(),
            epoch,
            instance: self.instance.clone(),
            offsets: offsets.to_vec(),
        };
        let codes = commit_offsets(&self.client, commit).await?;
        let mut fates = codes.iter().zip(offsets);
        match fates.find(|(code, _)| **code != ErrorCode::None) {
            None => Ok(()),
            Some((&code, offset)) => Err(ClientError::Broker {
                code,
                message: format!(
                    "the offset of partition {} of {} was not committed",
                    offset.partition, offset.topic
                ),
            }),
        }
    }
}

/// What was processed of a partition.
pub(super) fn processed_of(slot: &Slot) -> CommitOffset {
    let partition = &slot.partition;
    commit_offset(&partition.topic, partition.log.partition.0, slot.processed)
}

/// What the application wants to be committed.
pub(super) fn to_commit(offsets: &[(GroupPartition, Offset)]) -> Vec<CommitOffset> {
    let offset = |(partition, offset): &(GroupPartition, Offset)| {
        commit_offset(&partition.topic, partition.log.partition.0, *offset)
    };
    offsets.iter().map(offset).collect()
}
