//! What one log must hold, by what it has promised: the checker's model of a log.
//!
//! It knows nothing of segments, writes or recovery. It is told every accepted batch, every
//! position that the log has shown, and every change that was asked for, and says whether
//! what the log shows next can be.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millrace_model::LogId;

use super::frames::RawFrame;
use super::trace::{Violation, ensure};

/// Batches for which a repetition is recognised.
const REMEMBERED: usize = 5;

/// An idempotent producer's mark on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) first: i32,
    pub(super) last: i32,
}

/// A batch as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) batch: Rc<[u8]>,
    pub(super) records: u64,
    /// The same for all records of the batch.
    pub(super) timestamp: i64,
    pub(super) stamp: Option<Stamp>,
}

/// What must be answered to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Append,
    Duplicate {
        base: u64,
        next: u64,
    },
    OutOfOrder,
    /// Neither a repetition that is remembered nor the next batch.
    Stale,
    Fenced,
}

#[derive(Clone, Debug)]
struct Entry {
    next: u64,
    epoch: u32,
    sent: Sent,
}

/// The model of one log. See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    id: LogId,
    /// Accepted batches by base offset, without gaps from 0 on, deleted ones included.
    entries: BTreeMap<u64, Entry>,
    /// The highest log start that was seen.
    start: u64,
    /// The highest log start that anything asked for.
    start_limit: u64,
    /// Batches that the log gave up after a failed write, which may have reached the disk
    /// all the same, and may be there after the next crash.
    ghosts: Vec<(u64, Entry)>,
    /// Everything below must survive whatever comes.
    kept: u64,
    /// The durable end before the last time it moved: above it, rot may look like a torn
    /// write.
    before_last_write: u64,
    /// Every place where the durable end has been.
    steps: BTreeSet<u64>,
    /// Everything below was shown to readers in this life.
    shown: u64,
    /// A truncation that did not confirm: it may have happened or not.
    truncating: Option<u64>,
    /// Bits were turned in the log's files.
    rotten: bool,
    /// Times that the end went back.
    cuts: u64,
    /// See [`Ledger::forgetful_verdict`].
    forgetful: bool,
}

impl Ledger {
    pub(super) fn new(id: LogId) -> Self {
        Self {
            id,
            entries: BTreeMap::new(),
            ghosts: Vec::new(),
            start: 0,
            start_limit: 0,
            kept: 0,
            before_last_write: 0,
            steps: BTreeSet::new(),
            shown: 0,
            truncating: None,
            rotten: false,
            cuts: 0,
            forgetful: false,
        }
    }

    /// The end of what was accepted.
    pub(super) fn end(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(0, |(_, entry)| entry.next)
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    pub(super) fn is_rotten(&self) -> bool {
        self.rotten
    }

    pub(super) fn rot(&mut self) {
        self.rotten = true;
    }

    /// This ledger as it was when only what is below `durable` had been promised.
    pub(super) fn as_of(&self, durable: u64) -> Self {
        let mut earlier = self.clone();
        earlier.kept = durable;
        earlier.shown = 0;
        earlier
    }

    /// The bits that were turned are turned back.
    pub(super) fn healed(&mut self) {
        self.rotten = false;
    }

    /// Base offsets of all batches that are not deleted, and the end.
    pub(super) fn boundaries(&self) -> Vec<u64> {
        let live = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.next > self.start);
        live.map(|(base, _)| *base).chain([self.end()]).collect()
    }

    /// What the log must answer to a batch of an idempotent producer.
    pub(super) fn verdict(&self, stamp: Stamp) -> Verdict {
        self.verdict_from(0, stamp)
    }

    /// Another answer that is right as well: on a full disk old segments go without a note of
    /// the producers in them, who are then unknown after a restart.
    pub(super) fn forgetful_verdict(&self, stamp: Stamp) -> Option<Verdict> {
        self.forgetful.then(|| self.verdict_from(self.start, stamp))
    }

    /// The disk was full at some time.
    pub(super) fn was_full(&mut self) {
        self.forgetful = true;
    }

