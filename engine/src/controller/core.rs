//! Feeds the machines and sorts what they want into what the task does. Nothing here awaits.
//!
//! **Invariant:** the effects of one input are carried out before the next input.
//! **Invariant:** the cluster is what the quorum's log makes of it up to `applied`.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use millrace_model::{BrokerEpoch, BrokerId, Timestamp};
use millrace_replication::cluster::{
    Acquaintance, Answer, Changed, Cluster, Command, LeaseInput, Leases, PeerRequest, Voters,
};
use millrace_replication::quorum::{
    Effect, Entry, Index, Input, Message, Payload, ProposalId, Quorum, Snapshot, Term, Write,
    WriteId,
};

use super::asks::Asks;
use super::inquiries::Inquiries;
use super::knocks::Knocks;
use super::leader::Leading;
use super::lifecycle::Lifecycle;
use super::meet::Meeting;
use super::{ControllerIdentity, ControllerStatus, Published};

/// Changes of partitions and the like that are replayed at start before a snapshot of our own is
/// due: some 20 ms.
const CHANGES_PER_SNAPSHOT: usize = 30_000;

/// A call of another controller, to be answered with its number.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) to: BrokerId,
    pub(super) request: Bytes,
    /// How long the answer may take.
    pub(super) patience: Duration,
}

/// What the task shall do.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Make durable, in order; then [`Core::persisted`].
    pub(super) writes: Vec<Write>,
    /// Send.
    pub(super) messages: Vec<Message>,
    /// Ask; then [`Core::called`].
    pub(super) calls: Vec<Call>,
    /// Ask the network whether these are gone; then [`Core::knocked`].
    pub(super) knocks: Vec<BrokerId>,
    /// Where brokers are to be found, by the word of another.
    pub(super) acquaintances: Vec<Acquaintance>,
}

/// The machines and what belongs to them.
pub(super) struct Core {
    pub(super) identity: ControllerIdentity,
    pub(super) quorum: Quorum,
    pub(super) cluster: Cluster,
    pub(super) leases: Leases,
    pub(super) voters: Voters,
    /// The last entry of any kind that is applied.
    pub(super) applied: Index,
    pub(super) leading: Option<Leading>,
    pub(super) asks: Asks,
    pub(super) inquiries: Inquiries,
    pub(super) lifecycle: Lifecycle,
    pub(super) knocks: Knocks,
    pub(super) meeting: Meeting,
    pub(super) wanted: Wanted,
    /// What was changed and is not yet published.
    changes: Vec<Changed>,
    changes_since_snapshot: usize,
    inputs: VecDeque<Input>,
    next_call: u64,
    failure: Option<String>,
    /// The disk takes no writes for now.
    full: bool,
}

