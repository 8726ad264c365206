//! The slowest batches of the last minutes, each with all its stages.
//!
//! Of each minute the slowest [`KEPT_A_MINUTE`] are kept, for [`KEPT_MINUTES`]. One that is faster than all
//! of these costs a comparison. Time is told by whoever offers, so an idle shard keeps what it has.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use millrace_latency::Stage;
use millrace_model::{LogId, Timestamp};

use crate::trace::Trace;

/// Batches of one minute that are kept.
pub(crate) const KEPT_A_MINUTE: usize = 32;

/// Minutes that are kept, the present one not counted.
pub(crate) const KEPT_MINUTES: usize = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// A batch that took long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowBatch {
    /// When its acknowledgement left.
    pub(crate) at: Timestamp,
    /// Where it went.
    pub(crate) log: LogId,
    /// Who sent it.
    pub(crate) peer: IpAddr,
    /// `native` or `kafka`.
    pub(crate) protocol: &'static str,
    /// The stages before the acknowledgement.
    pub(crate) trace: Trace,
    /// How long the acknowledgement took.
    pub(crate) ack_nanos: u64,
}

impl SlowBatch {
    /// How long it was in a stage.
    pub(crate) fn nanos(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Ack => self.ack_nanos,
            other => self.trace.nanos(other),
        }
    }

    /// How long it took from its first byte to its acknowledgement.
    pub(crate) fn total(&self) -> u64 {
        self.trace.total().saturating_add(self.ack_nanos)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct SlowBatches {
    /// Oldest first, the present one last, each with when it began and its batches, slowest first.
    minutes: RefCell<VecDeque<(Instant, Vec<SlowBatch>)>>,
    /// What is not slower is not kept.
    bar: Cell<u64>,
}

impl SlowBatches {
    /// Keeps a batch that took `total` nanoseconds if it is slow among those of its minute.
    #[inline]
    pub(super) fn offer(&self, now: Instant, total: u64, batch: impl FnOnce() -> SlowBatch) {
        let mut minutes = self.minutes.borrow_mut();
        let is_over = |begun: &Instant| now.saturating_duration_since(*begun) >= MINUTE;
        if minutes.back().is_none_or(|(begun, _)| is_over(begun)) {
            minutes.push_back((now, Vec::with_capacity(KEPT_A_MINUTE)));
            if minutes.len() > KEPT_MINUTES + 1 {
                minutes.pop_front();
            }
            self.bar.set(0);
        }
        if total <= self.bar.get() {
            return;
        }
        let (_, kept) = minutes.back_mut().expect("one was just made");
        let place = kept.partition_point(|other| other.total() >= total);
        kept.truncate(KEPT_A_MINUTE - 1);
        kept.insert(place, batch());
        if kept.len() == KEPT_A_MINUTE {
            self.bar.set(kept[KEPT_A_MINUTE - 1].total());
        }
    }

    /// What is kept of the last minutes, slowest first.
    pub(super) fn kept(&self, now: Instant) -> Vec<SlowBatch> {
        let minutes = self.minutes.borrow();
        let oldest = MINUTE * u32::try_from(KEPT_MINUTES + 1).expect("few");
        let recent = minutes
            .iter()
            .filter(|(begun, _)| now.saturating_duration_since(*begun) < oldest);
        let mut kept: Vec<SlowBatch> = recent.flat_map(|(_, batches)| batches).copied().collect();
        kept.sort_by_key(|batch| std::cmp::Reverse(batch.total()));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::{PartitionId, TopicId};

    fn batch(nanos: u64) -> SlowBatch {
        SlowBatch {
            at: Timestamp(0),
            log: LogId {
                topic: TopicId([1; 16]),
                partition: PartitionId(0),
            },
            peer: IpAddr::from([127, 0, 0, 1]),
            protocol: "native",
            trace: Trace::begin(100, nanos),
            ack_nanos: 0,
        }
    }

    fn totals(slow: &SlowBatches, now: Instant) -> Vec<u64> {
        slow.kept(now).iter().map(SlowBatch::total).collect()
    }

    #[test]
    fn the_slowest_of_a_minute_are_kept_in_whatever_order_they_come() {
        let (slow, start) = (SlowBatches::default(), Instant::now());
        let mut all: Vec<u64> = (1..=1_000).collect();
        fastrand::Rng::with_seed(3).shuffle(&mut all);
        for nanos in all {
            slow.offer(start, nanos, || batch(nanos));
        }
        let slowest: Vec<u64> = (969..=1_000).rev().collect();
        assert_eq!(totals(&slow, start), slowest);
        let mut made = false;
        slow.offer(start, 969, || {
            made = true;
            batch(969)
        });
        assert!(!made, "one that is not slower is not even made");
    }

    #[test]
    fn a_new_minute_has_its_own_and_old_ones_go() {
        let (slow, start) = (SlowBatches::default(), Instant::now());
        for minute in 0..20 {
            let now = start + MINUTE * minute;
            let nanos = u64::from(100 - minute);
            slow.offer(now, nanos, || batch(nanos));
        }
        let now = start + MINUTE * 19;
        assert_eq!(totals(&slow, now), (81..=91).rev().collect::<Vec<_>>());
        assert!(
            totals(&slow, now + MINUTE * 11).is_empty(),
            "nobody came since"
        );
    }
}
