//! What administrators ask about groups, and what they do to them.

use std::time::Duration;

use millrace_model::{ErrorCode, GROUP_OFFSETS_TOPIC, LeaderEpoch, Offset};
use millrace_wire::{
    CommitOffset, CommittedOffset, DescribedGroup, GroupCommit, GroupOffset, GroupRequest,
    GroupResponse, ListedGroup, NO_EPOCH, Request, Response, TopicPartitions,
};

use crate::link::Link;
use crate::runtime::{Either, race};
use crate::{Client, ClientError, control};

impl Client {
    /// All groups of the broker, by id. They come in parts: one that is made or removed meanwhile may be among them or not.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClientError> {
        // Who else is there is known once one of them was asked.
        self.metadata(Some(&[])).await?;
        let mut all = Vec::new();
        for link in self.all_brokers() {
            all.extend(groups_of(&link).await?);
        }
        all.sort_unstable_by(|a: &ListedGroup, b| a.group.cmp(&b.group));
        Ok(all)
    }

    /// A group and its members.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`.
    pub async fn describe_group(&self, group: &str) -> Result<DescribedGroup, ClientError> {
        let group = group.to_owned();
        match ask(self, GroupRequest::Describe { group }).await? {
            GroupResponse::Described(group) => Ok(group),
            other => Err(unexpected(&other)),
        }
    }

    /// What a group has committed, for these partitions or for all that it has committed for. A group
    /// that does not exist has committed nothing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn group_offsets(
        &self,
        group: &str,
        partitions: Option<Vec<TopicPartitions>>,
    ) -> Result<Vec<GroupOffset>, ClientError> {
        let group = group.to_owned();
        match ask(self, GroupRequest::FetchOffsets { group, partitions }).await? {
            GroupResponse::Offsets(offsets) => Ok(offsets),
            other => Err(unexpected(&other)),
        }
    }

    /// Commits offsets from outside of the group, for example to send it back. Says what became of each,
    /// in order: [`ErrorCode::None`] for success.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` while the group has members.
    pub async fn reset_group_offsets(
        &self,
        group: &str,
        offsets: Vec<CommitOffset>,
    ) -> Result<Vec<ErrorCode>, ClientError> {
        let commit = GroupCommit {
            group: group.to_owned(),
            member: String::new(),
            epoch: NO_EPOCH,
            instance: None,
            offsets,
        };
        commit_offsets(self, commit).await
    }

    /// Removes a group that has no members, with its offsets.
    ///
    /// # Errors
    /// `NON_EMPTY_GROUP`, `GROUP_ID_NOT_FOUND`.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let group = group.to_owned();
        match ask(self, GroupRequest::Delete { group }).await? {
            GroupResponse::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Forgets what a group has committed for these partitions. Says what became of each, in order:
    /// [`ErrorCode::None`] for success, `GROUP_SUBSCRIBED_TO_TOPIC` while members read the topic.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: Vec<TopicPartitions>,
    ) -> Result<Vec<ErrorCode>, ClientError> {
        let group = group.to_owned();
        match ask(self, GroupRequest::DeleteOffsets { group, partitions }).await? {
            GroupResponse::OffsetsDeleted(codes) => Ok(codes_of(&codes)),
            other => Err(unexpected(&other)),
        }
    }
}

/// The groups of one broker, part by part.
async fn groups_of(link: &Link) -> Result<Vec<ListedGroup>, ClientError> {
    let mut all: Vec<ListedGroup> = Vec::new();
    loop {
        let after = all
            .last()
            .map_or_else(String::new, |last| last.group.clone());
        let request = Request::Group(Box::new(GroupRequest::ListAfter { after }));
        match group_response(control::request(link, &request).await?)? {
            GroupResponse::ListedPart { groups, is_last } => {
                // A part without groups would be asked for again and again.
                let is_last = is_last || groups.is_empty();
                all.extend(groups);
                if is_last {
                    return Ok(all);
                }
            }
            other => return Err(unexpected(&other)),
        }
    }
}

