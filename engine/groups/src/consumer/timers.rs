//! When members are fenced unless they do something before. Not durable: all begin anew after a replay.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::Timestamp;

/// What a member must do in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// Send any heartbeat.
    Session,
    /// Give up what it must.
    Revoke,
    /// Classic: join again after it was told that the group rebalances.
    Join,
    /// Classic: sync after it joined.
    Sync,
}

/// The deadlines of a group's members.
///
/// **Invariant:** `due` has exactly the entries of `by_member`.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    by_member: BTreeMap<String, BTreeMap<Duty, Timestamp>>,
    due: BTreeSet<(Timestamp, String, Duty)>,
}

impl Timers {
    /// Sets a deadline, in place of the one before.
    pub(super) fn set(&mut self, member: &str, duty: Duty, at: Timestamp) {
        let duties = self.by_member.entry(member.to_owned()).or_default();
        if let Some(before) = duties.insert(duty, at) {
            self.due.remove(&(before, member.to_owned(), duty));
        }
        self.due.insert((at, member.to_owned(), duty));
    }

    /// Sets a deadline unless there is one.
    pub(super) fn set_if_absent(&mut self, member: &str, duty: Duty, at: Timestamp) {
        let duties = self.by_member.get(member);
        if !duties.is_some_and(|duties| duties.contains_key(&duty)) {
            self.set(member, duty, at);
        }
    }

    /// The duty is done.
    pub(super) fn clear(&mut self, member: &str, duty: Duty) {
        let duties = self.by_member.get_mut(member);
        if let Some(at) = duties.and_then(|duties| duties.remove(&duty)) {
            self.due.remove(&(at, member.to_owned(), duty));
        }
    }

    /// The member is gone.
    pub(super) fn forget(&mut self, member: &str) {
        for (duty, at) in self.by_member.remove(member).into_iter().flatten() {
            self.due.remove(&(at, member.to_owned(), duty));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Members with a deadline that is not after `now`, sorted, each once.
    pub(super) fn expired(&self, now: Timestamp) -> BTreeSet<String> {
        self.due
            .iter()
            .take_while(|(at, ..)| *at <= now)
            .map(|(_, member, _)| member.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_replaced_cleared_and_forgotten() {
        let mut timers = Timers::default();
        timers.set("a", Duty::Session, Timestamp(10));
        timers.set("a", Duty::Session, Timestamp(20));
        timers.set_if_absent("a", Duty::Session, Timestamp(5));
        timers.set("a", Duty::Revoke, Timestamp(15));
        timers.set("b", Duty::Session, Timestamp(17));
        assert_eq!(timers.next(), Some(Timestamp(15)));
        timers.clear("a", Duty::Revoke);
        assert_eq!(timers.next(), Some(Timestamp(17)));
        assert_eq!(timers.expired(Timestamp(19)).len(), 1);
        assert_eq!(timers.expired(Timestamp(20)).len(), 2);
        timers.forget("b");
        timers.forget("a");
        assert_eq!(timers.next(), None);
        assert!(timers.by_member.is_empty());
    }
}
