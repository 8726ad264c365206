//! A partition's leader: what is committed, who is in sync, and what goes out to followers.
//!
//! It routes between three parts that know nothing of each other: its own log, a [`Member`] for each
//! follower, and the in-sync set ([`InSync`]). The rules are in the module above.
//!
//! **Invariant:** the leader is a member of the in-sync set.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{
    BrokerEpoch, BrokerId, EpochStart, ErrorCode, LeaderEpoch, LeaderEpochs, Offset,
    PartitionEpoch, Timestamp,
};

use super::in_sync::InSync;
use super::member::{Member, Sending};
use super::planted::{Planted, is_planted};
use super::{
    AlterAnswer, Assignment, Effect, FollowerMessage, InSyncState, LeaderMessage, LogEnds, LogView,
    Position, Proposal, ProposalId, PullClass, ReplicaSettings, SessionId, Standing, Watermark,
};

/// How a leadership begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// This broker.
    pub broker: BrokerId,
    /// Its present uptime.
    pub life: BrokerEpoch,
    /// The epoch of this leadership.
    pub epoch: LeaderEpoch,
    /// Every replica, the leader among them.
    pub replicas: BTreeSet<BrokerId>,
    /// The committed in-sync set, the leader in it.
    pub in_sync: InSyncState,
    /// The brokers as far as they are known.
    pub standings: BTreeMap<BrokerId, Standing>,
    /// Everything below is known to be committed.
    pub high_watermark: Offset,
}

/// What happened to a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderInput {
    /// Everything below counts on the leader: it is durable, or with `write.caching`
    /// accepted. It only grows; if it does not, a leader that is not alone resigns.
    LocalEnd(Offset),
    /// The log starts here now.
    LogStart(Offset),
    /// A follower says something.
    Message {
        /// The follower, as its connection proves.
        from: BrokerId,
        /// What it says.
        message: FollowerMessage,
    },
    /// Frames that were to be sent are handed to the stream.
    FramesSent {
        /// The follower.
        to: BrokerId,
        /// The session.
        session: SessionId,
        /// The offset after them.
        next: Offset,
    },
    /// Frames could not be read, or the stream with this session is lost.
    SendingFailed {
        /// The follower.
        to: BrokerId,
        /// The session.
        session: SessionId,
        /// Why.
        code: ErrorCode,
    },
    /// The metadata answered a proposal.
    Answered {
        /// Which.
        id: ProposalId,
        /// What it said.
        answer: AlterAnswer,
    },
    /// The partition's state changed, and the leader epoch did not.
    Assigned(Assignment),
    /// What is known of the brokers changed.
    Standings(BTreeMap<BrokerId, Standing>),
    /// `min.insync.replicas` changed.
    MinInSync(u32),
    /// Time has passed.
    Tick,
}

/// Which replicas must have a record before its producer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// The leader.
    Leader,
    /// All in-sync replicas, at least `min.insync.replicas`.
    All,
}

/// Whether a produce is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Append it.
    Accept,
    /// Refuse it with `NOT_ENOUGH_REPLICAS`.
    NotEnoughReplicas,
    /// Refuse it with `NOT_LEADER_OR_FOLLOWER`: the leader has resigned.
    NotLeader,
}

/// The state of a leadership.
#[derive(Clone, Debug)]
pub struct Leader {
    broker: BrokerId,
    life: BrokerEpoch,
    epoch: LeaderEpoch,
    epoch_start: Offset,
    log: LogView,
    members: BTreeMap<BrokerId, Member>,
    /// What is known of the brokers: also of those that may become replicas.
    standings: BTreeMap<BrokerId, Standing>,
    in_sync: InSync,
    high_watermark: Offset,
    settings: ReplicaSettings,
    resigned: bool,
}

