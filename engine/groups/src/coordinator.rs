//! The machine: routes inputs to groups, and what groups leave to the log and to clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_model::{ErrorCode, Timestamp};

use crate::consumer::JOIN_EPOCH;
use crate::deadlines::{Deadlines, after};
use crate::group::Group;
use crate::outbox::Outbox;
use crate::turn::{MemberIds, Turn};
use crate::{
    Client, CommitOffset, CommittedOffset, ConsumerHeartbeat, DescribedOffset, Effect,
    FetchOffsets, GroupRecord, GroupSettings, Input, JoinGroup, LeaveGroup, Record, RecordError,
    Request, Response, Ticket, TopicsImage,
};

/// How often expired offsets are looked for: Kafka's `offsets.retention.check.interval.ms`. Offsets live
/// for days, so it need not be soon.
const EXPIRY_CHECK_INTERVAL_MS: i64 = 600_000;

/// The coordinator of the groups of one partition of `__consumer_offsets`.
///
/// Feed it every record of the log with [`Coordinator::replay`], then call [`Coordinator::loaded`] once, then
/// [`Coordinator::handle`] for each input. Effects of one call are to be carried out, in order, before the next.
pub struct Coordinator {
    settings: GroupSettings,
    topics: Arc<TopicsImage>,
    ids: MemberIds,
    groups: BTreeMap<String, Group>,
    /// When something may be due in each group.
    deadlines: Deadlines<String>,
    /// When expired offsets are looked for next; `None` while there is no group.
    expiry_due: Option<Timestamp>,
    /// The tick that was asked for last and has not come.
    wake_at: Option<Timestamp>,
    outbox: Outbox,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Replaying,
    Serving,
    /// A write has failed: what is held here is not what the log holds.
    Dead,
}

/// A committed offset, as metrics of lag need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOffset<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic's name.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// How far the group has come.
    pub committed: &'a CommittedOffset,
}

impl Coordinator {
    /// A machine that has seen nothing. Members' ids follow from `seed`, which should differ from start to start.
    #[must_use]
    pub fn new(settings: GroupSettings, seed: u64) -> Self {
        Self {
            settings,
            topics: Arc::new(TopicsImage::default()),
            ids: MemberIds::new(seed),
            groups: BTreeMap::new(),
            deadlines: Deadlines::default(),
            expiry_due: None,
            wake_at: None,
            outbox: Outbox::default(),
            phase: Phase::Replaying,
        }
    }

    /// Applies a record of the log, in the order of the log. `timestamp` is the record's.
    ///
    /// # Errors
    /// The record is damaged, or of a later version. Records of unknown kinds are passed over, as Kafka does.
    ///
    /// # Panics
    /// After [`Coordinator::loaded`].
    pub fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> Result<(), RecordError> {
        assert_eq!(self.phase, Phase::Replaying, "the log is replayed first");
        let record = match GroupRecord::decode(key, value) {
            Ok(record) => record,
            Err(RecordError::UnknownKind(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let name = record.group().to_owned();
        let group = self
            .groups
            .entry(name.clone())
            .or_insert_with(|| Group::new(&name, timestamp));
        group.replay(record, timestamp);
        if group.is_vacuous() {
            self.groups.remove(&name);
        }
        Ok(())
    }

    /// The log has been replayed to its end: from now on requests are served. `topics` must be all topics that
    /// there are: offsets of others are removed, for their topics were deleted while nobody coordinated.
    ///
    /// # Panics
    /// If called twice.
    pub fn loaded(&mut self, now: Timestamp, topics: Arc<TopicsImage>, effects: &mut Vec<Effect>) {
        assert_eq!(self.phase, Phase::Replaying, "the log is loaded once");
        self.phase = Phase::Serving;
        self.topics = topics;
        for name in self.names() {
            self.turn(now, &name, effects, |group, turn| {
                let topics = turn.topics;
                group.topics_gone(turn, |topic| !topics.by_name.contains_key(topic));
                group.members.loaded(turn);
            });
        }
        self.ask_for_tick(now, effects);
    }

    /// Handles one input.
    ///
    /// # Panics
    /// Before [`Coordinator::loaded`], or after a failed write: the shell has to start a new machine then.
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        assert_eq!(
            self.phase,
            Phase::Serving,
            "inputs come after the log is loaded, and none after a failed write"
        );
        match input {
            Input::Request {
                ticket,
                client,
                request,
            } => self.request(now, ticket, client, request, effects),
            Input::Withdrawn(ticket) => self.withdrawn(now, ticket, effects),
            Input::Hurry(ticket) => self.hurry(now, ticket, effects),
            Input::Written(write) => self.outbox.written(write, effects),
            Input::WriteFailed(_, code) => {
                self.phase = Phase::Dead;
                self.outbox.fail_all(code_of_failed_write(code), effects);
                return;
            }
            Input::Topics(topics) => self.topics_changed(now, topics, effects),
            Input::Tick => self.tick(now, effects),
        }
        self.ask_for_tick(now, effects);
    }

    /// The whole durable state as records, with all writes that have been asked for: where the log has these
    /// after all of those, what is before them is not needed any more.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for group in self.groups.values() {
            group.snapshot(&mut records);
        }
        records.iter().map(GroupRecord::encode).collect()
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// All committed offsets, in the order of groups, topics and partitions; also those that are not durable yet.
    pub fn committed(&self) -> impl Iterator<Item = GroupOffset<'_>> {
        self.groups.values().flat_map(|group| {
            group
                .offsets
                .iter()
                .map(|(topic, partition, value)| GroupOffset {
                    group: &group.name,
                    topic,
                    partition,
                    committed: &value.committed,
                })
        })
    }

