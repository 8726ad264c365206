//! This broker's own life in the cluster: it registers, says that it is alive, and goes.

use std::time::Duration;

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, Timestamp};
use millrace_replication::Refusal;
use millrace_replication::cluster::{
    Ask, Command, FEATURE_LEVELS, Heartbeat, LeaseInput, PeerAnswer, PeerRequest, Registration,
};
use millrace_replication::quorum::{Input, PeerStatus};

use super::asks::{Asker, later};
use super::client::Outcome;
use super::core::Core;

/// Between two attempts to register. While a former life holds a lease, it takes a few.
const REGISTER_AGAIN_MS: u64 = 200;

/// Before a leader that founds the cluster looks whether it is founded.
const FOUNDING_MS: u64 = 10;

/// Between two heartbeats of a broker that wants to stop: its leaders move within a few.
const STOPPING_INTERVAL_MS: u64 = 20;

/// How long a broker that wants to stop waits for that.
const STOP_PATIENCE_MS: u64 = 10_000;

/// How long it waits while the quorum has no leader. An election takes a fraction of it; when the whole
/// cluster stops, the last brokers have nobody to give anything to.
const STOP_WITHOUT_LEADER_MS: u64 = 2_000;

/// What the controller asks for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// To be registered.
    Register,
    /// What a leader wants. It asks again when it still does.
    Lead,
}

/// Where this broker is in its life.
#[derive(Debug)]
pub(super) struct Lifecycle {
    register_at: Timestamp,
    registering: bool,
    beat_at: Timestamp,
    /// The call of the heartbeat on its way.
    beating: Option<u64>,
    stop: Option<Stop>,
    /// What was last said about registering, so that it is said once.
    complaint: Option<ErrorCode>,
}

#[derive(Debug)]
struct Stop {
    until: Timestamp,
    waiting: Vec<flume::Sender<()>>,
    may: bool,
    /// Since when nobody leads the quorum.
    leaderless: Option<Timestamp>,
}

impl Stop {
    /// When waiting is over, whatever comes.
    fn deadline(&self) -> Timestamp {
        match self.leaderless {
            Some(since) => self.until.min(later(since, STOP_WITHOUT_LEADER_MS)),
            None => self.until,
        }
    }
}

impl Lifecycle {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            register_at: now,
            registering: false,
            beat_at: now,
            beating: None,
            stop: None,
            complaint: None,
        }
    }
}

impl Core {
    /// How this broker announces itself.
    pub(super) fn registration(&self, clean_from: Option<BrokerEpoch>) -> Registration {
        let identity = &self.identity;
        Registration {
            cluster: identity.cluster,
            id: identity.broker,
            incarnation: identity.incarnation,
            clean_from,
            rack: identity.rack.clone(),
            endpoints: identity.endpoints.clone(),
            shards: identity.shards,
            features: FEATURE_LEVELS,
        }
    }

    pub(super) fn tend_life(&mut self, now: Timestamp) {
        if self.is_alone() {
            return self.tend_stop(now);
        }
        match self.life() {
            Some(epoch) => self.beat_when_due(now, epoch),
            None => self.register_when_due(now),
        }
        self.tend_stop(now);
    }

    pub(super) fn life_deadline(&self) -> Timestamp {
        let life = &self.lifecycle;
        let next = match self.life() {
            Some(_) if life.beating.is_some() => Timestamp(i64::MAX),
            Some(_) => life.beat_at,
            None if life.registering => Timestamp(i64::MAX),
            None => life.register_at,
        };
        let stop = life
            .stop
            .as_ref()
            .filter(|it| !it.waiting.is_empty())
            .map_or(Timestamp(i64::MAX), Stop::deadline);
        next.min(stop)
    }

    fn register_when_due(&mut self, now: Timestamp) {
        if self.lifecycle.registering || now < self.lifecycle.register_at {
            return;
        }
        if self.cluster.id().is_none() && self.is_ready_leader() {
            // It is about to found the cluster.
            self.lifecycle.register_at = later(now, FOUNDING_MS);
            return;
        }
        self.lifecycle.registering = true;
        let registration = self.registration(self.identity.clean_from);
        let command = Command::Register(registration);
        self.ask(
            now,
            Ask::Command(command),
            Asker::Own(Errand::Register),
            false,
        );
    }

    /// What the controller asked for itself has come to an end.
    pub(super) fn errand_done(&mut self, now: Timestamp, errand: Errand, outcome: &Outcome) {
        if errand == Errand::Lead {
            return;
        }
        self.lifecycle.registering = false;
        self.lifecycle.register_at = later(now, REGISTER_AGAIN_MS);
        match outcome {
            Ok(_) => {
                self.lifecycle.complaint = None;
                self.lifecycle.beat_at = now;
                tracing::info!("this broker is registered in the cluster");
            }
            Err(refusal) => self.complain(refusal),
        }
    }

