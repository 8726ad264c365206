//! What goes wrong in a history, and how often it has.

use std::collections::BTreeMap;
use std::fmt;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A broker loses its power: what was not durable may be gone, the last write torn.
    PowerLoss,
    /// A broker's process is killed; what was written stays in the system's cache.
    Kill,
    /// A broker stops in good order.
    CleanStop,
    /// A broker stands still.
    Pause,
    /// Two brokers do not reach each other.
    TwoWayCut,
    /// What one broker sends to another gets lost, not the other way round.
    OneWayCut,
    /// A broker is cut off from all the others.
    Isolation,
    /// Clients do not reach a broker.
    ClientCut,
    /// Messages come late, twice, out of order or not at all, where the transport allows it.
    Storm,
    /// Messages of the quorum that were lost, doubled or overtaken by later ones.
    Disordered,
    /// A stream between two replicas broke.
    LostStream,
    /// A disk takes its time.
    SlowDisk,
    /// An operation of a disk fails.
    FailingDisk,
    /// A disk takes no more.
    FullDisk,
    /// A bit of a log turns.
    BitRot,
    /// A wall clock is set.
    ClockStep,
    /// A partition's replicas are changed.
    Reassignment,
    /// Leaders are moved to other replicas.
    MovedLeader,
    /// A broker joins the cluster.
    AddedBroker,
    /// Records are deleted at the start of a log.
    Deletion,
    /// A member of a group goes without a word.
    LostMember,
}

/// How often each happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<Fault, u64>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault, count: u64) {
        *self.0.entry(fault).or_default() += count;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (fault, count) in &other.0 {
            self.add(*fault, *count);
        }
    }

    /// How often this happened.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (fault, count)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{fault:?} {count}")?;
        }
        Ok(())
    }
}
