//! Changes on their way.
//!
//! A change waits until a leader of the quorum is known. If that is this node, and its state is
//! as late as it must be, the change is judged on it and proposed; else the leader is asked. What
//! comes back and was not done waits again, for [`PATIENCE_MS`] in all. A change whose fate is
//! unknown, because its leader was lost, is asked for again and marked so: the leader then knows
//! that what it finds done may be what is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use millrace_model::{BrokerId, ErrorCode, Timestamp};
use millrace_replication::Refusal;
use millrace_replication::cluster::{
    Answer, Ask, Cluster, ClusterRequest, Command, PeerAnswer, PeerRequest, VoterChange,
};
use millrace_replication::quorum::{
    Index, Input, Membership, MembershipChange, ProposalId, Refused,
};

use super::client::{Outcome, PeerReply, Reply};
use super::core::Core;
use super::inquiries::reported;
use super::lifecycle::Errand;

/// How long a change looks for a leader that does it. An election takes one second at worst.
const PATIENCE_MS: u64 = 10_000;

/// How long another controller may take to answer. A change takes it a few durable writes.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Before a change is asked for again that was turned away.
const RETRY_MS: u64 = 50;

/// Changes on their way at a time; each is a request of a client's session, which waits for it.
const MAX_ASKS: usize = 8_192;

/// Who asks.
#[derive(Debug)]
pub(super) enum Asker {
    /// A shard of this broker.
    Client(Reply),
    /// Another broker, because this one leads.
    Peer(PeerReply),
    /// The controller itself.
    Own(Errand),
}

#[derive(Debug)]
pub(super) struct Pending {
    ask: Ask,
    from: Asker,
    deadline: Timestamp,
    not_before: Timestamp,
    again: bool,
}

/// An outcome that waits until the shards have seen what it is about.
#[derive(Debug)]
struct Told {
    at: Index,
    reply: Reply,
    outcome: Outcome,
    deadline: Timestamp,
}

/// Changes, by where they are.
#[derive(Debug, Default)]
pub(super) struct Asks {
    waiting: VecDeque<Pending>,
    proposed: BTreeMap<ProposalId, Pending>,
    called: BTreeMap<u64, (BrokerId, Pending)>,
    told: Vec<Told>,
    last_proposal: ProposalId,
}

impl Asks {
    /// When one of them has waited for long enough.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let waiting = self.waiting.iter().map(|it| match it.not_before {
            NOW => it.deadline,
            later => later.min(it.deadline),
        });
        let others = self.proposed.values();
        let others = others.chain(self.called.values().map(|(_, it)| it));
        let told = self.told.iter().map(|it| it.deadline);
        waiting
            .chain(others.map(|it| it.deadline))
            .chain(told)
            .min()
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.proposed.len() + self.called.len() + self.told.len()
    }
}

/// The time of what need not wait.
const NOW: Timestamp = Timestamp(i64::MIN);

impl Core {
    /// Takes a change on its way. It is tended to by [`Self::tend_asks`].
    pub(super) fn ask(&mut self, now: Timestamp, ask: Ask, from: Asker, again: bool) {
        let pending = Pending {
            ask,
            from,
            deadline: later(now, PATIENCE_MS),
            not_before: NOW,
            again,
        };
        if let Some(refusal) = self.refuses_all() {
            self.answer(now, pending, self.applied, Err(refusal));
        } else if self.asks.len() >= MAX_ASKS {
            let refusal = Refusal::new(
                ErrorCode::RequestTimedOut,
                "too many changes of the metadata wait; try again",
            );
            self.answer(now, pending, self.applied, Err(refusal));
        } else {
            self.asks.waiting.push_back(pending);
        }
    }

    /// As [`Self::ask`], by the controller itself, as a leader. Lost when it no longer leads.
    pub(super) fn ask_myself(&mut self, now: Timestamp, ask: Ask) {
        self.ask(now, ask, Asker::Own(Errand::Lead), false);
    }

