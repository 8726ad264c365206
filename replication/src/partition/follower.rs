//! A partition's follower: makes its log the leader's, and says how much of it is durable.
//!
//! **Invariant:** nothing is appended but frames that follow the log's end, of a session in
//! which the leader found the log to agree.
//! **Invariant:** what it states to a leader is durable.

use millrace_model::{
    BrokerEpoch, BrokerId, EpochStart, ErrorCode, LeaderEpoch, Offset, Timestamp,
};

use super::planted::{Planted, is_planted};
use super::{
    Effect, FollowerMessage, FramesHeader, LeaderMessage, LogEnds, LogView, PullClass,
    ReplicaSettings, SessionId, Watermark,
};

/// What happened to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowerInput {
    /// The log's ends changed. Told after each append, too.
    Log(LogEnds),
    /// The leader says something.
    Message {
        /// The session that it answers.
        session: SessionId,
        /// What it says.
        message: LeaderMessage,
    },
    /// The stream with this session is lost.
    StreamLost(SessionId),
    /// The frames that were to be appended were not. The log's ends are told after this.
    AppendFailed(ErrorCode),
    /// A truncation or a reset is done and durable; the log ends so now.
    Cut(LogEnds),
    /// Time has passed.
    Tick,
}

/// The state of a replica that follows.
#[derive(Clone, Debug)]
pub struct Follower {
    leader: BrokerId,
    epoch: LeaderEpoch,
    /// The latest session.
    session: SessionId,
    log: LogView,
    state: State,
    high_watermark: Offset,
    /// What the leader said last.
    mark: Option<Watermark>,
    /// Where the log was asked to start.
    asked_start: Offset,
    /// Failures in a row.
    failures: u32,
    class: PullClass,
    settings: ReplicaSettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits until all that the log has is durable.
    Settling,
    /// Has subscribed and waits to hear whether the logs agree.
    Subscribing { since: Timestamp },
    /// Stores what comes.
    Pulling,
    /// The log is truncated or reset.
    Cutting,
    /// Waits before it tries again.
    Pausing { until: Timestamp },
}

impl Follower {
    /// A follower of `leader` in `epoch`. `session` is the last that this replica used in its
    /// broker's present uptime; `high_watermark` what it knew.
    pub fn new(
        (leader, epoch): (BrokerId, LeaderEpoch),
        (session, high_watermark): (SessionId, Offset),
        log: LogView,
        settings: ReplicaSettings,
        (now, effects): (Timestamp, &mut Vec<Effect>),
    ) -> Self {
        let ends = log.ends();
        let mut follower = Self {
            leader,
            epoch,
            session,
            state: State::Settling,
            high_watermark: high_watermark.min(ends.durable),
            mark: None,
            asked_start: ends.start,
            failures: 0,
            class: PullClass::Live,
            log,
            settings,
        };
        if is_planted(Planted::TruncateToHighWatermark) && follower.high_watermark > ends.start {
            follower.cut(Effect::Truncate(follower.high_watermark), effects);
        }
        follower.subscribe_if_settled(now, effects);
        follower
    }

    /// Takes in what happened and adds to `effects` what follows from it.
    pub fn handle(&mut self, now: Timestamp, input: FollowerInput, effects: &mut Vec<Effect>) {
        match input {
            FollowerInput::Log(ends) => self.log_changed(now, ends, effects),
            FollowerInput::Message { session, message } => {
                if session == self.session && self.is_subscribed() {
                    self.message(now, message, effects);
                }
            }
            FollowerInput::StreamLost(session) => {
                if session == self.session && self.is_subscribed() {
                    self.pause(now);
                }
            }
            FollowerInput::AppendFailed(_) => {
                if self.is_subscribed() {
                    self.unsubscribe(effects);
                    self.pause(now);
                }
            }
            FollowerInput::Cut(ends) => self.was_cut(now, ends, effects),
            FollowerInput::Tick => self.tick(now, effects),
        }
    }

    /// Everything below is committed: the leader's high watermark, as far as this log has it.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The leader.
    #[must_use]
    pub fn leader(&self) -> BrokerId {
        self.leader
    }

