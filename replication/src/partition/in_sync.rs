//! The in-sync set as its leader sees it: the committed set, and a change of it that is under
//! way.
//!
//! The metadata changes the set by compare-and-set on the partition's version (KIP-841). A
//! proposal is *pending* from when it is first sent until a newer version is known, or until it
//! is certain that it will never be carried out. Until then everyone in it counts.
//!
//! **Invariant:** everyone who may be in the committed set, whatever has become of the
//! proposals, counts.
//!
//! A refusal of one attempt says nothing about an earlier attempt whose answer was lost: that one may
//! still arrive, and find its members eligible. So only a proposal that was sent once is rolled
//! back when it is refused. One that was sent more often is *withdrawn*: the committed set is
//! proposed, and when that is committed its new version fences whatever is on its way.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, Timestamp};

use super::ReplicaSettings;
use super::planted::{Planted, is_planted};

/// An in-sync set and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InSyncState {
    /// The set.
    pub in_sync: BTreeSet<BrokerId>,
    /// The partition's version with it.
    pub partition_epoch: PartitionEpoch,
}

/// One sending of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// A set that the metadata is asked for (`AlterPartition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// To be given back with the answer.
    pub id: ProposalId,
    /// The epoch of the leader that asks.
    pub leader_epoch: LeaderEpoch,
    /// The version that the set replaces. Another one in the metadata refuses it.
    pub partition_epoch: PartitionEpoch,
    /// The members, each with the uptime in which the leader knows it (KIP-903).
    pub in_sync: BTreeMap<BrokerId, BrokerEpoch>,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterAnswer {
    /// The partition's state after it.
    Committed(InSyncState),
    /// It was not carried out and this attempt never will be.
    NotAttempted,
    /// It was made on a state that is no longer: the metadata will tell.
    Outdated,
    /// Nothing is known, for no answer came, or not from who decides.
    Unknown,
}

