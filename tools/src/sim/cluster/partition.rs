//! A replica of a partition on a broker: the machine of `millrace-replication` over the real log. This is the
//! shell that carries out what the machine says, as `engine/src/partition` does on a shard.
//!
//! **Invariant:** inputs stand in line; the effects of one are carried out before the next.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use millrace_engine::controller::Time;
use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, LogId, Offset, Timestamp};
use millrace_replication::cluster::{
    AlterPartition, Answer, Command, InSyncMember, LeaderRecovery,
};
use millrace_replication::partition::{
    Acks, Admission, AlterAnswer, Assignment, Effect, FollowerInput, FollowerMessage, FramesHeader,
    InSyncState, Input, LeaderInput, LeaderMessage, LogEnds, LogView, Proposal, Replica, Role,
    SessionId, Standing, Watermark,
};
use millrace_storage::{ChangeError, Latch, Log, ReplicaRun};

use super::broker::Broker;
use super::disk::SimDisk;
use super::mirror::{Mirror, Stored, print_of, read_frames};
use super::settings::replica_settings;
use super::slot::{Give, Take, slot};
use super::streams::StreamId;
use super::world::trace;
use crate::sim::trace::Violation;

/// Bytes of frames sent at a time.
const RUN_LEN: usize = 4096;

/// Pause before a truncation that the full disk did not let begin is tried again.
const CUT_AGAIN: Duration = Duration::from_millis(100);

/// What becomes of a produce: the offset of its first record, or why it has none.
pub(super) type Fate = Result<u64, ErrorCode>;

struct Waiting {
    base: u64,
    end: u64,
    acks: Acks,
    teller: Give<Fate>,
}

/// See the module's documentation.
pub(super) struct Partition {
    pub(super) id: LogId,
    pub(super) log: Log<SimDisk>,
    broker: Weak<Broker>,
    replica: RefCell<Option<Replica>>,
    inputs: RefCell<VecDeque<Input>>,
    busy: Cell<bool>,
    told: Cell<LogEnds>,
    failed: Cell<bool>,
    ended: Cell<bool>,
    high_watermark: Cell<u64>,
    leads: Cell<Option<LeaderEpoch>>,
    incoming: RefCell<Option<(ReplicaRun, Vec<Stored>)>>,
    /// As a leader: the latest subscription of each follower, and the stream that it came on.
    followers: RefCell<BTreeMap<BrokerId, (SessionId, StreamId)>>,
    /// As a follower: the latest subscription, and its stream.
    following: Cell<Option<(BrokerId, SessionId, StreamId)>>,
    waiting: RefCell<Vec<Waiting>>,
    mirror: RefCell<Mirror>,
    /// What of the log was last known to be durable.
    durable: Cell<u64>,
    writes: Cell<bool>,
    /// The log is being cut.
    cutting: Cell<bool>,
    tick_at: Cell<Option<Timestamp>>,
}

impl Partition {
    /// The partition of a log that was just opened, and holds what `mirror` says.
    pub(super) fn new(
        id: LogId,
        log: Log<SimDisk>,
        mirror: Mirror,
        broker: &Rc<Broker>,
    ) -> Rc<Self> {
        let (start, durable) = (log.log_start().0, log.ends().acknowledged.0);
        Rc::new(Self {
            id,
            log,
            broker: Rc::downgrade(broker),
            replica: RefCell::default(),
            inputs: RefCell::default(),
            busy: Cell::new(false),
            told: Cell::default(),
            failed: Cell::new(false),
            ended: Cell::new(false),
            high_watermark: Cell::new(start),
            leads: Cell::new(None),
            incoming: RefCell::default(),
            followers: RefCell::default(),
            following: Cell::new(None),
            waiting: RefCell::default(),
            mirror: RefCell::new(mirror),
            durable: Cell::new(durable),
            writes: Cell::new(false),
            cutting: Cell::new(false),
            tick_at: Cell::new(None),
        })
    }