    fn request(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        client: Client,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let name = request.group().to_owned();
        self.outbox.open(ticket, &name);
        if let Err(code) = request.check(&self.settings) {
            self.outbox
                .answer(&name, ticket, Response::failed(code), effects);
            return;
        }
        let in_group = |members: &Self| members.groups.contains_key(&name);
        match request {
            Request::Join(join) => self.join(now, ticket, client, join, effects),
            Request::Leave(leave) => self.leave(now, ticket, &leave, effects),
            Request::Commit(commit) => self.commit(now, ticket, commit, effects),
            Request::FetchOffsets(fetch) => self.fetch(ticket, &fetch, effects),
            Request::ConsumerHeartbeat(heartbeat) => {
                self.consumer_heartbeat(now, ticket, &client, &heartbeat, effects);
            }
            Request::List => {
                let list = self.groups.values().map(Group::list).collect();
                self.outbox
                    .answer_after_all(ticket, Response::Listed(list), effects);
            }
            Request::Sync(_) | Request::Heartbeat(_) if !in_group(self) => {
                self.fail(&name, ticket, ErrorCode::UnknownMemberId, effects);
            }
            _ if !in_group(self) => {
                self.fail(&name, ticket, ErrorCode::GroupIdNotFound, effects);
            }
            Request::Sync(sync) => self.turn(now, &name, effects, |group, turn| {
                group.members.sync(turn, ticket, sync);
            }),
            Request::Heartbeat(heartbeat) => self.turn(now, &name, effects, |group, turn| {
                group.members.heartbeat(turn, ticket, &heartbeat);
            }),
            Request::DeleteOffsets { partitions, .. } => {
                self.turn(now, &name, effects, |group, turn| {
                    match group.delete_offsets(turn, partitions) {
                        Ok(fates) => turn.answer(ticket, Response::OffsetsDeleted(fates)),
                        Err(failure) => turn.answer(ticket, Response::Failed(failure)),
                    }
                });
            }
            Request::Delete { .. } => self.turn(now, &name, effects, |group, turn| {
                match group.delete(turn) {
                    Ok(()) => turn.answer(ticket, Response::Done),
                    Err(failure) => turn.answer(ticket, Response::Failed(failure)),
                }
            }),
            Request::Describe { only, .. } => self.turn(now, &name, effects, |group, turn| {
                match only.is_none_or(|only| only == group.members.group_type()) {
                    true => turn.answer(ticket, Response::Described(group.members.describe(turn))),
                    false => turn.fail(ticket, ErrorCode::GroupIdNotFound),
                }
            }),
        }
    }

