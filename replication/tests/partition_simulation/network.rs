//! The way of messages: late, lost, doubled, out of order, or cut in one direction.

use std::collections::{BTreeMap, BTreeSet};

/// Who sends and receives: a broker's number, or [`CONTROLLER`].
pub(crate) type Address = u32;

/// The controller's address.
pub(crate) const CONTROLLER: Address = u32::MAX;

/// What the network does to messages at present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) max_delay_ms: i64,
    /// In a thousand.
    pub(crate) loss: u32,
    pub(crate) double: u32,
    pub(crate) reorder: u32,
}

/// A quiet network.
pub(crate) const CALM: Weather = Weather {
    max_delay_ms: 3,
    loss: 0,
    double: 0,
    reorder: 0,
};

#[derive(Debug)]
pub(crate) struct Network {
    random: fastrand::Rng,
    pub(crate) weather: Weather,
    /// Directions in which nothing passes.
    pub(crate) cut: BTreeSet<(Address, Address)>,
    /// When the last message of a direction arrives.
    last: BTreeMap<(Address, Address), i64>,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            weather: CALM,
            cut: BTreeSet::new(),
            last: BTreeMap::new(),
            lost: 0,
            doubled: 0,
            reordered: 0,
        }
    }

    /// When a message that is sent now arrives: never, once or twice.
    pub(crate) fn arrivals(&mut self, from: Address, to: Address, now: i64) -> Vec<i64> {
        let weather = self.weather;
        if self.cut.contains(&(from, to)) || self.roll(weather.loss) {
            self.lost += 1;
            return Vec::new();
        }
        let delay = self.random.i64(1..=weather.max_delay_ms);
        let last = self.last.entry((from, to)).or_insert(0);
        let mut at = now + delay;
        if self.random.u32(0..1000) < weather.reorder {
            self.reordered += 1;
        } else {
            at = at.max(*last);
            *last = at;
        }
        let mut arrivals = vec![at];
        if self.roll(weather.double) {
            self.doubled += 1;
            arrivals.push(at + self.random.i64(0..=weather.max_delay_ms * 3));
        }
        arrivals
    }

    fn roll(&mut self, in_thousand: u32) -> bool {
        self.random.u32(0..1000) < in_thousand
    }
}