impl AlterAnswer {
    /// What an error in answer to a proposal means.
    #[must_use]
    pub fn from_error(code: ErrorCode) -> Self {
        match code {
            ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted => Self::NotAttempted,
            ErrorCode::FencedLeaderEpoch
            | ErrorCode::InvalidUpdateVersion
            | ErrorCode::InvalidRequest
            | ErrorCode::NewLeaderElected
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId => Self::Outdated,
            _ => Self::Unknown,
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct InSync {
    committed: BTreeSet<BrokerId>,
    partition_epoch: PartitionEpoch,
    pending: Option<Pending>,
    last_id: u64,
    /// Refusals and lost answers in a row.
    failures: u32,
    /// After a refusal nothing is proposed before this.
    not_before: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Pending {
    /// The attempt whose answer decides.
    id: ProposalId,
    /// What is asked for now.
    wanted: BTreeSet<BrokerId>,
    /// Who may have become a member by any attempt.
    counted: BTreeSet<BrokerId>,
    attempts: u32,
    /// When to send it again.
    retry_at: Option<Timestamp>,
}

impl InSync {
    pub(super) fn new(state: InSyncState) -> Self {
        Self {
            committed: state.in_sync,
            partition_epoch: state.partition_epoch,
            pending: None,
            last_id: 0,
            failures: 0,
            not_before: None,
        }
    }

    /// Starts a proposal and returns the first attempt's id.
    pub(super) fn propose(&mut self, wanted: BTreeSet<BrokerId>) -> ProposalId {
        assert!(self.pending.is_none(), "one change is under way at a time");
        let id = self.next_id();
        self.pending = Some(Pending {
            id,
            counted: wanted.clone(),
            wanted,
            attempts: 1,
            retry_at: None,
        });
        id
    }

    /// The next attempt of what is under way, if it is time for one.
    pub(super) fn retry(&mut self, now: Timestamp) -> Option<ProposalId> {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if !due(self.pending.as_ref()?.retry_at) {
            return None;
        }
        let id = self.next_id();
        let pending = self.pending.as_mut()?;
        pending.id = id;
        pending.attempts = pending.attempts.saturating_add(1);
        pending.retry_at = None;
        Some(id)
    }

    /// Takes in the answer to an attempt.
    pub(super) fn answered(
        &mut self,
        id: ProposalId,
        answer: &AlterAnswer,
        (now, settings): (Timestamp, &ReplicaSettings),
    ) {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.id == id) else {
            return;
        };
        self.failures = self.failures.saturating_add(1);
        let later = Timestamp(now.0.saturating_add(settings.backoff_ms(self.failures)));
        match answer {
            AlterAnswer::Committed(_) => self.failures = 0,
            AlterAnswer::Outdated => pending.retry_at = None,
            AlterAnswer::NotAttempted if pending.attempts == 1 => {
                self.pending = None;
                self.not_before = Some(later);
            }
            AlterAnswer::NotAttempted => {
                pending.wanted = self.committed.clone();
                pending.retry_at = Some(later);
            }
            AlterAnswer::Unknown if is_planted(Planted::ForgottenProposal) => {
                self.pending = None;
                self.not_before = Some(later);
            }
            AlterAnswer::Unknown => pending.retry_at = Some(later),
        }
    }

    /// Takes over a committed set, unless it is older than what is known.
    pub(super) fn commit(&mut self, state: InSyncState) {
        if state.partition_epoch > self.partition_epoch {
            self.committed = state.in_sync;
            self.partition_epoch = state.partition_epoch;
            self.pending = None;
            self.not_before = None;
            self.failures = 0;
        }
    }

    pub(super) fn committed(&self) -> &BTreeSet<BrokerId> {
        &self.committed
    }

    pub(super) fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// What is asked for now.
    pub(super) fn wanted(&self) -> Option<&BTreeSet<BrokerId>> {
        Some(&self.pending.as_ref()?.wanted)
    }

    /// Whether something may be proposed now.
    pub(super) fn may_propose(&self, now: Timestamp) -> bool {
        self.pending.is_none() && self.not_before.is_none_or(|at| at <= now)
    }

    /// Everyone who counts: the maximal in-sync set. Some more than once.
    pub(super) fn maximal(&self) -> impl Iterator<Item = BrokerId> {
        let counted = self.pending.as_ref().map(|pending| &pending.counted);
        let leaving_counts = !is_planted(Planted::ShrinkBeforeCommit);
        let joining_counts = !is_planted(Planted::JoinUncounted);
        let committed = self.committed.iter().filter(move |member| {
            leaving_counts || counted.is_none_or(|counted| counted.contains(member))
        });
        let joining = counted
            .into_iter()
            .flatten()
            .filter(move |_| joining_counts);
        committed.chain(joining).copied()
    }

    /// When time alone changes something.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        match &self.pending {
            Some(pending) => pending.retry_at,
            None => self.not_before,
        }
    }

    fn next_id(&mut self) -> ProposalId {
        self.last_id += 1;
        ProposalId(self.last_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ReplicaSettings = ReplicaSettings {
        min_in_sync: 2,
        max_lag_ms: 100,
        min_backoff_ms: 10,
        max_backoff_ms: 40,
        subscribe_timeout_ms: 100,
        catch_up_lag: 100,
    };

    fn set(brokers: &[u32]) -> BTreeSet<BrokerId> {
        brokers.iter().copied().map(BrokerId).collect()
    }

    fn in_sync(brokers: &[u32]) -> InSync {
        InSync::new(InSyncState {
            in_sync: set(brokers),
            partition_epoch: PartitionEpoch(4),
        })
    }

    fn counted(machine: &InSync) -> BTreeSet<BrokerId> {
        machine.maximal().collect()
    }

    #[test]
    fn a_first_attempt_that_is_refused_is_rolled_back_and_waits() {
        let mut machine = in_sync(&[1]);
        let id = machine.propose(set(&[1, 2]));
        assert_eq!(counted(&machine), set(&[1, 2]));
        machine.answered(id, &AlterAnswer::NotAttempted, (Timestamp(5), &SETTINGS));
        assert_eq!(counted(&machine), set(&[1]));
        assert!(!machine.may_propose(Timestamp(14)));
        assert!(machine.may_propose(Timestamp(15)));
    }

    #[test]
    fn a_later_attempt_that_is_refused_is_withdrawn_and_counts_until_a_newer_version() {
        let mut machine = in_sync(&[1]);
        let first = machine.propose(set(&[1, 2]));
        machine.answered(first, &AlterAnswer::Unknown, (Timestamp(0), &SETTINGS));
        assert_eq!(machine.retry(Timestamp(9)), None);
        let second = machine.retry(Timestamp(10)).expect("it is time");
        // An answer to an attempt that does not decide any more.
        machine.answered(
            first,
            &AlterAnswer::NotAttempted,
            (Timestamp(11), &SETTINGS),
        );
        assert_eq!(machine.wanted(), Some(&set(&[1, 2])));
        machine.answered(
            second,
            &AlterAnswer::NotAttempted,
            (Timestamp(12), &SETTINGS),
        );
        assert_eq!(machine.wanted(), Some(&set(&[1])));
        assert_eq!(counted(&machine), set(&[1, 2]));
        machine.commit(InSyncState {
            in_sync: set(&[1]),
            partition_epoch: PartitionEpoch(5),
        });
        assert_eq!(counted(&machine), set(&[1]));
        assert!(machine.may_propose(Timestamp(12)));
    }

    #[test]
    fn an_outdated_proposal_counts_until_the_metadata_tells() {
        let mut machine = in_sync(&[1, 2]);
        let id = machine.propose(set(&[1]));
        machine.answered(id, &AlterAnswer::Outdated, (Timestamp(0), &SETTINGS));
        assert_eq!(machine.next_deadline(), None);
        assert_eq!(counted(&machine), set(&[1, 2]));
        assert!(!machine.may_propose(Timestamp(1_000)));
    }

    #[test]
    fn errors_are_told_apart() {
        let answer = AlterAnswer::from_error;
        assert_eq!(
            answer(ErrorCode::IneligibleReplica),
            AlterAnswer::NotAttempted
        );
        assert_eq!(
            answer(ErrorCode::InvalidUpdateVersion),
            AlterAnswer::Outdated
        );
        assert_eq!(answer(ErrorCode::NewLeaderElected), AlterAnswer::Outdated);
        assert_eq!(answer(ErrorCode::NotController), AlterAnswer::Unknown);
    }
}
