//! What goes wrong in a run, and how often it has.

use std::collections::BTreeMap;
use std::fmt;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Crash,
    TornCrash,
    CleanRestart,
    Pause,
    OneWayCut,
    TwoWayCut,
    CutFromController,
    SlowDisk,
    FullDisk,
    Storm,
    MovedLeader,
    Deletion,
    LostMessage,
    DoubledMessage,
    ReorderedMessage,
    LostStream,
}

/// Those that the run chooses from.
pub(crate) const CHOICES: [Fault; 12] = [
    Fault::Crash,
    Fault::TornCrash,
    Fault::CleanRestart,
    Fault::Pause,
    Fault::OneWayCut,
    Fault::TwoWayCut,
    Fault::CutFromController,
    Fault::SlowDisk,
    Fault::FullDisk,
    Fault::Storm,
    Fault::MovedLeader,
    Fault::Deletion,
];

/// How often each happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<Fault, u64>);

impl Counts {
    pub(crate) fn add(&mut self, fault: Fault, count: u64) {
        *self.0.entry(fault).or_default() += count;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other
            .0
            .iter()
            .for_each(|(fault, count)| self.add(*fault, *count));
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (fault, count)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{fault:?} {count}")?;
        }
        Ok(())
    }
}
