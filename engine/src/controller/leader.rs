//! What falls to the broker that leads the quorum: it founds the cluster, hears heartbeats, gives
//! brokers up, and moves leaders back to where they belong.

use millrace_model::{BrokerId, ErrorCode, Timestamp};
use millrace_replication::cluster::{
    Ask, Command, ElectionKind, FEATURE_LEVELS, Heartbeat, LeaseEffect, LeaseInput, PeerAnswer,
};
use millrace_replication::quorum::{MembershipChange, Term};

use super::asks::later;
use super::core::Core;
use super::voters::VOTERS_INTERVAL_MS;

/// Between two looks at the balance of leaders. The first comes one such time after an election, so that
/// what an election has moved settles first.
const BALANCE_INTERVAL_MS: u64 = 5_000;

/// Leaders moved at a time: each costs its partition's clients a refresh.
const MOVES_AT_A_TIME: usize = 50;

/// Partitions that leave cordoned brokers at a time: each is copied as a whole.
const DRAINS_AT_A_TIME: usize = 4;

/// Between two looks at leases.
const LOOK_MS: u64 = 50;

/// A look that comes later than this was held up on this broker, not at those that it judges.
const STALL_MS: u64 = 300;

/// A term of this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leading {
    term: Term,
    /// Everything from before the term is applied.
    ready: bool,
    balance_at: Timestamp,
    /// When it is next looked at who votes.
    voters_at: Timestamp,
    /// When leases were last looked at.
    looked_at: Timestamp,
    founding: bool,
}

impl Leading {
    pub(super) fn new(term: Term) -> Self {
        Self {
            term,
            ready: false,
            balance_at: Timestamp(i64::MAX),
            voters_at: Timestamp(i64::MAX),
            looked_at: Timestamp(i64::MAX),
            founding: false,
        }
    }
}

impl Core {
    /// Whether this node leads, and its state is as late as any answer that was ever given.
    pub(super) fn is_ready_leader(&self) -> bool {
        self.leading.is_some_and(|leading| leading.ready)
    }

    /// An entry of this term is applied: if it is the term in which this node leads, so is all that
    /// came before.
    pub(super) fn confirm_leadership(&mut self, now: Timestamp, term: Term) {
        let Some(leading) = self.leading.as_mut() else {
            return;
        };
        if leading.term != term || leading.ready {
            return;
        }
        leading.ready = true;
        leading.balance_at = later(now, BALANCE_INTERVAL_MS);
        leading.voters_at = later(now, VOTERS_INTERVAL_MS);
        leading.looked_at = now;
        self.handle_lease(now, LeaseInput::Lead);
        // The leader before this one is mostly gone.
        self.knock_at_once(now);
    }

    pub(super) fn tend_leadership(&mut self, now: Timestamp) {
        let Some(leading) = self.leading.filter(|leading| leading.ready) else {
            return;
        };
        if self.is_alone() {
            return;
        }
        if self.cluster.id().is_none() && !leading.founding {
            let command = Command::Found {
                cluster: self.identity.cluster,
                level: FEATURE_LEVELS.most,
            };
            if let Some(leading) = self.leading.as_mut() {
                leading.founding = true;
            }
            self.ask_myself(now, Ask::Command(command));
        }
        if now >= later(leading.looked_at, LOOK_MS) {
            self.look_at_leases(now, leading.looked_at);
        }
        if now >= leading.voters_at {
            if let Some(leading) = self.leading.as_mut() {
                leading.voters_at = later(now, VOTERS_INTERVAL_MS);
            }
            self.look_at_voters(now);
        }
        if now >= leading.balance_at {
            self.balance(now);
        }
    }

    /// Gives up who is silent.
    fn look_at_leases(&mut self, now: Timestamp, last: Timestamp) {
        if now >= later(last, STALL_MS) {
            // Heartbeats may wait in a queue behind this look: nobody is given up for that.
            tracing::debug!("looks at leases late, and waits for every broker anew");
            self.handle_lease(now, LeaseInput::Lead);
        }
        if let Some(leading) = self.leading.as_mut() {
            leading.looked_at = now;
        }
        self.beat_myself(now);
        self.handle_lease(now, LeaseInput::Tick);
    }

    pub(super) fn leadership_deadline(&self) -> Option<Timestamp> {
        let leading = self.leading.filter(|leading| leading.ready)?;
        let look = later(leading.looked_at, LOOK_MS);
        Some(look.min(leading.balance_at).min(leading.voters_at))
    }

    /// A heartbeat of another broker.
    pub(super) fn heard(&mut self, now: Timestamp, from: BrokerId, beat: Heartbeat) -> PeerAnswer {
        let refused = |code| PeerAnswer::Heartbeat {
            code,
            fenced: true,
            may_stop: false,
        };
        if from != beat.broker {
            return refused(ErrorCode::ClusterAuthorizationFailed);
        }
        if !self.is_ready_leader() {
            return refused(ErrorCode::NotController);
        }
        let answer = self.handle_lease(now, LeaseInput::Heartbeat(beat));
        answer.unwrap_or_else(|| refused(ErrorCode::NotController))
    }

    /// Puts an input to the leases, and proposes what they want.
    pub(super) fn handle_lease(&mut self, now: Timestamp, input: LeaseInput) -> Option<PeerAnswer> {
        let mut effects = Vec::new();
        self.leases.handle(now, &self.cluster, input, &mut effects);
        let mut answer = None;
        for effect in effects {
            match effect {
                LeaseEffect::Propose(command) => {
                    tracing::info!(?command, "proposes for a broker's lease");
                    self.ask_myself(now, Ask::Command(command));
                }
                LeaseEffect::Answer {
                    code,
                    fenced,
                    may_stop,
                    ..
                } => {
                    answer = Some(PeerAnswer::Heartbeat {
                        code,
                        fenced,
                        may_stop,
                    });
                }
            }
        }
        answer
    }

    /// Makes a registered broker a member of the quorum that is none: it registers again and again
    /// because it does not hear the quorum's log.
    pub(super) fn welcome(&mut self, from: BrokerId, ask: &Ask) {
        let Ask::Command(Command::Register(registration)) = ask else {
            return;
        };
        let is_registered = self.cluster.is_life_of(from, registration.incarnation);
        let is_member = || self.quorum.status().membership.contains(from);
        if self.is_ready_leader() && is_registered && !is_member() {
            tracing::info!(broker = %from, "joins the metadata quorum as a learner");
            self.change_membership(MembershipChange::AddLearner(from));
        }
    }

    /// Moves a few leaders back to their preferred replicas, and a few replicas off cordoned brokers.
    fn balance(&mut self, now: Timestamp) {
        if let Some(leading) = self.leading.as_mut() {
            leading.balance_at = later(now, BALANCE_INTERVAL_MS);
        }
        let moves = self.cluster.unbalanced_leaders(MOVES_AT_A_TIME);
        if !moves.is_empty() {
            tracing::info!(
                count = moves.len(),
                "moves leaders back to their preferred replicas"
            );
            let partitions = moves.iter().map(|it| it.log).collect();
            let kind = ElectionKind::Preferred;
            self.ask_myself(
                now,
                Ask::Command(Command::ElectLeaders { kind, partitions }),
            );
        }
        for (partition, target) in self.cluster.drains(DRAINS_AT_A_TIME) {
            let target = Some(target);
            self.ask_myself(now, Ask::Command(Command::Reassign { partition, target }));
        }
    }
}