    /// The metadata has this of the partition, and of the brokers.
    pub(super) fn assigned(
        self: &Rc<Self>,
        assignment: Assignment,
        standings: BTreeMap<BrokerId, Standing>,
        life: BrokerEpoch,
    ) {
        let Some(broker) = self.broker.upgrade() else {
            return;
        };
        if self.replica.borrow().is_none() {
            let ends = self.ends();
            let view = LogView::new(ends, self.log.leader_epochs());
            let settings = replica_settings(self.log.settings().min_insync_replicas);
            let replica = Replica::new((broker.id(), life), view, settings);
            *self.replica.borrow_mut() = Some(replica);
            self.told.set(ends);
        }
        self.input(Input::Standings(standings));
        self.hear(Input::Assigned(assignment));
    }

    /// The epoch in which this broker leads, if it does.
    pub(super) fn leads_in(&self) -> Option<LeaderEpoch> {
        self.leads.get()
    }

    /// Everything below is committed, as far as this replica knows.
    pub(super) fn high_watermark(&self) -> u64 {
        self.high_watermark.get()
    }

    /// The end that consumers may be told.
    pub(super) fn visible_end(&self) -> Option<u64> {
        let replica = self.replica.borrow();
        let leader = replica.as_ref().and_then(Replica::as_leader)?;
        leader.visible_end().map(|end| end.0)
    }

    /// What the log holds, as the simulator saw it come.
    pub(super) fn mirror(&self) -> Mirror {
        self.mirror.borrow().clone()
    }

    /// The offset of the first record of the batch that holds this one.
    pub(super) fn batch_at(&self, offset: u64) -> u64 {
        let mirror = self.mirror.borrow();
        let batch = mirror.touching(offset, offset + 1).first();
        batch.map_or(offset, |batch| batch.base)
    }

    /// Everything below is durable.
    pub(super) fn durable_end(&self) -> u64 {
        self.log.durable_end().0
    }

    /// What its log must hold after a crash that happens now, and up to where; `None` while that changes.
    pub(super) fn promise(&self) -> Option<(Mirror, u64)> {
        let stands = !self.cutting.get() && !self.ended.get();
        stands.then(|| (self.mirror(), self.durable_end()))
    }

    /// Whether its log takes no more until the broker starts again.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// How the replica stands, for people.
    pub(super) fn describe(&self) -> String {
        let replica = self.replica.borrow();
        let role = match replica.as_ref().map(Replica::role) {
            None => "unassigned".to_owned(),
            Some(Role::Idle(_)) => "idle".to_owned(),
            Some(Role::Leader(leader)) => format!("leads: {leader:?}"),
            Some(Role::Follower(follower)) => {
                format!("follows {} in {}", follower.leader(), follower.epoch())
            }
        };
        let ends = self.ends();
        format!(
            "{role}, high watermark {}, log {}..{} ({} durable), {:?}",
            self.high_watermark(),
            ends.start,
            ends.accepted,
            ends.durable,
            self.log.latched()
        )
    }

