//! The log since the last snapshot, in memory.
//!
//! **Invariant:** indexes are contiguous and terms do not fall.
//! **Invariant:** `durable <= last`; what replaces an entry takes `durable` back below it.

use std::collections::VecDeque;

use super::limits::MAX_INDEX;
use super::recovery::RecoveryError;
use super::{Entry, Index, Membership, Payload, Snapshot, Term};

#[derive(Debug)]
pub(super) struct Log {
    /// The latest durable snapshot, for peers that are behind `base`.
    snapshot: Snapshot,
    /// The place before the first entry, with its term and the members by then.
    base: Index,
    base_term: Term,
    base_membership: Membership,
    entries: VecDeque<Entry>,
    durable: Index,
    /// The first entry that the next write has to hold.
    unsubmitted: Option<Index>,
    membership: Membership,
    membership_at: Index,
}

impl Log {
    pub(super) fn recover(snapshot: Snapshot, entries: Vec<Entry>) -> Result<Self, RecoveryError> {
        let meta = snapshot.meta.clone();
        if meta.index.0 > MAX_INDEX {
            return Err(RecoveryError::Index(meta.index));
        }
        let mut log = Self {
            base: meta.index,
            base_term: meta.term,
            base_membership: meta.membership.clone(),
            entries: VecDeque::new(),
            durable: meta.index,
            unsubmitted: None,
            membership_at: meta.index,
            membership: meta.membership,
            snapshot,
        };
        for entry in entries {
            if entry.index <= log.base {
                continue;
            }
            if entry.index != log.last_index().next() {
                return Err(RecoveryError::Gap {
                    after: log.last_index(),
                    found: entry.index,
                });
            }
            if entry.term < log.last_term() || entry.index.0 > MAX_INDEX {
                return Err(RecoveryError::Order(entry.index));
            }
            log.push(entry);
        }
        log.durable = log.last_index();
        log.unsubmitted = None;
        Ok(log)
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn base(&self) -> Index {
        self.base
    }

    pub(super) fn last_index(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    pub(super) fn last_term(&self) -> Term {
        self.entries
            .back()
            .map_or(self.base_term, |entry| entry.term)
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Where the members last changed.
    pub(super) fn membership_at(&self) -> Index {
        self.membership_at
    }

    /// The term of an entry, if it is here.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base {
            return Some(self.base_term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Entries from `from` on: at most `count`, and about `weight` bytes, but at least one.
    pub(super) fn entries_from(&self, from: Index, count: usize, weight: usize) -> Vec<Entry> {
        let skip = usize::try_from(from.0 - self.base.0 - 1).expect("entries fit in memory");
        let mut left = weight;
        let mut taken = Vec::new();
        for entry in self.entries.iter().skip(skip).take(count) {
            let weight = entry.payload.weight();
            if weight > left && !taken.is_empty() {
                break;
            }
            left = left.saturating_sub(weight);
            taken.push(entry.clone());
        }
        taken
    }

    /// The last entry at or below `index` whose term is at most `term`, as a place to look
    /// for agreement.
    pub(super) fn agreement_hint(&self, index: Index, term: Term) -> (Index, Term) {
        let mut at = index.min(self.last_index());
        while at > self.base && self.term_at(at).is_some_and(|found| found > term) {
            at = at.before();
        }
        let term = self.term_at(at).unwrap_or_default();
        (at, term)
    }

    /// Appends an entry of this index, in place of what is there from it on.
    pub(super) fn put(&mut self, entry: Entry) {
        assert!(entry.index > self.base, "what is in a snapshot stays");
        if entry.index <= self.last_index() {
            self.truncate(entry.index);
        }
        assert_eq!(entry.index, self.last_index().next(), "a log has no gaps");
        self.push(entry);
    }

    fn push(&mut self, entry: Entry) {
        if let Payload::Membership(membership) = &entry.payload {
            self.membership = membership.clone();
            self.membership_at = entry.index;
        }
        let first = self
            .unsubmitted
            .map_or(entry.index, |first| first.min(entry.index));
        self.unsubmitted = Some(first);
        self.entries.push_back(entry);
    }

    fn truncate(&mut self, from: Index) {
        let kept = usize::try_from(from.0 - self.base.0 - 1).expect("entries fit in memory");
        self.entries.truncate(kept);
        self.durable = self.durable.min(from.before());
        if self.membership_at >= from {
            (self.membership_at, self.membership) = self.membership_until(self.last_index());
        }
    }

    fn membership_until(&self, last: Index) -> (Index, Membership) {
        let before = self
            .entries
            .iter()
            .rev()
            .filter(|entry| entry.index <= last);
        let mut found = before.filter_map(|entry| match &entry.payload {
            Payload::Membership(membership) => Some((entry.index, membership.clone())),
            _ => None,
        });
        let base = || (self.base, self.base_membership.clone());
        found.next().unwrap_or_else(base)
    }

    /// The entries that no write holds yet.
    pub(super) fn take_unsubmitted(&mut self) -> Vec<Entry> {
        match self.unsubmitted.take() {
            Some(first) if first <= self.last_index() => {
                self.entries_from(first, usize::MAX, usize::MAX)
            }
            _ => Vec::new(),
        }
    }

    /// A write is durable after which the log ended with this entry.
    pub(super) fn persisted(&mut self, index: Index, term: Term) {
        // What a later leader has replaced meanwhile is durable, but no longer in the log.
        if self.term_at(index) == Some(term) {
            self.durable = self.durable.max(index);
        }
    }

    /// Begins anew behind this snapshot.
    pub(super) fn reset(&mut self, snapshot: &Snapshot) {
        let meta = &snapshot.meta;
        self.base = meta.index;
        self.base_term = meta.term;
        self.base_membership = meta.membership.clone();
        self.entries.clear();
        // The snapshot's own write makes it so; until then nothing counts.
        self.durable = meta.index;
        self.unsubmitted = None;
        self.membership = meta.membership.clone();
        self.membership_at = meta.index;
        self.snapshot = snapshot.clone();
    }

    /// Keeps this snapshot of our own, which is durable, and forgets old entries.
    pub(super) fn compact(&mut self, snapshot: Snapshot, kept: u64) {
        if snapshot.meta.index <= self.snapshot.meta.index {
            return;
        }
        let base = Index(snapshot.meta.index.0.saturating_sub(kept)).max(self.base);
        if let Some(term) = self.term_at(base) {
            let (_, membership) = self.membership_until(base);
            let gone = usize::try_from(base.0 - self.base.0).expect("entries fit in memory");
            self.entries.drain(..gone);
            (self.base, self.base_term, self.base_membership) = (base, term, membership);
        }
        self.snapshot = snapshot;
    }

    /// The members as of an entry, for a snapshot there.
    pub(super) fn membership_as_of(&self, index: Index) -> Membership {
        self.membership_until(index).1
    }
}