impl Leader {
    /// A leadership that begins now, at the end of this log.
    ///
    /// # Panics
    /// If the leader is not among the replicas and the in-sync set, the set has other members
    /// than replicas, or the log has accepted what does not count yet.
    #[must_use]
    pub fn new(
        leadership: Leadership,
        log: LogView,
        settings: ReplicaSettings,
        now: Timestamp,
    ) -> Self {
        let (broker, replicas) = (leadership.broker, &leadership.replicas);
        let in_sync = &leadership.in_sync.in_sync;
        assert!(
            in_sync.contains(&broker),
            "the leader is in sync with itself"
        );
        assert!(in_sync.is_subset(replicas), "only replicas are in sync");
        let ends = log.ends();
        assert!(
            ends.are_settled(),
            "an epoch begins where the log is sure to end"
        );
        let standing = |replica| leadership.standings.get(replica).copied();
        let others = replicas.iter().filter(|replica| **replica != broker);
        Self {
            members: others
                .map(|replica| (*replica, Member::new(standing(replica), now)))
                .collect(),
            broker,
            standings: leadership.standings,
            life: leadership.life,
            epoch: leadership.epoch,
            epoch_start: ends.durable,
            in_sync: InSync::new(leadership.in_sync),
            high_watermark: leadership.high_watermark.min(ends.durable),
            log,
            settings,
            resigned: false,
        }
    }

    /// A leadership of a partition with one replica, whose whole log is committed.
    #[must_use]
    pub fn alone(broker: BrokerId, epoch: LeaderEpoch, end: Offset, min_in_sync: u32) -> Self {
        let replicas = BTreeSet::from([broker]);
        let leadership = Leadership {
            broker,
            life: BrokerEpoch::default(),
            epoch,
            in_sync: InSyncState {
                in_sync: replicas.clone(),
                partition_epoch: PartitionEpoch::default(),
            },
            replicas,
            standings: BTreeMap::new(),
            high_watermark: end,
        };
        let ends = LogEnds {
            start: Offset::ZERO,
            durable: end,
            accepted: end,
        };
        let settings = ReplicaSettings {
            min_in_sync,
            ..ReplicaSettings::default()
        };
        let log = LogView::new(ends, LeaderEpochs::default());
        Self::new(leadership, log, settings, Timestamp::NONE)
    }

    /// Takes in what happened and adds to `effects` what follows from it.
    pub fn handle(&mut self, now: Timestamp, input: LeaderInput, effects: &mut Vec<Effect>) {
        if self.resigned {
            return;
        }
        match input {
            LeaderInput::LocalEnd(end) => self.local_end(end, effects),
            LeaderInput::LogStart(start) => self.log_start(start),
            LeaderInput::Message { from, message } => self.message(now, from, message, effects),
            LeaderInput::FramesSent { to, session, next } => {
                if let Some(member) = self.members.get_mut(&to) {
                    member.sent(session, next);
                }
            }
            LeaderInput::SendingFailed { to, session, code } => {
                if self.stop(to, session) {
                    send(effects, (to, session), LeaderMessage::Refused(code));
                }
            }
            LeaderInput::Answered { id, answer } => {
                self.in_sync.answered(id, &answer, (now, &self.settings));
                if let AlterAnswer::Committed(state) = answer {
                    self.commit(state, effects);
                }
            }
            LeaderInput::Assigned(assignment) => self.assigned(now, assignment, effects),
            LeaderInput::Standings(standings) => self.stand(standings),
            LeaderInput::MinInSync(min) => self.settings.min_in_sync = min,
            LeaderInput::Tick => self.propose_leaving(now, effects),
        }
        if self.resigned {
            return;
        }
        self.propose_again(now, effects);
        self.propose_joining(now, effects);
        self.advance(effects);
        self.serve(effects);
    }

    /// Everything below is committed, and may be read.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The end that consumers may be told: the high watermark, but not before it has reached
    /// the start of this leader's epoch, as an earlier leader may have shown more. `None` is
    /// answered with `OFFSET_NOT_AVAILABLE`.
    #[must_use]
    pub fn visible_end(&self) -> Option<Offset> {
        let known =
            self.high_watermark >= self.epoch_start || is_planted(Planted::ExposedBeforeEpochStart);
        known.then_some(self.high_watermark)
    }

    /// Below this, produces are acknowledged.
    #[must_use]
    pub fn acknowledged_end(&self, acks: Acks) -> Offset {
        match acks {
            Acks::All if !is_planted(Planted::AckBeforeHighWatermark) => self.high_watermark,
            Acks::All | Acks::Leader => self.log.ends().durable,
        }
    }