    fn verdict_from(&self, start: u64, stamp: Stamp) -> Verdict {
        let known: Vec<_> = self
            .entries
            .iter()
            .rev()
            .filter(|(_, entry)| entry.next > start)
            .filter_map(|(base, entry)| Some((*base, entry.next, entry.sent.stamp?)))
            .filter(|(_, _, known)| known.id == stamp.id)
            .collect();
        let Some((_, _, last)) = known.first() else {
            return Verdict::Append;
        };
        if stamp.epoch != last.epoch {
            return match (stamp.epoch > last.epoch, stamp.first) {
                (false, _) => Verdict::Fenced,
                (true, 0) => Verdict::Append,
                (true, _) => Verdict::OutOfOrder,
            };
        }
        let of_epoch = known
            .iter()
            .take_while(|(_, _, known)| known.epoch == stamp.epoch);
        let mut same = of_epoch
            .enumerate()
            .filter(|(_, (_, _, known))| *known == stamp);
        match same.next() {
            Some((age, (base, next, _))) if age < REMEMBERED => Verdict::Duplicate {
                base: *base,
                next: *next,
            },
            _ if stamp.first <= last.last => Verdict::Stale,
            _ if stamp.first == last.last + 1 => Verdict::Append,
            _ => Verdict::OutOfOrder,
        }
    }

    /// The log accepted a batch. `may_drop` if a fault may have made it give up what it had
    /// accepted before and not written.
    pub(super) fn accepted(
        &mut self,
        (base, next): (u64, u64),
        epoch: u32,
        sent: Sent,
        may_drop: bool,
    ) -> Result<(), Violation> {
        if base < self.end() {
            ensure!(
                may_drop,
                "offset {base} is given again, below the end {}",
                self.end()
            );
            self.drop_from(base)?;
        }
        ensure!(
            base == self.end(),
            "offset {base} leaves a gap after {}",
            self.end()
        );
        ensure!(
            next == base + sent.records,
            "{} records at {base}, next {next}",
            sent.records
        );
        self.entries.insert(base, Entry { next, epoch, sent });
        Ok(())
    }

    /// The log's positions, as it shows them.
    pub(super) fn seen(&mut self, start: u64, durable: u64, ack: u64) -> Result<(), Violation> {
        self.start_seen(start)?;
        ensure!(
            durable <= ack,
            "durable end {durable} above the end of what is acknowledged {ack}"
        );
        ensure!(
            ack <= self.end(),
            "acknowledges up to {ack}, accepted only {}",
            self.end()
        );
        self.shown = self.shown.max(ack);
        self.durable(durable)
    }

    fn start_seen(&mut self, start: u64) -> Result<(), Violation> {
        ensure!(
            start >= self.start,
            "log start went back from {} to {start}",
            self.start
        );
        ensure!(
            start <= self.start_limit,
            "log start {start}, though nothing asked for more than {}",
            self.start_limit
        );
        self.start = start;
        Ok(())
    }

    fn durable(&mut self, durable: u64) -> Result<(), Violation> {
        ensure!(
            durable <= self.end(),
            "durable up to {durable}, accepted only {}",
            self.end()
        );
        if durable > self.kept {
            self.before_last_write = self.kept;
            self.steps.insert(self.kept);
            self.kept = durable;
        }
        Ok(())
    }

    /// A batch up to `next` was acknowledged by a log that promises to keep it.
    pub(super) fn promised(&mut self, next: u64) {
        if next > self.kept {
            self.before_last_write = self.kept;
            self.steps.insert(self.kept);
            self.kept = next;
        }
    }

    /// Something may move the log start up to here.
    pub(super) fn may_start_at(&mut self, to: u64) {
        self.start_limit = self.start_limit.max(to);
    }

    /// The newest timestamp of the batches that end at or below `start`.
    pub(super) fn newest_deleted(&self, from: u64, start: u64) -> Option<i64> {
        let deleted = self
            .entries
            .range(from..)
            .filter(|(_, entry)| entry.next <= start);
        deleted.map(|(_, entry)| entry.sent.timestamp).max()
    }

