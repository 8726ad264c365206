//! A partition's part among its replicas: the machine is told what happens, and what it says is carried
//! out, in order, before the next input.
//!
//! Inputs come from inside as well as from outside: what is appended as an effect of one input is
//! told as the next. So they stand in line, and one call works the line off.
//!
//! **Invariant:** the epoch of a leadership has begun in the log before anything is admitted in it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;
use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp};
use millrace_net::pulse::{Work, named};
use millrace_replication::partition::{
    Acks, Admission, Assignment, Effect, FollowerInput, FollowerMessage, FramesHeader, Input,
    LeaderInput, LeaderMessage, LogEnds, LogView, Replica, Role, SessionId, Standing, Watermark,
};
use millrace_storage::{ChangeError, Latch, ReplicaRun};

use super::{Held, Partition, not_admitted};
use crate::replicas::{FollowerStream, Job};
use crate::shard::budget::Permit;
use crate::shard::{Refusal, clock};

/// Pause before a truncation that the full disk did not let begin is tried again.
const CUT_AGAIN: Duration = Duration::from_millis(500);

/// What a partition knows of its role.
pub(super) struct RoleState {
    replica: RefCell<Option<Replica>>,
    inputs: RefCell<VecDeque<Input>>,
    effects: RefCell<Vec<Effect>>,
    /// Inputs are being worked off.
    busy: Cell<bool>,
    /// The log's ends as the machine was told them last.
    told: Cell<LogEnds>,
    /// The machine knows that the log takes no more writes.
    failed: Cell<bool>,
    high_watermark: Cell<Offset>,
    /// The epoch in which this broker leads.
    leads: Cell<Option<LeaderEpoch>>,
    /// The latest leader epoch that the metadata has told.
    epoch: Cell<LeaderEpoch>,
    /// There are no other replicas.
    alone: Cell<bool>,
    /// The metadata has this broker's replica in sync.
    in_sync: Cell<bool>,
    /// The metadata names this broker as the leader.
    named: Cell<bool>,
    /// As a follower: frames that come with the present input, and the memory that they hold.
    incoming: RefCell<Option<(ReplicaRun, Permit)>>,
    /// As a leader: the latest subscription of each follower, and the stream that serves it.
    followers: RefCell<HashMap<BrokerId, (SessionId, Rc<FollowerStream>)>>,
    /// When the machine is to be woken.
    tick_at: Cell<Option<Timestamp>>,
}

impl RoleState {
    pub(super) fn new(high_watermark: Offset) -> Self {
        Self {
            replica: RefCell::default(),
            inputs: RefCell::default(),
            effects: RefCell::default(),
            busy: Cell::new(false),
            told: Cell::default(),
            failed: Cell::new(false),
            high_watermark: Cell::new(high_watermark),
            leads: Cell::new(None),
            epoch: Cell::default(),
            alone: Cell::new(true),
            in_sync: Cell::new(false),
            named: Cell::new(false),
            incoming: RefCell::default(),
            followers: RefCell::default(),
            tick_at: Cell::new(None),
        }
    }
}

impl Partition {
    /// The metadata has this of the partition, and of the brokers. `life` is the present uptime of this
    /// broker, the same whenever this is called.
    pub(crate) fn assigned(
        &self,
        assignment: Assignment,
        standings: BTreeMap<BrokerId, Standing>,
        life: BrokerEpoch,
    ) {
        self.host.life.set(life);
        let alone = assignment.replicas.len() == 1;
        self.role.alone.set(alone);
        let named = assignment.leader == Some(self.host.broker);
        self.role.named.set(named);
        if self.role.replica.borrow().is_none() {
            let ends = self.ends();
            let view = LogView::new(ends, self.log.leader_epochs());
            let identity = (self.host.broker, life);
            let mut settings = self.host.settings.clone();
            settings.min_in_sync = self.log.settings().min_insync_replicas;
            *self.role.replica.borrow_mut() = Some(Replica::new(identity, view, settings));
            self.role.told.set(ends);
        }
        let epoch = self.role.epoch.get().max(assignment.leader_epoch);
        self.role.epoch.set(epoch);
        let in_sync = assignment.in_sync.contains(&self.host.broker);
        if !alone {
            self.input(Input::Standings(standings));
        }
        self.hear(Input::Assigned(assignment));
        self.bound_retention();
        if self.role.in_sync.replace(in_sync) != in_sync {
            // Whoever reads from a follower learns of it.
            self.log.notify();
        }
    }

    /// What is known of the brokers has changed.
    pub(crate) fn standings(&self, standings: &BTreeMap<BrokerId, Standing>) {
        if !self.is_alone() {
            self.hear(Input::Standings(standings.clone()));
        }
    }

    /// Whether this broker leads.
    pub(crate) fn is_leader(&self) -> bool {
        self.leads_in().is_some()
    }