    fn join(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        client: Client,
        join: JoinGroup,
        effects: &mut Vec<Effect>,
    ) {
        let name = join.group.clone();
        let exists = self.groups.contains_key(&name);
        if !exists && !join.member.is_empty() {
            return self.fail(&name, ticket, ErrorCode::UnknownMemberId, effects);
        }
        if !self.create(now, &name) {
            return self.fail(&name, ticket, ErrorCode::CoordinatorNotAvailable, effects);
        }
        let join = join.with_distinct_protocols();
        self.turn(now, &name, effects, |group, turn| {
            group.members.join(turn, ticket, client, join);
        });
    }

    fn consumer_heartbeat(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        client: &Client,
        heartbeat: &ConsumerHeartbeat,
        effects: &mut Vec<Effect>,
    ) {
        let name = &heartbeat.group;
        if heartbeat.member_epoch != JOIN_EPOCH && !self.groups.contains_key(name) {
            return self.fail(name, ticket, ErrorCode::GroupIdNotFound, effects);
        }
        if !self.create(now, name) {
            return self.fail(name, ticket, ErrorCode::CoordinatorNotAvailable, effects);
        }
        self.turn(now, name, effects, |group, turn| {
            group
                .members
                .consumer_heartbeat(turn, ticket, client, heartbeat);
        });
    }

    fn leave(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        leave: &LeaveGroup,
        effects: &mut Vec<Effect>,
    ) {
        if !self.groups.contains_key(&leave.group) {
            let fates = vec![ErrorCode::UnknownMemberId; leave.members.len()];
            let response = Response::Left(fates);
            return self.outbox.answer(&leave.group, ticket, response, effects);
        }
        self.turn(now, &leave.group, effects, |group, turn| {
            group.members.leave(turn, ticket, leave);
        });
    }

    fn commit(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        commit: CommitOffset,
        effects: &mut Vec<Effect>,
    ) {
        let name = commit.group.clone();
        if commit.generation_or_epoch >= 0 && !self.groups.contains_key(&name) {
            return self.fail(&name, ticket, ErrorCode::IllegalGeneration, effects);
        }
        if !self.create(now, &name) {
            return self.fail(&name, ticket, ErrorCode::CoordinatorNotAvailable, effects);
        }
        self.turn(now, &name, effects, |group, turn| {
            match group.commit(turn, commit) {
                Ok(fates) => turn.answer(ticket, Response::Committed(fates)),
                Err(failure) => turn.answer(ticket, Response::Failed(failure)),
            }
        });
    }

    fn fetch(&mut self, ticket: Ticket, fetch: &FetchOffsets, effects: &mut Vec<Effect>) {
        let group = self.groups.get(&fetch.group);
        let response = match group.map(|group| group.members.check_fetch(fetch)) {
            Some(Err(failure)) => Response::Failed(failure),
            Some(Ok(())) | None => Response::Offsets(offsets(group, fetch)),
        };
        self.outbox.answer(&fetch.group, ticket, response, effects);
    }

    fn withdrawn(&mut self, now: Timestamp, ticket: Ticket, effects: &mut Vec<Effect>) {
        if let Some(name) = self.outbox.withdraw(ticket) {
            self.turn(now, &name, effects, |group, turn| {
                group.members.withdrawn(turn, ticket);
            });
        }
    }

    fn hurry(&mut self, now: Timestamp, ticket: Ticket, effects: &mut Vec<Effect>) {
        if let Some(name) = self.outbox.asked(ticket) {
            self.turn(now, &name, effects, |group, turn| {
                group.members.hurry(turn, ticket);
            });
        }
    }

