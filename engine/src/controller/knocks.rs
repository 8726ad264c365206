//! Brokers whose process has ended, noticed before their silence tells.
//!
//! A host answers a datagram to a port that nobody has with a report of its own. So a broker that was
//! killed is told from one that is slow or cut off: whoever leads the quorum knocks at every broker
//! that serves, and a follower at its leader. What follows is what follows silence, only
//! sooner: a broker is fenced, a follower asks for votes. Neither can do harm if the report is wrong.

use std::collections::BTreeSet;

use millrace_model::{BrokerId, Timestamp};
use millrace_replication::cluster::{BrokerState, LeaseInput};
use millrace_replication::quorum::Input;

use super::asks::later;
use super::core::Core;

/// Between two knocks: a datagram to each broker, and part of the time for which a dead leader is missed.
const KNOCK_MS: u64 = 100;

/// Where it was knocked.
#[derive(Debug)]
pub(super) struct Knocks {
    at: Timestamp,
    /// At most one at each broker.
    under_way: BTreeSet<BrokerId>,
}

impl Knocks {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            at: now,
            under_way: BTreeSet::new(),
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

    pub(super) fn knocks_deadline(&self) -> Option<Timestamp> {
        (!self.is_alone()).then_some(self.knocks.at)
    }

    /// What the network says of a broker.
    pub(super) fn knocked(&mut self, now: Timestamp, broker: BrokerId, is_gone: bool) {
        self.knocks.under_way.remove(&broker);
        if !is_gone || self.failure().is_some() {
            return;
        }
        tracing::info!(%broker, "nobody is at the broker's port any more");
        if self.is_ready_leader() {
            self.handle_lease(now, LeaseInput::Gone(broker));
        } else {
            self.feed(now, Input::Gone(broker));
        }
        self.tend_asks(now);
    }

    /// Those whose end would matter to this node.
    fn missed(&self) -> Vec<BrokerId> {
        if self.is_ready_leader() {
            let brokers = self.cluster.brokers();
            let serving = brokers.filter(|broker| broker.state != BrokerState::Fenced);
            let others = serving.filter(|broker| broker.id != self.identity.broker);
            return others.map(|broker| broker.id).collect();
        }
        let leader = self.quorum.leader();
        leader
            .into_iter()
            .filter(|leader| *leader != self.identity.broker)
            .collect()
    }
}