    /// The partition is taken from this broker.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.followers.borrow_mut().clear();
        self.following.set(None);
        self.log.notify();
        self.lose(Acks::Leader, 0, ErrorCode::NotLeaderOrFollower);
        self.lose(Acks::All, 0, ErrorCode::NotLeaderOrFollower);
    }

    /// Appends a producer's batch, and says what becomes of it.
    pub(super) fn produce(self: &Rc<Self>, batch: &Bytes, acks: Acks) -> Take<Fate> {
        let (teller, fate) = slot();
        match self.append(batch, acks) {
            Ok((base, end)) => {
                let waiting = Waiting {
                    base,
                    end,
                    acks,
                    teller,
                };
                self.waiting.borrow_mut().push(waiting);
                self.settle();
                self.write();
            }
            Err(code) => teller.give(Err(code)),
        }
        fate
    }

    fn append(&self, batch: &Bytes, acks: Acks) -> Result<(u64, u64), ErrorCode> {
        let broker = self.broker.upgrade().ok_or(ErrorCode::BrokerNotAvailable)?;
        let epoch = self.leads.get().ok_or(ErrorCode::NotLeaderOrFollower)?;
        self.admit(acks)?;
        let now = broker.time().wall();
        let appended = self.log.append_batch(now, std::slice::from_ref(batch));
        let appended = appended.map_err(|error| error.code())?;
        let (base, next) = (appended.base_offset.0, appended.next_offset.0);
        if !appended.duplicate {
            self.follow_shrinking();
            self.mirror.borrow_mut().push(Stored {
                base,
                next,
                epoch: epoch.0,
                print: print_of(batch),
            });
        }
        Ok((base, next))
    }

    fn admit(&self, acks: Acks) -> Result<(), ErrorCode> {
        if self.ended.get() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let replica = self.replica.borrow();
        let leader = replica.as_ref().and_then(Replica::as_leader);
        match leader.map(|leader| leader.admit(acks)) {
            Some(Admission::Accept) => Ok(()),
            Some(Admission::NotEnoughReplicas) => Err(ErrorCode::NotEnoughReplicas),
            Some(Admission::NotLeader) | None => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Tells the machine what happened, and producers what follows for them.
    pub(super) fn hear(self: &Rc<Self>, input: Input) {
        self.input(input);
        if !self.busy.get() {
            self.settle();
        }
    }

    /// A follower says something on its stream.
    pub(super) fn hear_follower(
        self: &Rc<Self>,
        (from, stream): (BrokerId, StreamId),
        message: FollowerMessage,
    ) {
        if let FollowerMessage::Subscribe { session, .. } = message {
            let mut followers = self.followers.borrow_mut();
            match followers.get(&from) {
                Some((known, _)) if *known >= session => return,
                _ => followers.insert(from, (session, stream)),
            };
        }
        self.hear(Input::FromFollower { from, message });
    }

    /// The leader says something in a session.
    pub(super) fn hear_leader(
        self: &Rc<Self>,
        (from, stream): (BrokerId, StreamId),
        session: SessionId,
        message: LeaderMessage,
    ) {
        if self.following.get() == Some((from, session, stream)) {
            let message = FollowerInput::Message { session, message };
            self.hear(Input::Follower(message));
        }
    }

    /// Frames have come from the leader in a session.
    pub(super) fn store(
        self: &Rc<Self>,
        (from, stream): (BrokerId, StreamId),
        session: SessionId,
        (bytes, watermark): (Bytes, Watermark),
    ) -> Result<(), Violation> {
        if self.following.get() != Some((from, session, stream)) {
            return Ok(());
        }
        let batches = read_frames(&bytes, self.id)?;
        let run = ReplicaRun::check(self.id, vec![bytes]);
        let run =
            run.map_err(|error| Violation(format!("a leader's frames are refused: {error}")))?;
        let header = FramesHeader {
            base: run.base(),
            end: run.end(),
            epochs: run.epochs().to_vec(),
            watermark,
        };
        *self.incoming.borrow_mut() = Some((run, batches));
        let message = LeaderMessage::Frames(header);
        self.hear(Input::Follower(FollowerInput::Message { session, message }));
        self.incoming.borrow_mut().take();
        Ok(())
    }

    /// A stream is lost: the end of it that is here says so to the machine.
    pub(super) fn stream_lost(self: &Rc<Self>, stream: StreamId) {
        if let Some((_, session, _)) = self.following.get().filter(|(_, _, of)| *of == stream) {
            self.following.set(None);
            self.hear(Input::Follower(FollowerInput::StreamLost(session)));
        }
        let lost = {
            let mut followers = self.followers.borrow_mut();
            let lost: Vec<_> = followers
                .iter()
                .filter(|(_, (_, of))| *of == stream)
                .map(|(to, (session, _))| (*to, *session))
                .collect();
            followers.retain(|_, (_, of)| *of != stream);
            lost
        };
        for (to, session) in lost {
            let code = ErrorCode::RequestTimedOut;
            self.hear(Input::Leader(LeaderInput::SendingFailed {
                to,
                session,
                code,
            }));
        }
    }

    /// The log's ends, as the machine counts.
    fn ends(&self) -> LogEnds {
        let ends = self.log.ends();
        LogEnds {
            start: ends.start,
            durable: ends.acknowledged,
            accepted: ends.accepted,
        }
    }

    /// Follows the log where it took away what was not durable, as a full disk makes it do.
    fn follow_shrinking(&self) {
        let ends = self.log.ends();
        let mut mirror = self.mirror.borrow_mut();
        let end = mirror.end();
        let accepted = ends.accepted.0;
        // What is being appended is in the log, and not yet in the mirror.
        if accepted < end {
            mirror.truncate(accepted);
        }
        mirror.set_start(ends.start.0);
    }

    fn observe(self: &Rc<Self>) {
        let ends = self.ends();
        if ends != self.told.get() {
            self.follow_shrinking();
            self.note_durable(ends.durable.0);
            self.told.set(ends);
            self.input(Input::Log(ends));
        }
        let failed = matches!(
            self.log.latched(),
            Some(Latch::Failed(_) | Latch::Damaged { .. })
        );
        if failed && !self.failed.replace(true) {
            self.input(Input::LogFailed);
        }
    }

    fn note_durable(&self, durable: u64) {
        let before = self.durable.replace(durable);
        if durable <= before {
            return;
        }
        if let Some(broker) = self.broker.upgrade() {
            let mirror = self.mirror.borrow();
            let batches = mirror.between(before, durable);
            broker.check(|checker| checker.of(self.id).became_durable(broker.id().0, batches));
        }
    }

    /// Puts an input in line, and works the line off unless that is being done already.
    fn input(self: &Rc<Self>, input: Input) {
        let Some(broker) = self.broker.upgrade() else {
            return;
        };
        if self.replica.borrow().is_none() || self.ended.get() {
            return;
        }
        self.inputs.borrow_mut().push_back(input);
        if self.busy.replace(true) {
            return;
        }
        let mut effects = Vec::new();
        loop {
            let next = self.inputs.borrow_mut().pop_front();
            let Some(input) = next else { break };
            if let Some(replica) = self.replica.borrow_mut().as_mut() {
                replica.handle(broker.time().now(), input, &mut effects);
            }
            self.follow_role(&broker);
            for effect in effects.drain(..) {
                self.carry_out(&broker, effect);
            }
        }
        self.busy.set(false);
        self.set_alarm(&broker);
    }

    /// What others see of the machine follows it.
    fn follow_role(&self, broker: &Rc<Broker>) {
        let (leads, high_watermark, follows) = {
            let replica = self.replica.borrow();
            let Some(replica) = replica.as_ref() else {
                return;
            };
            let leads = match replica.role() {
                Role::Leader(leader) => {
                    let leads = leader.admit(Acks::Leader) != Admission::NotLeader;
                    leads.then_some(leader.epoch())
                }
                Role::Follower(_) | Role::Idle(_) => None,
            };
            let follows = matches!(replica.role(), Role::Follower(_));
            (leads, replica.high_watermark().0, follows)
        };
        let moved = self.high_watermark.replace(high_watermark) != high_watermark;
        let turned = self.leads.replace(leads) != leads;
        let (id, log) = (broker.id().0, self.id);
        if let Some(epoch) = leads.filter(|_| turned) {
            trace!(broker.world(), "{id} leads {log} in epoch {epoch}");
            broker.check(|checker| {
                checker.of(log).leads(id, epoch.0)?;
                checker.metadata.acts(id, log, epoch.0)
            });
            if let Err(error) = self.log.begin_epoch(epoch) {
                broker.violated(format!("broker {id} cannot lead {log}: {error}"));
            }
        }
        if turned || moved {
            self.log.keep_from(Offset(high_watermark));
            let mirror = self.mirror.borrow();
            broker.check(|checker| match leads {
                Some(epoch) => {
                    checker
                        .of(log)
                        .leader_watermark((id, epoch.0), high_watermark, &mirror)
                }
                None if follows => checker
                    .of(log)
                    .follower_watermark(id, high_watermark, &mirror),
                None => Ok(()),
            });
            self.log.notify();
        }
    }

    fn carry_out(self: &Rc<Self>, broker: &Rc<Broker>, effect: Effect) {
        match effect {
            // Seen by `follow_role` already.
            Effect::HighWatermark(_) | Effect::Class(_) => {}
            Effect::FailWaiting => {
                let code = ErrorCode::NotEnoughReplicasAfterAppend;
                self.lose(Acks::All, self.high_watermark(), code);
            }
            Effect::LeadershipLost => {
                let code = ErrorCode::NotLeaderOrFollower;
                self.lose(Acks::All, 0, code);
                self.lose(Acks::Leader, 0, code);
                self.followers.borrow_mut().clear();
                self.tell_ends();
            }
            Effect::Propose(proposal) => self.propose(broker, proposal),
            Effect::Send {
                to,
                session,
                message,
            } => {
                if let Some(stream) = self.stream_of(to, session) {
                    broker.say_as_leader((to, stream), self.id, session, message);
                }
            }
            Effect::SendFrames {
                to,
                session,
                from,
                watermark,
                ..
            } => self.send_frames(broker, (to, session), from, watermark),
            Effect::Resign => {
                trace!(broker.world(), "{} resigns from {}", broker.id(), self.id);
                if !self.failed.get() {
                    let id = broker.id();
                    broker.violated(format!(
                        "broker {id} resigns from {} with a sound log",
                        self.id
                    ));
                }
            }
            Effect::Pull { to, message } => self.pull(broker, to, message),
            Effect::Append => self.append_incoming(broker),
            Effect::Truncate(to) => self.cut(broker, Cut::Truncate(to)),
            Effect::Reset(to) => self.cut(broker, Cut::Reset(to)),
            Effect::SetLogStart(to) => self.move_start(broker, to),
        }
    }

    fn stream_of(&self, to: BrokerId, session: SessionId) -> Option<StreamId> {
        let followers = self.followers.borrow();
        let (current, stream) = followers.get(&to)?;
        (*current == session).then_some(*stream)
    }

    fn propose(self: &Rc<Self>, broker: &Rc<Broker>, proposal: Proposal) {
        let id = broker.id();
        let life = proposal.in_sync.get(&id).copied().unwrap_or_default();
        let members = proposal.in_sync.iter();
        let alter = AlterPartition {
            log: self.id,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            in_sync: members
                .map(|(&broker, &epoch)| InSyncMember { broker, epoch })
                .collect(),
            recovery: LeaderRecovery::Recovered,
        };
        trace!(broker.world(), "{id} proposes {:?}", alter.in_sync);
        let command = Command::AlterPartitions {
            broker: id,
            epoch: life,
            partitions: vec![alter],
        };
        let (partition, controller) = (Rc::downgrade(self), broker.controller());
        broker.spawn(async move {
            let outcome = controller.propose(command).await;
            let answer = match outcome {
                Ok(Answer::Partitions(outcomes)) => match outcomes.into_iter().next() {
                    Some(it) if it.code == ErrorCode::None => match it.partition {
                        Some(state) => AlterAnswer::Committed(InSyncState {
                            in_sync: state.in_sync.into_iter().collect(),
                            partition_epoch: state.partition_epoch,
                        }),
                        None => AlterAnswer::Unknown,
                    },
                    Some(it) => AlterAnswer::from_error(it.code),
                    None => AlterAnswer::Unknown,
                },
                Ok(_) => AlterAnswer::Unknown,
                Err(refusal) => AlterAnswer::from_error(refusal.code),
            };
            let id = proposal.id;
            if let Some(partition) = partition.upgrade() {
                partition.hear(Input::Leader(LeaderInput::Answered { id, answer }));
            }
        });
    }

    fn send_frames(
        self: &Rc<Self>,
        broker: &Rc<Broker>,
        (to, session): (BrokerId, SessionId),
        from: Offset,
        watermark: Watermark,
    ) {
        let (partition, broker) = (Rc::clone(self), Rc::clone(broker));
        let wait = broker.world().below(2);
        broker.clone().spawn(async move {
            broker.time().sleep(Duration::from_millis(wait)).await;
            let bytes = loop {
                let changed = partition.log.changed();
                if !partition.serves(to, session) {
                    return;
                }
                match partition.log.read(from, RUN_LEN, watermark.end).await {
                    // What is accepted is not all in a page yet.
                    Ok(runs) if runs.is_empty() => changed.await,
                    Ok(runs) => {
                        let next = runs.last().map_or(from, |run| run.next);
                        let parts: Vec<&[u8]> = runs.iter().map(|run| run.as_bytes()).collect();
                        break (Bytes::from(parts.concat()), next);
                    }
                    Err(error) => {
                        let code = error.code();
                        let failed = LeaderInput::SendingFailed { to, session, code };
                        return partition.hear(Input::Leader(failed));
                    }
                }
            };
            let Some(stream) = partition.stream_of(to, session) else {
                return;
            };
            let (bytes, next) = bytes;
            broker.send_frames((to, stream), partition.id, session, (bytes, watermark));
            let sent = LeaderInput::FramesSent { to, session, next };
            partition.hear(Input::Leader(sent));
        });
    }

    fn serves(&self, to: BrokerId, session: SessionId) -> bool {
        self.leads.get().is_some() && !self.ended.get() && self.stream_of(to, session).is_some()
    }

    fn pull(self: &Rc<Self>, broker: &Rc<Broker>, to: BrokerId, message: FollowerMessage) {
        let session = message.session();
        if let FollowerMessage::Subscribe { .. } = message {
            let stream = broker.stream_to(to);
            self.following.set(Some((to, session, stream)));
        }
        match self.following.get() {
            Some((leader, current, stream)) if leader == to && current == session => {
                broker.say_as_follower((to, stream), self.id, message);
            }
            _ => {}
        }
    }

    fn tell_ends(&self) {
        let ends = self.ends();
        self.told.set(ends);
        self.follow_shrinking();
        self.note_durable(ends.durable.0);
        self.inputs.borrow_mut().push_back(Input::Log(ends));
    }

    fn append_incoming(self: &Rc<Self>, broker: &Rc<Broker>) {
        let incoming = self.incoming.borrow_mut().take();
        let (run, batches) = incoming.expect("an append is asked for when frames have come");
        let before = self.log.accepted_end().0;
        let appended = self.log.append_replica(broker.time().wall(), &run);
        let accepted = self.log.accepted_end().0;
        {
            let mut mirror = self.mirror.borrow_mut();
            mirror.truncate(before);
            for batch in batches
                .into_iter()
                .filter(|it| it.base >= before && it.next <= accepted)
            {
                mirror.push(batch);
            }
        }
        if let Err(error) = appended {
            trace!(
                broker.world(),
                "{} does not store frames of {}: {error}",
                broker.id(),
                self.id
            );
            let failed = FollowerInput::AppendFailed(error.code());
            self.inputs.borrow_mut().push_back(Input::Follower(failed));
        }
        self.tell_ends();
        self.write();
    }

    fn cut(self: &Rc<Self>, broker: &Rc<Broker>, cut: Cut) {
        let (partition, of) = (Rc::clone(self), Rc::clone(broker));
        broker.spawn(async move { partition.cut_until_done(&of, cut).await });
    }

    async fn cut_until_done(self: Rc<Self>, broker: &Rc<Broker>, mut cut: Cut) {
        self.cutting.set(true);
        loop {
            let done = match cut {
                Cut::Truncate(to) => self.log.truncate(to).await,
                Cut::Reset(to) => self.log.reset(to).await,
            };
            match (done, cut) {
                (Ok(()), _) => break,
                // Retention was faster: nothing is left of what the leader has as well.
                (Err(ChangeError::OutOfRange { start, .. }), Cut::Truncate(to)) if to < start => {
                    cut = Cut::Reset(to);
                }
                (Err(ChangeError::OutOfRange { .. }), Cut::Reset(_)) => {
                    broker.time().sleep(CUT_AGAIN).await;
                    break;
                }
                (Err(_), _) => {
                    if !matches!(self.log.latched(), None | Some(Latch::Full)) {
                        self.failed.set(true);
                        return self.hear(Input::LogFailed);
                    }
                    broker.time().sleep(CUT_AGAIN).await;
                }
            }
        }
        let ends = self.ends();
        {
            let mut mirror = self.mirror.borrow_mut();
            match cut {
                Cut::Truncate(_) => mirror.truncate(ends.accepted.0),
                Cut::Reset(_) => mirror.reset(ends.start.0),
            }
        }
        self.durable.set(self.durable.get().min(ends.durable.0));
        self.cutting.set(false);
        let (id, log) = (broker.id().0, self.id);
        trace!(broker.world(), "{id} cut {log} to {}", ends.accepted);
        broker.check(|checker| {
            checker.of(log).cut(id, ends.accepted.0);
            Ok(())
        });
        self.told.set(ends);
        self.hear(Input::Cut(ends));
        self.write();
    }

    fn move_start(self: &Rc<Self>, broker: &Rc<Broker>, to: Offset) {
        let partition = Rc::clone(self);
        broker.spawn(async move {
            // A disk that fails is found out elsewhere; the leader says it again.
            let _ = partition.log.set_log_start(to).await;
            partition.settle();
            partition.write();
        });
    }

    /// Deletes what is below `to`.
    pub(super) async fn delete_before(self: &Rc<Self>, to: u64) {
        if self.leads.get().is_some() && to <= self.high_watermark() {
            // As above.
            let _ = self.log.set_log_start(Offset(to)).await;
            self.settle();
            self.write();
        }
    }

    /// Does what is due on the log because of time.
    pub(super) async fn maintain(self: &Rc<Self>, now: Timestamp) {
        self.log.maintain(now).await;
        self.settle();
        self.write();
    }

    fn set_alarm(self: &Rc<Self>, broker: &Rc<Broker>) {
        let deadline = {
            let replica = self.replica.borrow();
            replica.as_ref().and_then(Replica::next_deadline)
        };
        let Some(at) = deadline else { return };
        if self.tick_at.get().is_some_and(|set| set <= at) {
            return;
        }
        self.tick_at.set(Some(at));
        let (partition, time) = (Rc::downgrade(self), broker.time().clone());
        broker.spawn(async move {
            // Never at once: others are to have a turn.
            time.until(at.max(Timestamp(time.now().0 + 1))).await;
            if let Some(partition) = partition.upgrade()
                && partition.tick_at.get() == Some(at)
            {
                partition.tick_at.set(None);
                partition.hear(Input::Tick);
            }
        });
    }

    /// Starts the writing task when there is something to write and it does not run.
    fn write(self: &Rc<Self>) {
        let Some(broker) = self.broker.upgrade() else {
            return;
        };
        if self.writes.get() || !self.log.wants_writer() {
            return;
        }
        self.writes.set(true);
        let partition = Rc::clone(self);
        broker.spawn(async move {
            while partition.log.wants_writer() {
                or(partition.log.write_pending(), partition.settle_on_change()).await;
                partition.settle();
            }
            partition.writes.set(false);
        });
    }

    /// Settles whenever something became durable. Never ends.
    async fn settle_on_change(self: &Rc<Self>) {
        loop {
            let changed = self.log.changed();
            self.settle();
            if self.log.wants_space()
                && let Some(broker) = self.broker.upgrade()
            {
                let log = self.log.clone();
                broker.spawn(async move { log.prepare_space().await });
            }
            changed.await;
        }
    }

    /// Tells the fate of every batch whose fate is known.
    pub(super) fn settle(self: &Rc<Self>) {
        self.observe();
        let own_end = self.log.ack_end().0;
        let all_end = match self.replica.borrow().as_ref().and_then(Replica::as_leader) {
            Some(leader) => leader.acknowledged_end(Acks::All).0,
            None => self.high_watermark(),
        };
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for batch in waiting {
            let end = match batch.acks {
                Acks::All => all_end,
                Acks::Leader => own_end,
            };
            match batch.end <= end {
                true => batch.teller.give(Ok(batch.base)),
                false => self.waiting.borrow_mut().push(batch),
            }
        }
        if self.log.latched().is_some() {
            self.lose(Acks::All, own_end, ErrorCode::KafkaStorageError);
            self.lose(Acks::Leader, own_end, ErrorCode::KafkaStorageError);
        }
    }

    /// Batches of one kind that reach above `end` will not come to where they have to be, or nobody will know.
    fn lose(&self, acks: Acks, end: u64, code: ErrorCode) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for batch in waiting {
            match batch.acks == acks && batch.end > end {
                true => batch.teller.give(Err(code)),
                false => self.waiting.borrow_mut().push(batch),
            }
        }
    }
}

/// What is taken of a log.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Everything from here on.
    Truncate(Offset),
    /// Everything; it goes on here.
    Reset(Offset),
}
