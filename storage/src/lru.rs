//! A map that holds what was used lately, up to a weight. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

struct Slot<V> {
    value: V,
    weight: u64,
    used: u64,
}

/// Values by key; when their weights exceed the limit, the one used longest ago goes.
pub(crate) struct Lru<K, V> {
    slots: BTreeMap<K, Slot<V>>,
    by_use: BTreeMap<u64, K>,
    clock: u64,
    weight: u64,
    limit: u64,
}

impl<K: Ord + Copy, V: Clone> Lru<K, V> {
    pub(crate) const fn new(limit: u64) -> Self {
        Self {
            slots: BTreeMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            weight: 0,
            limit,
        }
    }

    /// The value of `key`, which counts as a use.
    pub(crate) fn find(&mut self, key: &K) -> Option<V> {
        let slot = self.slots.get_mut(key)?;
        self.by_use.remove(&slot.used);
        self.clock += 1;
        slot.used = self.clock;
        self.by_use.insert(slot.used, *key);
        Some(slot.value.clone())
    }

    /// The largest key at or below `key`, and its value. No use of it.
    pub(crate) fn floor(&self, key: &K) -> Option<(K, &V)> {
        let (key, slot) = self.slots.range(..=key).next_back()?;
        Some((*key, &slot.value))
    }

    /// Puts a value in place of what `key` had. A value above the whole limit is not kept.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: u64) {
        self.remove(&key);
        if weight > self.limit {
            return;
        }
        self.clock += 1;
        self.by_use.insert(self.clock, key);
        self.slots.insert(
            key,
            Slot {
                value,
                weight,
                used: self.clock,
            },
        );
        self.weight += weight;
        while self.weight > self.limit {
            let oldest = self.by_use.first_key_value().map(|(_, key)| *key);
            self.remove(&oldest.expect("weight comes from slots"));
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.slots.remove(key)?;
        self.by_use.remove(&slot.used);
        self.weight -= slot.weight;
        Some(slot.value)
    }

    /// Removes all keys in a range.
    pub(crate) fn remove_range(&mut self, keys: RangeInclusive<K>) {
        let keys: Vec<K> = self.slots.range(keys).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| drop(self.remove(key)));
    }

    pub(crate) const fn weight(&self) -> u64 {
        self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_longest_ago_goes() {
        let mut lru = Lru::new(3);
        (1..=3).for_each(|n| lru.insert(n, n * 10, 1));
        assert_eq!(lru.find(&1), Some(10));
        lru.insert(4, 40, 1);
        assert_eq!(
            (lru.find(&2), lru.find(&1), lru.weight()),
            (None, Some(10), 3)
        );
    }

    #[test]
    fn weights_count_and_the_too_heavy_is_not_kept() {
        let mut lru = Lru::new(10);
        lru.insert(1, 'a', 6);
        lru.insert(1, 'b', 7);
        assert_eq!(lru.weight(), 7);
        lru.insert(2, 'c', 11);
        assert_eq!((lru.find(&2), lru.find(&1)), (None, Some('b')));
        lru.insert(3, 'd', 4);
        assert_eq!((lru.find(&1), lru.weight()), (None, 4));
    }

    #[test]
    fn a_look_at_the_floor_is_no_use() {
        let mut lru = Lru::new(2);
        lru.insert(10, 'a', 1);
        lru.insert(20, 'b', 1);
        assert_eq!(lru.floor(&9), None);
        assert_eq!(lru.floor(&19), Some((10, &'a')));
        assert_eq!(lru.floor(&20), Some((20, &'b')));
        lru.insert(30, 'c', 1);
        assert_eq!(lru.floor(&19), None);
    }

    #[test]
    fn ranges_are_removed() {
        let mut lru = Lru::new(10);
        (1..=5).for_each(|n| lru.insert(n, n, 1));
        lru.remove_range(2..=4);
        assert_eq!(
            (lru.weight(), lru.find(&1), lru.find(&3)),
            (2, Some(1), None)
        );
    }
}