    /// Whether a produce is taken now.
    #[must_use]
    pub fn admit(&self, acks: Acks) -> Admission {
        match acks {
            _ if self.resigned => Admission::NotLeader,
            Acks::All if !self.enough_in_sync() => Admission::NotEnoughReplicas,
            Acks::All | Acks::Leader => Admission::Accept,
        }
    }

    /// The committed in-sync set.
    #[must_use]
    pub fn in_sync(&self) -> &BTreeSet<BrokerId> {
        self.in_sync.committed()
    }

    /// The followers in the committed in-sync set whose logs were found to agree in this epoch, with
    /// their durable ends: all below is there for a consumer that reads from them.
    pub fn followers_in_sync(&self) -> impl Iterator<Item = (BrokerId, Offset)> {
        let in_sync = self.in_sync.committed().iter();
        in_sync.filter_map(|id| {
            let member = self.members.get(id).filter(|member| member.has_fetched())?;
            Some((*id, member.end()))
        })
    }

    /// The epoch of this leadership.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Where the log ended when this leadership began.
    #[must_use]
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// When it wants a [`LeaderInput::Tick`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let lagging = self.in_sync.committed().iter().filter_map(|replica| {
            let end = self.log.ends().durable;
            self.members
                .get(replica)?
                .lags_from(end, self.settings.max_lag_ms)
        });
        let lagging = lagging.min().filter(|_| self.in_sync.wanted().is_none());
        let deadlines = [lagging, self.in_sync.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Ends the role. Of the log, what was appended and does not count yet is unknown.
    pub(super) fn into_log(mut self) -> LogView {
        let end = self.log.ends().durable;
        self.log.accepted(end, &[self.own_epoch()]);
        self.log
    }

    fn local_end(&mut self, end: Offset, effects: &mut Vec<Effect>) {
        let ends = self.log.ends();
        if end < ends.durable {
            // Alone, it keeps what it has acknowledged as long as it can; nobody else has it.
            if self.members.is_empty() {
                return;
            }
            self.resigned = true;
            effects.push(Effect::Resign);
        } else if end > ends.durable {
            self.log.accepted(end, &[self.own_epoch()]);
            self.log.set_ends(LogEnds {
                durable: end,
                accepted: end,
                ..ends
            });
        }
    }

    fn own_epoch(&self) -> EpochStart {
        EpochStart {
            epoch: self.epoch,
            start: self.epoch_start,
        }
    }

    fn log_start(&mut self, start: Offset) {
        let ends = self.log.ends();
        let start = ends.start.max(start).min(ends.durable);
        self.log.set_ends(LogEnds { start, ..ends });
    }

    fn message(
        &mut self,
        now: Timestamp,
        from: BrokerId,
        message: FollowerMessage,
        effects: &mut Vec<Effect>,
    ) {
        let session = message.session();
        let result = match message {
            FollowerMessage::Subscribe {
                epoch, position, ..
            } => self
                .check(from, session, epoch)
                .and_then(|()| self.subscribe(now, (from, session), position)),
            FollowerMessage::Progress { epoch, end, .. } => self
                .check(from, session, epoch)
                .and_then(|()| self.progress(now, (from, session), end)),
            FollowerMessage::Unsubscribe { .. } => {
                self.stop(from, session);
                Ok(())
            }
        };
        if let Err(answer) = result {
            send(effects, (from, session), answer);
        }
    }

    /// Whether a message may be looked at.
    fn check(
        &self,
        from: BrokerId,
        session: SessionId,
        epoch: LeaderEpoch,
    ) -> Result<(), LeaderMessage> {
        let member = self.members.get(&from);
        let code = match epoch.cmp(&self.epoch) {
            std::cmp::Ordering::Less if !is_planted(Planted::SkippedFencing) => {
                ErrorCode::FencedLeaderEpoch
            }
            std::cmp::Ordering::Greater if !is_planted(Planted::SkippedFencing) => {
                ErrorCode::UnknownLeaderEpoch
            }
            _ => match member {
                None => ErrorCode::NotLeaderOrFollower,
                Some(member) if member.is_past(session) => ErrorCode::StaleBrokerEpoch,
                Some(_) => return Ok(()),
            },
        };
        Err(LeaderMessage::Refused(code))
    }

    fn subscribe(
        &mut self,
        now: Timestamp,
        (from, session): (BrokerId, SessionId),
        position: Position,
    ) -> Result<(), LeaderMessage> {
        let agreement = self.agree(position);
        let leader_end = self.log.ends().durable;
        let Some(member) = self.members.get_mut(&from) else {
            return Ok(());
        };
        if member.has_seen(session) {
            return Ok(());
        }
        match agreement {
            Ok(()) => {
                member.subscribed(session, position.end);
                member.reported(leader_end, now);
            }
            Err(_) => member.diverged(session),
        }
        agreement
    }

    /// Whether a log that stands there is a beginning of this one.
    fn agree(&self, position: Position) -> Result<(), LeaderMessage> {
        let ends = self.log.ends();
        let out_of_range = LeaderMessage::OutOfRange {
            log_start: ends.start,
        };
        if position.end < ends.start {
            return Err(out_of_range);
        }
        if is_planted(Planted::SkippedDivergence) && position.end <= ends.durable {
            return Ok(());
        }
        let Some(last) = position.last_epoch else {
            return match position.end <= ends.durable {
                true => Ok(()),
                false => Err(out_of_range),
            };
        };
        if !self.log.reaches_back_to(last) {
            // What it has above this log's start is not of this log. What it has below was
            // deleted here, so that nobody can say whether it ever was.
            return Err(out_of_range);
        }
        let found = self.log.end_of_epoch(last);
        match found.epoch == last && found.start >= position.end {
            true => Ok(()),
            false => Err(LeaderMessage::Diverging {
                epoch: found.epoch,
                end: found.start,
            }),
        }
    }

    fn progress(
        &mut self,
        now: Timestamp,
        (from, session): (BrokerId, SessionId),
        end: Offset,
    ) -> Result<(), LeaderMessage> {
        let leader_end = self.log.ends().durable;
        let member = self.members.get_mut(&from);
        let Some(member) = member.filter(|member| member.is_served_in(session)) else {
            return Ok(());
        };
        if end > leader_end {
            // Nothing above was ever sent: it is not told the truth.
            member.stop(session);
            return Err(LeaderMessage::Refused(ErrorCode::InvalidRequest));
        }
        member.progressed(end);
        member.reported(leader_end, now);
        Ok(())
    }

    fn stop(&mut self, replica: BrokerId, session: SessionId) -> bool {
        let member = self.members.get_mut(&replica);
        member.is_some_and(|member| member.stop(session))
    }

    fn stand(&mut self, standings: BTreeMap<BrokerId, Standing>) {
        for (replica, member) in &mut self.members {
            member.standing = standings.get(replica).copied().or(member.standing);
        }
        self.standings = standings;
    }

    /// Takes over a newer state of this epoch. Replicas may have been added or taken away.
    fn assigned(&mut self, now: Timestamp, assignment: Assignment, effects: &mut Vec<Effect>) {
        let newer = assignment.partition_epoch > self.in_sync.partition_epoch();
        if newer && assignment.leader_epoch == self.epoch {
            let replicas = &assignment.replicas;
            self.members.retain(|replica, _| replicas.contains(replica));
            for replica in replicas.iter().filter(|replica| **replica != self.broker) {
                let fresh = || Member::new(self.standings.get(replica).copied(), now);
                self.members.entry(*replica).or_insert_with(fresh);
            }
            self.commit(assignment.in_sync_state(), effects);
        }
    }

    /// A set without the leader is not of this leadership: it is about to end.
    fn commit(&mut self, state: InSyncState, effects: &mut Vec<Effect>) {
        if !state.in_sync.contains(&self.broker) {
            return;
        }
        let enough = self.enough_in_sync();
        self.in_sync.commit(state);
        if enough && !self.enough_in_sync() {
            effects.push(Effect::FailWaiting);
        }
    }

    fn propose_joining(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let everyone = self.in_sync.committed().len() > self.members.len();
        if everyone || !self.in_sync.may_propose(now) {
            return;
        }
        let least = match is_planted(Planted::JoinBelowEpochStart) {
            true => self.high_watermark,
            false => self.high_watermark.max(self.epoch_start),
        };
        let committed = self.in_sync.committed();
        let joining = self
            .members
            .iter()
            .filter(|(replica, member)| !committed.contains(replica) && member.may_join(least));
        let joining: Vec<_> = joining.map(|(replica, _)| *replica).collect();
        if !joining.is_empty() {
            let wanted = committed.iter().copied().chain(joining).collect();
            let id = self.in_sync.propose(wanted);
            self.send_proposal(id, effects);
        }
    }

    fn propose_leaving(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.in_sync.may_propose(now) {
            return;
        }
        let (end, max_lag) = (self.log.ends().durable, self.settings.max_lag_ms);
        let lags = |replica: &BrokerId| {
            let member = self.members.get(replica);
            let from = member.and_then(|member| member.lags_from(end, max_lag));
            from.is_some_and(|from| from <= now)
        };
        let committed = self.in_sync.committed();
        let rest: BTreeSet<_> = committed
            .iter()
            .copied()
            .filter(|replica| !lags(replica))
            .collect();
        if rest.len() < committed.len() {
            let id = self.in_sync.propose(rest);
            self.send_proposal(id, effects);
        }
    }

    fn propose_again(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Some(id) = self.in_sync.retry(now) {
            self.send_proposal(id, effects);
        }
    }

    fn send_proposal(&self, id: ProposalId, effects: &mut Vec<Effect>) {
        let life = |replica: &BrokerId| {
            let member = self.members.get(replica);
            (*replica, member.map_or(self.life, Member::life))
        };
        let wanted = self.in_sync.wanted().expect("a proposal is under way");
        effects.push(Effect::Propose(Proposal {
            id,
            leader_epoch: self.epoch,
            partition_epoch: self.in_sync.partition_epoch(),
            in_sync: wanted.iter().map(life).collect(),
        }));
    }

    fn advance(&mut self, effects: &mut Vec<Effect>) {
        if !self.enough_in_sync() && !is_planted(Planted::TooFewMembers) {
            return;
        }
        let lowest = self.in_sync.maximal().map(|replica| self.end_of(replica));
        let lowest = lowest.min().expect("the leader is in the set");
        let falls = lowest < self.high_watermark && is_planted(Planted::FallingHighWatermark);
        if lowest > self.high_watermark || falls {
            self.high_watermark = lowest;
            effects.push(Effect::HighWatermark(lowest));
        }
    }

    fn serve(&mut self, effects: &mut Vec<Effect>) {
        let ends = self.log.ends();
        let watermark = Watermark {
            high_watermark: self.high_watermark,
            log_start: ends.start,
            end: ends.durable,
        };
        for (&to, member) in &mut self.members {
            match member.next_sending(watermark) {
                None => {}
                Some(Sending::Frames(session, from)) => effects.push(Effect::SendFrames {
                    to,
                    session,
                    from,
                    watermark,
                    class: match ends.durable.0 - from.0 > self.settings.catch_up_lag {
                        true => PullClass::CatchUp,
                        false => PullClass::Live,
                    },
                }),
                Some(Sending::Watermark(session)) => {
                    send(effects, (to, session), LeaderMessage::Watermark(watermark));
                }
                Some(Sending::OutOfRange(session)) => {
                    let log_start = ends.start;
                    let message = LeaderMessage::OutOfRange { log_start };
                    send(effects, (to, session), message);
                }
            }
        }
    }

    fn enough_in_sync(&self) -> bool {
        let replicas = self.members.len() + 1;
        let min = (self.settings.min_in_sync as usize).min(replicas);
        self.in_sync.committed().len() >= min
    }

    fn end_of(&self, replica: BrokerId) -> Offset {
        match self.members.get(&replica) {
            Some(member) if member.has_fetched() => member.end(),
            Some(_) if is_planted(Planted::CountUnfetched) => self.epoch_start,
            Some(member) => member.end(),
            None if replica == self.broker => self.log.ends().durable,
            // It is no replica any more.
            None => Offset::ZERO,
        }
    }
}

fn send(effects: &mut Vec<Effect>, (to, session): (BrokerId, SessionId), message: LeaderMessage) {
    effects.push(Effect::Send {
        to,
        session,
        message,
    });
}
