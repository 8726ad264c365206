//! One node of the metadata quorum: Raft, as a machine without I/O.
//!
//! A few brokers, the *voters*, agree on one log of commands: the metadata of the cluster.
//! One of them leads for a *term*; a command is *committed* when a majority has it on disk,
//! and from then on it is part of the log for ever. *Learners* follow without a vote. One
//! broker alone is a quorum of one and commits what is on its own disk.
//!
//! The protocol is that of Ongaro's dissertation ("Consensus: Bridging Theory and Practice",
//! 2014): elections (3.4) with a pre-vote round and voters that stand by a live leader
//! (9.6, 4.2.3), a leader that steps down when it no longer hears from a majority (6.2),
//! membership changes of one server at a time (4.1) in the form that his correction of 2015
//! demands (no change before the leader has committed in its own term), snapshots in parts
//! (5), transfer of leadership (3.10).
//!
//! # The way of an input
//! [`Quorum::handle`] takes the time and one [`Input`] and fills a list of [`Effect`]s, which
//! the shell carries out in order before the next input. [`Quorum::deadline`] says when it
//! wants to be woken. The machine keeps the log since the last snapshot in memory; metadata
//! is small. What must be durable before it is said is not left to the shell's care:
//!
//! **Invariant:** a message that promises something (a vote, entries held, a term) leaves
//! only after [`Input::Persisted`] for the write that holds the promise. Until then the machine
//! keeps it; when the term moves on meanwhile, it is dropped.
//! **Invariant:** a node counts itself, as voter or as holder of entries, by what is durable.
//! **Invariant:** `applied <= min(commit, durable)`, and what is applied never changes.
//! **Invariant:** a message from a peer never makes the machine panic. Bytes become a
//! [`Message`] through a bounded decoder; fields that contradict each other, or what
//! this node knows to be committed, are a [`Violation`], reported and without consequence.
//!
//! # Why no library
//! TiKV's `raft` 0.7 (2023, the latest release) was tried first. Its `prost` codec
//! needs `protoc` on the machine that builds; its default one runs a `protoc` binary
//! out of a build dependency and links `protobuf` 2.28 (RUSTSEC-2024-0437). It draws election timeouts
//! from a generator of the thread, so that the same seed would not give the same history. And it
//! answers a dozen malformed messages of a peer with a panic, so every field would have
//! to be checked before it, against state that it keeps to itself. `openraft` brings its tasks and runtime
//! along. What is needed here is small, and the simulator in `tests/quorum` has to
//! be there in any case: it runs thousands of histories of this machine in seconds.
//!
//! # Absent here
//! - The commands' meaning: [`crate::cluster`].
//! - Reads through the log. Shards read an image that may be a moment old; whatever must not be
//!   stale is a command.
//! - A voter that lost its disk. It must be removed and added again before it comes back, or
//!   it could vote twice in one term.

mod election;
mod entry;
mod io;
mod limits;
mod log;
mod membership;
mod message;
mod peer;
mod recovery;
mod replicate;
mod role;
mod snapshot;
mod status;
mod step;
mod wire;

pub use entry::{Entry, HardState, Index, Payload, Snapshot, SnapshotMeta, Term};
pub use io::{Effect, Input, LogTail, ProposalId, Refused, SnapshotWrite, Write, WriteId};
pub(crate) use limits::MAX_PROMOTION_LAG;
pub use limits::{
    MAX_COMMAND_LEN, MAX_MEMBERS, MAX_MESSAGE_LEN, MAX_SNAPSHOT_LEN, MAX_UNCOMMITTED,
};
pub use membership::{Membership, MembershipChange};
pub use message::{Appended, Body, Message};
pub use recovery::{Recovered, RecoveryError};
pub use status::{MemberReport, PeerStatus, QuorumReport, QuorumStatus, RoleName};
pub use step::Violation;
pub use wire::WireError;

use std::collections::{BTreeMap, VecDeque};

use millrace_model::{BrokerId, Timestamp};

use log::Log;
use role::Role;
use snapshot::Incoming;