    /// The leader epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Where the log may start: the leader's log start, as far as it is known. What lies behind it
    /// stays, so that whatever the leader has can be read here, too.
    #[must_use]
    pub fn keeps_from(&self) -> Offset {
        self.asked_start.max(self.log.ends().start)
    }

    /// How urgent its work is.
    #[must_use]
    pub fn class(&self) -> PullClass {
        self.class
    }

    /// Whether the leader found the logs to agree, and frames come.
    #[must_use]
    pub fn is_pulling(&self) -> bool {
        self.state == State::Pulling
    }

    /// When it wants a [`FollowerInput::Tick`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        match self.state {
            State::Subscribing { since } => {
                let timeout = self.settings.subscribe_timeout_ms;
                Some(Timestamp(since.0.saturating_add(timeout)))
            }
            State::Pausing { until } => Some(until),
            State::Settling | State::Pulling | State::Cutting => None,
        }
    }

    /// Ends the role: the log, whether it is being cut, and the last session used.
    pub(super) fn leave(mut self, effects: &mut Vec<Effect>) -> (LogView, bool, SessionId) {
        self.unsubscribe(effects);
        (self.log, self.state == State::Cutting, self.session)
    }

    fn log_changed(&mut self, now: Timestamp, ends: LogEnds, effects: &mut Vec<Effect>) {
        if self.state == State::Cutting {
            return;
        }
        let before = self.log.ends();
        self.log.set_ends(ends);
        if ends.accepted < before.accepted && self.is_subscribed() {
            // A write failed and was cut away: what comes next would leave a gap.
            self.unsubscribe(effects);
            self.pause(now);
        }
        let reported = match is_planted(Planted::ReportAccepted) {
            true => ends.accepted,
            false => ends.durable,
        };
        if self.state == State::Pulling && (ends != before) {
            self.pull(effects, |session, epoch| FollowerMessage::Progress {
                session,
                epoch,
                end: reported,
            });
        }
        self.follow_watermark(effects);
        if self.state == State::Settling {
            self.subscribe_if_settled(now, effects);
        }
    }

    fn message(&mut self, now: Timestamp, message: LeaderMessage, effects: &mut Vec<Effect>) {
        let accepted = match message {
            LeaderMessage::Frames(header) => self.frames(&header, effects),
            LeaderMessage::Watermark(mark) => {
                self.heard(mark, effects);
                true
            }
            LeaderMessage::Diverging { epoch, end } => self.diverging(epoch, end, effects),
            LeaderMessage::OutOfRange { log_start } => {
                self.cut(Effect::Reset(log_start), effects);
                true
            }
            LeaderMessage::Refused(_) => false,
        };
        if !accepted {
            self.unsubscribe(effects);
            self.pause(now);
        }
    }

    /// Has frames appended if they go on where the log ends. Whether the session goes on.
    fn frames(&mut self, header: &FramesHeader, effects: &mut Vec<Effect>) -> bool {
        let end = self.log.ends().accepted;
        if header.end <= end {
            // They came before.
            return true;
        }
        if header.base != end || !self.epochs_continue(header) {
            return false;
        }
        self.log.accepted(header.end, &header.epochs);
        effects.push(Effect::Append);
        self.heard(header.watermark, effects);
        true
    }

    /// Whether the epochs of a run of frames may follow those of the log.
    fn epochs_continue(&self, header: &FramesHeader) -> bool {
        let starts = &header.epochs;
        let begins = starts.first().is_some_and(|first| {
            first.start == header.base && self.log.last_epoch() <= Some(first.epoch)
        });
        let rising =
            |pair: &[EpochStart]| pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start;
        let ends = starts
            .last()
            .is_some_and(|last| last.start < header.end && last.epoch <= self.epoch);
        begins && ends && starts.windows(2).all(rising)
    }

    /// The leader's log has other records than this one from `end` of `epoch` on. Whether that
    /// can be.
    fn diverging(&mut self, epoch: LeaderEpoch, end: Offset, effects: &mut Vec<Effect>) -> bool {
        let ends = self.log.ends();
        let to = end.min(self.log.end_of_epoch(epoch).start);
        if to >= ends.accepted || self.state == State::Pulling {
            return false;
        }
        let effect = match to > ends.start {
            true => Effect::Truncate(to),
            false => Effect::Reset(to),
        };
        self.cut(effect, effects);
        true
    }

    fn cut(&mut self, effect: Effect, effects: &mut Vec<Effect>) {
        self.unsubscribe(effects);
        self.state = State::Cutting;
        effects.push(effect);
    }

    fn was_cut(&mut self, now: Timestamp, ends: LogEnds, effects: &mut Vec<Effect>) {
        if self.state != State::Cutting {
            return;
        }
        self.log.set_ends(ends);
        self.asked_start = ends.start;
        self.mark = None;
        self.know(self.high_watermark.min(ends.durable), effects);
        self.state = State::Settling;
        self.subscribe_if_settled(now, effects);
    }

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.state {
            State::Subscribing { .. } => {
                self.unsubscribe(effects);
                self.pause(now);
            }
            State::Pausing { .. } => {
                self.state = State::Settling;
                self.subscribe_if_settled(now, effects);
            }
            State::Settling | State::Pulling | State::Cutting => {}
        }
    }

    fn subscribe_if_settled(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.state != State::Settling || !self.log.ends().are_settled() {
            return;
        }
        self.session.number += 1;
        self.state = State::Subscribing { since: now };
        let position = self.log.position();
        self.pull(effects, |session, epoch| FollowerMessage::Subscribe {
            session,
            epoch,
            position,
        });
    }

    /// The leader has found the logs to agree.
    fn heard(&mut self, mark: Watermark, effects: &mut Vec<Effect>) {
        self.state = State::Pulling;
        self.failures = 0;
        let newer = |before: Watermark| Watermark {
            high_watermark: before.high_watermark.max(mark.high_watermark),
            log_start: before.log_start.max(mark.log_start),
            end: before.end.max(mark.end),
        };
        let mark = self.mark.map_or(mark, newer);
        self.mark = Some(mark);
        let behind = mark.end.0.saturating_sub(self.log.ends().accepted.0);
        let limit = match self.class {
            PullClass::Live => self.settings.catch_up_lag,
            PullClass::CatchUp => self.settings.catch_up_lag / 2,
        };
        let class = match behind > limit {
            true => PullClass::CatchUp,
            false => PullClass::Live,
        };
        if class != self.class {
            self.class = class;
            effects.push(Effect::Class(class));
        }
        self.follow_watermark(effects);
    }

    /// The high watermark and the log start follow the leader's.
    fn follow_watermark(&mut self, effects: &mut Vec<Effect>) {
        let (Some(mark), ends) = (self.mark, self.log.ends()) else {
            return;
        };
        self.know(mark.high_watermark.min(ends.durable), effects);
        let start = mark.log_start.min(self.high_watermark);
        if start > ends.start.max(self.asked_start) {
            self.asked_start = start;
            effects.push(Effect::SetLogStart(start));
        }
    }

    fn know(&mut self, high_watermark: Offset, effects: &mut Vec<Effect>) {
        if high_watermark != self.high_watermark {
            self.high_watermark = high_watermark;
            effects.push(Effect::HighWatermark(high_watermark));
        }
    }

    fn pause(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.settings.backoff_ms(self.failures);
        let until = Timestamp(now.0.saturating_add(pause));
        self.state = State::Pausing { until };
    }

    fn unsubscribe(&mut self, effects: &mut Vec<Effect>) {
        if self.is_subscribed() {
            self.pull(effects, |session, _| FollowerMessage::Unsubscribe {
                session,
            });
        }
    }

    fn pull(
        &self,
        effects: &mut Vec<Effect>,
        message: impl FnOnce(SessionId, LeaderEpoch) -> FollowerMessage,
    ) {
        effects.push(Effect::Pull {
            to: self.leader,
            message: message(self.session, self.epoch),
        });
    }

    fn is_subscribed(&self) -> bool {
        matches!(self.state, State::Subscribing { .. } | State::Pulling)
    }
}

/// The session before the first of an uptime.
impl From<BrokerEpoch> for SessionId {
    fn from(life: BrokerEpoch) -> Self {
        Self { life, number: 0 }
    }
}