    fn complain(&mut self, refusal: &Refusal) {
        if self.lifecycle.complaint.replace(refusal.code) != Some(refusal.code) {
            tracing::warn!(%refusal, "this broker is not registered in the cluster, and tries again");
        }
    }

    fn beat_when_due(&mut self, now: Timestamp, epoch: BrokerEpoch) {
        if now < self.lifecycle.beat_at {
            return;
        }
        self.lifecycle.beat_at = later(now, self.beat_interval_ms());
        if self.is_ready_leader() {
            self.beat_myself(now);
        } else if let Some(leader) = self.leader_to_ask()
            && leader != self.identity.broker
            && self.lifecycle.beating.is_none()
        {
            let beat = PeerRequest::Heartbeat(self.beat(epoch));
            let patience = Duration::from_millis(2 * self.identity.heartbeat_interval_ms);
            self.lifecycle.beating = Some(self.call(leader, &beat, patience));
        }
    }

    /// This broker leads the quorum, and is alive, for it says so.
    pub(super) fn beat_myself(&mut self, now: Timestamp) {
        let Some(epoch) = self.life() else {
            return;
        };
        let beat = self.beat(epoch);
        let answer = self.handle_lease(now, LeaseInput::Heartbeat(beat));
        if let Some(PeerAnswer::Heartbeat { may_stop, .. }) = answer {
            self.may_stop(may_stop);
        }
    }

    fn beat(&self, epoch: BrokerEpoch) -> Heartbeat {
        Heartbeat {
            broker: self.identity.broker,
            epoch,
            applied: self.applied,
            wants_to_stop: self.lifecycle.stop.is_some(),
        }
    }

    fn beat_interval_ms(&self) -> u64 {
        match self.lifecycle.stop {
            Some(_) => STOPPING_INTERVAL_MS,
            None => self.identity.heartbeat_interval_ms,
        }
    }

    pub(super) fn beat_answered(
        &mut self,
        now: Timestamp,
        id: u64,
        result: Result<PeerAnswer, Refusal>,
    ) {
        if self.lifecycle.beating != Some(id) {
            return;
        }
        self.lifecycle.beating = None;
        match result {
            Ok(PeerAnswer::Heartbeat { code, may_stop, .. }) => {
                match code {
                    ErrorCode::None => {}
                    // The leader that was asked has been replaced, or is about to find out.
                    ErrorCode::NotController => {
                        self.misdirected(now, None);
                        self.lifecycle.beat_at = later(now, 50);
                    }
                    code => self.complain(&Refusal::new(code, "a heartbeat does not count")),
                }
                self.may_stop(may_stop);
            }
            Ok(_) | Err(_) => {
                self.misdirected(now, None);
                self.lifecycle.beat_at = self.lifecycle.beat_at.min(later(now, 50));
            }
        }
        self.tend_life(now);
    }

    /// The leader is another: a heartbeat to the former one is not waited for.
    pub(super) fn recall_beat(&mut self, now: Timestamp) {
        self.lifecycle.beating = None;
        self.lifecycle.beat_at = now;
    }

    /// This broker is going to stop.
    pub(super) fn prepare_to_stop(&mut self, now: Timestamp, reply: flume::Sender<()>) {
        let until = later(now, STOP_PATIENCE_MS);
        let stop = self.lifecycle.stop.get_or_insert(Stop {
            until,
            waiting: Vec::new(),
            may: false,
            leaderless: None,
        });
        stop.waiting.push(reply);
        self.lifecycle.beat_at = now;
        self.tend_life(now);
        self.tend_asks(now);
    }

    fn may_stop(&mut self, may: bool) {
        if let Some(stop) = self.lifecycle.stop.as_mut() {
            stop.may |= may;
        }
    }

    fn tend_stop(&mut self, now: Timestamp) {
        let is_alone = self.is_alone() || self.life().is_none() || self.failure().is_some();
        let has_leader = self.quorum.leader().is_some();
        let Some(stop) = self.lifecycle.stop.as_mut() else {
            return;
        };
        stop.leaderless = match has_leader {
            true => None,
            false => stop.leaderless.or(Some(now)),
        };
        if stop.waiting.is_empty() || !(stop.may || is_alone || now >= stop.deadline()) {
            return;
        }
        let waiting = std::mem::take(&mut stop.waiting);
        stop.until = Timestamp(i64::MAX);
        self.hand_over();
        for reply in waiting {
            let _ = reply.try_send(());
        }
    }

    /// Gives the lead of the quorum to the voter that has come furthest.
    pub(super) fn hand_over(&mut self) {
        let status = self.quorum.status();
        let is_voter = |peer: &&PeerStatus| status.membership.voters.contains(&peer.id);
        let best = status.peers.iter().filter(is_voter);
        if let Some(PeerStatus { id, .. }) = best.max_by_key(|peer| peer.matched) {
            let to: BrokerId = *id;
            self.queue(Input::TransferLeadership { to });
        }
    }
}