    pub(super) fn is_truncating(&self) -> bool {
        self.truncating.is_some()
    }

    /// What [`Ledger::begin_truncate`] changes.
    pub(super) fn truncation(&self) -> Option<u64> {
        self.truncating
    }

    /// The truncation was refused, and so is none; `before` is [`Ledger::truncation`] from
    /// before it was begun.
    pub(super) fn not_truncated(&mut self, before: Option<u64>) {
        self.truncating = before;
    }

    pub(super) fn begin_truncate(&mut self, to: u64) {
        self.truncating = Some(self.truncating.map_or(to, |earlier| earlier.min(to)));
    }

    /// Where the last write begins in the file, at the latest: what ends the file after a
    /// truncation is a write of before, of which only the cut end is known.
    fn last_write(&self) -> u64 {
        let Some(to) = self.truncating else {
            return self.before_last_write;
        };
        let before = self.steps.range(..to).next_back().copied().unwrap_or(0);
        self.before_last_write.min(before)
    }

    /// A truncation confirmed: nothing at or above `to` may ever be seen again.
    pub(super) fn truncated(&mut self, to: u64) {
        self.truncating = None;
        self.entries.split_off(&to);
        self.ghosts.clear();
        self.kept = self.end();
        // What now ends the file is a write of before, of which only the cut end is known.
        self.steps.split_off(&self.kept);
        self.before_last_write = self.steps.last().copied().unwrap_or(0);
        self.shown = self.shown.min(self.end());
        self.cuts += 1;
    }

    /// In this life the log gave up what it had accepted from `end` on.
    pub(super) fn drop_from(&mut self, end: u64) -> Result<(), Violation> {
        ensure!(
            end >= self.kept,
            "gave up {end}, though {} is durable",
            self.kept
        );
        ensure!(
            end >= self.shown,
            "gave up {end}, though {} was acknowledged",
            self.shown
        );
        self.cut(end)
    }

    fn cut(&mut self, end: u64) -> Result<(), Violation> {
        let dropped = self.entries.split_off(&end);
        ensure!(self.end() == end, "the end {end} stands inside of a batch");
        self.cuts += u64::from(!dropped.is_empty());
        self.ghosts.extend(dropped);
        Ok(())
    }

    /// The log was opened again, after whatever: checks where it begins and ends.
    /// `damaged` if it said that it is damaged, and so serves less than it holds.
    ///
    /// Returns the offset from which on the log may hold any of several things. What stands
    /// there is to be given to [`Ledger::adopt`] up to the end.
    pub(super) fn reopened(
        &mut self,
        start: u64,
        end: u64,
        damaged: bool,
    ) -> Result<Option<u64>, Violation> {
        ensure!(
            !damaged || self.rotten,
            "calls itself damaged at {end}, and nothing was harmed"
        );
        self.shown = 0;
        if damaged {
            // Where the damage is below the log start, nothing is served at all.
            return Ok(None);
        }
        self.start_seen(start)?;
        self.before_last_write = self.last_write();
        let least = self.truncating.unwrap_or(u64::MAX).min(match self.rotten {
            true => self.before_last_write,
            false => self.kept,
        });
        ensure!(
            end >= least,
            "lost what was kept: ends at {end}, must reach {least}"
        );
        let open = self
            .batch_with(start)
            .unwrap_or(0)
            .max(least)
            .min(self.end());
        self.ghosts.extend(self.entries.split_off(&open));
        self.truncating = None;
        self.kept = end;
        // Other batches may come to stand above, and no write ends inside of one.
        self.steps.split_off(&(open + 1));
        self.before_last_write = self.before_last_write.min(open);
        Ok(Some(open))
    }

