//! The log of a simulated broker: records in memory, of which a crash leaves what is durable.

use millrace_model::{EpochStart, LeaderEpoch, LeaderEpochs, Offset};
use millrace_replication::partition::{LogEnds, LogView};

/// A record. Its value is drawn once, so that no two appends have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) epoch: u32,
    pub(crate) value: u64,
    /// Offset of the first record of its batch.
    pub(crate) batch: u64,
}

#[derive(Debug, Default)]
pub(crate) struct SimLog {
    start: u64,
    durable: u64,
    records: Vec<Record>,
}

impl SimLog {
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    pub(crate) fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    pub(crate) fn ends(&self) -> LogEnds {
        LogEnds {
            start: Offset(self.start),
            durable: Offset(self.durable),
            accepted: Offset(self.end()),
        }
    }

    pub(crate) fn view(&self) -> LogView {
        let mut epochs = LeaderEpochs::default();
        for run in runs(&self.records, self.start) {
            epochs.assign(run.epoch, run.start);
        }
        LogView::new(self.ends(), epochs)
    }

    pub(crate) fn record(&self, offset: u64) -> Option<Record> {
        let at = offset.checked_sub(self.start)?;
        self.records.get(usize::try_from(at).unwrap()).copied()
    }

    /// Whole batches from `from` on, about `count` records, none above `end`.
    pub(crate) fn read(&self, from: u64, count: u64, end: u64) -> Vec<Record> {
        let wanted = (from..end.min(self.end())).filter_map(|at| self.record(at));
        let mut found: Vec<Record> = Vec::new();
        for record in wanted {
            let starts = record.batch == from + found.len() as u64;
            if starts && found.len() as u64 >= count {
                break;
            }
            found.push(record);
        }
        found
    }

    pub(crate) fn append(&mut self, records: &[Record]) {
        self.records.extend_from_slice(records);
    }

    /// A write up to here is done.
    pub(crate) fn written(&mut self, end: u64) {
        self.durable = self.durable.max(end.min(self.end()));
    }

    /// Takes away every batch that reaches above `to`; what is left is durable.
    pub(crate) fn truncate(&mut self, to: u64) {
        let to = self.record(to).map_or(to, |record| record.batch);
        self.keep(to);
        self.durable = self.end();
    }

    pub(crate) fn reset(&mut self, to: u64) {
        (self.start, self.durable) = (to, to);
        self.records.clear();
    }

    /// A write failed and is cut away.
    pub(crate) fn cut_unwritten(&mut self) {
        self.keep(self.durable);
    }

    pub(crate) fn set_start(&mut self, start: u64) {
        let start = self.record(start).map_or(start, |record| record.batch);
        if start > self.start {
            let drop = usize::try_from(start - self.start).unwrap();
            self.records.drain(..drop.min(self.records.len()));
            self.start = start;
        }
    }

    /// A crash: of what was being written, `survives` batches are there.
    pub(crate) fn crash(&mut self, survives: usize) {
        let mut end = self.durable;
        for _ in 0..survives {
            let batch = self.record(end).map(|record| record.batch);
            while batch.is_some() && self.record(end).map(|record| record.batch) == batch {
                end += 1;
            }
        }
        self.keep(end);
        self.durable = self.end();
    }

    fn keep(&mut self, end: u64) {
        let keep = usize::try_from(end.saturating_sub(self.start)).unwrap();
        self.records.truncate(keep);
        self.durable = self.durable.min(self.end());
    }
}

/// The epochs in a run of records that starts at `base`.
pub(crate) fn runs(records: &[Record], base: u64) -> Vec<EpochStart> {
    let mut runs: Vec<EpochStart> = Vec::new();
    for (record, at) in records.iter().zip(base..) {
        if runs.last().is_none_or(|run| run.epoch.0 != record.epoch) {
            runs.push(EpochStart {
                epoch: LeaderEpoch(record.epoch),
                start: Offset(at),
            });
        }
    }
    runs
}
