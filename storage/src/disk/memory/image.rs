//! One file: what is readable now, what would be there after a crash, and the changes in
//! between.
//!
//! # Crash model
//! - A write that is not durable leaves any subset of its 512-byte sectors. A sector is
//!   never torn.
//! - Changes of the length are metadata and become durable in order, as in a journaled
//!   file system: a crash keeps a prefix of them, chosen apart from the sectors. Bytes
//!   beyond the length that survived are lost; a length that survived without its bytes
//!   reads as zeros.
//! - A durable write drags along the length that it needs, with all earlier ones, but no
//!   other write.

use super::MemoryPage;
use crate::disk::SECTOR_LEN;

/// Orders the changes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(u64);

/// The content of one file. See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    readable: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
    /// Bytes reserved by `allocate`.
    reserved: u64,
    next_stamp: u64,
}

#[derive(Clone, Debug)]
struct Change {
    stamp: Stamp,
    kind: ChangeKind,
}

#[derive(Clone, Debug)]
enum ChangeKind {
    Write {
        pos: usize,
        page: MemoryPage,
        /// For each sector, whether a crash may still bring it. False once a later
        /// durable change took its place.
        pending: Vec<bool>,
        /// For each sector, whether it was readable before the write ended.
        early: Vec<bool>,
        in_flight: bool,
    },
    Length(usize),
}

impl Image {
    /// The bytes of the file, as a reader finds them.
    pub(super) fn readable(&self) -> &[u8] {
        &self.readable
    }

    /// Bytes that the file takes on the device.
    pub(super) fn allocated(&self) -> u64 {
        self.reserved.max(self.readable.len() as u64)
    }

    pub(super) fn reserve(&mut self, len: u64) {
        self.reserved = self.reserved.max(len);
    }

    /// Whether a write that has not ended touches `pos..pos + len`.
    pub(super) fn writing(&self, pos: usize, len: usize) -> bool {
        self.changes.iter().any(|change| match &change.kind {
            ChangeKind::Write {
                pos: at,
                page,
                in_flight: true,
                ..
            } => *at < pos.saturating_add(len) && pos < *at + page.as_ref().len(),
            _ => false,
        })
    }

    /// A write begins: each of its sectors for which `early` holds is readable at once,
    /// and a crash may bring any subset.
    pub(super) fn begin_write(
        &mut self,
        pos: usize,
        page: &MemoryPage,
        mut early: impl FnMut() -> bool,
    ) -> Stamp {
        let bytes = page.as_ref();
        let mut shown = Vec::with_capacity(bytes.len().div_ceil(SECTOR_LEN));
        for (index, sector) in bytes.chunks(SECTOR_LEN).enumerate() {
            let at = pos + index * SECTOR_LEN;
            let is_shown = at + SECTOR_LEN <= self.readable.len() && early();
            if is_shown {
                self.readable[at..at + SECTOR_LEN].copy_from_slice(sector);
            }
            shown.push(is_shown);
        }
        let stamp = self.push(ChangeKind::Write {
            pos,
            page: page.clone(),
            pending: vec![true; shown.len()],
            early: shown,
            in_flight: true,
        });
        if pos + bytes.len() > self.longest() {
            self.push(ChangeKind::Length(pos + bytes.len()));
        }
        stamp
    }

    /// A write ended well. It is durable at once if `durable`.
    pub(super) fn end_write(&mut self, stamp: Stamp, durable: bool) {
        let (pos, page) = self.land(stamp);
        let end = pos + page.as_ref().len();
        put(&mut self.readable, pos, page.as_ref());
        if durable {
            self.commit_lengths_for(end);
            put(&mut self.durable, pos, page.as_ref());
            self.supersede(stamp, pos, end);
            self.forget_settled();
        }
    }

