//! A leader's view of one follower: how far it is, since when it keeps up, and what was sent
//! to it.

use millrace_model::{BrokerEpoch, Offset, Timestamp};

use super::{SessionId, Watermark};

/// A broker as the metadata knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its present uptime.
    pub life: BrokerEpoch,
    /// Whether its replicas may be in sync: it is neither fenced nor shutting down.
    pub eligible: bool,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The latest subscription.
    session: Option<SessionId>,
    /// Its durable end, known since its log was found to agree in this epoch.
    end: Option<Offset>,
    /// The latest time at which it had all that the leader had.
    caught_up: Timestamp,
    /// The leader's end when it last reported, and when that was.
    last_report: Option<(Offset, Timestamp)>,
    pub(super) standing: Option<Standing>,
    sender: Option<Sender>,
}

/// What goes out to a follower in its session.
#[derive(Clone, Copy, Debug)]
struct Sender {
    next: Offset,
    /// Frames are being sent.
    busy: bool,
    /// What it was told last.
    told: Option<Watermark>,
}

/// What to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    Frames(SessionId, Offset),
    Watermark(SessionId),
    /// What it needs was deleted.
    OutOfRange(SessionId),
}

impl Member {
    /// A follower of which nothing is known but that it may have kept up until now.
    pub(super) fn new(standing: Option<Standing>, now: Timestamp) -> Self {
        Self {
            session: None,
            end: None,
            caught_up: now,
            last_report: None,
            standing,
            sender: None,
        }
    }

    /// Whether this subscription is older than what is known.
    pub(super) fn is_past(&self, session: SessionId) -> bool {
        let registered = self.standing.map(|standing| standing.life);
        registered.is_some_and(|life| session.life < life)
    }

    /// Whether this subscription came already.
    pub(super) fn has_seen(&self, session: SessionId) -> bool {
        self.session.is_some_and(|seen| session <= seen)
    }

    /// A subscription whose log is a beginning of the leader's, up to `end`.
    pub(super) fn subscribed(&mut self, session: SessionId, end: Offset) {
        self.session = Some(session);
        self.end = Some(end);
        self.sender = Some(Sender {
            next: end,
            busy: false,
            told: None,
        });
    }

    /// A subscription whose log is not: of what it has, nothing is known.
    pub(super) fn diverged(&mut self, session: SessionId) {
        self.session = Some(session);
        self.end = None;
        self.sender = None;
    }

    /// It reported that it has everything below `end`.
    pub(super) fn progressed(&mut self, end: Offset) {
        self.end = self.end.max(Some(end));
    }

    /// It reported while the leader's end was `leader_end`.
    pub(super) fn reported(&mut self, leader_end: Offset, now: Timestamp) {
        let Some(end) = self.end else { return };
        if end >= leader_end {
            self.caught_up = self.caught_up.max(now);
        } else if let Some((_, at)) = self.last_report.filter(|(then, _)| end >= *then) {
            self.caught_up = self.caught_up.max(at);
        }
        self.last_report = Some((leader_end, now));
    }

    /// Frames up to `next` are on their way.
    pub(super) fn sent(&mut self, session: SessionId, next: Offset) {
        if let Some(sender) = self.sender_of(session) {
            sender.busy = false;
            sender.next = sender.next.max(next);
        }
    }

    /// Nothing more is sent in this session. Whether it was the present one.
    pub(super) fn stop(&mut self, session: SessionId) -> bool {
        let stopped = self.sender_of(session).is_some();
        if stopped {
            self.sender = None;
        }
        stopped
    }

    /// What to send now, given where the leader stands. It is taken for sent.
    pub(super) fn next_sending(&mut self, mark: Watermark) -> Option<Sending> {
        let session = self.session?;
        let sender = self.sender.as_mut().filter(|sender| !sender.busy)?;
        if sender.next < mark.log_start {
            self.diverged(session);
            return Some(Sending::OutOfRange(session));
        }
        if sender.next < mark.end {
            sender.busy = true;
            sender.told = Some(mark);
            return Some(Sending::Frames(session, sender.next));
        }
        if sender.told == Some(mark) {
            return None;
        }
        sender.told = Some(mark);
        Some(Sending::Watermark(session))
    }

    /// Whether it may join: eligible in the uptime in which it subscribed (KIP-903), and has
    /// what it must have.
    pub(super) fn may_join(&self, least: Offset) -> bool {
        let life = self.session.map(|session| session.life);
        let eligible = self
            .standing
            .is_some_and(|standing| standing.eligible && Some(standing.life) == life);
        eligible && self.end.is_some_and(|end| end >= least)
    }

    /// When it will have lagged for longer than `max_lag_ms`, if it is behind.
    pub(super) fn lags_from(&self, leader_end: Offset, max_lag_ms: i64) -> Option<Timestamp> {
        let behind = self.end.is_none_or(|end| end < leader_end);
        let from = self
            .caught_up
            .0
            .saturating_add(max_lag_ms)
            .saturating_add(1);
        behind.then_some(Timestamp(from))
    }

    /// Its durable end, zero while unknown.
    pub(super) fn end(&self) -> Offset {
        self.end.unwrap_or(Offset::ZERO)
    }

    /// Whether its end is known.
    pub(super) fn has_fetched(&self) -> bool {
        self.end.is_some()
    }

    /// The uptime in which it is known.
    pub(super) fn life(&self) -> BrokerEpoch {
        let subscribed = self.session.map(|session| session.life);
        let registered = self.standing.map(|standing| standing.life);
        subscribed.or(registered).unwrap_or_default()
    }

    /// Whether `session` is the one in which frames are sent.
    pub(super) fn is_served_in(&self, session: SessionId) -> bool {
        self.sender.is_some() && self.session == Some(session)
    }

    fn sender_of(&mut self, session: SessionId) -> Option<&mut Sender> {
        let current = self.session == Some(session);
        self.sender.as_mut().filter(|_| current)
    }
}
