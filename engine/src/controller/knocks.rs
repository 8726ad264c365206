//! Brokers whose process has ended, noticed before their silence tells.
//!
//! A host answers a datagram to a port that nobody has with a report of its own. So a broker that was
//! killed is told from one that is slow or cut off, and everybody watches for that. What follows is what follows silence, only
//! sooner: the leader of the quorum fences a broker, a follower of it asks for votes. Neither can do harm if the report is wrong.

use std::collections::BTreeSet;

use millrace_model::{BrokerId, Timestamp};
use millrace_replication::cluster::{BrokerState, LeaseInput};
use millrace_replication::quorum::Input;

use super::asks::later;
use super::core::Core;

/// Between two watches of one broker, of which each takes a moment itself or, where its end shows by itself,
/// a second.
const KNOCK_MS: u64 = 100;

/// Where it was knocked.
#[derive(Debug)]
pub(super) struct Knocks {
    at: Timestamp,
    /// At most one at each broker.
    under_way: BTreeSet<BrokerId>,
    /// Those that were gone the last time, so that it is said once.
    gone: BTreeSet<BrokerId>,
}

impl Knocks {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            at: now,
            under_way: BTreeSet::new(),
            gone: BTreeSet::new(),
        }
    }
}

impl Core {
    pub(super) fn tend_knocks(&mut self, now: Timestamp) {
        if now < self.knocks.at || self.is_alone() {
            return;
        }
        self.knocks.at = later(now, KNOCK_MS);
        for broker in self.missed() {
            if self.knocks.under_way.insert(broker) {
                self.wanted.knocks.push(broker);
            }
        }
    }

    /// Knocks wherever that is not under way, without waiting for the next time.
    pub(super) fn knock_at_once(&mut self, now: Timestamp) {
        self.knocks.at = now;
    }

    pub(super) fn knocks_deadline(&self) -> Option<Timestamp> {
        (!self.is_alone()).then_some(self.knocks.at)
    }

    /// What the network says of a broker.
    pub(super) fn knocked(&mut self, now: Timestamp, broker: BrokerId, is_gone: bool) {
        self.knocks.under_way.remove(&broker);
        if !is_gone {
            self.knocks.gone.remove(&broker);
            return;
        }
        if self.failure().is_some() {
            return;
        }
        if self.knocks.gone.insert(broker) {
            tracing::info!(%broker, "nobody is at the broker's port any more");
        }
        if self.is_ready_leader() {
            self.handle_lease(now, LeaseInput::Gone(broker));
        } else {
            self.feed(now, Input::Gone(broker));
        }
        self.tend_asks(now);
    }

    /// Those whose end would matter: to the leader of the quorum all that serve, to the others their leader,
    /// and to the clients of any broker those that lead partitions.
    fn missed(&self) -> BTreeSet<BrokerId> {
        let brokers = self.cluster.brokers();
        let serving = brokers.filter(|broker| broker.state != BrokerState::Fenced);
        let serving = serving.map(|broker| broker.id);
        let mut missed: BTreeSet<BrokerId> = serving.chain(self.quorum.leader()).collect();
        missed.remove(&self.identity.broker);
        missed
    }
}
