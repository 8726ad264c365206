//! A broker's part in a partition: its role, and the change from one to the next.
//!
//! A role begins only on a quiet log: no truncation under way, and all that was accepted durable.
//! So a truncation belongs to one role, and an epoch begins where the log is sure to end.
//! Until then the replica has no role, which lasts for a write of the device at most.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, Timestamp,
};

use super::{
    Effect, Follower, FollowerInput, FollowerMessage, InSyncState, Leader, LeaderInput,
    LeaderMessage, Leadership, LogEnds, LogView, ReplicaSettings, SessionId, Standing,
};

/// A partition as the metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who leads, if anyone.
    pub leader: Option<BrokerId>,
    /// Grows with each leader, and whenever a replica is taken away.
    pub leader_epoch: LeaderEpoch,
    /// Grows with each change.
    pub partition_epoch: PartitionEpoch,
    /// Every replica.
    pub replicas: BTreeSet<BrokerId>,
    /// The in-sync set.
    pub in_sync: BTreeSet<BrokerId>,
}

impl Assignment {
    /// The in-sync set and its version.
    #[must_use]
    pub fn in_sync_state(&self) -> InSyncState {
        InSyncState {
            in_sync: self.in_sync.clone(),
            partition_epoch: self.partition_epoch,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The metadata has this. It is ignored unless it is newer than what is known. After a start,
    /// only metadata in which this uptime of the broker is registered is handed over.
    Assigned(Assignment),
    /// What the metadata knows of the brokers.
    Standings(BTreeMap<BrokerId, Standing>),
    /// The log's ends changed.
    Log(LogEnds),
    /// A truncation or a reset is done and durable; the log ends so now.
    Cut(LogEnds),
    /// The log takes no more writes until the broker starts again.
    LogFailed,
    /// A broker says something as a follower.
    FromFollower {
        /// The broker.
        from: BrokerId,
        /// What it says.
        message: FollowerMessage,
    },
    /// To the leader, if this replica leads: all but its log and its messages.
    Leader(LeaderInput),
    /// To the follower, if this replica follows.
    Follower(FollowerInput),
    /// `min.insync.replicas` changed.
    MinInSync(u32),
    /// Time has passed.
    Tick,
}

/// What a replica is at present.
#[derive(Clone, Debug)]
pub enum Role {
    /// Without a leader, not a replica any more, or between two roles.
    Idle(Idle),
    /// It leads.
    Leader(Box<Leader>),
    /// It follows.
    Follower(Box<Follower>),
}

/// A replica without a role.
#[derive(Clone, Debug)]
pub struct Idle {
    log: LogView,
    awaits: Awaits,
}

/// What has to be told of a log before a role can begin on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    /// All is known.
    Nothing,
    /// That a truncation or a reset is done.
    Cut,
    /// Its ends: a leader knows what counts, not what was appended beyond that.
    Ends,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Replica {
    broker: BrokerId,
    /// The last session that this replica used.
    session: SessionId,
    role: Role,
    /// The newest that the metadata has.
    assignment: Option<Assignment>,
    standings: BTreeMap<BrokerId, Standing>,
    high_watermark: Offset,
    settings: ReplicaSettings,
    failed: bool,
}

impl Replica {
    /// The replica of a log that was just opened, in this uptime of its broker.
    #[must_use]
    pub fn new(
        (broker, life): (BrokerId, BrokerEpoch),
        log: LogView,
        settings: ReplicaSettings,
    ) -> Self {
        Self {
            broker,
            session: SessionId::from(life),
            high_watermark: log.ends().start,
            role: Role::Idle(Idle {
                log,
                awaits: Awaits::Nothing,
            }),
            assignment: None,
            standings: BTreeMap::new(),
            settings,
            failed: false,
        }
    }

    /// Takes in what happened and adds to `effects` what follows from it.
    ///
    /// # Panics
    /// If effects of an earlier input are still there: they come first.
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        assert!(
            effects.is_empty(),
            "effects are carried out before the next input"
        );
        match input {
            Input::Assigned(assignment) => self.assigned(now, assignment, effects),
            Input::Standings(standings) => {
                self.standings.clone_from(&standings);
                self.lead(now, LeaderInput::Standings(standings), effects);
            }
            Input::Log(ends) => self.log_changed(now, ends, effects),
            Input::Cut(ends) => self.was_cut(now, ends, effects),
            Input::LogFailed => self.fail(effects),
            Input::FromFollower { from, message } => {
                self.hear_follower(now, (from, message), effects);
            }
            Input::Leader(input) => self.lead(now, input, effects),
            Input::Follower(input) => self.follow(now, input, effects),
            Input::MinInSync(min) => {
                self.settings.min_in_sync = min;
                self.lead(now, LeaderInput::MinInSync(min), effects);
            }
            Input::Tick => {
                self.lead(now, LeaderInput::Tick, effects);
                self.follow(now, FollowerInput::Tick, effects);
            }
        }
        self.take_role(now, effects);
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The leader, if this replica leads.
    #[must_use]
    pub fn as_leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle(_) | Role::Follower(_) => None,
        }
    }