/// An offset on its way in, without words.
pub(super) fn commit_offset(topic: &str, partition: u32, offset: Offset) -> CommitOffset {
    let leader_epoch = None::<LeaderEpoch>;
    CommitOffset {
        topic: topic.to_owned(),
        partition,
        committed: CommittedOffset {
            offset,
            leader_epoch,
            metadata: String::new(),
        },
    }
}

/// Commits, and says what became of each offset.
pub(super) async fn commit_offsets(
    client: &Client,
    commit: GroupCommit,
) -> Result<Vec<ErrorCode>, ClientError> {
    let count = commit.offsets.len();
    match ask(client, GroupRequest::Commit(commit)).await? {
        GroupResponse::Committed(codes) if codes.len() == count => Ok(codes_of(&codes)),
        other => Err(unexpected(&other)),
    }
}

/// Sends a request that concerns a group.
pub(super) async fn ask(
    client: &Client,
    request: GroupRequest,
) -> Result<GroupResponse, ClientError> {
    let group = group_of(&request).to_owned();
    let request = Request::Group(Box::new(request));
    let mut attempt = 1;
    loop {
        let answered = ask_once(client, &group, &request).await;
        match answered {
            Err(error) if has_moved(&error) && attempt < COORDINATOR_ATTEMPTS => {
                attempt += 1;
                // Nobody who knows is as good as no news.
                let _ = client.metadata(Some(&[GROUP_OFFSETS_TOPIC])).await;
                client.shared().runtime.sleep(COORDINATOR_BACKOFF).await;
            }
            answered => return group_response(answered?),
        }
    }
}

/// How often a group's coordinator is looked for, at [`COORDINATOR_BACKOFF`]: longer than a cluster
/// takes to find a leader.
const COORDINATOR_ATTEMPTS: u32 = 30;

/// Kafka's `retry.backoff.ms`.
const COORDINATOR_BACKOFF: Duration = Duration::from_millis(100);

fn has_moved(error: &ClientError) -> bool {
    let moved = [
        ErrorCode::NotCoordinator,
        ErrorCode::CoordinatorNotAvailable,
    ];
    matches!(error, ClientError::Broker { code, .. } if moved.contains(code))
}

/// Sends a request to the group's coordinator, as far as it is known.
async fn ask_once(
    client: &Client,
    group: &str,
    request: &Request,
) -> Result<Response, ClientError> {
    let known = |client: &Client| client.shared().directory().coordinator(group);
    if known(client).is_none() {
        client.metadata(Some(&[GROUP_OFFSETS_TOPIC])).await?;
    }
    // Whoever is asked first about any group makes the topic.
    let Some(log) = known(client) else {
        return client.request(request).await;
    };
    let link = client.link(log);
    let moved = client.led_elsewhere(log, &link);
    match race(control::request(&link, request), moved).await {
        Either::Left(answered) => answered,
        Either::Right(()) => Err(link.remote().disconnected("the coordinator has moved")),
    }
}

fn group_of(request: &GroupRequest) -> &str {
    match request {
        GroupRequest::Heartbeat(heartbeat) => &heartbeat.group,
        GroupRequest::Commit(commit) => &commit.group,
        GroupRequest::FetchOffsets { group, .. }
        | GroupRequest::Describe { group }
        | GroupRequest::Delete { group }
        | GroupRequest::DeleteOffsets { group, .. } => group,
        GroupRequest::List | GroupRequest::ListAfter { .. } => "",
    }
}

fn group_response(response: Response) -> Result<GroupResponse, ClientError> {
    match response {
        Response::Group(response) => Ok(*response),
        other => Err(control::unexpected(other)),
    }
}

/// What to say to an answer to another question.
pub(super) fn unexpected(response: &GroupResponse) -> ClientError {
    control::unexpected(Response::Group(Box::new(response.clone())))
}

fn codes_of(codes: &[i16]) -> Vec<ErrorCode> {
    codes
        .iter()
        .map(|&code| ErrorCode::from_i16(code))
        .collect()
}