    /// What another controller asks.
    pub(super) fn serve(
        &mut self,
        now: Timestamp,
        from: BrokerId,
        request: &Bytes,
        reply: PeerReply,
    ) {
        match PeerRequest::from_bytes(request) {
            Err(error) => {
                tracing::warn!(%from, %error, "a request of another broker's controller");
                let refusal = Refusal::new(ErrorCode::InvalidRequest, error.to_string());
                let _ = reply.try_send(Err(refusal));
            }
            Ok(PeerRequest::Heartbeat(beat)) => {
                let answer = self.heard(now, from, beat);
                let _ = reply.try_send(Ok(answer.to_bytes().into()));
            }
            Ok(PeerRequest::Introduce) => {
                let answer = PeerAnswer::Introduction(self.introduction());
                let _ = reply.try_send(Ok(answer.to_bytes().into()));
            }
            Ok(PeerRequest::Ask { ask, again }) => match check_peer(from, &ask) {
                Ok(()) => {
                    self.welcome(from, &ask);
                    self.ask(now, ask, Asker::Peer(reply), again);
                }
                Err(refusal) => tell_peer(&reply, self.applied, Err(refusal)),
            },
            Ok(PeerRequest::Status) => match self.report(now) {
                Some(report) => {
                    let answer = PeerAnswer::Status(report);
                    let _ = reply.try_send(Ok(answer.to_bytes().into()));
                }
                None => tell_peer(&reply, self.applied, Err(self.leads_not())),
            },
        }
        self.tend_asks(now);
    }

    /// Another controller has answered, or has not.
    pub(super) fn called(&mut self, now: Timestamp, id: u64, result: Result<Bytes, Refusal>) {
        let result = result.and_then(|bytes| {
            let code = ErrorCode::UnknownServerError;
            PeerAnswer::from_bytes(&bytes).map_err(|error| Refusal::new(code, error.to_string()))
        });
        if let Some((to, pending)) = self.asks.called.remove(&id) {
            match result {
                Ok(PeerAnswer::Outcome { outcome, .. }) if is_not_controller(&outcome) => {
                    self.misdirected(now, Some(to));
                    self.try_again(now, pending);
                }
                Ok(PeerAnswer::Outcome { at, outcome }) => self.answer(now, pending, at, outcome),
                Ok(_) | Err(_) => {
                    tracing::debug!(%to, "a change that was asked for has an unknown fate");
                    self.misdirected(now, Some(to));
                    self.try_again(
                        now,
                        Pending {
                            again: true,
                            ..pending
                        },
                    );
                }
            }
        } else if let Some(reply) = self.inquiries.remove(&id) {
            let _ = reply.try_send(reported(result));
        } else if !self.met(now, id, &result) {
            self.beat_answered(now, id, result);
        }
        self.tend_asks(now);
    }

    /// Moves on what can move, and gives up what has waited for too long. Outside of all effects.
    pub(super) fn tend_asks(&mut self, now: Timestamp) {
        self.expire_asks(now);
        let mut waiting = std::mem::take(&mut self.asks.waiting);
        while let Some(mut pending) = waiting.pop_front() {
            if pending.not_before > now {
                self.asks.waiting.push_back(pending);
                continue;
            }
            pending.not_before = NOW;
            match self.leader_to_ask() {
                Some(leader) if leader == self.identity.broker => self.judge(now, pending),
                leader => self.pass_on(now, pending, leader),
            }
        }
        self.feed_queued(now);
    }

    /// Judges a change here, for this node leads.
    fn judge(&mut self, now: Timestamp, pending: Pending) {
        if !self.is_ready_leader() {
            self.asks.waiting.push_back(pending);
            return;
        }
        if self.is_full() {
            let refusal = Refusal::new(
                ErrorCode::KafkaStorageError,
                "no space is left for the metadata; try again",
            );
            self.answer(now, pending, self.applied, Err(refusal));
            return;
        }
        let command = match &pending.ask {
            Ask::Command(command) => Ok(command.clone()),
            Ask::Request(request) => self.cluster.plan(request.clone()),
            Ask::Voters(change) => {
                let change = *change;
                return self.judge_voters(now, pending, change);
            }
        };
        match command {
            Ok(command) => self.propose(pending, &command),
            Err(refusal) => self.answer(now, pending, self.applied, Err(refusal)),
        }
    }

    fn propose(&mut self, pending: Pending, command: &Command) {
        let id = self.unwatched();
        self.asks.proposed.insert(id, pending);
        let command = command.to_bytes().into();
        self.queue(Input::Propose { id, command });
    }

    /// Proposes other members, for who waits for that.
    pub(super) fn propose_change(&mut self, pending: Pending, change: MembershipChange) {
        let id = self.unwatched();
        self.asks.proposed.insert(id, pending);
        self.queue(Input::ChangeMembership { id, change });
    }

    /// As [`Self::ask_myself`], without waiting until this leader is ready: the command fits any state.
    pub(super) fn propose_unseen(&mut self, command: &Command) {
        let pending = Pending {
            ask: Ask::Command(command.clone()),
            from: Asker::Own(Errand::Lead),
            deadline: Timestamp(i64::MAX),
            not_before: NOW,
            again: false,
        };
        self.propose(pending, command);
    }

