//! Virtual consumers of both protocols. Each has one request under way at a time, and claims the
//! partitions that it would read.

use std::collections::{BTreeMap, BTreeSet};

use millrace_groups::{
    AlterOffsets, Client as Identity, CommitOffset, CommittedOffset, ConsumerHeartbeat, Heartbeat,
    JoinGroup, JoinedGroup, LeaveGroup, LeavingMember, OwnedPartitions, Request, Response,
    SyncGroup, Ticket, TopicsImage,
};
use millrace_model::{ErrorCode, Offset};

use super::blobs::{self, Partition};

pub(crate) const SESSION_MS: i32 = 10_000;
pub(crate) const REBALANCE_MS: i32 = 12_000;
/// Who was not heard of for this long does not claim anything: others may have been given it. Less than
/// a session, less than a rebalance together with the time that a client takes to give up; more than a heartbeat may wait
/// behind the one before it.
pub(crate) const LEASE_MS: i64 = 8_000;
/// How long a client needs at most to give up what it is told to.
const REVOKE_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Classic: gives all up before it joins again.
    Eager,
    /// Classic: keeps what it has while it joins again.
    Cooperative,
    /// Broker-driven.
    Consumer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Join,
    Sync(BTreeMap<String, BTreeSet<Partition>>),
    Member,
    /// Fenced for good, or left.
    Over,
}

pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) kind: Kind,
    pub(crate) instance: Option<String>,
    pub(crate) pending: Option<(Ticket, i64)>,
    /// Does nothing before this.
    pub(crate) next_at: i64,
    id: String,
    /// Generation or epoch.
    epoch: i32,
    phase: Phase,
    owned: BTreeSet<Partition>,
    /// Classic leader: the topics that it dealt out. It watches them, nobody else does.
    dealt: Option<TopicsImage>,
    /// Broker-driven: what it shall own from a time on.
    target: Option<(i64, BTreeSet<Partition>)>,
    /// Broker-driven: what it owns has changed since it said so.
    has_news: bool,
    /// Broker-driven: an answer was lost, or a failure. It says all anew, so that it is told all anew.
    is_lost: bool,
    /// When it sent the last request that went well as a member.
    heard_at: i64,
}

/// What a client wants to send.
pub(crate) struct Outgoing {
    pub(crate) request: Request,
    pub(crate) commits: Option<(Partition, u64)>,
}

