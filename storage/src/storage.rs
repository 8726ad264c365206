//! What the logs of one shard share: the disk, memory for readers, open files.

use crate::OpenError;
use crate::cache::Cache;
use crate::disk::{Disk, DiskError, File as _, OpenMode};
use crate::files::Files;
use crate::layout::{LOGS_DIR, log_dir, log_id, segment_base};
use crate::limits::StorageLimits;
use crate::log::{Log, LogShared};
use crate::space::ZERO_WRITE;
use crate::tail::TailPool;
use millrace_model::{LeaderEpoch, LogId, Offset, Timestamp, TopicSettings};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::{Rc, Weak};

/// Starts a task in the background of the shard, for read-ahead.
pub type Spawner = Rc<dyn Fn(Pin<Box<dyn Future<Output = ()>>>)>;

/// What opening a log has found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Bytes that were scanned.
    pub scanned: u64,
    /// A tail that was torn before it was acknowledged and is cut away: where it began.
    pub cut: Option<u64>,
    /// Footers that were missing or damaged and were built again.
    pub rebuilt_footers: usize,
    /// First offset that is damaged. The log is latched, see [`crate::Latch::Damaged`].
    pub damaged_at: Option<Offset>,
    /// What a person should know, a sentence each.
    pub notes: Vec<String>,
}

/// What the logs of a shard hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageStats {
    /// Bytes in the read cache.
    pub cached_bytes: u64,
    /// Bytes of pages kept for readers at the tail.
    pub tail_bytes: usize,
    /// Bytes of files kept to be written again.
    pub recycled_bytes: u64,
}

/// What the clones of a [`Storage`] share.
pub(crate) struct Shared<D: Disk> {
    pub(crate) disk: D,
    pub(crate) root: PathBuf,
    pub(crate) limits: StorageLimits,
    pub(crate) files: Files<D>,
    pub(crate) cache: Rc<Cache<D>>,
    pub(crate) tails: TailPool<D>,
    pub(crate) recycled_bytes: Cell<u64>,
    pub(crate) spawner: RefCell<Option<Spawner>>,
    zeros: RefCell<Option<D::Page>>,
    next_log: Cell<u64>,
    open: RefCell<BTreeMap<LogId, Weak<LogShared<D>>>>,
}

impl<D: Disk> Shared<D> {
    pub(crate) fn new(disk: D, root: PathBuf, limits: StorageLimits) -> Self {
        Self {
            root,
            disk,
            limits,
            files: Files::new(limits.open_files),
            cache: Rc::new(Cache::new(limits.read_cache_bytes)),
            tails: TailPool::new(limits.tail_bytes),
            recycled_bytes: Cell::default(),
            spawner: RefCell::default(),
            zeros: RefCell::default(),
            next_log: Cell::default(),
            open: RefCell::default(),
        }
    }

    /// [`ZERO_WRITE`] zeros, made once.
    pub(crate) fn zeros(&self) -> D::Page {
        let mut zeros = self.zeros.borrow_mut();
        zeros
            .get_or_insert_with(|| self.page_of(&vec![0; ZERO_WRITE]))
            .clone()
    }

    /// A page with a copy of `bytes`, padded with zeros to whole device blocks.
    pub(crate) fn page_of(&self, bytes: &[u8]) -> D::Page {
        let len = bytes.len().next_multiple_of(crate::disk::BLOCK_LEN);
        let mut buf = self.disk.buffer(len);
        buf.as_mut()[..bytes.len()].copy_from_slice(bytes);
        buf.as_mut()[bytes.len()..len].fill(0);
        self.disk.freeze(buf, len)
    }

    /// A number for a log that is opened; never the same twice.
    pub(crate) fn number(&self) -> u64 {
        self.next_log.replace(self.next_log.get() + 1)
    }
}

/// Everything that the logs of one shard share. Clones are the same.
pub struct Storage<D: Disk> {
    shared: Rc<Shared<D>>,
}

