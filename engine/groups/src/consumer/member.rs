//! A member: how it described itself, and how far it has come towards its target.

use super::{LEAVE_STATIC_EPOCH, Partitions};
use crate::Client;
use crate::record::{ConsumerMemberValue, CurrentMemberValue, MemberState};

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// How it described itself. **Invariant:** names are sorted, each once; no regex is empty.
    pub details: ConsumerMemberValue,
    /// How far it has come.
    pub current: Current,
}

/// How far a member has come towards its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its epoch: that of the last target that it came to, or on its way there.
    pub epoch: i32,
    /// The epoch before. A member that names it has missed an answer.
    pub previous_epoch: i32,
    /// Where it stands.
    pub state: MemberState,
    /// What it may read.
    pub assigned: Partitions,
    /// What it must give up, and may read until it says that it has.
    pub pending_revocation: Partitions,
}

impl Member {
    /// Whether it speaks the classic protocol.
    #[must_use]
    pub const fn is_classic(&self) -> bool {
        self.details.classic.is_some()
    }

    /// Whether it is a static member that has left for a while.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        self.current.epoch == LEAVE_STATIC_EPOCH
    }
}

impl Default for Member {
    /// One of which nothing is known yet.
    fn default() -> Self {
        Self {
            details: nobody(),
            current: Current::default(),
        }
    }
}

/// A description without content.
pub(super) fn nobody() -> ConsumerMemberValue {
    ConsumerMemberValue {
        instance: None,
        rack: None,
        client: Client::default(),
        subscribed_topics: Vec::new(),
        subscribed_regex: None,
        rebalance_timeout_ms: -1,
        assignor: None,
        classic: None,
    }
}

impl Current {
    /// Whether it reads all that the target of this epoch gives it, and nothing else.
    #[must_use]
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// From a record.
    pub(super) fn from_value(value: &CurrentMemberValue) -> Self {
        Self {
            epoch: value.epoch,
            previous_epoch: value.previous_epoch,
            state: value.state,
            assigned: Partitions::from_list(&value.assigned),
            pending_revocation: Partitions::from_list(&value.pending_revocation),
        }
    }

    /// As a record.
    pub(super) fn to_value(&self) -> CurrentMemberValue {
        CurrentMemberValue {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            state: self.state,
            assigned: self.assigned.to_list(),
            pending_revocation: self.pending_revocation.to_list(),
        }
    }
}

impl Default for Current {
    /// Epoch 0, nothing to read.
    fn default() -> Self {
        Self {
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Partitions::new(),
            pending_revocation: Partitions::new(),
        }
    }
}