    /// Everything below is committed, as far as this replica knows.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        match &self.role {
            Role::Idle(_) => self.high_watermark,
            Role::Leader(leader) => leader.high_watermark(),
            Role::Follower(follower) => follower.high_watermark(),
        }
    }

    /// When it wants an [`Input::Tick`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        match &self.role {
            Role::Idle(_) => None,
            Role::Leader(leader) => leader.next_deadline(),
            Role::Follower(follower) => follower.next_deadline(),
        }
    }

    fn assigned(&mut self, now: Timestamp, assignment: Assignment, effects: &mut Vec<Effect>) {
        let known = self.assignment.as_ref();
        let newer = known.is_none_or(|known| {
            assignment.partition_epoch > known.partition_epoch
                && assignment.leader_epoch >= known.leader_epoch
        });
        if !newer {
            return;
        }
        let same_role = known.is_some_and(|known| {
            let stays =
                assignment.replicas.contains(&self.broker) == known.replicas.contains(&self.broker);
            assignment.leader_epoch == known.leader_epoch && stays
        });
        self.assignment = Some(assignment.clone());
        if same_role {
            self.lead(now, LeaderInput::Assigned(assignment), effects);
        } else {
            self.leave_role(effects);
        }
    }

    /// Back to no role.
    fn leave_role(&mut self, effects: &mut Vec<Effect>) {
        self.high_watermark = self.high_watermark();
        let nothing = Role::Idle(Idle {
            log: LogView::default(),
            awaits: Awaits::Nothing,
        });
        let idle = match std::mem::replace(&mut self.role, nothing) {
            Role::Idle(idle) => idle,
            Role::Leader(leader) => {
                effects.push(Effect::LeadershipLost);
                Idle {
                    log: leader.into_log(),
                    awaits: Awaits::Ends,
                }
            }
            Role::Follower(follower) => {
                let (log, cutting, session) = follower.leave(effects);
                self.session = session;
                let awaits = match cutting {
                    true => Awaits::Cut,
                    false => Awaits::Nothing,
                };
                Idle { log, awaits }
            }
        };
        self.role = Role::Idle(idle);
    }

    /// Begins the role that the metadata has for this replica, once the log is quiet.
    fn take_role(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let Role::Idle(idle) = &mut self.role else {
            return;
        };
        let Some(assignment) = &self.assignment else {
            return;
        };
        let quiet = idle.awaits == Awaits::Nothing && idle.log.ends().are_settled();
        let is_replica = assignment.replicas.contains(&self.broker);
        let Some(leader) = assignment
            .leader
            .filter(|_| quiet && is_replica && !self.failed)
        else {
            return;
        };
        let log = std::mem::take(&mut idle.log);
        let known = self.high_watermark.min(log.ends().durable);
        let epoch = assignment.leader_epoch;
        if leader != self.broker {
            let place = (now, &mut *effects);
            let settings = self.settings.clone();
            let follower =
                Follower::new((leader, epoch), (self.session, known), log, settings, place);
            self.role = Role::Follower(Box::new(follower));
            return;
        }
        // Its records would not be told from those that the log has of this epoch. Alone, it is the
        // only one who ever had any, and the log was closed and opened again.
        let last = log.last_epoch();
        let alone = assignment.replicas.len() == 1;
        let again = last > Some(epoch) || last == Some(epoch) && !alone;
        if again || !assignment.in_sync.contains(&self.broker) {
            *idle = Idle {
                log,
                awaits: Awaits::Nothing,
            };
            self.fail(effects);
            return;
        }
        let leadership = Leadership {
            broker: self.broker,
            life: self.session.life,
            epoch,
            replicas: assignment.replicas.clone(),
            in_sync: assignment.in_sync_state(),
            standings: self.standings.clone(),
            high_watermark: known,
        };
        let mut leader = Leader::new(leadership, log, self.settings.clone(), now);
        leader.handle(now, LeaderInput::Tick, effects);
        self.role = Role::Leader(Box::new(leader));
    }

    /// Does nothing more until the broker starts again.
    fn fail(&mut self, effects: &mut Vec<Effect>) {
        let led = match &self.assignment {
            Some(assignment) => assignment.leader == Some(self.broker),
            None => false,
        };
        if !self.failed && led {
            effects.push(Effect::Resign);
        }
        self.failed = true;
        self.leave_role(effects);
    }

    fn log_changed(&mut self, now: Timestamp, ends: LogEnds, effects: &mut Vec<Effect>) {
        match &mut self.role {
            Role::Idle(idle) if idle.awaits == Awaits::Cut => {}
            Role::Idle(idle) => {
                idle.awaits = Awaits::Nothing;
                idle.log.set_ends(ends);
            }
            Role::Leader(leader) => {
                leader.handle(now, LeaderInput::LocalEnd(ends.durable), effects);
                leader.handle(now, LeaderInput::LogStart(ends.start), effects);
            }
            Role::Follower(follower) => {
                follower.handle(now, FollowerInput::Log(ends), effects);
            }
        }
    }

    fn was_cut(&mut self, now: Timestamp, ends: LogEnds, effects: &mut Vec<Effect>) {
        match &mut self.role {
            Role::Idle(idle) if idle.awaits == Awaits::Cut => {
                idle.awaits = Awaits::Nothing;
                idle.log.set_ends(ends);
                self.high_watermark = self.high_watermark.min(ends.durable);
            }
            Role::Idle(_) | Role::Leader(_) => {}
            Role::Follower(follower) => {
                follower.handle(now, FollowerInput::Cut(ends), effects);
            }
        }
    }

    fn hear_follower(
        &mut self,
        now: Timestamp,
        (from, message): (BrokerId, FollowerMessage),
        effects: &mut Vec<Effect>,
    ) {
        if let Role::Leader(leader) = &mut self.role {
            leader.handle(now, LeaderInput::Message { from, message }, effects);
        } else if let FollowerMessage::Subscribe { session, epoch, .. } = message {
            let known = self.assignment.as_ref().map(|known| known.leader_epoch);
            let code = match Some(epoch).cmp(&known) {
                std::cmp::Ordering::Less => ErrorCode::FencedLeaderEpoch,
                std::cmp::Ordering::Equal => ErrorCode::NotLeaderOrFollower,
                std::cmp::Ordering::Greater => ErrorCode::UnknownLeaderEpoch,
            };
            effects.push(Effect::Send {
                to: from,
                session,
                message: LeaderMessage::Refused(code),
            });
        }
    }

    fn lead(&mut self, now: Timestamp, input: LeaderInput, effects: &mut Vec<Effect>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.handle(now, input, effects);
        }
    }

    fn follow(&mut self, now: Timestamp, input: FollowerInput, effects: &mut Vec<Effect>) {
        if let Role::Follower(follower) = &mut self.role {
            follower.handle(now, input, effects);
        }
    }
}
