//! The leader-epoch cache (KIP-101): at which offset each leader began to append.

use crate::{LeaderEpoch, Offset};

/// The first offset that a leader appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The leader's term.
    pub epoch: LeaderEpoch,
    /// The first offset of that term.
    pub start: Offset,
}

/// LeaderEpochs with data in the log, rising strictly in both epoch and offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    starts: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// The cache from entries that were read from a footer. `None` if they do not rise.
    #[must_use]
    pub fn from_starts(starts: Vec<EpochStart>) -> Option<Self> {
        let rising = starts
            .windows(2)
            .all(|w| w[0].epoch < w[1].epoch && w[0].start < w[1].start);
        rising.then_some(Self { starts })
    }

    /// Tells that the leader of `epoch` appends at `offset`. Earlier epochs are ignored:
    /// the caller has refused their frames.
    pub fn assign(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.latest().is_none_or(|latest| latest < epoch) {
            // An epoch without data, left where the log start is, makes room.
            while self.starts.pop_if(|e| e.start >= offset).is_some() {}
            self.starts.push(EpochStart {
                epoch,
                start: offset,
            });
        }
    }

    /// Forgets everything at or behind `end`.
    pub fn truncate_end(&mut self, end: Offset) {
        let keep = self.starts.partition_point(|e| e.start < end);
        self.starts.truncate(keep);
    }

    /// Forgets what lies wholly below `start`; an epoch that spans it then begins there.
    pub fn truncate_start(&mut self, start: Offset) {
        let below = self.starts.partition_point(|e| e.start <= start);
        let Some(spanning) = below.checked_sub(1) else {
            return;
        };
        self.starts.drain(..spanning);
        self.starts[0].start = start;
    }

    /// The largest epoch that is not above `epoch`, and the end of its data: the start of
    /// the epoch after it, or `log_end`. For an epoch before all that is known, that epoch
    /// itself and the start of the first known one.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        let after = self.starts.partition_point(|e| e.epoch <= epoch);
        let end = self.starts.get(after).map_or(log_end, |next| next.start);
        let found = after
            .checked_sub(1)
            .map_or(epoch, |at| self.starts[at].epoch);
        (found, end)
    }

    /// The last epoch with data.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|e| e.epoch)
    }

    /// All entries, rising.
    #[must_use]
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_whose_data_is_deleted_gives_way_to_the_next() {
        let mut epochs = cache(&[(1, 0)]);
        epochs.truncate_start(Offset(10));
        epochs.assign(LeaderEpoch(2), Offset(10));
        assert!(LeaderEpochs::from_starts(epochs.starts().to_vec()).is_some());
        assert_eq!(epochs, cache(&[(2, 10)]));
    }

    fn cache(starts: &[(u32, u64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        starts
            .iter()
            .for_each(|&(epoch, start)| epochs.assign(LeaderEpoch(epoch), Offset(start)));
        epochs
    }

    fn pairs(epochs: &LeaderEpochs) -> Vec<(u32, u64)> {
        epochs
            .starts()
            .iter()
            .map(|e| (e.epoch.0, e.start.0))
            .collect()
    }

    #[test]
    fn an_epoch_is_assigned_once_and_never_back() {
        let epochs = cache(&[(1, 0), (1, 5), (4, 10), (3, 12)]);
        assert_eq!(pairs(&epochs), [(1, 0), (4, 10)]);
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let epochs = cache(&[(1, 0), (4, 10), (6, 30)]);
        let end = |epoch| {
            let (found, end) = epochs.end_offset_for(LeaderEpoch(epoch), Offset(50));
            (found.0, end.0)
        };
        assert_eq!(end(0), (0, 0));
        assert_eq!(end(1), (1, 10));
        assert_eq!(end(3), (1, 10));
        assert_eq!(end(4), (4, 30));
        assert_eq!(end(9), (6, 50));
    }

    #[test]
    fn truncation_at_both_ends() {
        let mut epochs = cache(&[(1, 0), (4, 10), (6, 30)]);
        epochs.truncate_end(Offset(30));
        assert_eq!(pairs(&epochs), [(1, 0), (4, 10)]);
        epochs.truncate_start(Offset(12));
        assert_eq!(pairs(&epochs), [(4, 12)]);
        epochs.truncate_start(Offset(3));
        assert_eq!(pairs(&epochs), [(4, 12)]);
    }

    #[test]
    fn entries_that_do_not_rise_are_refused() {
        let start = |epoch, start| EpochStart {
            epoch: LeaderEpoch(epoch),
            start: Offset(start),
        };
        assert!(LeaderEpochs::from_starts(vec![start(1, 0), start(2, 9)]).is_some());
        assert!(LeaderEpochs::from_starts(vec![start(2, 0), start(1, 9)]).is_none());
        assert!(LeaderEpochs::from_starts(vec![start(1, 9), start(2, 9)]).is_none());
    }
}