    /// A write failed: the sectors for which `reached` holds are in the file, the others
    /// are not, and none is durable.
    pub(super) fn fail_write(&mut self, stamp: Stamp, mut reached: impl FnMut(usize) -> bool) {
        let (pos, page) = self.land(stamp);
        let sectors = page.as_ref().chunks(SECTOR_LEN);
        let early = self.early(stamp);
        let kept: Vec<bool> = (0..sectors.len())
            .zip(early)
            .map(|(index, early)| reached(index) || early)
            .collect();
        let len = self.readable.len();
        for (index, sector) in sectors.enumerate().filter(|(index, _)| kept[*index]) {
            put(&mut self.readable, pos + index * SECTOR_LEN, sector);
        }
        // Its change of length, if it had one, was pushed right after it.
        let own_length = Stamp(stamp.0 + 1);
        self.changes
            .retain(|change| !(change.stamp == own_length && change.is_length()));
        if self.readable.len() > len {
            self.push(ChangeKind::Length(self.readable.len()));
        }
        let change = self.changes.iter_mut().find(|change| change.stamp == stamp);
        if let Some(ChangeKind::Write { pending, .. }) = change.map(|change| &mut change.kind) {
            *pending = kept;
        }
        self.forget_settled();
    }

    /// Sets the length; what is cut off reads as zero if the file grows again.
    pub(super) fn set_len(&mut self, len: usize) {
        self.readable.resize(len, 0);
        self.reserved = self.reserved.min(len as u64);
        self.push(ChangeKind::Length(len));
    }

    /// Where a sync begins: it covers the changes before this stamp.
    pub(super) fn sync_point(&self) -> Stamp {
        Stamp(self.next_stamp)
    }

    /// Makes every change before `point` durable, except writes that are in flight.
    pub(super) fn sync(&mut self, point: Stamp) {
        let mut kept = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            let settled = change.stamp < point && !change.in_flight();
            if settled {
                self.make_durable(&change, |_| true);
            } else {
                kept.push(change);
            }
        }
        self.changes = kept;
    }

    /// The file as a crash at this moment leaves it.
    pub(super) fn crash(&self, rng: &mut fastrand::Rng) -> Self {
        let mut after = Self {
            durable: self.durable.clone(),
            ..Self::default()
        };
        let lengths = self
            .changes
            .iter()
            .filter(|change| change.is_length())
            .count();
        let mut lengths_kept = rng.usize(..=lengths);
        let mut len = self.durable.len();
        for change in &self.changes {
            match &change.kind {
                ChangeKind::Length(to) if lengths_kept > 0 => {
                    lengths_kept -= 1;
                    len = *to;
                    after.durable.truncate(len);
                }
                ChangeKind::Length(_) => {}
                ChangeKind::Write { .. } => after.make_durable(change, |_| rng.bool()),
            }
        }
        after.durable.resize(len, 0);
        after.readable.clone_from(&after.durable);
        after
    }

    /// Ends all writes in flight, each with any subset of its sectors.
    pub(super) fn interrupt(&mut self, rng: &mut fastrand::Rng) {
        let in_flight = self.changes.iter().filter(|change| change.in_flight());
        for stamp in in_flight.map(|change| change.stamp).collect::<Vec<_>>() {
            self.fail_write(stamp, |_| rng.bool());
        }
    }

    /// Turns one bit of the stored bytes, wherever the byte exists.
    pub(super) fn flip(&mut self, byte: usize, bit: u8) {
        for bytes in [&mut self.readable, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << bit;
            }
        }
    }

    fn push(&mut self, kind: ChangeKind) -> Stamp {
        let stamp = Stamp(self.next_stamp);
        self.next_stamp += 1;
        self.changes.push(Change { stamp, kind });
        stamp
    }

    /// The length once all that is under way has ended.
    fn longest(&self) -> usize {
        let last = self
            .changes
            .iter()
            .rev()
            .find_map(|change| match change.kind {
                ChangeKind::Length(len) => Some(len),
                ChangeKind::Write { .. } => None,
            });
        last.unwrap_or(self.readable.len()).max(self.readable.len())
    }

    fn land(&mut self, stamp: Stamp) -> (usize, MemoryPage) {
        let change = self.changes.iter_mut().find(|change| change.stamp == stamp);
        match change.map(|change| &mut change.kind) {
            Some(ChangeKind::Write {
                pos,
                page,
                in_flight,
                ..
            }) => {
                *in_flight = false;
                (*pos, page.clone())
            }
            _ => unreachable!("a write that ends has begun"),
        }
    }

    fn early(&self, stamp: Stamp) -> Vec<bool> {
        let change = self.changes.iter().find(|change| change.stamp == stamp);
        match change.map(|change| &change.kind) {
            Some(ChangeKind::Write { early, .. }) => early.clone(),
            _ => Vec::new(),
        }
    }

    /// Makes all changes of length durable if a durable write up to `end` needs one.
    fn commit_lengths_for(&mut self, end: usize) {
        let needed = self.durable.len() < end
            || self
                .changes
                .iter()
                .any(|change| matches!(change.kind, ChangeKind::Length(len) if len < end));
        if !needed {
            return;
        }
        let mut len = self.durable.len();
        for index in 0..self.changes.len() {
            if let ChangeKind::Length(to) = self.changes[index].kind {
                len = to;
                self.durable.truncate(to);
                self.cut_pending(index, to);
            }
        }
        self.durable.resize(len.max(end), 0);
        self.changes.retain(|change| !change.is_length());
    }

    /// Forgets the pending sectors beyond `len` of the changes before `index`.
    fn cut_pending(&mut self, index: usize, len: usize) {
        for change in &mut self.changes[..index] {
            if let ChangeKind::Write { pos, pending, .. } = &mut change.kind {
                let first = len
                    .saturating_sub(*pos)
                    .div_ceil(SECTOR_LEN)
                    .min(pending.len());
                pending[first..].fill(false);
            }
        }
    }

    /// A durable write took `pos..end`: earlier sectors there cannot come back.
    fn supersede(&mut self, stamp: Stamp, pos: usize, end: usize) {
        for change in self
            .changes
            .iter_mut()
            .filter(|change| change.stamp <= stamp)
        {
            if let ChangeKind::Write {
                pos: at, pending, ..
            } = &mut change.kind
            {
                for (index, pending) in pending.iter_mut().enumerate() {
                    let sector = *at + index * SECTOR_LEN;
                    *pending &= !(pos..end).contains(&sector);
                }
            }
        }
    }

    fn forget_settled(&mut self) {
        self.changes.retain(|change| match &change.kind {
            ChangeKind::Write {
                pending, in_flight, ..
            } => *in_flight || pending.iter().any(|pending| *pending),
            ChangeKind::Length(_) => true,
        });
    }

    fn make_durable(&mut self, change: &Change, mut kept: impl FnMut(usize) -> bool) {
        match &change.kind {
            ChangeKind::Length(len) => self.durable.resize(*len, 0),
            ChangeKind::Write {
                pos, page, pending, ..
            } => {
                for (index, sector) in page.as_ref().chunks(SECTOR_LEN).enumerate() {
                    if pending[index] && kept(index) {
                        put(&mut self.durable, pos + index * SECTOR_LEN, sector);
                    }
                }
            }
        }
    }
}

