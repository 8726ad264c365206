//! A coordinator of one group in memory: partitions go round the members in the order of their ids, and
//! nobody gets one before its last owner has released it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use millrace_model::{ErrorCode, Offset};
use millrace_wire::{
    AssignedPartitions, CommittedOffset, GroupAssignment, GroupHeartbeat, GroupOffset,
    GroupRequest, GroupResponse, JOIN_EPOCH, OwnedPartitions, Response, WireError,
};

use super::{TOPIC, log};

/// Short, so that tests are.
const HEARTBEAT_INTERVAL_MS: u32 = 20;

#[derive(Default)]
pub(crate) struct FakeGroup {
    pub(crate) members: BTreeMap<String, FakeMember>,
    epoch: i32,
    pub(crate) committed: HashMap<u32, u64>,
    /// Who committed what, in order: member, partition, offset.
    pub(crate) commits: Vec<(String, u32, u64)>,
    /// Errors that answer the next heartbeats.
    pub(crate) heartbeat_errors: VecDeque<ErrorCode>,
    /// Errors that answer the next commits.
    pub(crate) commit_errors: VecDeque<ErrorCode>,
    /// Epochs with which members have come.
    pub(crate) epochs_seen: Vec<i32>,
}

pub(crate) struct FakeMember {
    epoch: i32,
    /// What it was given or says that it has.
    pub(crate) owned: BTreeSet<u32>,
    pub(crate) last: GroupHeartbeat,
}

impl FakeGroup {
    pub(super) fn answer(&mut self, partitions: u32, request: GroupRequest) -> Response {
        let answer = match request {
            GroupRequest::Heartbeat(heartbeat) => self.heartbeat(partitions, heartbeat),
            GroupRequest::Commit(commit) => match self.commit_errors.pop_front() {
                Some(code) => Err(code),
                None => {
                    for offset in &commit.offsets {
                        let (partition, next) = (offset.partition, offset.committed.offset.0);
                        self.committed.insert(partition, next);
                        self.commits.push((commit.member.clone(), partition, next));
                    }
                    Ok(GroupResponse::Committed(vec![0; commit.offsets.len()]))
                }
            },
            GroupRequest::FetchOffsets { .. } => Ok(GroupResponse::Offsets(self.offsets())),
            _ => Err(ErrorCode::InvalidRequest),
        };
        match answer {
            Ok(answer) => Response::Group(Box::new(answer)),
            Err(code) => Response::Error(WireError {
                code: code as i16,
                message: "the fake coordinator says so".to_owned(),
            }),
        }
    }

    /// Throws a member out, as when its session has ended.
    pub(crate) fn fence(&mut self, member: &str) {
        self.members.remove(member);
        self.epoch += 1;
    }

    fn offsets(&self) -> Vec<GroupOffset> {
        let offset = |(&partition, &next): (&u32, &u64)| GroupOffset {
            topic: TOPIC.to_owned(),
            partition,
            committed: Some(CommittedOffset {
                offset: Offset(next),
                leader_epoch: None,
                metadata: String::new(),
            }),
            code: 0,
        };
        self.committed.iter().map(offset).collect()
    }

    fn heartbeat(
        &mut self,
        partitions: u32,
        heartbeat: GroupHeartbeat,
    ) -> Result<GroupResponse, ErrorCode> {
        self.epochs_seen.push(heartbeat.epoch);
        if let Some(code) = self.heartbeat_errors.pop_front() {
            return Err(code);
        }
        let id = heartbeat.member.clone();
        if heartbeat.epoch < JOIN_EPOCH {
            self.fence(&id);
            return Ok(assignment(heartbeat.epoch, None));
        }
        let reported: BTreeSet<u32> = heartbeat.owned.iter().flat_map(numbers).collect();
        if heartbeat.epoch == JOIN_EPOCH {
            assert!(reported.is_empty(), "who joins has empty hands");
            self.epoch += 1;
        } else {
            let member = self.members.get(&id).ok_or(ErrorCode::UnknownMemberId)?;
            assert!(
                reported.is_subset(&member.owned),
                "nobody takes what it was not given"
            );
        }
        let member = FakeMember {
            epoch: heartbeat.epoch,
            owned: reported.clone(),
            last: heartbeat,
        };
        self.members.insert(id.clone(), member);
        let target = self.target(partitions, &id);
        let others = self.members.iter().filter(|(other, _)| **other != id);
        let taken: BTreeSet<u32> = others.flat_map(|(_, other)| other.owned.clone()).collect();
        let member = self.members.get_mut(&id).expect("it was just put there");
        let assigned: BTreeSet<u32> = if reported.is_subset(&target) {
            member.epoch = self.epoch;
            target.difference(&taken).copied().collect()
        } else {
            reported.intersection(&target).copied().collect()
        };
        member.owned.extend(&assigned);
        let epoch = member.epoch.max(1);
        Ok(assignment(epoch, Some(assigned)))
    }

    fn target(&self, partitions: u32, id: &str) -> BTreeSet<u32> {
        let count = u32::try_from(self.members.len()).unwrap();
        let place = self.members.keys().position(|member| member == id).unwrap();
        let place = u32::try_from(place).unwrap();
        (0..partitions)
            .filter(|partition| partition % count == place)
            .collect()
    }
}

fn numbers(owned: &OwnedPartitions) -> Vec<u32> {
    assert_eq!(owned.topic, log(0).topic);
    owned.partitions.clone()
}

fn assignment(epoch: i32, partitions: Option<BTreeSet<u32>>) -> GroupResponse {
    let of_topic = |partitions: BTreeSet<u32>| {
        vec![AssignedPartitions {
            id: log(0).topic,
            topic: TOPIC.to_owned(),
            partitions: partitions.into_iter().collect(),
        }]
    };
    GroupResponse::Heartbeat(GroupAssignment {
        epoch,
        heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
        partitions: partitions.map(of_topic),
    })
}
