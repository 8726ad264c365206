//! The open files of a shard: a bounded number, the one used longest ago is closed. No log
//! holds a file beyond one operation.

use crate::disk::{Disk, DiskError, Durability, OpenMode};
use crate::lru::Lru;
use millrace_model::Offset;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// How a file of a log is used. Each use has its own handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    Read,
    WriteEach,
    WriteOnSync,
}

impl Use {
    const fn mode(self) -> OpenMode {
        match self {
            Self::Read => OpenMode::Read,
            Self::WriteEach => OpenMode::Write(Durability::EachWrite),
            Self::WriteOnSync => OpenMode::Write(Durability::OnSync),
        }
    }
}

/// A segment of a log that is open in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentKey {
    /// Number of the opened log, never used twice.
    pub(crate) log: u64,
    pub(crate) base: Offset,
}

type Handles<D> = Lru<(SegmentKey, Use), Rc<<D as Disk>::File>>;

/// See the module's documentation.
pub(crate) struct Files<D: Disk> {
    open: RefCell<Handles<D>>,
}

impl<D: Disk> Files<D> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            open: RefCell::new(Lru::new(limit as u64)),
        }
    }

    /// The segment's file at `path`, opened if it is not open.
    pub(crate) async fn open(
        &self,
        disk: &D,
        key: SegmentKey,
        how: Use,
        path: &Path,
    ) -> Result<Rc<D::File>, DiskError> {
        if let Some(file) = self.open.borrow_mut().find(&(key, how)) {
            return Ok(file);
        }
        let file = Rc::new(disk.open(path, how.mode()).await?);
        self.open
            .borrow_mut()
            .insert((key, how), Rc::clone(&file), 1);
        Ok(file)
    }

    /// Closes the segment's file when nobody uses it any more. Tells whether somebody does.
    pub(crate) fn close(&self, key: SegmentKey) -> bool {
        let mut open = self.open.borrow_mut();
        [Use::Read, Use::WriteEach, Use::WriteOnSync]
            .into_iter()
            .filter_map(|how| open.remove(&(key, how)))
            .any(|file| Rc::strong_count(&file) > 1)
    }

    /// Closes the segment's file as far as it is open for this use.
    pub(crate) fn close_use(&self, key: SegmentKey, how: Use) {
        self.open.borrow_mut().remove(&(key, how));
    }

    /// Closes all files of a log.
    pub(crate) fn close_log(&self, log: u64) {
        let first = SegmentKey {
            log,
            base: Offset(0),
        };
        let last = SegmentKey {
            log,
            base: Offset(u64::MAX),
        };
        self.open
            .borrow_mut()
            .remove_range((first, Use::Read)..=(last, Use::WriteOnSync));
    }
}
