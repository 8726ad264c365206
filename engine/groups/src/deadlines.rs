//! When something is due, ordered by time.
//!
//! Deadlines that move on and on, as sessions do with each heartbeat, cost a look-up only: the order
//! keeps the earlier time, and what comes up too early is put back. So [`Deadlines::next`] may be earlier
//! than anything that is due, never later.
//!
//! **Invariant:** one entry a key; memory is bounded by the number of keys.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::Timestamp;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the key stands in the order.
    armed: Timestamp,
    /// When it is due; not before `armed`.
    due: Timestamp,
}

/// Deadlines by key.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    entries: BTreeMap<K, Entry>,
    order: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// Sets or moves the key's deadline.
    pub(crate) fn set(&mut self, key: K, due: Timestamp) {
        match self.entries.get_mut(&key) {
            Some(entry) if entry.armed <= due => entry.due = due,
            _ => {
                self.cancel(&key);
                self.order.insert((due, key.clone()));
                self.entries.insert(key, Entry { armed: due, due });
            }
        }
    }

    /// Forgets the key's deadline.
    pub(crate) fn cancel(&mut self, key: &K) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.order.remove(&(entry.armed, key));
        }
    }

    /// The next key that is due, which is then forgotten.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<K> {
        while self.next().is_some_and(|next| next <= now) {
            let (_, key) = self.order.pop_first()?;
            match self.entries.get_mut(&key) {
                Some(entry) if entry.due > now => {
                    entry.armed = entry.due;
                    self.order.insert((entry.due, key));
                }
                _ => {
                    self.entries.remove(&key);
                    return Some(key);
                }
            }
        }
        None
    }

    /// No deadline is due before this.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }
}

/// `millis` after `now`; the far future where that leaves the numbers.
pub(crate) const fn after(now: Timestamp, millis: i64) -> Timestamp {
    Timestamp(now.0.saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(deadlines: &mut Deadlines<&'static str>, now: i64) -> Vec<&'static str> {
        std::iter::from_fn(|| deadlines.pop_due(Timestamp(now))).collect()
    }

    #[test]
    fn what_is_due_comes_in_order_and_once() {
        let mut deadlines = Deadlines::default();
        deadlines.set("b", Timestamp(20));
        deadlines.set("a", Timestamp(10));
        assert_eq!(deadlines.next(), Some(Timestamp(10)));
        assert_eq!(due(&mut deadlines, 9), Vec::<&str>::new());
        assert_eq!(due(&mut deadlines, 20), ["a", "b"]);
        assert_eq!(due(&mut deadlines, 30), Vec::<&str>::new());
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_deadline_that_moves_on_is_not_due_at_its_old_time() {
        let mut deadlines = Deadlines::default();
        deadlines.set("a", Timestamp(10));
        deadlines.set("a", Timestamp(30));
        assert_eq!(due(&mut deadlines, 10), Vec::<&str>::new());
        assert_eq!(deadlines.next(), Some(Timestamp(30)));
        assert_eq!(due(&mut deadlines, 30), ["a"]);
    }

    #[test]
    fn a_deadline_can_move_nearer_and_be_cancelled() {
        let mut deadlines = Deadlines::default();
        deadlines.set("a", Timestamp(30));
        deadlines.set("a", Timestamp(10));
        deadlines.set("b", Timestamp(10));
        deadlines.cancel(&"b");
        assert_eq!(due(&mut deadlines, 10), ["a"]);
        assert_eq!(due(&mut deadlines, 99), Vec::<&str>::new());
    }
}
