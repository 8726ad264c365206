//! How a broker finds the quorum's leader when it does not hear of one: it asks the brokers that it
//! knows who there is, one after the other.
//!
//! It is a broker that joins, which nobody in the quorum knows yet, or one that has been
//! struck off or given another place while it was away, and whose own log says otherwise. Of those
//! that it knows, by its configuration, its log and what others have told it, one that is
//! alive and of the cluster is enough: it names the leader and where everybody is.
//!
//! Who is a member waits first: it hears of the next leader by the quorum itself.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_model::{BrokerId, Timestamp};
use millrace_replication::Refusal;
use millrace_replication::cluster::{
    Acquaintance, Broker, Introduction, MAX_ACQUAINTANCES, PeerAnswer, PeerRequest,
};

use super::asks::later;
use super::core::Core;
use super::listeners::QUIC_LISTENER;

/// How long a member of the quorum waits for a leader before it asks: several elections.
const LOST_MS: u64 = 2_000;

/// Between two questions.
const ASK_AGAIN_MS: u64 = 100;

/// How long an answer may take. A broker that is away must not hold up the next one for long.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Meeting {
    /// Since when no leader is heard of.
    leaderless: Option<Timestamp>,
    /// Who leads by the word of another broker.
    told: Option<BrokerId>,
    /// Who else there is by such words.
    acquaintances: BTreeSet<BrokerId>,
    /// The question on its way.
    asking: Option<u64>,
    not_before: Timestamp,
    turn: usize,
}

impl Meeting {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            leaderless: None,
            told: None,
            acquaintances: BTreeSet::new(),
            asking: None,
            not_before: now,
            turn: 0,
        }
    }
}

impl Core {
    /// Who leads: by the quorum, else by the word of another broker.
    pub(super) fn leader_to_ask(&self) -> Option<BrokerId> {
        self.quorum.leader().or(self.meeting.told)
    }

    /// Who was asked does not lead, or is not reached.
    pub(super) fn misdirected(&mut self, now: Timestamp, to: Option<BrokerId>) {
        if self.meeting.told.is_some() && (to.is_none() || self.meeting.told == to) {
            self.meeting.told = None;
            self.meeting.not_before = later(now, ASK_AGAIN_MS);
        }
    }

    pub(super) fn tend_meeting(&mut self, now: Timestamp) {
        if self.is_alone() {
            return;
        }
        if self.quorum.leader().is_some() {
            self.meeting.leaderless = None;
            self.meeting.told = None;
            return;
        }
        self.meeting.leaderless.get_or_insert(now);
        if self.meeting_at().is_none_or(|at| now < at) {
            return;
        }
        self.meeting.not_before = later(now, ASK_AGAIN_MS);
        let Some(to) = self.next_to_meet() else {
            return;
        };
        self.meeting.asking = Some(self.call(to, &PeerRequest::Introduce, PATIENCE));
    }

    /// When somebody is to be asked, if nothing else comes first.
    pub(super) fn meeting_at(&self) -> Option<Timestamp> {
        let meeting = &self.meeting;
        let since = meeting.leaderless?;
        if meeting.asking.is_some() || meeting.told.is_some() {
            return None;
        }
        let me = self.identity.broker;
        let patient = match self.quorum.status().membership.contains(me) {
            true => later(since, LOST_MS),
            false => since,
        };
        Some(patient.max(meeting.not_before))
    }

    /// Whether this was the answer to a question of who there is.
    pub(super) fn met(
        &mut self,
        now: Timestamp,
        id: u64,
        result: &Result<PeerAnswer, Refusal>,
    ) -> bool {
        if self.meeting.asking != Some(id) {
            return false;
        }
        self.meeting.asking = None;
        self.meeting.not_before = later(now, ASK_AGAIN_MS);
        match result {
            Ok(PeerAnswer::Introduction(Introduction { leader, brokers })) => {
                let me = self.identity.broker;
                self.meeting.told = leader.filter(|leader| *leader != me);
                let known = &mut self.meeting.acquaintances;
                known.extend(brokers.iter().map(|broker| broker.broker));
                while known.len() > MAX_ACQUAINTANCES {
                    known.pop_last();
                }
                self.wanted.acquaintances.extend(brokers.iter().cloned());
            }
            Ok(_) => tracing::debug!("a broker answered another question than who there is"),
            Err(refusal) => tracing::debug!(%refusal, "a broker does not say who there is"),
        }
        true
    }

    /// Who there is, for one who asks.
    pub(super) fn introduction(&self) -> Introduction {
        Introduction {
            leader: self.quorum.leader(),
            brokers: self.cluster.brokers().filter_map(acquaintance).collect(),
        }
    }

    /// Whom to ask next: everybody in turn whom the configuration, the log or others have named.
    fn next_to_meet(&mut self) -> Option<BrokerId> {
        let me = self.identity.broker;
        let membership = self.quorum.status().membership;
        let mut known: BTreeSet<BrokerId> = self.identity.voters.iter().copied().collect();
        known.extend(membership.members());
        known.extend(self.cluster.brokers().map(|broker| broker.id));
        known.extend(&self.meeting.acquaintances);
        known.remove(&me);
        let turn = self.meeting.turn.checked_rem(known.len())?;
        self.meeting.turn = turn + 1;
        known.into_iter().nth(turn)
    }
}

fn acquaintance(broker: &Broker) -> Option<Acquaintance> {
    let quic = broker.endpoint(QUIC_LISTENER)?;
    Some(Acquaintance {
        broker: broker.id,
        host: quic.host.clone(),
        port: quic.port,
        shards: broker.shards,
    })
}