impl Core {
    pub(super) fn new(
        identity: ControllerIdentity,
        quorum: Quorum,
        cluster: Cluster,
        now: Timestamp,
    ) -> Self {
        let applied = quorum.status().applied;
        let leases = Leases::new(identity.leases);
        let voters = Voters::new(identity.voter_settings);
        Self {
            identity,
            quorum,
            cluster,
            leases,
            voters,
            applied,
            leading: None,
            asks: Asks::default(),
            inquiries: Inquiries::new(),
            lifecycle: Lifecycle::new(now),
            knocks: Knocks::new(now),
            meeting: Meeting::new(now),
            wanted: Wanted::default(),
            changes: Vec::new(),
            changes_since_snapshot: 0,
            inputs: VecDeque::new(),
            next_call: 0,
            failure: None,
            full: false,
        }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// This broker's uptime, once this run of it is registered.
    pub(super) fn life(&self) -> Option<BrokerEpoch> {
        let known = self.cluster.broker(self.identity.broker)?;
        (known.incarnation == self.identity.incarnation).then_some(known.epoch)
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn status(&self) -> ControllerStatus {
        ControllerStatus {
            quorum: self.quorum.status(),
            life: self.life(),
            failure: self.failure.clone(),
        }
    }

    /// Whether nobody else can be reached, now or later: then time means nothing.
    pub(super) fn is_alone(&self) -> bool {
        !self.identity.has_peers
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.failure.is_some() {
            return;
        }
        if now >= self.quorum.deadline() {
            self.feed(now, Input::Tick);
        }
        self.tend_life(now);
        self.tend_leadership(now);
        self.tend_knocks(now);
        self.tend_meeting(now);
        self.tend_asks(now);
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        if self.failure.is_some() {
            return None;
        }
        let asks = self.asks.deadline();
        if self.is_alone() && self.leading.is_some() && self.life().is_some() {
            return asks;
        }
        let leadership = self.leadership_deadline();
        let others = [
            Some(self.quorum.deadline()),
            Some(self.life_deadline()),
            leadership,
            self.knocks_deadline(),
            self.meeting_at(),
            asks,
        ];
        others.into_iter().flatten().min()
    }

    /// A message of the quorum has arrived from this broker.
    pub(super) fn arrived(&mut self, now: Timestamp, from: BrokerId, bytes: &Bytes) {
        if self.failure.is_some() {
            return;
        }
        match Message::from_bytes(bytes) {
            Ok(message) if message.from == from => self.feed(now, Input::Message(message)),
            Ok(message) => {
                tracing::warn!(%from, claimed = %message.from, "a broker speaks for another in the metadata quorum");
            }
            Err(error) => tracing::warn!(%from, %error, "a message of the metadata quorum"),
        }
        self.tend_asks(now);
    }

    /// These writes and all before are durable.
    pub(super) fn persisted(&mut self, now: Timestamp, write: WriteId) {
        self.full = false;
        self.feed(now, Input::Persisted(write));
        self.tend_life(now);
        self.tend_asks(now);
    }

    /// The disk is full for now. A leader that cannot write hands over to one that can.
    pub(super) fn disk_is_full(&mut self) {
        self.full = true;
        if self.leading.is_some() && !self.is_alone() {
            self.hand_over();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// This node no longer knows what it holds, or cannot carry out what was decided.
    pub(super) fn fail(&mut self, cause: String) {
        if self.failure.is_none() {
            tracing::error!(%cause, "the metadata quorum goes on without this broker until it is restarted");
            self.failure = Some(cause);
            self.refuse_all();
        }
    }

    /// What changed since this was last asked, if anything did.
    pub(super) fn publish(&mut self) -> Option<Published> {
        if self.changes.is_empty() {
            return None;
        }
        Some(Published {
            cluster: self.cluster.clone(),
            changes: std::mem::take(&mut self.changes),
            life: self.life(),
        })
    }

    /// Puts an input into the quorum, and carries out what follows. Never called by what carries
    /// out an effect: that queues.
    pub(super) fn feed(&mut self, now: Timestamp, input: Input) {
        self.inputs.push_back(input);
        self.feed_queued(now);
    }

    pub(super) fn feed_queued(&mut self, now: Timestamp) {
        let mut effects = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            if self.failure.is_some() {
                self.inputs.clear();
                return;
            }
            self.quorum.handle(now, input, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(now, effect);
            }
        }
    }

    /// Queues an input, to be fed by whoever is outside of all effects.
    pub(super) fn queue(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// Asks another controller.
    pub(super) fn call(&mut self, to: BrokerId, request: &PeerRequest, patience: Duration) -> u64 {
        self.next_call += 1;
        let id = self.next_call;
        let request = request.to_bytes().into();
        self.wanted.calls.push(Call {
            id,
            to,
            request,
            patience,
        });
        id
    }

    fn carry_out(&mut self, now: Timestamp, effect: Effect) {
        match effect {
            Effect::Persist(write) => self.wanted.writes.push(write),
            Effect::Send(message) => self.wanted.messages.push(message),
            Effect::Committed { entry, proposal } => self.commit(now, &entry, proposal),
            Effect::Restore(snapshot) => self.restore(&snapshot),
            Effect::SnapshotWanted { .. } => self.take_snapshot(),
            Effect::BecameLeader { term } => self.lead(now, term),
            Effect::BecameFollower { term, leader } => self.follow(now, term, leader),
            Effect::Refused { id, why } => self.ask_refused(now, id, why),
            Effect::Violated { from, violation } => {
                tracing::warn!(%from, %violation, "a message of the metadata quorum was ignored");
            }
        }
    }

    fn commit(&mut self, now: Timestamp, entry: &Entry, proposal: Option<ProposalId>) {
        self.applied = entry.index;
        if let (Payload::Membership(_), Some(id)) = (&entry.payload, proposal) {
            self.ask_done(now, id, entry.index, Ok(Answer::Done));
        }
        if let Payload::Command(bytes) = &entry.payload {
            let command = match Command::from_bytes(bytes) {
                Ok(command) => command,
                Err(error) => {
                    self.fail(format!(
                        "entry {} of the metadata log: {error}",
                        entry.index
                    ));
                    return;
                }
            };
            let outcome = self.cluster.apply(entry.index, &command);
            let outcome = outcome.map(|applied| {
                self.changes_since_snapshot += applied.changes.len();
                self.changes.extend(applied.changes);
                applied.answer
            });
            if let Some(id) = proposal {
                self.ask_done(now, id, entry.index, outcome);
            }
        }
        self.confirm_leadership(now, entry.term);
        if self.changes_since_snapshot >= CHANGES_PER_SNAPSHOT {
            self.take_snapshot();
        }
    }

    fn restore(&mut self, snapshot: &Snapshot) {
        match Cluster::from_snapshot(&snapshot.data) {
            Ok(cluster) => {
                self.changes.extend(self.cluster.changes_to(&cluster));
                self.cluster = cluster;
                self.applied = snapshot.meta.index;
                self.changes_since_snapshot = 0;
                tracing::info!(index = %self.applied, "took the metadata from a snapshot of the leader");
            }
            Err(error) => self.fail(format!("the leader's snapshot: {error}")),
        }
    }

    fn take_snapshot(&mut self) {
        self.changes_since_snapshot = 0;
        let data = self.cluster.to_snapshot().into();
        let index = self.applied;
        self.inputs.push_back(Input::SnapshotTaken { index, data });
    }

    fn lead(&mut self, now: Timestamp, term: Term) {
        if !self.is_alone() {
            tracing::info!(%term, "this broker leads the metadata quorum");
        }
        self.leading = Some(Leading::new(term));
        self.voters.lead();
        self.recall_asks(Some(self.identity.broker));
        self.recall_beat(now);
    }

    fn follow(&mut self, now: Timestamp, term: Term, leader: Option<BrokerId>) {
        match leader {
            Some(leader) => tracing::info!(%term, %leader, "follows in the metadata quorum"),
            None => tracing::info!(%term, "the metadata quorum has no leader that is known here"),
        }
        if self.leading.take().is_some() {
            let mut none = Vec::new();
            self.leases
                .handle(now, &self.cluster, LeaseInput::Resign, &mut none);
        }
        self.recall_asks(leader);
        self.recall_beat(now);
    }
}
