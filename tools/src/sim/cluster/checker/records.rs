//! The records of one partition: what is committed stays, everywhere, for ever.

use std::collections::BTreeMap;

use super::Checked;
use crate::sim::cluster::mirror::{Mirror, Stored};
use crate::sim::trace::ensure;

/// See the module's documentation.
#[derive(Default)]
pub(in crate::sim::cluster) struct RecordChecker {
    /// What is below the highest high watermark of any leader ever, by base offset.
    committed: BTreeMap<u64, Stored>,
    committed_end: u64,
    /// Where each committed batch stands.
    places: BTreeMap<u64, u64>,
    /// The batch that became durable at each offset in each epoch.
    durable: BTreeMap<(u32, u64), Stored>,
    /// Batches that a producer was told are kept: where, and how many records.
    acknowledged: BTreeMap<u64, (u64, u64)>,
    /// Who has led in each epoch.
    leaders: BTreeMap<u32, u32>,
    /// By leader epoch: its high watermark.
    watermarks: BTreeMap<u32, u64>,
    /// By leader epoch: the lowest end that consumers were told.
    shown: BTreeMap<u32, u64>,
    /// How far each broker's log has been compared with what is committed.
    compared: BTreeMap<u32, u64>,
    /// The highest log start that was asked for.
    deleted_to: u64,
    /// Whether the same bytes may stand here twice, as those of a coordinator may.
    pub(in crate::sim::cluster) may_repeat: bool,
    read: u64,
}

impl RecordChecker {
    pub(in crate::sim::cluster) fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    pub(in crate::sim::cluster) fn read(&self) -> u64 {
        self.read
    }

    pub(in crate::sim::cluster) fn committed_end(&self) -> u64 {
        self.committed_end
    }

    /// A broker acts as the leader.
    pub(in crate::sim::cluster) fn leads(&mut self, broker: u32, epoch: u32) -> Checked {
        let leader = *self.leaders.entry(epoch).or_insert(broker);
        ensure!(
            leader == broker,
            "brokers {leader} and {broker} both lead in epoch {epoch}"
        );
        Ok(())
    }

    /// A leader has this high watermark.
    pub(in crate::sim::cluster) fn leader_watermark(
        &mut self,
        (broker, epoch): (u32, u32),
        watermark: u64,
        log: &Mirror,
    ) -> Checked {
        let before = self.watermarks.insert(epoch, watermark).unwrap_or(0);
        ensure!(
            before <= watermark,
            "the high watermark of leader {broker} in epoch {epoch} falls from {before} to {watermark}"
        );
        for (later, shown) in self.shown.range(epoch + 1..) {
            ensure!(
                *shown >= watermark,
                "epoch {later} showed an end of {shown}, epoch {epoch} had committed {watermark}"
            );
        }
        if watermark > self.committed_end {
            let from = self.committed_end.max(log.start());
            for batch in log.between(from, watermark) {
                self.commit(*batch)?;
            }
            self.committed_end = watermark;
        }
        self.agrees(broker, watermark, log)
    }

    fn commit(&mut self, batch: Stored) -> Checked {
        if let Some(place) = self.places.insert(batch.print, batch.base) {
            ensure!(
                place == batch.base || self.may_repeat,
                "the batch at {place} is committed again at {}",
                batch.base
            );
        }
        self.committed.insert(batch.base, batch);
        Ok(())
    }

    /// A follower takes this for committed.
    pub(in crate::sim::cluster) fn follower_watermark(
        &mut self,
        broker: u32,
        watermark: u64,
        log: &Mirror,
    ) -> Checked {
        ensure!(
            watermark <= self.committed_end,
            "follower {broker} takes {watermark} for committed, and {} is",
            self.committed_end
        );
        self.agrees(broker, watermark, log)
    }

    /// A log was cut, or its broker starts anew: what is above has to be compared again.
    pub(in crate::sim::cluster) fn cut(&mut self, broker: u32, end: u64) {
        let compared = self.compared.entry(broker).or_default();
        *compared = end.min(*compared);
    }

    fn agrees(&mut self, broker: u32, end: u64, log: &Mirror) -> Checked {
        let compared = self.compared.entry(broker).or_default();
        let from = log.start().max(*compared);
        *compared = end.max(*compared);
        self.is_committed(broker, (from, end), log)
    }

