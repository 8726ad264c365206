//! Who is alive: the part of the quorum's leader that watches heartbeats.
//!
//! A broker that serves renews its lease with each heartbeat. When the leader has not heard one for
//! the session's time, it proposes to fence the broker; when a fenced one has caught up with its
//! own registration, to unfence it. What is proposed takes effect when it is applied, and only then.
//! Leases are in the leader's memory only: a new leader grants everybody half a session, so that
//! nobody is fenced for an election. It is enough, for whoever hears of a new leader beats at once, and
//! the broker that led before is mostly the one that has died: its partitions wait for this.
//!
//! A process that ended need not be waited for: where the network says that nobody is at a broker's port
//! any more ([`LeaseInput::Gone`]), it is fenced at once. That is believed once: a life that
//! beats on after it is reached by heartbeats only, and then only its silence counts.
//!
//! **Invariant:** a broker is proposed to be fenced only if nothing was heard of this life of it, in
//! this term, for a whole session, or since the term began for half of one, or the network said once
//! that it is gone.

use std::collections::BTreeMap;

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, Timestamp};

use super::{BrokerState, Cluster, Command};
use crate::quorum::Index;

/// How patient the leader is; the same on every broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// `broker.session.timeout.ms`. Brokers beat several times in it.
    pub session_timeout_ms: u64,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            // A partition whose leader died waits for this and one commit: within a second. A
            // broker that was only slow loses little, for its leaders move to replicas in sync.
            session_timeout_ms: 900,
        }
    }
}