impl<D: Disk> Clone for Storage<D> {
    fn clone(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
        }
    }
}

impl<D: Disk> Storage<D> {
    /// Storage in the data directory `root`. Touches nothing yet.
    pub fn new(disk: D, root: PathBuf, limits: StorageLimits) -> Self {
        let shared = Shared::new(disk, root, limits);
        Self {
            shared: Rc::new(shared),
        }
    }

    /// Gives read-ahead a place to run. Without it there is none.
    pub fn set_spawner(&self, spawner: Spawner) {
        *self.shared.spawner.borrow_mut() = Some(spawner);
    }

    /// Opens the log `id`, or makes it. `epoch` is the leader epoch of new frames, above that
    /// of every earlier life of the broker.
    ///
    /// A log is open once: open it again only when all clones of the first are dropped.
    ///
    /// # Errors
    /// [`OpenError`] when the disk fails. Damage to acknowledged data is no error: it is in
    /// the report, and the log is latched.
    pub async fn open_log(
        &self,
        id: LogId,
        settings: Rc<TopicSettings>,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<(Log<D>, RecoveryReport), OpenError> {
        let (log, report) = Log::open(&self.shared, id, settings, epoch, now).await?;
        let mut open = self.shared.open.borrow_mut();
        open.retain(|_, log| log.strong_count() > 0);
        open.insert(id, log.downgrade());
        Ok((log, report))
    }

    /// Removes a log with all its files. If it is open, it is latched first.
    ///
    /// # Errors
    /// [`DiskError`]; what is left can be removed by another call.
    pub async fn remove_log(&self, id: LogId) -> Result<(), DiskError> {
        let open = self.shared.open.borrow_mut().remove(&id);
        let open = open.and_then(|log| log.upgrade()).map(Log::from_shared);
        let _alone = match &open {
            Some(log) => Some(log.retire().await),
            None => None,
        };
        self.shared
            .disk
            .remove_dir_all(&log_dir(&self.shared.root, id))
            .await?;
        let logs = self.shared.root.join(LOGS_DIR);
        match self.shared.disk.sync_dir(&logs).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// The logs that exist on the disk.
    ///
    /// # Errors
    /// [`DiskError`] when the directory cannot be read. A missing one is empty.
    pub async fn directories(&self) -> Result<Vec<LogId>, DiskError> {
        let entries = match self
            .shared
            .disk
            .list(&self.shared.root.join(LOGS_DIR))
            .await
        {
            Err(error) if error.is_not_found() => Vec::new(),
            entries => entries?,
        };
        Ok(entries
            .iter()
            .filter(|e| e.is_dir)
            .filter_map(|e| log_id(&e.name))
            .collect())
    }

    /// The bytes of the segment files of a log that is not open; none where there is no such log. What
    /// is reserved for what comes next counts too.
    ///
    /// # Errors
    /// [`DiskError`] when they cannot be read.
    pub async fn closed_log_bytes(&self, id: LogId) -> Result<u64, DiskError> {
        let dir = log_dir(&self.shared.root, id);
        let entries = match self.shared.disk.list(&dir).await {
            Err(error) if error.is_not_found() => Vec::new(),
            entries => entries?,
        };
        let mut bytes = 0;
        for entry in entries.iter().filter(|e| segment_base(&e.name).is_some()) {
            let path = dir.join(&entry.name);
            bytes += match self.shared.disk.open(&path, OpenMode::Read).await {
                Ok(file) => file.len().await?,
                Err(error) if error.is_not_found() => 0,
                Err(error) => return Err(error),
            };
        }
        Ok(bytes)
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> StorageStats {
        StorageStats {
            cached_bytes: self.shared.cache.bytes(),
            tail_bytes: self.shared.tails.bytes(),
            recycled_bytes: self.shared.recycled_bytes.get(),
        }
    }
}