    /// The log holds between these offsets what is committed there.
    fn is_committed(&self, broker: u32, (from, end): (u64, u64), log: &Mirror) -> Checked {
        let end = end.min(self.committed_end);
        let mut at = from;
        for batch in log.touching(from, end) {
            self.one_batch(&format!("broker {broker} has"), batch)?;
            at = batch.next;
        }
        ensure!(
            at >= end,
            "broker {broker} has nothing at {at}, and {end} is committed"
        );
        Ok(())
    }

    /// There is one batch at an offset, for ever.
    fn one_batch(&self, who: &str, found: &Stored) -> Checked {
        if found.next > self.committed_end || found.next <= self.deleted_to {
            return Ok(());
        }
        let committed = self.committed.get(&found.base);
        ensure!(
            committed.is_none_or(|committed| committed == found)
                && (committed.is_some() || found.base < self.deleted_to),
            "{who} {found:?}, where {committed:?} is committed"
        );
        Ok(())
    }

    /// These became durable in a log.
    pub(in crate::sim::cluster) fn became_durable(
        &mut self,
        broker: u32,
        batches: &[Stored],
    ) -> Checked {
        for batch in batches {
            let key = (batch.epoch, batch.base);
            let first = *self.durable.entry(key).or_insert(*batch);
            ensure!(
                first == *batch,
                "broker {broker} has {batch:?}, where another has {first:?}"
            );
        }
        Ok(())
    }

    /// A producer with `acks=all` was told that its batch is kept here.
    pub(in crate::sim::cluster) fn producer_told(
        &mut self,
        print: u64,
        base: u64,
        records: u64,
    ) -> Checked {
        let before = self.acknowledged.insert(print, (base, records));
        ensure!(
            before.is_none_or(|(place, _)| place == base),
            "a batch is acknowledged at {base} and at {before:?}"
        );
        if base + records <= self.deleted_to {
            return Ok(());
        }
        let committed = self.committed.get(&base);
        ensure!(
            committed.is_some_and(|it| it.print == print && it.next == base + records),
            "the batch at {base} is acknowledged, and committed is {committed:?}"
        );
        Ok(())
    }

    /// A consumer was handed these.
    pub(in crate::sim::cluster) fn consumed(
        &mut self,
        consumer: u32,
        batches: &[Stored],
    ) -> Checked {
        for batch in batches {
            ensure!(
                batch.next <= self.committed_end,
                "consumer {consumer} was handed {batch:?}, and {} is committed",
                self.committed_end
            );
            self.read += batch.next - batch.base;
            self.one_batch(&format!("consumer {consumer} was handed"), batch)?;
        }
        Ok(())
    }

    /// A consumer was told by the leader of this epoch that records end here.
    pub(in crate::sim::cluster) fn told_end(&mut self, epoch: u32, end: u64) -> Checked {
        let lowest = self.shown.entry(epoch).or_insert(end);
        *lowest = end.min(*lowest);
        for (earlier, watermark) in self.watermarks.range(..epoch) {
            ensure!(
                end >= *watermark,
                "epoch {epoch} shows an end of {end}, epoch {earlier} had committed {watermark}"
            );
        }
        Ok(())
    }

    /// A consumer was told that records start here.
    pub(in crate::sim::cluster) fn starts(&self, start: u64) -> Checked {
        ensure!(
            start <= self.deleted_to,
            "records are said to start at {start}, and were deleted to {} only",
            self.deleted_to
        );
        Ok(())
    }

    /// Records below may go.
    pub(in crate::sim::cluster) fn deleted(&mut self, to: u64) {
        self.deleted_to = self.deleted_to.max(to);
    }

    /// Who may be elected has everything that is committed, durably.
    pub(in crate::sim::cluster) fn candidate(
        &self,
        broker: u32,
        durable: u64,
        epoch: u32,
    ) -> Checked {
        ensure!(
            durable >= self.committed_end,
            "broker {broker} may be elected after epoch {epoch} with {durable} durable, and {} is committed",
            self.committed_end
        );
        Ok(())
    }

    /// A log that was read from its start to its end.
    pub(in crate::sim::cluster) fn audit(&self, broker: u32, log: &Mirror) -> Checked {
        self.is_committed(broker, (log.start(), self.committed_end), log)?;
        ensure!(
            log.start() <= self.deleted_to,
            "broker {broker} starts at {}, and records were deleted to {} only",
            log.start(),
            self.deleted_to
        );
        for (print, (base, records)) in &self.acknowledged {
            if base + records <= log.start() {
                continue;
            }
            let found = log.between(*base, base + records).first();
            ensure!(
                found.is_some_and(|it| it.print == *print && it.base == *base),
                "broker {broker} lost the acknowledged batch at {base}: there is {found:?}"
            );
        }
        Ok(())
    }
}
