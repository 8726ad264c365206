//! The crashing disk of a broker, with time: what is written takes a while, and at times a long one.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use millrace_storage::disk::memory::{MemoryBuf, MemoryDisk, MemoryFile, MemoryPage};
use millrace_storage::disk::{DirEntry, Disk, DiskError, File, OpenMode};

use super::clock::Clock;

/// A write takes up to so long on a disk that is well.
const WRITE_MS: i64 = 2;

/// See the module's documentation. Clones share it.
#[derive(Clone)]
pub(super) struct SimDisk {
    memory: MemoryDisk,
    pace: Rc<Pace>,
}

struct Pace {
    clock: Rc<Clock>,
    rng: RefCell<fastrand::Rng>,
    slow_ms: Cell<i64>,
}

impl Pace {
    async fn pass(&self) {
        let ms = self.rng.borrow_mut().i64(0..=WRITE_MS + self.slow_ms.get());
        if ms > 0 {
            self.clock.sleep(ms).await;
        }
    }
}

impl SimDisk {
    pub(super) fn new(memory: MemoryDisk, clock: &Rc<Clock>, seed: u64) -> Self {
        let pace = Pace {
            clock: Rc::clone(clock),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            slow_ms: Cell::new(0),
        };
        Self {
            memory,
            pace: Rc::new(pace),
        }
    }

    /// From now on a write may take so much longer.
    pub(super) fn slow_down(&self, ms: i64) {
        self.pace.slow_ms.set(ms);
    }

    pub(super) fn memory(&self) -> &MemoryDisk {
        &self.memory
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Buf = MemoryBuf;
    type Page = MemoryPage;

    fn buffer(&self, len: usize) -> MemoryBuf {
        self.memory.buffer(len)
    }

    fn freeze(&self, buf: MemoryBuf, len: usize) -> MemoryPage {
        self.memory.freeze(buf, len)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> Result<SimFile, DiskError> {
        let file = self.memory.open(path, mode).await?;
        let pace = Rc::clone(&self.pace);
        Ok(SimFile { file, pace })
    }

    async fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.memory.create_dir_all(path).await
    }

    async fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        self.memory.list(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.memory.rename(from, to).await
    }

    async fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.memory.remove_file(path).await
    }

    async fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.memory.remove_dir_all(path).await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.memory.sync_dir(path).await
    }
}

/// An open file of a [`SimDisk`].
pub(super) struct SimFile {
    file: MemoryFile,
    pace: Rc<Pace>,
}

impl File for SimFile {
    type Buf = MemoryBuf;
    type Page = MemoryPage;

    async fn read_at(&self, pos: u64, len: usize) -> Result<MemoryPage, DiskError> {
        self.file.read_at(pos, len).await
    }

    async fn write_at(&self, page: &MemoryPage, pos: u64) -> Result<(), DiskError> {
        self.pace.pass().await;
        self.file.write_at(page, pos).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.pace.pass().await;
        self.file.sync().await
    }

    async fn allocate(&self, len: u64) -> Result<(), DiskError> {
        self.file.allocate(len).await
    }

    async fn truncate(&self, len: u64) -> Result<(), DiskError> {
        self.file.truncate(len).await
    }

    async fn len(&self) -> Result<u64, DiskError> {
        self.file.len().await
    }
}