/// How this node behaves; the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumSettings {
    /// How long a follower waits for its leader before it asks for votes, at least; at most
    /// twice as long, drawn anew each time.
    pub election_timeout_ms: u64,
    /// How often a leader with nothing to say speaks.
    pub heartbeat_interval_ms: u64,
    /// Applied entries after which a snapshot is wanted.
    pub entries_per_snapshot: u64,
    /// Entries kept behind a snapshot, so that a peer that lags a little needs no snapshot.
    pub entries_kept: u64,
}

impl Default for QuorumSettings {
    fn default() -> Self {
        Self {
            // A failover is this, a vote and two writes: well within a second.
            election_timeout_ms: 400,
            heartbeat_interval_ms: 80,
            entries_per_snapshot: 10_000,
            entries_kept: 1_000,
        }
    }
}

/// A node.
#[derive(Debug)]
pub struct Quorum {
    id: BrokerId,
    settings: QuorumSettings,
    random: fastrand::Rng,
    hard: HardState,
    role: Role,
    log: Log,
    commit: Index,
    applied: Index,
    /// When a follower or candidate loses patience.
    election_deadline: Timestamp,
    /// Until then this node stands by the leader it has heard.
    loyal_until: Timestamp,
    incoming: Option<Incoming>,
    /// An installed snapshot that is being written; nothing is applied meanwhile.
    restoring: Option<(WriteId, Snapshot)>,
    /// A snapshot of our own that is being written.
    compacting: Option<(WriteId, Snapshot)>,
    snapshot_asked_at: Index,
    /// What was proposed here and is not yet resolved.
    proposals: BTreeMap<(Index, Term), ProposalId>,
    /// Term and leader as they were last said.
    announced: (Term, Option<BrokerId>),
    writes: Writes,
}

/// What is on its way to the disk, and what waits for it.
#[derive(Debug, Default)]
struct Writes {
    last: WriteId,
    /// Not yet durable, in order, with the log's end in each.
    pending: VecDeque<(WriteId, Index, Term)>,
    /// Messages, each with the write that it waits for.
    held: VecDeque<(WriteId, Message)>,
    /// Messages of the input in hand.
    outbox: Vec<Message>,
    hard_changed: bool,
    snapshot: Option<SnapshotWrite>,
}

impl Quorum {
    /// A node with what its disk holds. `seed` only spreads election timeouts; it should
    /// differ between nodes.
    ///
    /// # Errors
    /// What the disk holds contradicts itself.
    pub fn new(
        id: BrokerId,
        settings: QuorumSettings,
        recovered: Recovered,
        seed: u64,
        now: Timestamp,
    ) -> Result<Self, RecoveryError> {
        let log = Log::recover(recovered.snapshot, recovered.entries)?;
        let base = log.snapshot().meta.index;
        let mut node = Self {
            id,
            settings,
            random: fastrand::Rng::with_seed(seed),
            hard: recovered.hard_state,
            role: Role::follower(None),
            log,
            commit: base,
            applied: base,
            election_deadline: now,
            loyal_until: now,
            incoming: None,
            restoring: None,
            compacting: None,
            snapshot_asked_at: base,
            proposals: BTreeMap::new(),
            announced: (recovered.hard_state.term, None),
            writes: Writes::default(),
        };
        if node.hard.term < node.log.last_term() {
            return Err(RecoveryError::Term {
                state: node.hard.term,
                log: node.log.last_term(),
            });
        }
        node.election_deadline = match node.is_alone() {
            // Nobody else could win: there is nothing to wait for.
            true => now,
            false => node.draw_deadline(now),
        };
        Ok(node)
    }