    /// Refuses who needs the leader, if this broker does not lead.
    pub(crate) fn check_leads(&self) -> Result<(), Refusal> {
        match self.is_leader() {
            true => Ok(()),
            false => {
                let code = self.no_leader();
                Err(Refusal::new(code, not_admitted(code)))
            }
        }
    }

    /// Why this broker, which does not lead, is of no use to who needs the leader.
    fn no_leader(&self) -> ErrorCode {
        // Nobody else leads either: there was no other replica in sync when the log failed.
        match self.role.failed.get() && self.role.named.get() {
            true => ErrorCode::KafkaStorageError,
            false => ErrorCode::NotLeaderOrFollower,
        }
    }

    /// The epoch in which this broker leads, if it does.
    pub(crate) fn leads_in(&self) -> Option<LeaderEpoch> {
        self.role.leads.get()
    }

    /// The latest leader epoch that the metadata has told, whoever leads.
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.role.epoch.get()
    }

    /// Whether no other broker has a replica.
    pub(crate) fn is_alone(&self) -> bool {
        self.role.alone.get()
    }

    /// Whether a frame may be appended.
    ///
    /// # Errors
    /// The code that tells its producer why not.
    pub(crate) fn admit(&self, acks: Acks) -> Result<(), ErrorCode> {
        if let Some(code) = self.ended.raised() {
            return Err(code);
        }
        let replica = self.role.replica.borrow();
        let leader = replica.as_ref().and_then(Replica::as_leader);
        match leader.map(|leader| leader.admit(acks)) {
            Some(Admission::Accept) => Ok(()),
            Some(Admission::NotEnoughReplicas) => Err(ErrorCode::NotEnoughReplicas),
            Some(Admission::NotLeader) | None => Err(self.no_leader()),
        }
    }

    /// Below this, everything is committed, as far as this broker knows.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.observe();
        self.role.high_watermark.get()
    }

    /// The high watermark, unless a new leader does not know yet how far its predecessors came:
    /// `OFFSET_NOT_AVAILABLE`.
    pub(crate) fn visible_end(&self) -> Option<Offset> {
        self.observe();
        let replica = self.role.replica.borrow();
        match replica.as_ref().and_then(Replica::as_leader) {
            Some(leader) => leader.visible_end(),
            None => Some(self.role.high_watermark.get()),
        }
    }

    /// Whether somebody else knows better what is committed: others have replicas, and this broker does
    /// not lead.
    pub(crate) fn follows(&self) -> bool {
        !self.is_alone() && !self.is_leader()
    }

    /// If this broker leads, who follows in sync, and how far each has come.
    pub(crate) fn followers_in_sync(&self) -> Vec<(BrokerId, Offset)> {
        let replica = self.role.replica.borrow();
        let leader = replica.as_ref().and_then(Replica::as_leader);
        leader.map_or_else(Vec::new, |leader| leader.followers_in_sync().collect())
    }

    /// The committed in-sync set, if this broker leads.
    #[cfg(test)]
    pub(crate) fn in_sync(&self) -> Option<Vec<BrokerId>> {
        let replica = self.role.replica.borrow();
        let leader = replica.as_ref().and_then(Replica::as_leader)?;
        Some(leader.in_sync().iter().copied().collect())
    }

    /// Tells the machine what happened, and producers what follows for them.
    pub(crate) fn hear(&self, input: Input) {
        self.input(input);
        if !self.role.busy.get() {
            self.settle();
        }
    }

    /// A follower says something on its stream.
    pub(crate) fn hear_follower(
        &self,
        (from, stream): (BrokerId, &Rc<FollowerStream>),
        message: FollowerMessage,
    ) {
        if let FollowerMessage::Subscribe { session, .. } = message {
            let mut followers = self.role.followers.borrow_mut();
            match followers.get(&from) {
                Some((known, _)) if *known >= session => return,
                _ => followers.insert(from, (session, Rc::clone(stream))),
            };
        }
        self.hear(Input::FromFollower { from, message });
    }

    /// The partition is gone: nobody follows it, and it follows nobody.
    pub(super) fn leave(&self) {
        self.role.followers.borrow_mut().clear();
        self.host.forget(self.id);
    }

    /// Whether frames of this session of a follower are still wanted from this stream.
    pub(crate) fn serves(
        &self,
        (from, stream): (BrokerId, &Rc<FollowerStream>),
        session: SessionId,
    ) -> bool {
        let followers = self.role.followers.borrow();
        self.is_leader()
            && self.ended.raised().is_none()
            && followers
                .get(&from)
                .is_some_and(|(current, serves)| *current == session && Rc::ptr_eq(serves, stream))
    }

    /// A follower's stream has ended.
    pub(crate) fn stream_lost(&self, (from, stream): (BrokerId, &Rc<FollowerStream>)) {
        let lost = {
            let mut followers = self.role.followers.borrow_mut();
            let is_this = |(_, serves): &(SessionId, _)| Rc::ptr_eq(serves, stream);
            let lost = followers.get(&from).filter(|served| is_this(served));
            let lost = lost.map(|(session, _)| *session);
            if lost.is_some() {
                followers.remove(&from);
            }
            lost
        };
        if let Some(session) = lost {
            let code = ErrorCode::RequestTimedOut;
            let failed = LeaderInput::SendingFailed {
                to: from,
                session,
                code,
            };
            self.hear(Input::Leader(failed));
        }
    }

    /// Frames have come from the leader in a session.
    pub(crate) fn store(
        &self,
        session: SessionId,
        (run, memory): (ReplicaRun, Permit),
        watermark: Watermark,
    ) {
        let header = FramesHeader {
            base: run.base(),
            end: run.end(),
            epochs: run.epochs().to_vec(),
            watermark,
        };
        *self.role.incoming.borrow_mut() = Some((run, memory));
        let message = LeaderMessage::Frames(header);
        self.hear(Input::Follower(FollowerInput::Message { session, message }));
        // They were of no use.
        self.role.incoming.borrow_mut().take();
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

    /// Tells the machine of the log's ends if they have changed.
    fn observe(&self) {
        let ends = self.ends();
        if ends != self.role.told.get() {
            self.role.told.set(ends);
            self.input(Input::Log(ends));
        }
        let failed = matches!(
            self.log.latched(),
            Some(Latch::Failed(_) | Latch::Damaged { .. })
        );
        // Alone, what it has can still be read, and nobody else could lead.
        if failed && !self.is_alone() && !self.role.failed.replace(true) {
            self.input(Input::LogFailed);
        }
    }

    /// Puts an input in line, and works the line off unless that is being done already.
    fn input(&self, input: Input) {
        let role = &self.role;
        if role.replica.borrow().is_none() {
            return;
        }
        role.inputs.borrow_mut().push_back(input);
        if role.busy.replace(true) {
            return;
        }
        let mut effects = std::mem::take(&mut *role.effects.borrow_mut());
        loop {
            let next = role.inputs.borrow_mut().pop_front();
            let Some(input) = next else { break };
            if let Some(replica) = role.replica.borrow_mut().as_mut() {
                replica.handle(self.now(), input, &mut effects);
            }
            self.follow_role();
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
        }
        *role.effects.borrow_mut() = effects;
        role.busy.set(false);
        self.set_alarm();
    }

    /// The machine's clock. Time matters to who has other replicas only.
    fn now(&self) -> Timestamp {
        match self.is_alone() {
            true => Timestamp::NONE,
            false => self.host.now(),
        }
    }

    /// What others see of the machine follows it.
    fn follow_role(&self) {
        let role = &self.role;
        let (leads, high_watermark) = {
            let replica = role.replica.borrow();
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
            (leads, replica.high_watermark())
        };
        let moved = role.high_watermark.replace(high_watermark) != high_watermark;
        let turned = role.leads.replace(leads) != leads;
        if let Some(epoch) = leads.filter(|_| turned)
            && let Err(error) = self.log.begin_epoch(epoch)
        {
            tracing::error!(log = %self.id, %error, "this broker cannot lead");
            role.leads.set(None);
            role.inputs.borrow_mut().push_back(Input::LogFailed);
        }
        // Alone, the high watermark is the log's own, which tells of itself.
        if turned || moved && !self.is_alone() {
            self.bound_retention();
            self.log.notify();
        }
    }

    /// What is not committed is not removed because of its age. Alone, all that it has is. A follower
    /// removes what its leader has removed: consumers that read here find what they would find there.
    fn bound_retention(&self) {
        let high_watermark = self.role.high_watermark.get();
        let replica = self.role.replica.borrow();
        self.log
            .keep_from(match replica.as_ref().map(Replica::role) {
                _ if self.is_alone() => Offset(u64::MAX),
                Some(Role::Follower(follower)) => follower.keeps_from().min(high_watermark),
                _ => high_watermark,
            });
    }

    fn carry_out(&self, effect: Effect) {
        let role = &self.role;
        match effect {
            // Seen by `follow_role` already.
            Effect::HighWatermark(_) | Effect::Class(_) => {}
            Effect::FailWaiting => {
                let code = ErrorCode::NotEnoughReplicasAfterAppend;
                self.lose(Acks::All, role.high_watermark.get(), code);
            }
            Effect::LeadershipLost => {
                let code = ErrorCode::NotLeaderOrFollower;
                self.lose(Acks::All, Offset::ZERO, code);
                self.lose(Acks::Leader, Offset::ZERO, code);
                role.followers.borrow_mut().clear();
                self.tell_ends();
            }
            Effect::Propose(proposal) => self.host.propose(&self.me, self.id, proposal),
            Effect::Send {
                to,
                session,
                message,
            } => {
                if let Some((current, stream)) = role.followers.borrow().get(&to)
                    && *current == session
                {
                    stream.tell(self.id, session, message);
                }
            }
            Effect::SendFrames {
                to,
                session,
                from,
                watermark,
                class,
            } => {
                if let Some((current, stream)) = role.followers.borrow().get(&to)
                    && *current == session
                    && let Some(partition) = self.me.upgrade()
                {
                    stream.send_frames(Job {
                        partition,
                        session,
                        from,
                        watermark,
                        class,
                    });
                }
            }
            Effect::Resign => {
                tracing::error!(log = %self.id, "the log of a leader does not keep what it promised; \
                    this broker leads it no longer, until it is started again");
                self.host.resign(&self.me, self.id, role.epoch.get());
            }
            Effect::Pull { to, message } => self.host.pull(&self.me, self.id, to, message),
            Effect::Append => self.append_incoming(),
            Effect::Truncate(to) => self.cut(Cut::Truncate(to)),
            Effect::Reset(to) => self.cut(Cut::Reset(to)),
            Effect::SetLogStart(to) => {
                self.bound_retention();
                self.move_start(to);
            }
        }
    }

    fn tell_ends(&self) {
        let ends = self.ends();
        self.role.told.set(ends);
        self.role.inputs.borrow_mut().push_back(Input::Log(ends));
    }

    fn append_incoming(&self) {
        let incoming = self.role.incoming.borrow_mut().take();
        let (run, memory) = incoming.expect("an append is asked for when frames have come");
        match self.log.append_replica(clock::timestamp(), &run) {
            Ok(()) => {
                let end = run.end();
                self.held.borrow_mut().push_back(Held {
                    end,
                    _memory: memory,
                });
            }
            Err(error) => {
                tracing::warn!(log = %self.id, %error, "frames of the leader are not stored");
                let failed = FollowerInput::AppendFailed(error.code());
                let mut inputs = self.role.inputs.borrow_mut();
                inputs.push_back(Input::Follower(failed));
            }
        }
        self.tell_ends();
        self.write();
        self.note_deadline();
    }

    fn cut(&self, cut: Cut) {
        let Some(partition) = self.me.upgrade() else {
            return;
        };
        let cutting = async move { partition.cut_until_done(cut).await };
        let cutting = named(Work::WriteLog.on(self.id), cutting);
        glommio::spawn_local_into(cutting, self.host.foreground)
            .expect("the shard's task queues live as long as its executor")
            .detach();
    }

    async fn cut_until_done(&self, mut cut: Cut) {
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
                // A leader that names what is no offset is asked again, after a pause.
                (Err(ChangeError::OutOfRange { .. }), Cut::Reset(to)) => {
                    tracing::warn!(log = %self.id, %to, "the leader's log starts where none can");
                    sleep(CUT_AGAIN).await;
                    break;
                }
                (Err(error), _) => {
                    tracing::warn!(log = %self.id, %error, "the log is not cut");
                    if !matches!(self.log.latched(), None | Some(Latch::Full)) {
                        self.role.failed.set(true);
                        return self.hear(Input::LogFailed);
                    }
                    sleep(CUT_AGAIN).await;
                }
            }
        }
        tracing::info!(log = %self.id, end = %self.log.accepted_end(), "the log is cut");
        // Nothing waits to be written.
        self.held.borrow_mut().clear();
        let ends = self.ends();
        self.role.told.set(ends);
        self.hear(Input::Cut(ends));
        self.write();
    }

    fn move_start(&self, to: Offset) {
        let Some(partition) = self.me.upgrade() else {
            return;
        };
        let moving = async move {
            if let Err(error) = partition.log.set_log_start(to).await {
                tracing::warn!(log = %partition.id, %error, "the log start stays");
            }
            partition.settle();
            partition.write();
        };
        let moving = named(Work::Retention.on(self.id), moving);
        glommio::spawn_local_into(moving, self.host.catch_up)
            .expect("the shard's task queues live as long as its executor")
            .detach();
    }

    fn set_alarm(&self) {
        let deadline = {
            let replica = self.role.replica.borrow();
            replica.as_ref().and_then(Replica::next_deadline)
        };
        let Some(at) = deadline else { return };
        let set = self.role.tick_at.get();
        if set.is_none_or(|set| at < set) {
            self.role.tick_at.set(Some(at));
            self.host.wake_at(at, &self.me);
        }
    }

    /// The time has come that the machine asked for, or another that it did.
    pub(crate) fn tick(&self, at: Timestamp) {
        if self.role.tick_at.get() == Some(at) {
            self.role.tick_at.set(None);
            self.hear(Input::Tick);
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
