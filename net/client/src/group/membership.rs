//! The life of a member of a group, as a machine without I/O: when to send a heartbeat and what it says,
//! which partitions to start, to give up and to lose.
//!
//! A heartbeat says everything that the member is and has, so a request or an answer that is lost
//! loses nothing: the next one repairs it. One heartbeat is under way at a time.
//!
//! **Invariant:** a partition that is to be given up counts as owned until the application has
//! released it. So the coordinator gives it to nobody else before its position is committed.
//! **Invariant:** a member that is fenced owns nothing from that moment on; it joins again with empty
//! hands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_model::{ErrorCode, LogId, PartitionId};
use millrace_wire::{
    AssignedPartitions, GroupAssignment, GroupHeartbeat, JOIN_EPOCH, LEAVE_EPOCH,
    LEAVE_FOR_A_WHILE_EPOCH, OwnedPartitions,
};

use super::GroupPartition;
use crate::ClientError;

/// Wait before a heartbeat that failed goes again; it doubles with each.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait between two heartbeats that fail: a broker that is back is noticed soon.
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Doublings from the one to the other.
const BACKOFF_DOUBLINGS_MAX: u32 = 4;

/// The shortest interval between heartbeats, whatever a broker says.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// One input.
#[derive(Debug)]
pub(super) enum Input {
    /// Time has passed: what [`Membership::wake_at`] said is due.
    Tick,
    /// The heartbeat that was under way has its answer.
    Answered(Result<GroupAssignment, ClientError>),
    /// The application has released these partitions.
    Released(Vec<LogId>),
    /// The application has not asked for records for longer than it may: the partitions shall go to
    /// others.
    Stalled,
    /// It asks again.
    Resumed,
    /// The member leaves for good.
    Leave,
}

/// What the shell must do, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Send this.
    Heartbeat(GroupHeartbeat),
    /// Read these partitions from where the group stands.
    Start(Vec<GroupPartition>),
    /// Stop reading these, commit, and give [`Input::Released`].
    Release(Vec<GroupPartition>),
    /// These belong to others already: stop reading, commit nothing.
    Lose(Vec<GroupPartition>),
    /// The member has joined, or joined again. Comes after the first [`Effect::Start`].
    Joined,
    /// The member can be no member. Nothing follows.
    Failed(ClientError),
    /// The member has left. Nothing follows.
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not a member yet, or not any more since it was fenced.
    Joining,
    Member,
    /// The goodbye is due or under way; then away or over.
    Leaving(Then),
    /// Left because the application stalled.
    Away,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Away,
    /// Away, but the application is back already.
    Joining,
    Over,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Membership {
    /// What each heartbeat says alike.
    template: GroupHeartbeat,
    phase: Phase,
    /// The epoch that the coordinator said last; [`JOIN_EPOCH`] while it has said none.
    epoch: i32,
    /// What is read, or is being released.
    owned: BTreeMap<LogId, Arc<str>>,
    releasing: BTreeSet<LogId>,
    /// What the coordinator wants to be read.
    target: BTreeMap<LogId, Arc<str>>,
    /// When the next heartbeat is due, unless one is under way.
    due: Option<Instant>,
    under_way: Option<UnderWay>,
    /// Something has changed that the coordinator waits for, while a heartbeat was under way.
    news: bool,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Stay,
    Goodbye,
}

impl Membership {
    /// A member that joins at once. `template` is what each heartbeat says alike; its epoch and what it
    /// owns are filled in.
    pub(super) fn new(now: Instant, template: GroupHeartbeat) -> Self {
        Self {
            template,
            phase: Phase::Joining,
            epoch: JOIN_EPOCH,
            owned: BTreeMap::new(),
            releasing: BTreeSet::new(),
            target: BTreeMap::new(),
            due: Some(now),
            under_way: None,
            news: false,
            failures: 0,
        }
    }

