//! What brokers are told of the metadata: one leader an epoch, one state a version, the same for everybody.

use std::collections::BTreeMap;

use millrace_model::LogId;

use super::Checked;
use crate::sim::trace::ensure;

/// A partition as an image has it, in plain numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sim::cluster) struct PartitionFacts {
    pub(in crate::sim::cluster) leader: Option<u32>,
    pub(in crate::sim::cluster) leader_epoch: u32,
    pub(in crate::sim::cluster) version: u32,
    pub(in crate::sim::cluster) replicas: Vec<u32>,
    pub(in crate::sim::cluster) in_sync: Vec<u32>,
    pub(in crate::sim::cluster) eligible: Vec<u32>,
    pub(in crate::sim::cluster) is_moving: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(in crate::sim::cluster) struct MetadataChecker {
    versions: BTreeMap<(LogId, u32), PartitionFacts>,
    leaders: BTreeMap<(LogId, u32), u32>,
    newest: BTreeMap<LogId, u32>,
    /// Who was given each range of producer ids.
    producer_ids: BTreeMap<i64, u32>,
}

impl MetadataChecker {
    /// A broker was told this of a partition.
    pub(in crate::sim::cluster) fn told(
        &mut self,
        broker: u32,
        log: LogId,
        facts: &PartitionFacts,
    ) -> Checked {
        let key = (log, facts.version);
        if let Some(known) = self.versions.get(&key) {
            ensure!(
                known == facts,
                "broker {broker} is told {facts:?} of {log}, another was told {known:?}"
            );
            return Ok(());
        }
        if let Some(leader) = facts.leader {
            let key = (log, facts.leader_epoch);
            let known = *self.leaders.entry(key).or_insert(leader);
            ensure!(
                known == leader,
                "brokers {known} and {leader} are both made leaders of {log} in epoch {}",
                facts.leader_epoch
            );
            ensure!(
                facts.in_sync.contains(&leader),
                "leader {leader} of {log} is not in sync: {facts:?}"
            );
        }
        self.versions.insert(key, facts.clone());
        let newest = self.newest.entry(log).or_default();
        *newest = facts.version.max(*newest);
        Ok(())
    }

    /// The newest state of each partition that any broker was told.
    pub(in crate::sim::cluster) fn newest(&self) -> impl Iterator<Item = (LogId, &PartitionFacts)> {
        self.newest.iter().filter_map(|(log, version)| {
            let facts = self.versions.get(&(*log, *version))?;
            Some((*log, facts))
        })
    }

    /// A broker acts as the leader in this epoch.
    pub(in crate::sim::cluster) fn acts(&self, broker: u32, log: LogId, epoch: u32) -> Checked {
        let made = self.leaders.get(&(log, epoch));
        ensure!(
            made == Some(&broker),
            "broker {broker} leads {log} in epoch {epoch}, for which {made:?} was made the leader"
        );
        Ok(())
    }

    /// A producer was given this id.
    pub(in crate::sim::cluster) fn producer_id(&mut self, producer: u32, id: i64) -> Checked {
        let before = self.producer_ids.insert(id, producer);
        ensure!(
            before.is_none(),
            "producers {before:?} and {producer} were both given the id {id}"
        );
        Ok(())
    }
}