    /// Whether something that was proposed here is not yet resolved.
    pub(super) fn has_proposals(&self) -> bool {
        !self.asks.proposed.is_empty()
    }

    fn pass_on(&mut self, now: Timestamp, pending: Pending, leader: Option<BrokerId>) {
        match (&pending.from, leader) {
            (Asker::Own(Errand::Lead), _) => {}
            (Asker::Peer(_), _) => {
                let refusal = self.leads_not();
                self.answer(now, pending, self.applied, Err(refusal));
            }
            (_, Some(to)) => self.forward(pending, to),
            (_, None) => self.asks.waiting.push_back(pending),
        }
    }

    fn forward(&mut self, pending: Pending, to: BrokerId) {
        let request = PeerRequest::Ask {
            ask: pending.ask.clone(),
            again: pending.again,
        };
        let id = self.call(to, &request, CALL_TIMEOUT);
        self.asks.called.insert(id, (to, pending));
    }

    /// The number of a proposal that nobody waits for.
    pub(super) fn unwatched(&mut self) -> ProposalId {
        self.asks.last_proposal.0 += 1;
        self.asks.last_proposal
    }

    /// The proposal is committed and applied.
    pub(super) fn ask_done(&mut self, now: Timestamp, id: ProposalId, at: Index, outcome: Outcome) {
        if let Some(pending) = self.asks.proposed.remove(&id) {
            self.answer(now, pending, at, outcome);
        }
    }

    /// The proposal is not, or nobody here will know.
    pub(super) fn ask_refused(&mut self, now: Timestamp, id: ProposalId, why: Refused) {
        let Some(pending) = self.asks.proposed.remove(&id) else {
            return;
        };
        match why {
            Refused::NotLeader { .. } | Refused::Superseded | Refused::Busy | Refused::NotReady => {
                self.try_again(now, pending);
            }
            Refused::Unknown => self.try_again(
                now,
                Pending {
                    again: true,
                    ..pending
                },
            ),
            why => {
                let refusal = Refusal::new(ErrorCode::PolicyViolation, why.to_string());
                self.answer(now, pending, self.applied, Err(refusal));
            }
        }
    }

    pub(super) fn try_again(&mut self, now: Timestamp, pending: Pending) {
        let not_before = later(now, RETRY_MS);
        self.asks.waiting.push_back(Pending {
            not_before,
            ..pending
        });
    }

    /// Another leads, or nobody: what was asked of a former leader is asked for again.
    pub(super) fn recall_asks(&mut self, leader: Option<BrokerId>) {
        let called = std::mem::take(&mut self.asks.called);
        for (id, (to, pending)) in called {
            match leader == Some(to) {
                true => drop(self.asks.called.insert(id, (to, pending))),
                false => self.asks.waiting.push_back(Pending {
                    again: true,
                    ..pending
                }),
            }
        }
    }

    fn expire_asks(&mut self, now: Timestamp) {
        if self.asks.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let asks = &mut self.asks;
        let mut expired = Vec::new();
        let is_due = |it: &Pending| now >= it.deadline;
        expired.extend(extract(&mut asks.waiting, is_due));
        let proposed = asks.proposed.extract_if(.., |_, it| is_due(it));
        expired.extend(proposed.map(|(_, it)| it));
        let called = asks.called.extract_if(.., |_, (_, it)| is_due(it));
        expired.extend(called.map(|(_, (_, it))| it));
        let told: Vec<Told> = asks.told.extract_if(.., |it| now >= it.deadline).collect();
        for Told { reply, .. } in told {
            let _ = reply.try_send(Err(Refusal::new(
                ErrorCode::RequestTimedOut,
                "the change is made, but this broker has not heard of it from the quorum",
            )));
        }
        for pending in expired {
            self.answer(now, pending, self.applied, Err(timed_out()));
        }
    }

    pub(super) fn answer(&mut self, now: Timestamp, pending: Pending, at: Index, outcome: Outcome) {
        let Pending {
            ask, from, again, ..
        } = pending;
        let outcome = match again {
            true => recognize(
                &self.cluster,
                &self.quorum.status().membership,
                &ask,
                outcome,
            ),
            false => outcome,
        };
        match from {
            Asker::Client(reply) => self.asks.told.push(Told {
                at,
                reply,
                outcome,
                deadline: later(now, PATIENCE_MS),
            }),
            Asker::Peer(reply) => tell_peer(&reply, at, outcome),
            Asker::Own(errand) => self.errand_done(now, errand, &outcome),
        }
    }

    /// Every shard has the state as of this entry.
    pub(super) fn published(&mut self, at: Index) {
        if self.failure().is_some() {
            return self.tell(|_| true);
        }
        self.tell(|told| told.at <= at);
    }

