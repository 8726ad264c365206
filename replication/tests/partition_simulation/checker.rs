//! Says what must not be. It knows records by value and looks at the logs themselves; nothing
//! of it is shared with the machines.

use std::collections::BTreeMap;

use super::log::{Record, SimLog};

/// The first thing that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

pub(crate) type Checked = Result<(), Violation>;

macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::checker::Violation(format!($($why)+)));
        }
    };
}

#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// The record at each offset below the highest high watermark of any leader ever.
    committed: Vec<Option<Record>>,
    /// Who has led in each epoch.
    leaders: BTreeMap<u32, u32>,
    /// The record that became durable at each offset in each epoch.
    durable: BTreeMap<(u32, u64), Record>,
    /// By leader epoch: its high watermark.
    watermarks: BTreeMap<u32, u64>,
    /// The last high watermark of each broker.
    known: BTreeMap<u32, u64>,
    /// By leader epoch: the lowest end that consumers were told.
    shown: BTreeMap<u32, u64>,
    /// How far each broker's log has been compared with what is committed.
    compared: BTreeMap<u32, u64>,
    pub(crate) acknowledged: u64,
    pub(crate) read: u64,
}

impl Checker {
    pub(crate) fn committed_end(&self) -> u64 {
        self.committed.len() as u64
    }

    /// A broker begins to lead.
    pub(crate) fn leads(&mut self, broker: u32, epoch: u32) -> Checked {
        let leader = *self.leaders.entry(epoch).or_insert(broker);
        ensure!(
            leader == broker,
            "brokers {leader} and {broker} both lead in epoch {epoch}"
        );
        Ok(())
    }

    /// A leader has this high watermark.
    pub(crate) fn leader_watermark(
        &mut self,
        broker: u32,
        epoch: u32,
        watermark: u64,
        log: &SimLog,
    ) -> Checked {
        // It begins with what it knew before.
        let known = self.known.insert(broker, watermark).unwrap_or(0);
        let before = self.watermarks.insert(epoch, watermark).unwrap_or(known);
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
        for offset in self.committed_end()..watermark {
            self.committed.push(log.record(offset));
        }
        self.agrees(broker, watermark, log)
    }

    /// A follower believes this to be committed.
    pub(crate) fn follower_watermark(
        &mut self,
        broker: u32,
        watermark: u64,
        log: &SimLog,
    ) -> Checked {
        ensure!(
            watermark <= self.committed_end(),
            "follower {broker} takes {watermark} for committed, and {} is",
            self.committed_end()
        );
        self.known.insert(broker, watermark);
        self.agrees(broker, watermark, log)
    }

    /// A log was cut, or with 0 its broker starts anew: what is above has to be compared again.
    pub(crate) fn cut(&mut self, broker: u32, end: u64) {
        let known = self.known.entry(broker).or_default();
        *known = end.min(*known);
        let compared = self.compared.entry(broker).or_default();
        *compared = end.min(*compared);
    }

    fn agrees(&mut self, broker: u32, end: u64, log: &SimLog) -> Checked {
        let compared = self.compared.entry(broker).or_default();
        let from = log.start().max(*compared);
        *compared = end.max(*compared);
        for offset in from..end {
            self.one_record(broker, offset, log.record(offset))?;
        }
        Ok(())
    }

    /// There is one record at an offset, for ever.
    fn one_record(&self, broker: u32, offset: u64, found: Option<Record>) -> Checked {
        let at = usize::try_from(offset).unwrap();
        let committed = self.committed.get(at).copied().flatten();
        ensure!(
            found == committed,
            "broker {broker} has {found:?} at {offset}, where {committed:?} is committed"
        );
        Ok(())
    }

    /// These records became durable in a log.
    pub(crate) fn became_durable(&mut self, broker: u32, from: u64, log: &SimLog) -> Checked {
        for offset in from.max(log.start())..log.durable() {
            let record = log.record(offset).expect("what is durable is there");
            let first = *self.durable.entry((record.epoch, offset)).or_insert(record);
            ensure!(
                first == record,
                "broker {broker} has {record:?} at {offset}, where another has {first:?}"
            );
        }
        Ok(())
    }

    /// A producer with `acks=all` was told that its batch is kept.
    pub(crate) fn acknowledged(&mut self, base: u64, records: &[Record]) -> Checked {
        self.acknowledged += 1;
        for (record, offset) in records.iter().zip(base..) {
            let at = usize::try_from(offset).unwrap();
            ensure!(
                self.committed.get(at) == Some(&Some(*record)),
                "{record:?} at {offset} is acknowledged and not committed"
            );
        }
        Ok(())
    }

    /// A consumer was handed these records.
    pub(crate) fn consumed(&mut self, broker: u32, from: u64, records: &[Record]) -> Checked {
        for (record, offset) in records.iter().zip(from..) {
            self.read += 1;
            self.one_record(broker, offset, Some(*record))?;
        }
        Ok(())
    }

    /// A consumer was told by the leader of this epoch that records end here.
    pub(crate) fn told_end(&mut self, epoch: u32, end: u64) -> Checked {
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

    /// Who may be elected has everything that is committed, durably.
    pub(crate) fn candidate(&self, broker: u32, log: &SimLog) -> Checked {
        let end = self.committed_end();
        ensure!(
            log.durable() >= end,
            "broker {broker} may be elected with {} durable, and {end} is committed",
            log.durable()
        );
        Ok(())
    }

    /// As [`Checker::candidate`], record by record.
    pub(crate) fn candidate_in_full(&self, broker: u32, log: &SimLog) -> Checked {
        self.candidate(broker, log)?;
        for offset in log.start()..self.committed_end() {
            self.one_record(broker, offset, log.record(offset))?;
        }
        Ok(())
    }
}

pub(crate) use ensure;