    /// Takes one input and adds what follows from it to `effects`.
    pub(super) fn handle(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => {}
            Input::Answered(answer) => self.answered(now, answer, effects),
            Input::Released(partitions) => self.released(now, &partitions, effects),
            Input::Stalled => self.stalled(now, effects),
            Input::Resumed => self.resumed(now),
            Input::Leave => self.leave(now, effects),
        }
        self.send_what_is_due(now, effects);
    }

    /// When to give the next [`Input::Tick`].
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.due.filter(|_| self.under_way.is_none())
    }

    /// The epoch under which the member may commit, if it is a member.
    pub(super) fn epoch(&self) -> Option<i32> {
        (self.epoch > JOIN_EPOCH).then_some(self.epoch)
    }

    fn answered(
        &mut self,
        now: Instant,
        answer: Result<GroupAssignment, ClientError>,
        effects: &mut Vec<Effect>,
    ) {
        let what = self.under_way.take();
        if let (Phase::Leaving(then), Some(UnderWay::Goodbye)) = (self.phase, what) {
            // An error changes nothing: what did not hear the goodbye notices the silence.
            return self.gone(now, then, effects);
        }
        if matches!(self.phase, Phase::Leaving(_)) {
            self.due = Some(now);
            return;
        }
        match answer {
            Ok(assignment) => self.assigned(now, assignment, effects),
            Err(error) => self.refused(now, error, effects),
        }
    }

    fn assigned(&mut self, now: Instant, assignment: GroupAssignment, effects: &mut Vec<Effect>) {
        self.failures = 0;
        self.epoch = assignment.epoch;
        let interval = Duration::from_millis(assignment.heartbeat_interval_ms.into());
        let mut next = now + interval.max(INTERVAL_MIN);
        if let Some(partitions) = assignment.partitions {
            let named = self.retarget(partitions);
            if !named {
                // The session has not heard of the topic yet, the coordinator has.
                next = now + RETRY_BACKOFF;
            }
            self.reconcile(effects);
        }
        if self.phase == Phase::Joining {
            self.phase = Phase::Member;
            effects.push(Effect::Joined);
        }
        self.due = Some(if std::mem::take(&mut self.news) {
            now
        } else {
            next
        });
    }

    /// Takes over what is to be read. False when a topic has no name.
    fn retarget(&mut self, partitions: Vec<AssignedPartitions>) -> bool {
        self.target.clear();
        let mut named = true;
        for of_topic in partitions {
            named &= !of_topic.topic.is_empty();
            if of_topic.topic.is_empty() {
                continue;
            }
            let name: Arc<str> = of_topic.topic.into();
            self.target.extend(of_topic.partitions.iter().map(|&id| {
                let log = LogId {
                    topic: of_topic.id,
                    partition: PartitionId(id),
                };
                (log, Arc::clone(&name))
            }));
        }
        named
    }

    /// Moves from what is owned towards the target. What is being released is started again, if it must
    /// be, when it has been released.
    fn reconcile(&mut self, effects: &mut Vec<Effect>) {
        let unwanted =
            |log: &LogId| !self.target.contains_key(log) && !self.releasing.contains(log);
        let release = listed(self.owned.iter().filter(|(log, _)| unwanted(log)));
        let missing = |log: &LogId| !self.owned.contains_key(log);
        let start = listed(self.target.iter().filter(|(log, _)| missing(log)));
        self.releasing
            .extend(release.iter().map(|partition| partition.log));
        self.own(&start);
        if !release.is_empty() {
            effects.push(Effect::Release(release));
        }
        if !start.is_empty() {
            self.news = true;
            effects.push(Effect::Start(start));
        }
    }

    fn own(&mut self, start: &[GroupPartition]) {
        let owned = start
            .iter()
            .map(|partition| (partition.log, Arc::clone(&partition.topic)));
        self.owned.extend(owned);
    }

    fn released(&mut self, now: Instant, partitions: &[LogId], effects: &mut Vec<Effect>) {
        let mut any = false;
        for log in partitions {
            // What was lost meanwhile is not released any more.
            if self.releasing.remove(log) {
                self.owned.remove(log);
                any = true;
            }
        }
        if !any {
            return;
        }
        self.reconcile(effects);
        self.news = true;
        self.hurry(now);
    }

    fn refused(&mut self, now: Instant, error: ClientError, effects: &mut Vec<Effect>) {
        let fenced = [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId];
        if fenced.contains(&error.code()) {
            tracing::warn!(group = %self.template.group, %error, "fenced, joining again");
            // Who is told so when it joins comes again, but not at once.
            let wait = match self.phase {
                Phase::Joining => self.backoff(),
                _ => Duration::ZERO,
            };
            self.lose_all(effects);
            self.phase = Phase::Joining;
            self.due = Some(now + wait);
        } else if error.is_retriable() {
            tracing::debug!(group = %self.template.group, %error, "a heartbeat failed");
            self.due = Some(now + self.backoff());
        } else {
            self.lose_all(effects);
            self.phase = Phase::Over;
            self.due = None;
            effects.push(Effect::Failed(error));
        }
    }

    fn backoff(&mut self) -> Duration {
        let doublings = self.failures.min(BACKOFF_DOUBLINGS_MAX);
        self.failures = self.failures.saturating_add(1);
        RETRY_BACKOFF
            .saturating_mul(1 << doublings)
            .min(RETRY_BACKOFF_MAX)
    }

    fn lose_all(&mut self, effects: &mut Vec<Effect>) {
        self.epoch = JOIN_EPOCH;
        self.news = false;
        self.target.clear();
        self.releasing.clear();
        let lost = std::mem::take(&mut self.owned);
        if !lost.is_empty() {
            effects.push(Effect::Lose(listed(lost.iter())));
        }
    }

    fn stalled(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Joining | Phase::Member) {
            self.lose_all(effects);
            self.phase = Phase::Leaving(Then::Away);
            self.due = Some(now);
        }
    }

    fn resumed(&mut self, now: Instant) {
        match self.phase {
            Phase::Leaving(Then::Away) => self.phase = Phase::Leaving(Then::Joining),
            Phase::Away => {
                self.phase = Phase::Joining;
                self.due = Some(now);
            }
            _ => {}
        }
    }

    fn leave(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Over => {}
            Phase::Away => self.gone(now, Then::Over, effects),
            Phase::Leaving(_) => self.phase = Phase::Leaving(Then::Over),
            // A join that nobody has sent needs no goodbye.
            Phase::Joining if self.under_way.is_none() && self.failures == 0 => {
                self.gone(now, Then::Over, effects);
            }
            Phase::Joining | Phase::Member => {
                self.phase = Phase::Leaving(Then::Over);
                self.due = Some(now);
            }
        }
    }

    fn gone(&mut self, now: Instant, then: Then, effects: &mut Vec<Effect>) {
        self.epoch = JOIN_EPOCH;
        (self.phase, self.due) = match then {
            Then::Away => (Phase::Away, None),
            Then::Joining => (Phase::Joining, Some(now)),
            Then::Over => (Phase::Over, None),
        };
        if then == Then::Over {
            effects.push(Effect::Left);
        }
    }

    /// The next heartbeat goes now, unless the last one has failed and waits.
    fn hurry(&mut self, now: Instant) {
        if self.failures == 0 && self.under_way.is_none() {
            self.due = self.due.map(|due| due.min(now));
        }
    }

    fn send_what_is_due(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.under_way.is_some() || self.due.is_none_or(|due| due > now) {
            return;
        }
        let (what, epoch) = match (self.phase, &self.template.instance) {
            (Phase::Away | Phase::Over, _) => return,
            (Phase::Joining, _) => (UnderWay::Stay, JOIN_EPOCH),
            (Phase::Member, _) => (UnderWay::Stay, self.epoch),
            (Phase::Leaving(_), None) => (UnderWay::Goodbye, LEAVE_EPOCH),
            (Phase::Leaving(_), Some(_)) => (UnderWay::Goodbye, LEAVE_FOR_A_WHILE_EPOCH),
        };
        self.under_way = Some(what);
        self.due = None;
        self.news = false;
        let mut heartbeat = self.template.clone();
        heartbeat.epoch = epoch;
        if self.phase == Phase::Member {
            heartbeat.owned = grouped(self.owned.keys());
        }
        effects.push(Effect::Heartbeat(heartbeat));
    }
}

fn listed<'a>(partitions: impl Iterator<Item = (&'a LogId, &'a Arc<str>)>) -> Vec<GroupPartition> {
    let partition = |(log, topic): (&LogId, &Arc<str>)| GroupPartition {
        topic: Arc::clone(topic),
        log: *log,
    };
    partitions.map(partition).collect()
}

fn grouped<'a>(logs: impl Iterator<Item = &'a LogId>) -> Vec<OwnedPartitions> {
    let mut owned: Vec<OwnedPartitions> = Vec::new();
    for log in logs {
        match owned.last_mut() {
            Some(last) if last.topic == log.topic => last.partitions.push(log.partition.0),
            _ => owned.push(OwnedPartitions {
                topic: log.topic,
                partitions: vec![log.partition.0],
            }),
        }
    }
    owned
}