impl Change {
    fn is_length(&self) -> bool {
        matches!(self.kind, ChangeKind::Length(_))
    }

    fn in_flight(&self) -> bool {
        matches!(
            self.kind,
            ChangeKind::Write {
                in_flight: true,
                ..
            }
        )
    }
}

/// Copies `from` to `pos`, growing `bytes` with zeros if it is too short.
fn put(bytes: &mut Vec<u8>, pos: usize, from: &[u8]) {
    let end = pos + from.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[pos..end].copy_from_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{BLOCK_LEN, Disk, memory::MemoryDisk};

    fn page(fill: u8, blocks: usize) -> MemoryPage {
        let disk = MemoryDisk::new(0);
        let mut buf = disk.buffer(blocks * BLOCK_LEN);
        buf.as_mut().fill(fill);
        disk.freeze(buf, blocks * BLOCK_LEN)
    }

    fn write(image: &mut Image, pos: usize, fill: u8, durable: bool) {
        let stamp = image.begin_write(pos, &page(fill, 1), || false);
        image.end_write(stamp, durable);
    }

    /// The bytes of each sector over many crashes, and the lengths.
    fn crashes(image: &Image) -> Vec<Vec<u8>> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut seen: Vec<_> = (0..200)
            .map(|_| {
                let after = image.crash(&mut rng);
                let sectors = after.readable().chunks(SECTOR_LEN);
                sectors
                    .map(|sector| {
                        assert!(
                            sector.iter().all(|byte| *byte == sector[0]),
                            "a torn sector"
                        );
                        sector[0]
                    })
                    .collect()
            })
            .collect();
        seen.sort();
        seen.dedup();
        seen
    }

    #[test]
    fn a_durable_write_survives_every_crash() {
        let mut image = Image::default();
        write(&mut image, 0, 1, true);
        assert_eq!(crashes(&image), [[1; 8]]);
    }

    #[test]
    fn a_write_that_is_not_durable_leaves_any_sectors_and_perhaps_no_length() {
        let mut image = Image::default();
        write(&mut image, 0, 1, false);
        let seen = crashes(&image);
        assert!(seen.contains(&vec![]), "the length may be lost");
        let mixed = |sectors: &&Vec<u8>| sectors.contains(&0) && sectors.contains(&1);
        assert!(
            seen.iter().filter(mixed).count() > 20,
            "sectors are kept one by one"
        );
    }

    #[test]
    fn a_durable_write_takes_the_place_of_an_earlier_one_for_ever() {
        let mut image = Image::default();
        write(&mut image, 0, 1, false);
        write(&mut image, 0, 2, true);
        assert_eq!(crashes(&image), [[2; 8]]);
        write(&mut image, 0, 3, false);
        assert!(
            crashes(&image)
                .iter()
                .flatten()
                .all(|byte| [2, 3].contains(byte))
        );
    }

    #[test]
    fn a_write_in_flight_may_be_there_in_part() {
        let mut image = Image::default();
        write(&mut image, 0, 1, true);
        image.begin_write(0, &page(2, 1), || false);
        let seen = crashes(&image);
        assert!(
            seen.iter()
                .any(|sectors| sectors.contains(&1) && sectors.contains(&2))
        );
        assert!(image.writing(0, 1) && !image.writing(BLOCK_LEN, 1));
    }

    #[test]
    fn a_truncation_may_be_lost_until_synced_and_brings_nothing_back() {
        let mut image = Image::default();
        write(&mut image, 0, 1, true);
        image.set_len(SECTOR_LEN);
        assert_eq!(crashes(&image), [vec![1], vec![1; 8]]);
        image.set_len(2 * SECTOR_LEN);
        assert_eq!(image.readable()[SECTOR_LEN..], [0; SECTOR_LEN]);
        image.sync(image.sync_point());
        assert_eq!(crashes(&image), [[1, 0]]);
    }

    #[test]
    fn a_durable_write_beyond_the_end_brings_the_truncation_before_it() {
        let mut image = Image::default();
        write(&mut image, 0, 1, true);
        image.set_len(SECTOR_LEN);
        write(&mut image, BLOCK_LEN, 2, true);
        let expected = [&[1][..], &[0; 7], &[2; 8]].concat();
        assert_eq!(crashes(&image), [expected]);
    }

    #[test]
    fn a_failed_write_leaves_some_sectors_and_no_length_it_did_not_reach() {
        let mut image = Image::default();
        let stamp = image.begin_write(0, &page(1, 1), || false);
        image.fail_write(stamp, |index| index == 1);
        assert_eq!(image.readable().len(), 2 * SECTOR_LEN);
        write(&mut image, 0, 2, true);
        assert_eq!(crashes(&image), [[2; 8]]);
    }

    #[test]
    fn what_was_readable_of_a_failed_write_is_there_and_can_be_synced() {
        let mut image = Image::default();
        write(&mut image, 0, 1, true);
        let mut index = 0;
        let early = || {
            index += 1;
            index <= 3
        };
        let stamp = image.begin_write(0, &page(2, 1), early);
        image.fail_write(stamp, |_| false);
        assert_eq!(image.readable()[..3 * SECTOR_LEN], [2; 3 * SECTOR_LEN]);
        image.sync(image.sync_point());
        assert_eq!(crashes(&image), [[2, 2, 2, 1, 1, 1, 1, 1]]);
    }

    #[test]
    fn a_sync_leaves_a_write_in_flight_open() {
        let mut image = Image::default();
        write(&mut image, 0, 1, false);
        image.begin_write(BLOCK_LEN, &page(2, 1), || false);
        image.sync(image.sync_point());
        let seen = crashes(&image);
        assert!(seen.len() > 1 && seen.iter().all(|sectors| sectors[..8] == [1; 8]));
    }
}