    fn tell(&mut self, is_known: impl Fn(&Told) -> bool) {
        for told in self.asks.told.extract_if(.., |told| is_known(told)) {
            // A client that no longer waits does not concern the change.
            let _ = told.reply.try_send(told.outcome);
        }
    }

    /// Refuses everything that is on its way: this node has failed.
    pub(super) fn refuse_all(&mut self) {
        let Some(refusal) = self.refuses_all() else {
            return;
        };
        let asks = std::mem::take(&mut self.asks);
        let called = asks.called.into_values().map(|(_, pending)| pending);
        let pending = asks.waiting.into_iter().chain(asks.proposed.into_values());
        for Pending { from, .. } in pending.chain(called) {
            match from {
                Asker::Client(reply) => drop(reply.try_send(Err(refusal.clone()))),
                Asker::Peer(reply) => tell_peer(&reply, self.applied, Err(refusal.clone())),
                Asker::Own(_) => {}
            }
        }
        for told in asks.told {
            let _ = told.reply.try_send(told.outcome);
        }
    }

    fn refuses_all(&self) -> Option<Refusal> {
        let cause = self.failure()?;
        Some(Refusal::new(
            ErrorCode::KafkaStorageError,
            format!("the metadata takes no changes: {cause}; restart the broker"),
        ))
    }
}

/// A change that was perhaps done the first time: what it finds done is its own work.
fn recognize(cluster: &Cluster, members: &Membership, ask: &Ask, outcome: Outcome) -> Outcome {
    let Err(refusal) = outcome else {
        return outcome;
    };
    let is_done = match (ask, refusal.code) {
        (
            Ask::Request(
                ClusterRequest::CreateTopic { name, id, .. }
                | ClusterRequest::CreateAssignedTopic { name, id, .. },
            ),
            ErrorCode::TopicAlreadyExists,
        ) => cluster.topic_named(name).is_some_and(|it| it.id == *id),
        (Ask::Request(ClusterRequest::DeleteTopic { .. }), ErrorCode::UnknownTopicOrPartition)
        | (Ask::Command(Command::DeleteTopic { .. }), ErrorCode::UnknownTopicId) => true,
        (
            Ask::Request(ClusterRequest::CreatePartitions { name, total, .. }),
            ErrorCode::InvalidPartitions,
        ) => cluster
            .topic_named(name)
            .is_some_and(|it| it.partitions.len() as u64 == u64::from(*total)),
        (Ask::Voters(VoterChange::Add(broker)), _) => members.voters.contains(broker),
        (Ask::Voters(VoterChange::Remove(broker)), ErrorCode::InvalidRequest) => {
            !members.voters.contains(broker)
        }
        _ => false,
    };
    match is_done {
        true => Ok(Answer::Done),
        false => Err(refusal),
    }
}

/// Whether another broker may ask for this: changes that clients ask for, and what concerns itself.
fn check_peer(from: BrokerId, ask: &Ask) -> Result<(), Refusal> {
    let Ask::Command(command) = ask else {
        return Ok(());
    };
    let own = match command {
        Command::Register(registration) => registration.id == from,
        Command::BeginShutdown { broker, .. }
        | Command::AlterPartitions { broker, .. }
        | Command::ResignLeaders { broker, .. }
        | Command::AllocateProducerIds { broker, .. } => *broker == from,
        // The leader alone judges who is alive, and founds.
        Command::Found { .. }
        | Command::Adopt { .. }
        | Command::Unfence { .. }
        | Command::Fence { .. } => false,
        _ => true,
    };
    match own {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::ClusterAuthorizationFailed,
            format!("broker {from} may not ask for this change"),
        )),
    }
}

fn tell_peer(reply: &PeerReply, at: Index, outcome: Outcome) {
    let answer = PeerAnswer::Outcome { at, outcome };
    let _ = reply.try_send(Ok(answer.to_bytes().into()));
}

fn is_not_controller(outcome: &Outcome) -> bool {
    matches!(outcome, Err(refusal) if refusal.code == ErrorCode::NotController)
}

fn timed_out() -> Refusal {
    Refusal::new(
        ErrorCode::RequestTimedOut,
        "the metadata quorum did not make the change in time; whether it will is unknown",
    )
}

fn extract(from: &mut VecDeque<Pending>, is_due: impl Fn(&Pending) -> bool) -> Vec<Pending> {
    let (due, rest) = std::mem::take(from)
        .into_iter()
        .partition::<Vec<_>, _>(is_due);
    *from = rest.into();
    due
}

/// `now`, `ms` later.
pub(super) fn later(now: Timestamp, ms: u64) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
}
