//! Says what must not be. It knows what was sent, acknowledged, read and assigned as plain numbers, and shares
//! no code with the product.

mod groups;
mod metadata;
mod records;

pub(super) use groups::GroupChecker;
pub(super) use metadata::{MetadataChecker, PartitionFacts};
pub(super) use records::RecordChecker;

use std::collections::BTreeMap;

use millrace_model::LogId;

use crate::sim::trace::Violation;

/// Fails at the first thing that must not have happened.
pub(super) type Checked = Result<(), Violation>;

/// All checkers of a world.
#[derive(Default)]
pub(super) struct Checker {
    pub(super) records: BTreeMap<LogId, RecordChecker>,
    pub(super) metadata: MetadataChecker,
    pub(super) groups: GroupChecker,
}

impl Checker {
    pub(super) fn of(&mut self, log: LogId) -> &mut RecordChecker {
        self.records.entry(log).or_default()
    }

    /// Batches that producers were told are kept.
    pub(super) fn acknowledged(&self) -> u64 {
        self.records.values().map(RecordChecker::acknowledged).sum()
    }

    /// Records that consumers were handed.
    pub(super) fn read(&self) -> u64 {
        self.records.values().map(RecordChecker::read).sum()
    }
}