impl Client {
    pub(crate) fn new(name: String, group: &str, kind: Kind, instance: Option<String>) -> Self {
        Self {
            name,
            group: group.to_owned(),
            kind,
            instance,
            pending: None,
            next_at: 0,
            id: String::new(),
            epoch: 0,
            phase: Phase::Join,
            owned: BTreeSet::new(),
            dealt: None,
            target: None,
            has_news: false,
            is_lost: false,
            heard_at: i64::MIN / 2,
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            id: self.name.clone(),
            host: "/model".to_owned(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// What it reads for sure: the coordinator must not have given it to anybody else.
    pub(crate) fn claims(&self, now: i64) -> impl Iterator<Item = &Partition> {
        let is_heard = now - self.heard_at <= LEASE_MS;
        self.owned.iter().filter(move |_| is_heard)
    }

    /// The generation in which it claims, where that means something.
    pub(crate) fn generation(&self) -> i32 {
        self.epoch
    }

    /// Takes its time.
    pub(crate) fn settle(&mut self, now: i64) {
        if self.target.as_ref().is_some_and(|(at, _)| *at <= now)
            && let Some((_, target)) = self.target.take()
        {
            self.owned = target;
            self.has_news = true;
        }
    }

    /// The next request.
    pub(crate) fn act(
        &mut self,
        now: i64,
        random: &mut fastrand::Rng,
        topics: &TopicsImage,
        next_offset: impl FnOnce() -> u64,
    ) -> Option<Outgoing> {
        let commit = self
            .owned
            .iter()
            .nth(random.usize(..8))
            .filter(|_| self.phase == Phase::Member && random.u8(..4) == 0)
            // A commit is no heartbeat.
            .filter(|_| now - self.heard_at < LEASE_MS / 2);
        if let Some(partition) = commit.cloned() {
            let offset = next_offset();
            return Some(Outgoing {
                request: self.commit(&partition, offset),
                commits: Some((partition, offset)),
            });
        }
        let is_dealt_anew = self.dealt.as_ref().is_some_and(|dealt| dealt != topics);
        if self.phase == Phase::Member && is_dealt_anew {
            self.phase = Phase::Join;
        }
        let request = match (&self.phase, self.kind) {
            (Phase::Over, _) => return None,
            (_, Kind::Consumer) => self.beat(topics),
            (Phase::Join, _) => self.join(topics),
            (Phase::Sync(assignments), _) => {
                let assignments = assignments.iter();
                Request::Sync(SyncGroup {
                    group: self.group.clone(),
                    generation: self.epoch,
                    member: self.id.clone(),
                    instance: self.instance.clone(),
                    protocol_type: None,
                    protocol_name: None,
                    assignments: assignments
                        .map(|(member, partitions)| (member.clone(), blobs::assignment(partitions)))
                        .collect(),
                })
            }
            (Phase::Member, _) => Request::Heartbeat(Heartbeat {
                group: self.group.clone(),
                generation: self.epoch,
                member: self.id.clone(),
                instance: self.instance.clone(),
                can_wait: random.bool(),
            }),
        };
        Some(Outgoing {
            request,
            commits: None,
        })
    }

    /// Leaves properly: gives all up, then says so. A classic static member says nothing.
    pub(crate) fn leave(&mut self) -> Option<Request> {
        self.owned.clear();
        let was_member = std::mem::replace(&mut self.phase, Phase::Over) == Phase::Member;
        let is_static = self.instance.is_some();
        match self.kind {
            _ if !was_member => None,
            Kind::Consumer => Some(Request::ConsumerHeartbeat(ConsumerHeartbeat {
                member_epoch: if is_static { -2 } else { -1 },
                owned: None,
                ..self.plain_beat()
            })),
            _ if is_static => None,
            Kind::Eager | Kind::Cooperative => Some(Request::Leave(LeaveGroup {
                group: self.group.clone(),
                members: vec![LeavingMember {
                    member: self.id.clone(),
                    instance: None,
                    reason: None,
                }],
            })),
        }
    }

    /// An answer to the request that was sent at `sent`.
    pub(crate) fn hear(
        &mut self,
        now: i64,
        sent: i64,
        response: Response,
        random: &mut fastrand::Rng,
        topics: &TopicsImage,
    ) {
        match response {
            Response::MemberIdRequired { member } => self.id = member,
            Response::Done => self.heard_at = sent,
            Response::Joined(joined) => self.joined(joined, sent, topics),
            Response::Synced { assignment, .. } => {
                self.heard_at = sent;
                let assigned = blobs::assigned(&assignment);
                let gives_up = !self.owned.is_subset(&assigned);
                self.owned = assigned;
                self.phase = match gives_up {
                    true => Phase::Join,
                    false => Phase::Member,
                };
            }
            Response::ConsumerHeartbeat {
                member,
                member_epoch,
                assignment,
                ..
            } => {
                self.heard_at = sent;
                self.id = member;
                self.epoch = member_epoch;
                self.phase = Phase::Member;
                if let Some(assignment) = assignment {
                    let at = now + i64::try_from(random.u64(..REVOKE_MS)).unwrap();
                    self.target = Some((at, named(&assignment, topics)));
                }
            }
            Response::Failed(failure) => self.failed(failure.code),
            // A commit that went well says that the member is one.
            Response::Committed(_) => {}
            other => panic!("{other:?} answers no question of this client"),
        }
    }

    fn joined(&mut self, joined: JoinedGroup, sent: i64, topics: &TopicsImage) {
        self.id = joined.member;
        self.epoch = joined.generation;
        if self.kind == Kind::Cooperative {
            self.heard_at = sent;
        }
        let is_leader = joined.leader == self.id;
        let leads = is_leader && !joined.skip_assignment;
        self.dealt = match leads {
            true => Some(topics.clone()),
            // It cannot know what the one before it dealt out, and does so again when it is a member.
            false => is_leader.then(TopicsImage::default),
        };
        let members: BTreeMap<String, BTreeSet<Partition>> = joined
            .members
            .iter()
            .map(|member| (member.member.clone(), blobs::owned_of(&member.metadata)))
            .collect();
        self.phase = Phase::Sync(match leads {
            true => assign(&members, topics),
            false => BTreeMap::new(),
        });
    }

    fn failed(&mut self, code: ErrorCode) {
        self.is_lost = true;
        match code {
            ErrorCode::RebalanceInProgress => {
                if self.kind == Kind::Eager {
                    self.owned.clear();
                }
                self.phase = Phase::Join;
            }
            ErrorCode::UnknownMemberId
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::GroupIdNotFound => {
                self.begin_anew();
                if self.kind != Kind::Consumer {
                    self.id.clear();
                }
            }
            ErrorCode::IllegalGeneration => self.begin_anew(),
            ErrorCode::FencedInstanceId => {
                self.begin_anew();
                self.phase = Phase::Over;
            }
            // A commit that came with the epoch before.
            ErrorCode::StaleMemberEpoch
            // Once more, as it was.
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::UnreleasedInstanceId
            | ErrorCode::InconsistentGroupProtocol => {}
            other => panic!("{} of {} was told {other}", self.name, self.group),
        }
    }

    fn begin_anew(&mut self) {
        self.owned.clear();
        self.target = None;
        self.epoch = 0;
        self.phase = Phase::Join;
    }

    fn join(&mut self, topics: &TopicsImage) -> Request {
        let topics: Vec<&str> = topics.by_name.keys().map(String::as_str).collect();
        if self.kind == Kind::Eager {
            self.owned.clear();
        }
        let name = match self.kind {
            Kind::Eager => "range",
            _ => "cooperative-sticky",
        };
        Request::Join(JoinGroup {
            group: self.group.clone(),
            member: self.id.clone(),
            instance: self.instance.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![(name.to_owned(), blobs::subscription(&topics, &self.owned))],
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            needs_member_id: true,
            can_skip_assignment: true,
            reason: None,
        })
    }

    fn beat(&mut self, topics: &TopicsImage) -> Request {
        if self.phase == Phase::Join {
            let names = topics.by_name.keys().cloned().collect();
            return Request::ConsumerHeartbeat(ConsumerHeartbeat {
                member_epoch: 0,
                rebalance_timeout_ms: REBALANCE_MS,
                subscribed_topics: Some(names),
                owned: Some(Vec::new()),
                ..self.plain_beat()
            });
        }
        let is_lost = std::mem::take(&mut self.is_lost);
        let says_owned = std::mem::take(&mut self.has_news) || is_lost;
        let owned = says_owned.then(|| {
            let mut by_topic: BTreeMap<_, Vec<u32>> = BTreeMap::new();
            for (topic, partition) in &self.owned {
                let id = topics.by_name[topic].id;
                by_topic.entry(id).or_default().push(*partition);
            }
            let each = by_topic.into_iter();
            each.map(|(topic, partitions)| OwnedPartitions { topic, partitions })
                .collect()
        });
        Request::ConsumerHeartbeat(ConsumerHeartbeat {
            rebalance_timeout_ms: if is_lost { REBALANCE_MS } else { -1 },
            subscribed_topics: is_lost.then(|| topics.by_name.keys().cloned().collect()),
            owned,
            ..self.plain_beat()
        })
    }

    fn plain_beat(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            group: self.group.clone(),
            member: self.id.clone(),
            member_epoch: self.epoch,
            instance: self.instance.clone(),
            rack: None,
            rebalance_timeout_ms: -1,
            subscribed_topics: None,
            subscribed_regex: None,
            assignor: None,
            owned: None,
        }
    }

    fn commit(&self, (topic, partition): &Partition, offset: u64) -> Request {
        Request::Commit(CommitOffset {
            group: self.group.clone(),
            generation_or_epoch: self.epoch,
            member: self.id.clone(),
            instance: self.instance.clone(),
            retention_ms: None,
            offsets: vec![AlterOffsets {
                topic: topic.clone(),
                partition: *partition,
                committed: CommittedOffset {
                    offset: Offset(offset).into(),
                    leader_epoch: None,
                    metadata: String::new(),
                },
            }],
        })
    }

    /// The request is not answered: what it said is to be said again.
    pub(crate) fn unanswered(&mut self) {
        self.pending = None;
        self.is_lost = true;
    }
}

/// Deals the partitions out in turns, but what another owns still is given to nobody: its owner has to give
/// it up first, and joins again when it has.
fn assign(
    members: &BTreeMap<String, BTreeSet<Partition>>,
    topics: &TopicsImage,
) -> BTreeMap<String, BTreeSet<Partition>> {
    let mut assignments: BTreeMap<String, BTreeSet<Partition>> = members
        .keys()
        .map(|id| (id.clone(), BTreeSet::new()))
        .collect();
    let all = topics
        .by_name
        .iter()
        .flat_map(|(name, topic)| (0..topic.partitions).map(move |at| (name.clone(), at)));
    for (partition, id) in all.zip(members.keys().cycle()) {
        let mut owners = members
            .iter()
            .filter(|(_, owned)| owned.contains(&partition));
        if owners.all(|(owner, _)| owner == id) {
            assignments.entry(id.clone()).or_default().insert(partition);
        }
    }
    assignments
}

fn named(owned: &[OwnedPartitions], topics: &TopicsImage) -> BTreeSet<Partition> {
    let named = owned.iter().flat_map(|owned| {
        let name = topics.by_id[&owned.topic].clone();
        let each = owned.partitions.iter();
        each.map(move |partition| (name.clone(), *partition))
    });
    named.collect()
}