    /// Takes one input. The effects are appended to `effects`, to be carried out in order
    /// before the next input.
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => self.tick(now, effects),
            Input::Message(message) => {
                let from = message.from;
                if let Err(violation) = self.step(now, message, effects) {
                    effects.push(Effect::Violated { from, violation });
                }
            }
            Input::Persisted(write) => self.persisted(now, write, effects),
            Input::Propose { id, command } => self.propose(id, command, effects),
            Input::ChangeMembership { id, change } => {
                self.change_membership(now, id, change, effects)
            }
            Input::Gone(broker) => self.lose_leader(now, broker),
            Input::TransferLeadership { to } => self.transfer(to, effects),
            Input::SnapshotTaken { index, data } => self.snapshot_taken(index, data),
        }
        self.finish(now, effects);
    }

    /// When the machine wants [`Input::Tick`], at the latest.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        match &self.role {
            Role::Leader(leader) => leader.heartbeat_at.min(leader.quorum_until),
            _ => self.election_deadline,
        }
    }

    /// This node's number.
    #[must_use]
    pub const fn id(&self) -> BrokerId {
        self.id
    }

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if matches!(self.role, Role::Leader(_)) {
            self.leader_tick(now, effects);
        } else if now >= self.election_deadline {
            self.campaign(now, effects);
        }
    }

    /// Completes an input: asks for the write, releases or holds what is to be sent, applies.
    fn finish(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.advance_commit();
        self.send_appends(effects);
        self.submit(effects);
        self.apply(effects);
        self.leave_when_removed(now);
        self.announce(effects);
    }

    fn submit(&mut self, effects: &mut Vec<Effect>) {
        let entries = self.log.take_unsubmitted();
        let snapshot = self.writes.snapshot.take();
        let hard_state = std::mem::take(&mut self.writes.hard_changed).then_some(self.hard);
        if !entries.is_empty() || snapshot.is_some() || hard_state.is_some() {
            self.writes.last = self.writes.last.next();
            let id = self.writes.last;
            let end = (id, self.log.last_index(), self.log.last_term());
            self.writes.pending.push_back(end);
            if let Some(SnapshotWrite { snapshot, tail }) = &snapshot {
                let slot = match tail {
                    LogTail::Discard => &mut self.restoring,
                    LogTail::Keep => &mut self.compacting,
                };
                *slot = Some((id, snapshot.clone()));
            }
            effects.push(Effect::Persist(Write {
                id,
                hard_state,
                snapshot,
                entries,
            }));
        }
        let waits = !self.writes.pending.is_empty();
        for message in self.writes.outbox.drain(..) {
            match waits {
                true => self.writes.held.push_back((self.writes.last, message)),
                false => effects.push(Effect::Send(message)),
            }
        }
    }

    fn persisted(&mut self, now: Timestamp, write: WriteId, effects: &mut Vec<Effect>) {
        while let Some(&(id, index, term)) = self.writes.pending.front() {
            if id > write {
                break;
            }
            self.writes.pending.pop_front();
            self.log.persisted(index, term);
        }
        if let Some((_, snapshot)) = self.restoring.take_if(|(id, _)| *id <= write) {
            self.applied = snapshot.meta.index;
            self.commit = self.commit.max(self.applied);
            self.snapshot_asked_at = self.applied;
            self.drop_proposals_to(self.applied, effects);
            effects.push(Effect::Restore(snapshot));
        }
        if let Some((_, snapshot)) = self.compacting.take_if(|(id, _)| *id <= write) {
            self.log.compact(snapshot, self.settings.entries_kept);
        }
        while let Some((_, message)) = self.writes.held.pop_front_if(|(id, _)| *id <= write) {
            effects.push(Effect::Send(message));
        }
        if self.writes.pending.is_empty() {
            self.count_own_vote(now);
        }
    }

    /// Says to a peer what holds only once all that was asked for so far is durable.
    fn promise(&mut self, to: BrokerId, body: Body) {
        let message = self.message(to, body);
        self.writes.outbox.push(message);
    }

    fn message(&self, to: BrokerId, body: Body) -> Message {
        Message {
            from: self.id,
            to,
            term: self.hard.term,
            body,
        }
    }

    /// Enters a later term, without a vote in it.
    fn enter_term(&mut self, term: Term) {
        assert!(term > self.hard.term, "terms only grow");
        self.hard = HardState { term, vote: None };
        self.writes.hard_changed = true;
        // What was promised in an earlier term must not be said after this one began.
        self.writes.held.clear();
        self.writes.outbox.clear();
        self.incoming = None;
    }
}