    /// Takes the frames that a log holds after a crash for what it holds from now on, if
    /// they are some that it may hold.
    pub(super) fn adopt(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            let frame = RawFrame::read(bytes, self.id)?;
            let at = self.end();
            ensure!(
                frame.base == at,
                "offset {} where {at} must follow",
                frame.base
            );
            let known = self.ghosts.iter().find(|(base, entry)| {
                *base == at && entry.epoch == frame.epoch && frame.carries(&entry.sent.batch)
            });
            let Some((base, entry)) = known.cloned() else {
                return Err(Violation(format!(
                    "what stands at {at} was never accepted there"
                )));
            };
            self.entries.insert(base, entry);
            bytes = &bytes[frame.len..];
        }
        Ok(())
    }

    /// All that may be there was adopted.
    pub(super) fn adopted(&mut self) -> Result<(), Violation> {
        ensure!(
            self.end() == self.kept,
            "holds {}, said to end at {}",
            self.end(),
            self.kept
        );
        self.ghosts.clear();
        self.cuts += 1;
        Ok(())
    }

    /// Checks frames that a reader got: the batches at `base..next`, whole, in order, each
    /// as it was sent. Returns the number of frames.
    pub(super) fn check_run(
        &self,
        mut bytes: &[u8],
        base: u64,
        next: u64,
    ) -> Result<usize, Violation> {
        let (mut at, mut frames) = (base, 0);
        while !bytes.is_empty() {
            let frame = RawFrame::read(bytes, self.id)?;
            ensure!(
                frame.base == at,
                "offset {} where {at} must follow",
                frame.base
            );
            let Some(entry) = self.entries.get(&at) else {
                return Err(Violation(format!("offset {at} was never given")));
            };
            ensure!(
                frame.next == entry.next,
                "frame {at} ends at {}",
                frame.next
            );
            ensure!(
                frame.epoch == entry.epoch,
                "frame {at} is of epoch {}",
                frame.epoch
            );
            ensure!(
                frame.carries(&entry.sent.batch),
                "wrong bytes at offset {at}"
            );
            at = frame.next;
            frames += 1;
            bytes = &bytes[frame.len..];
        }
        ensure!(at == next, "frames end at {at}, said to end at {next}");
        Ok(frames)
    }

    /// The base offset of the batch that holds `offset`.
    pub(super) fn batch_with(&self, offset: u64) -> Option<u64> {
        let (base, entry) = self.entries.range(..=offset).next_back()?;
        (offset < entry.next).then_some(*base)
    }

    /// The first record from `from` on, below `end`, that is not older than `timestamp`.
    pub(super) fn find_timestamp(&self, from: u64, end: u64, timestamp: i64) -> Option<(u64, i64)> {
        let batches = self.entries.iter().filter(|(_, entry)| entry.next > from);
        let mut found = batches.filter(|(_, entry)| entry.sent.timestamp >= timestamp);
        let (base, entry) = found.next()?;
        let offset = (*base).max(from);
        (offset < end).then_some((offset, entry.sent.timestamp))
    }

    /// No idempotent producer's batch stands in the log twice.
    pub(super) fn check_duplicates(&self) -> Result<(), Violation> {
        let mut seen = BTreeMap::new();
        let from = if self.forgetful { self.start } else { 0 };
        let entries = self.entries.iter().filter(|(_, entry)| entry.next > from);
        for (base, entry) in entries {
            let Some(stamp) = entry.sent.stamp else {
                continue;
            };
            let earlier = seen.insert((stamp.id, stamp.epoch, stamp.first), *base);
            ensure!(
                earlier.is_none(),
                "{stamp:?} stands at {base} and at {earlier:?}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::{PartitionId, TopicId};

    fn sent(stamp: Option<Stamp>) -> Sent {
        Sent {
            batch: Rc::from([0; 61]),
            records: 2,
            timestamp: 5,
            stamp,
        }
    }

    /// Three batches of two records, the first two durable.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(LogId {
            topic: TopicId([1; 16]),
            partition: PartitionId(0),
        });
        for base in [0, 2, 4] {
            ledger
                .accepted((base, base + 2), 1, sent(None), false)
                .unwrap();
        }
        ledger.seen(0, 2, 2).unwrap();
        ledger.seen(0, 4, 4).unwrap();
        ledger
    }

    #[test]
    fn what_was_durable_must_come_back() {
        assert!(ledger().reopened(0, 6, false).is_ok());
        assert!(ledger().reopened(0, 4, false).is_ok());
        assert!(ledger().reopened(0, 2, false).is_err(), "lost");
        let mut short = ledger();
        assert_eq!(short.reopened(0, 5, false), Ok(Some(4)));
        assert!(short.adopted().is_err(), "nothing ends there");
        assert!(
            ledger().reopened(0, 4, true).is_err(),
            "damaged without rot"
        );
    }

    #[test]
    fn rot_may_take_the_last_write_only() {
        let mut rotten = ledger();
        rotten.rot();
        assert!(rotten.clone().reopened(0, 2, false).is_ok());
        assert!(rotten.clone().reopened(0, 0, false).is_err());
        assert!(rotten.reopened(0, 0, true).is_ok(), "refused, not lost");
    }

    #[test]
    fn a_truncation_that_did_not_confirm_may_have_happened() {
        let mut open = ledger();
        open.begin_truncate(2);
        for end in [2, 4, 6] {
            assert!(open.clone().reopened(0, end, false).is_ok());
        }
        assert!(open.clone().reopened(0, 0, false).is_err());
        open.truncated(2);
        assert_eq!(open.reopened(0, 4, false), Ok(Some(2)));
        assert!(open.adopted().is_err(), "nothing may be there any more");
    }

    #[test]
    fn the_start_goes_forward_and_no_further_than_asked() {
        let mut ledger = ledger();
        assert!(ledger.seen(1, 4, 4).is_err());
        ledger.may_start_at(3);
        assert!(ledger.seen(3, 4, 4).is_ok());
        assert!(ledger.seen(2, 4, 4).is_err());
        assert_eq!(ledger.boundaries(), [2, 4, 6]);
    }

    #[test]
    fn what_was_shown_is_not_given_up() {
        let mut ledger = ledger();
        assert!(ledger.accepted((4, 6), 1, sent(None), false).is_err());
        assert!(ledger.clone().accepted((4, 6), 1, sent(None), true).is_ok());
        ledger.seen(0, 4, 6).unwrap();
        assert!(ledger.accepted((4, 6), 1, sent(None), true).is_err());
    }

    #[test]
    fn verdicts_follow_the_last_batches() {
        let mut ledger = ledger();
        let stamp = |epoch, first| Stamp {
            id: 7,
            epoch,
            first,
            last: first + 1,
        };
        assert_eq!(
            ledger.verdict(stamp(0, 40)),
            Verdict::Append,
            "unknown producer"
        );
        for batch in 0..6 {
            let base = 6 + 2 * batch;
            let sent = sent(Some(stamp(0, 2 * batch as i32)));
            ledger.accepted((base, base + 2), 1, sent, false).unwrap();
        }
        assert_eq!(
            ledger.verdict(stamp(0, 10)),
            Verdict::Duplicate { base: 16, next: 18 }
        );
        assert_eq!(
            ledger.verdict(stamp(0, 2)),
            Verdict::Duplicate { base: 8, next: 10 }
        );
        assert_eq!(ledger.verdict(stamp(0, 0)), Verdict::Stale);
        assert_eq!(ledger.verdict(stamp(0, 12)), Verdict::Append);
        assert_eq!(ledger.verdict(stamp(0, 14)), Verdict::OutOfOrder);
        assert_eq!(ledger.verdict(stamp(1, 0)), Verdict::Append);
        assert_eq!(ledger.verdict(stamp(1, 3)), Verdict::OutOfOrder);
        assert!(ledger.check_duplicates().is_ok());
        let again = sent(Some(stamp(0, 0)));
        ledger.accepted((18, 20), 1, again, false).unwrap();
        assert!(ledger.check_duplicates().is_err());
    }
}