/// A broker says that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The broker.
    pub broker: BrokerId,
    /// Its life.
    pub epoch: BrokerEpoch,
    /// The metadata that it has applied.
    pub applied: Index,
    /// Whether it wants to stop.
    pub wants_to_stop: bool,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseInput {
    /// This node leads the quorum from now on, and has applied what came before.
    Lead,
    /// It leads no more.
    Resign,
    /// A broker's heartbeat.
    Heartbeat(Heartbeat),
    /// The network says that nobody is at this broker's port: its process has ended.
    Gone(BrokerId),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    /// Propose this. It may get lost; it is asked for again.
    Propose(Command),
    /// Answer a heartbeat.
    Answer {
        /// Whose.
        broker: BrokerId,
        /// [`ErrorCode::None`], or why the heartbeat does not count.
        code: ErrorCode,
        /// Whether it must not serve.
        fenced: bool,
        /// Whether it wanted to stop and nothing depends on it any more.
        may_stop: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    epoch: BrokerEpoch,
    until: Timestamp,
    /// What was proposed last, and until when it may still be on its way.
    asked: Option<Ask>,
    patient_until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Unfence,
    Fence,
    Shutdown,
}

impl Ask {
    fn command(self, broker: BrokerId, epoch: BrokerEpoch) -> Command {
        match self {
            Self::Unfence => Command::Unfence { broker, epoch },
            Self::Fence => Command::Fence { broker, epoch },
            Self::Shutdown => Command::BeginShutdown { broker, epoch },
        }
    }
}

/// The network's word that a broker is gone.
#[derive(Clone, Copy, Debug)]
struct Report {
    /// Of which life.
    epoch: BrokerEpoch,
    /// Heartbeats until then may have been on their way when it ended, and do not count.
    believed_until: Timestamp,
}

/// The leases of a leader. Empty in everybody else.
#[derive(Debug)]
pub struct Leases {
    settings: LeaseSettings,
    leads: bool,
    leases: BTreeMap<BrokerId, Lease>,
    /// Of lives that may still be proposed to be fenced, or beat on.
    reports: BTreeMap<BrokerId, Report>,
}

impl Leases {
    /// Those of a node that does not lead.
    #[must_use]
    pub fn new(settings: LeaseSettings) -> Self {
        Self {
            settings,
            leads: false,
            leases: BTreeMap::new(),
            reports: BTreeMap::new(),
        }
    }

    /// Takes one input, with the state as it is applied here.
    pub fn handle(
        &mut self,
        now: Timestamp,
        cluster: &Cluster,
        input: LeaseInput,
        effects: &mut Vec<LeaseEffect>,
    ) {
        match input {
            LeaseInput::Lead => {
                self.leads = true;
                self.leases.clear();
                self.reports.clear();
                self.meet(now, cluster);
                let until = later(now, self.settings.session_timeout_ms / 2);
                self.leases.values_mut().for_each(|it| it.until = until);
            }
            LeaseInput::Resign => {
                self.leads = false;
                self.leases.clear();
                self.reports.clear();
            }
            LeaseInput::Heartbeat(heartbeat) => self.beat(now, cluster, heartbeat, effects),
            LeaseInput::Gone(broker) => self.report(now, cluster, broker, effects),
            LeaseInput::Tick => self.tick(now, cluster, effects),
        }
    }

    /// When the next lease runs out.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let due = |lease: &Lease| lease.until.max(lease.patient_until);
        self.leases.values().map(due).min()
    }

    fn beat(
        &mut self,
        now: Timestamp,
        cluster: &Cluster,
        heartbeat: Heartbeat,
        effects: &mut Vec<LeaseEffect>,
    ) {
        let Heartbeat { broker, epoch, .. } = heartbeat;
        let known = cluster.broker(broker);
        let code = match known {
            _ if !self.leads => ErrorCode::NotController,
            None => ErrorCode::BrokerIdNotRegistered,
            Some(known) if known.epoch != epoch => ErrorCode::StaleBrokerEpoch,
            Some(_) => ErrorCode::None,
        };
        let state = known.map_or(BrokerState::Fenced, |known| known.state);
        let is_valid = code == ErrorCode::None;
        effects.push(LeaseEffect::Answer {
            broker,
            code,
            fenced: state == BrokerState::Fenced || !is_valid,
            may_stop: is_valid
                && heartbeat.wants_to_stop
                && state != BrokerState::Active
                && cluster.may_stop(broker),
        });
        if !is_valid || self.is_believed_gone(now, broker, epoch) {
            return;
        }
        let until = later(now, self.settings.session_timeout_ms);
        self.lease(now, broker, epoch).until = until;
        let ask = match (state, heartbeat.wants_to_stop) {
            (BrokerState::Fenced, false) if heartbeat.applied.0 >= epoch.0 => Ask::Unfence,
            (BrokerState::Active, true) => Ask::Shutdown,
            _ => return,
        };
        self.propose(now, broker, ask, effects);
    }

    fn report(
        &mut self,
        now: Timestamp,
        cluster: &Cluster,
        broker: BrokerId,
        effects: &mut Vec<LeaseEffect>,
    ) {
        let Some(known) = cluster.broker(broker).filter(|_| self.leads) else {
            return;
        };
        let epoch = known.epoch;
        let was_told = |told: &Report| told.epoch == epoch;
        if known.state == BrokerState::Fenced || self.reports.get(&broker).is_some_and(was_told) {
            return;
        }
        let believed_until = later(now, self.settings.session_timeout_ms / 2);
        let report = Report {
            epoch,
            believed_until,
        };
        self.reports.insert(broker, report);
        self.lease(now, broker, epoch).until = now;
        self.propose(now, broker, Ask::Fence, effects);
    }

    fn is_believed_gone(&self, now: Timestamp, broker: BrokerId, epoch: BrokerEpoch) -> bool {
        let is_it = |told: &Report| told.epoch == epoch && now < told.believed_until;
        self.reports.get(&broker).is_some_and(is_it)
    }

    fn tick(&mut self, now: Timestamp, cluster: &Cluster, effects: &mut Vec<LeaseEffect>) {
        if !self.leads {
            return;
        }
        self.meet(now, cluster);
        let is_due = |lease: &Lease| now >= lease.until && now >= lease.patient_until;
        let due: Vec<BrokerId> = self
            .leases
            .iter()
            .filter(|(_, lease)| is_due(lease))
            .map(|(&broker, _)| broker)
            .collect();
        for broker in due {
            self.propose(now, broker, Ask::Fence, effects);
        }
    }

    /// Begins leases of those that serve, and ends those of who is gone, another, or fenced and
    /// silent. One that is fenced and beats keeps its lease, so that what was proposed for it is
    /// remembered.
    fn meet(&mut self, now: Timestamp, cluster: &Cluster) {
        let serves = |broker: &super::Broker| broker.state != BrokerState::Fenced;
        self.leases.retain(|broker, lease| {
            let known = cluster.broker(*broker);
            let beats = now < lease.until;
            known.is_some_and(|known| known.epoch == lease.epoch && (serves(known) || beats))
        });
        self.reports.retain(|broker, told| {
            let known = cluster.broker(*broker);
            known.is_some_and(|known| known.epoch == told.epoch)
        });
        for broker in cluster.brokers().filter(|broker| serves(broker)) {
            self.lease(now, broker.id, broker.epoch);
        }
    }

    fn lease(&mut self, now: Timestamp, broker: BrokerId, epoch: BrokerEpoch) -> &mut Lease {
        let fresh = Lease {
            epoch,
            until: later(now, self.settings.session_timeout_ms),
            asked: None,
            patient_until: now,
        };
        let lease = self.leases.entry(broker).or_insert(fresh);
        if lease.epoch != epoch {
            *lease = fresh;
        }
        lease
    }

    fn propose(
        &mut self,
        now: Timestamp,
        broker: BrokerId,
        ask: Ask,
        effects: &mut Vec<LeaseEffect>,
    ) {
        let Some(lease) = self.leases.get_mut(&broker) else {
            return;
        };
        if lease.asked == Some(ask) && now < lease.patient_until {
            return;
        }
        lease.asked = Some(ask);
        lease.patient_until = later(now, self.settings.session_timeout_ms / 2);
        effects.push(LeaseEffect::Propose(ask.command(broker, lease.epoch)));
    }
}

fn later(now: Timestamp, ms: u64) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
}
