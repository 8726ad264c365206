//! The way of messages between brokers, and between clients and brokers.
//!
//! A *datagram* (messages of the quorum) may be lost, come twice or be overtaken. On a *stream* messages stay
//! in order; one that is lost breaks the stream, which both ends learn some time later.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// Who sends and receives: a broker's number, or one above [`CLIENTS`].
pub(super) type Address = u32;

/// Clients' addresses begin here.
pub(super) const CLIENTS: Address = 1000;

/// What the network does to messages at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) max_delay_ms: i64,
    /// In a thousand, as are the next.
    pub(super) loss: u32,
    pub(super) double: u32,
    pub(super) reorder: u32,
}

/// A quiet network.
pub(super) const CALM: Weather = Weather {
    max_delay_ms: 2,
    loss: 0,
    double: 0,
    reorder: 0,
};

pub(super) struct Network {
    rng: RefCell<fastrand::Rng>,
    weather: Cell<Weather>,
    /// Directions in which nothing passes, with the number of reasons.
    cut: RefCell<BTreeMap<(Address, Address), u32>>,
    /// Brokers that no client reaches.
    hidden: RefCell<BTreeSet<Address>>,
    /// When the last message of a direction arrives.
    last: RefCell<BTreeMap<(Address, Address), i64>>,
    pub(super) disordered: Cell<u64>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            weather: Cell::new(CALM),
            cut: RefCell::default(),
            hidden: RefCell::default(),
            last: RefCell::default(),
            disordered: Cell::new(0),
        }
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.weather.set(weather);
    }

    pub(super) fn cut(&self, from: Address, to: Address) {
        *self.cut.borrow_mut().entry((from, to)).or_default() += 1;
    }

    pub(super) fn mend(&self, from: Address, to: Address) {
        let mut cut = self.cut.borrow_mut();
        if let Some(reasons) = cut.get_mut(&(from, to)) {
            *reasons -= 1;
            if *reasons == 0 {
                cut.remove(&(from, to));
            }
        }
    }

    /// Everybody reaches everybody, in good time.
    pub(super) fn heal(&self) {
        self.cut.borrow_mut().clear();
        self.hidden.borrow_mut().clear();
        self.weather.set(CALM);
    }

    pub(super) fn hide(&self, broker: Address, is_hidden: bool) {
        let mut hidden = self.hidden.borrow_mut();
        match is_hidden {
            true => hidden.insert(broker),
            false => hidden.remove(&broker),
        };
    }

    /// Whether what is sent now, or arrives, gets through.
    pub(super) fn passes(&self, from: Address, to: Address) -> bool {
        let hidden = self.hidden.borrow();
        let is_client = from >= CLIENTS || to >= CLIENTS;
        !(self.cut.borrow().contains_key(&(from, to))
            || is_client && (hidden.contains(&from) || hidden.contains(&to)))
    }

    /// When a datagram that is sent now arrives: never, once or twice.
    pub(super) fn datagram(&self, from: Address, to: Address, now: i64) -> Vec<i64> {
        let weather = self.weather.get();
        if !self.passes(from, to) {
            return Vec::new();
        }
        if self.rolls(weather.loss) {
            self.note_disorder();
            return Vec::new();
        }
        let delay = self.delay(weather);
        let mut at = now + delay;
        if self.rolls(weather.reorder) {
            self.note_disorder();
        } else {
            at = self.in_order(from, to, at);
        }
        let mut arrivals = vec![at];
        if self.rolls(weather.double) {
            self.note_disorder();
            arrivals.push(at + self.delay(weather) * 3);
        }
        arrivals
    }

    /// When the next message of a stream arrives, unless it is lost.
    pub(super) fn stream(&self, from: Address, to: Address, now: i64) -> Option<i64> {
        let weather = self.weather.get();
        // Transport repeats what is lost: late, and at last not at all.
        let lost = self.rolls(weather.loss) && self.rolls(250);
        if !self.passes(from, to) || lost {
            return None;
        }
        let at = now + self.delay(weather);
        Some(self.in_order(from, to, at))
    }

    fn in_order(&self, from: Address, to: Address, at: i64) -> i64 {
        let mut all = self.last.borrow_mut();
        let last = all.entry((from, to)).or_insert(0);
        *last = at.max(*last);
        *last
    }

    fn delay(&self, weather: Weather) -> i64 {
        self.rng.borrow_mut().i64(1..=weather.max_delay_ms)
    }

    fn rolls(&self, in_thousand: u32) -> bool {
        in_thousand > 0 && self.rng.borrow_mut().u32(0..1000) < in_thousand
    }

    fn note_disorder(&self) {
        self.disordered.set(self.disordered.get() + 1);
    }
}