    fn topics_changed(
        &mut self,
        now: Timestamp,
        topics: Arc<TopicsImage>,
        effects: &mut Vec<Effect>,
    ) {
        let before = std::mem::replace(&mut self.topics, topics);
        let after = Arc::clone(&self.topics);
        let gone = |topic: &str| {
            let id = |image: &TopicsImage| image.by_name.get(topic).map(|topic| topic.id);
            id(&before).is_some() && id(&before) != id(&after)
        };
        let any_gone = before.by_name.keys().any(|topic| gone(topic));
        for name in self.names() {
            self.turn(now, &name, effects, |group, turn| {
                if any_gone {
                    group.topics_gone(turn, gone);
                }
                group.members.topics_changed(turn);
            });
        }
    }

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
        }
        while let Some(name) = self.deadlines.pop_due(now) {
            self.turn(now, &name, effects, |group, turn| group.members.tick(turn));
        }
        if self.expiry_due.is_some_and(|due| due <= now) {
            self.expiry_due = None;
            for name in self.names() {
                self.turn(now, &name, effects, Group::expire);
            }
        }
    }

    /// Lets a group do something, and carries out what it leaves.
    fn turn(
        &mut self,
        now: Timestamp,
        name: &str,
        effects: &mut Vec<Effect>,
        step: impl FnOnce(&mut Group, &mut Turn<'_>),
    ) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let mut turn = Turn {
            now,
            settings: &self.settings,
            topics: &self.topics,
            ids: &mut self.ids,
            records: Vec::new(),
            answers: Vec::new(),
        };
        step(group, &mut turn);
        let Turn {
            records, answers, ..
        } = turn;
        match group.members.next_deadline() {
            Some(due) => self.deadlines.set(name.to_owned(), due),
            None => self.deadlines.cancel(&name.to_owned()),
        }
        if group.is_vacuous() {
            self.groups.remove(name);
            self.deadlines.cancel(&name.to_owned());
        }
        if !records.is_empty() {
            let records = records.iter().map(GroupRecord::encode).collect();
            self.outbox.append(name, records, effects);
        }
        for (ticket, response) in answers {
            self.outbox.answer(name, ticket, response, effects);
        }
    }

    fn fail(&mut self, name: &str, ticket: Ticket, code: ErrorCode, effects: &mut Vec<Effect>) {
        let response = Response::failed(code);
        self.outbox.answer(name, ticket, response, effects);
    }

    /// Makes the group where it is not there. Refuses where there are as many as there may be.
    fn create(&mut self, now: Timestamp, name: &str) -> bool {
        let max = usize::try_from(self.settings.max_groups).unwrap_or(usize::MAX);
        if !self.groups.contains_key(name) {
            if self.groups.len() >= max {
                return false;
            }
            self.groups.insert(name.to_owned(), Group::new(name, now));
        }
        true
    }

    fn names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    /// Asks for a tick at the nearest deadline, where that is before the one asked for.
    fn ask_for_tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.groups.is_empty() {
            self.expiry_due = None;
        } else if self.expiry_due.is_none() {
            let retention_ms =
                i64::try_from(self.settings.offsets_retention_ms).unwrap_or(i64::MAX);
            let interval_ms = EXPIRY_CHECK_INTERVAL_MS.min(retention_ms.max(1));
            self.expiry_due = Some(after(now, interval_ms));
        }
        let next = self
            .deadlines
            .next()
            .into_iter()
            .chain(self.expiry_due)
            .min();
        if let Some(next) = next
            && self.wake_at.is_none_or(|asked| next < asked)
        {
            self.wake_at = Some(next);
            effects.push(Effect::WakeAt(next));
        }
    }
}

/// What the group, if there is one, has committed of what is asked for.
fn offsets(group: Option<&Group>, fetch: &FetchOffsets) -> Vec<DescribedOffset> {
    let describe =
        |topic: &str, partition: u32, committed: Option<CommittedOffset>| DescribedOffset {
            topic: topic.to_owned(),
            partition,
            committed,
            error: ErrorCode::None,
        };
    let Some(topics) = &fetch.partitions else {
        return group.map_or_else(Vec::new, |group| {
            let all = group.offsets.iter();
            all.map(|(topic, partition, value)| {
                describe(topic, partition, Some(value.committed.clone()))
            })
            .collect()
        });
    };
    let each = topics.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(move |partition| (topic, *partition))
    });
    each.map(|(topic, partition)| {
        let value = group.and_then(|group| group.offsets.get(topic, partition));
        describe(topic, partition, value.map(|value| value.committed.clone()))
    })
    .collect()
}

/// What clients of the coordinator are told of a failed append, as Kafka's coordinator does.
const fn code_of_failed_write(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut
        | ErrorCode::ThrottlingQuotaExceeded => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}
