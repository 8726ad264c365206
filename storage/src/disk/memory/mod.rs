//! A disk in memory that crashes, tears, rots, lies and fills up on purpose, and does so
//! the same way for the same seed.
//!
//! Each operation passes two *I/O points*, when it begins and when it ends; a crash may be
//! planned for any of them ([`MemoryDisk::crash_after`]). From then on no operation
//! completes, as for a machine without power, and [`MemoryDisk::crash`] gives the disk that
//! the next boot finds. What a crash may leave of file content is described in `image.rs`,
//! what of names in `names.rs`.
//!
//! Operations let other tasks run at random moments, so that with
//! [`executor::LocalTasks`] one seed is one interleaving.
//!
//! Not here: permissions, links, special files, and the loss of a whole device.

pub mod executor;
mod faults;
mod file;
mod image;
mod names;
mod record;
#[cfg(test)]
mod tests;

use std::cell::{RefCell, RefMut};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rkyv::util::AlignedVec;

use self::executor::yield_now;
use self::faults::{Faults, io_error};
use self::names::{NodeId, Tree};
use self::record::{Event, Record};
use super::{BLOCK_LEN, DirEntry, Disk, DiskError, OpenMode, SECTOR_LEN};

pub use self::faults::Operation;
pub use self::file::MemoryFile;

/// What a fresh buffer is filled with, so that nobody counts on zeros.
const GARBAGE: u8 = 0xdb;

/// At most this many times an operation lets others run at each of its I/O points.
const MAX_YIELDS: u32 = 2;

/// A disk in memory. Clones share it. See the module's documentation.
#[derive(Clone)]
pub struct MemoryDisk {
    state: Rc<RefCell<State>>,
}

struct State {
    tree: Tree,
    faults: Faults,
    rng: fastrand::Rng,
    record: Option<Record>,
    points: u64,
    crashed: bool,
}

impl MemoryDisk {
    /// An empty disk without faults. All its choices follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_tree(Tree::default(), seed)
    }

    fn with_tree(tree: Tree, seed: u64) -> Self {
        let state = State {
            tree,
            faults: Faults::default(),
            rng: fastrand::Rng::with_seed(seed),
            record: None,
            points: 0,
            crashed: false,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// The power goes: nothing completes on this disk any more. Returns the disk that the
    /// next boot finds, without faults but with the same capacity.
    #[must_use]
    pub fn crash(&self, rng: &mut fastrand::Rng) -> Self {
        let mut state = self.state.borrow_mut();
        state.crashed = true;
        let after = Self::with_tree(state.tree.crash(rng), rng.u64(..));
        after.state.borrow_mut().faults.capacity = state.faults.capacity;
        after
    }

    /// The process ends, the machine goes on: nothing completes on this disk any more, and
    /// what was written stays readable, yet is no more durable than it was. A write in
    /// flight may be there in part. Returns the disk that the next process finds.
    #[must_use]
    pub fn kill(&self, rng: &mut fastrand::Rng) -> Self {
        let mut state = self.state.borrow_mut();
        state.crashed = true;
        let after = Self::with_tree(state.tree.kill(rng), rng.u64(..));
        after.state.borrow_mut().faults.capacity = state.faults.capacity;
        after
    }

    /// After `points` more I/O points the disk stops for ever.
    pub fn crash_after(&self, points: u64) {
        self.state.borrow_mut().faults.crash_in = Some(points);
    }

    /// Takes back [`MemoryDisk::crash_after`], if it did not strike yet.
    pub fn cancel_crash(&self) {
        self.state.borrow_mut().faults.crash_in = None;
    }

    /// Whether the disk has stopped.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.state.borrow().crashed
    }

    /// I/O points passed so far. For the same program and seed always the same, so a test
    /// that knows the number can crash at each of them.
    #[must_use]
    pub fn io_points(&self) -> u64 {
        self.state.borrow().points
    }

    /// After `after` more operations of this kind, one fails with EIO. A failing write
    /// leaves any subset of its sectors.
    pub fn fail(&self, operation: Operation, after: u64) {
        self.state.borrow_mut().faults.fail(operation, after);
    }

    /// How many bytes the files can take together; `None` for no limit. What is there
    /// already stays.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.borrow_mut().faults.capacity = bytes;
    }

    /// Bytes that the files take together, with what is reserved for them.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.state.borrow().tree.allocated()
    }

    /// From now on writes and syncs say that they are durable when they are not, as a
    /// device with a broken write cache does.
    pub fn lie(&self, lying: bool) {
        self.state.borrow_mut().faults.lying = lying;
    }

    /// Turns one bit of a stored byte.
    ///
    /// # Errors
    /// If there is no such file. A byte beyond its end has no bit to turn.
    pub fn flip(&self, path: &Path, byte: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let id = state.tree.file(path)?;
        state.tree.image_mut(id).flip(byte as usize, bit);
        Ok(())
    }

    /// The files below `path` and their lengths, sorted by path.
    #[must_use]
    pub fn files(&self, path: &Path) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        let state = self.state.borrow();
        let mut open = vec![path.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in state.tree.list(&dir).unwrap_or_default() {
                let path = dir.join(&entry.name);
                if entry.is_dir {
                    open.push(path);
                } else {
                    let id = state.tree.file(&path).expect("the name was just listed");
                    let len = state.tree.image(id).readable().len() as u64;
                    found.push((path, len));
                }
            }
        }
        found.sort();
        found
    }

    /// The bytes of a file, without an I/O point.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.borrow();
        let id = state.tree.file(path)?;
        Ok(state.tree.image(id).readable().to_vec())
    }

    /// Begins to record every change, for [`MemoryDisk::prefix`].
    pub fn record(&self) {
        let mut state = self.state.borrow_mut();
        state.record = Some(Record::new(state.tree.clone()));
    }

    /// Changes recorded so far.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.state.borrow().record.as_ref().map_or(0, Record::len)
    }

    /// The disk with exactly the first `changes` recorded changes on it, all durable.
    ///
    /// # Panics
    /// If fewer are recorded.
    #[must_use]
    pub fn prefix(&self, changes: usize, seed: u64) -> Self {
        let state = self.state.borrow();
        let record = state.record.as_ref().expect("recording was begun");
        Self::with_tree(record.replay(changes), seed)
    }

    /// An operation begins. It does not go on if the disk has stopped.
    async fn begin(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        self.point().await;
        if operation != Operation::Write && self.state.borrow_mut().faults.strikes(operation) {
            return Err(error(operation, path, io_error()));
        }
        Ok(())
    }

    /// Passes an I/O point: others may run, and the disk may stop.
    async fn point(&self) {
        self.let_others_run().await;
        let stopped = {
            let mut state = self.state.borrow_mut();
            state.points += 1;
            match &mut state.faults.crash_in {
                Some(0) => state.crashed = true,
                Some(left) => *left -= 1,
                None => {}
            }
            state.crashed
        };
        if stopped {
            std::future::pending::<()>().await;
        }
    }

    /// A completion that others may overtake.
    async fn let_others_run(&self) {
        let yields = self.state.borrow_mut().rng.u32(..=MAX_YIELDS);
        for _ in 0..yields {
            yield_now().await;
        }
        if self.is_crashed() {
            std::future::pending::<()>().await;
        }
    }

    /// An operation on names: one point before the change, one after.
    async fn change_names<T>(
        &self,
        operation: Operation,
        path: &Path,
        change: impl FnOnce(&mut Tree) -> io::Result<T>,
        event: impl FnOnce() -> Event,
    ) -> Result<T, DiskError> {
        self.begin(operation, path).await?;
        let done = {
            let mut state = self.state.borrow_mut();
            let done = change(&mut state.tree).map_err(|source| error(operation, path, source))?;
            state.note(event);
            done
        };
        self.point().await;
        Ok(done)
    }

    fn tree(&self) -> RefMut<'_, Tree> {
        RefMut::map(self.state.borrow_mut(), |state| &mut state.tree)
    }
}

impl State {
    fn note(&mut self, event: impl FnOnce() -> Event) {
        if let Some(record) = &mut self.record {
            record.push(event());
        }
    }

    /// Whether a file of `id` can take `len` bytes.
    fn fits(&self, id: NodeId, len: u64) -> bool {
        let more = len.saturating_sub(self.tree.image(id).allocated());
        let capacity = self.faults.capacity.unwrap_or(u64::MAX);
        more == 0 || self.tree.allocated().saturating_add(more) <= capacity
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Buf = MemoryBuf;
    type Page = MemoryPage;

    fn buffer(&self, len: usize) -> MemoryBuf {
        assert!(
            len.is_multiple_of(BLOCK_LEN),
            "a buffer is made of whole blocks"
        );
        let mut bytes = AlignedVec::with_capacity(len);
        bytes.resize(len, GARBAGE);
        MemoryBuf(bytes)
    }

    fn freeze(&self, buf: MemoryBuf, len: usize) -> MemoryPage {
        assert!(
            len.is_multiple_of(BLOCK_LEN),
            "a page is made of whole blocks"
        );
        assert!(len <= buf.0.len(), "a page is no longer than its buffer");
        MemoryPage {
            bytes: Rc::new(buf.0),
            len,
        }
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> Result<MemoryFile, DiskError> {
        self.begin(Operation::Open, path).await?;
        let id = {
            let mut state = self.state.borrow_mut();
            let id = match mode {
                OpenMode::CreateNew(_) => state.tree.create(path),
                OpenMode::Read | OpenMode::Write(_) => state.tree.file(path),
            };
            let id = id.map_err(|source| error(Operation::Open, path, source))?;
            if let OpenMode::CreateNew(_) = mode {
                state.note(|| Event::Create(path.to_owned()));
            }
            id
        };
        self.point().await;
        Ok(MemoryFile::new(self.clone(), id, path, mode))
    }

    async fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for dir in ancestors
            .into_iter()
            .filter(|dir| dir.file_name().is_some())
        {
            let make = |tree: &mut Tree| tree.create_dir(dir);
            self.change_names(Operation::CreateDir, dir, make, || {
                Event::CreateDir(dir.to_owned())
            })
            .await?;
            // Also if it was there: whoever made it may have ended before this.
            self.sync_dir(dir.parent().unwrap_or(Path::new(""))).await?;
        }
        Ok(())
    }

    async fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        self.begin(Operation::List, path).await?;
        let found = self.tree().list(path);
        self.point().await;
        found.map_err(|source| error(Operation::List, path, source))
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let change = |tree: &mut Tree| tree.rename(from, to);
        let event = || Event::Rename(from.to_owned(), to.to_owned());
        self.change_names(Operation::Rename, from, change, event)
            .await
    }

    async fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let change = |tree: &mut Tree| tree.remove_file(path);
        self.change_names(Operation::Remove, path, change, || {
            Event::RemoveFile(path.to_owned())
        })
        .await
    }

    async fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let entries = match self.list(path).await {
            Err(error) if error.is_not_found() => return Ok(()),
            found => found?,
        };
        for entry in entries {
            let child = path.join(&entry.name);
            if entry.is_dir {
                Box::pin(self.remove_dir_all(&child)).await?;
            } else {
                self.remove_file(&child).await?;
            }
        }
        let change = |tree: &mut Tree| tree.remove_dir(path);
        self.change_names(Operation::Remove, path, change, || {
            Event::RemoveDir(path.to_owned())
        })
        .await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.begin(Operation::SyncDir, path).await?;
        self.point().await;
        let synced = self.tree().sync_dir(path);
        self.let_others_run().await;
        synced.map_err(|source| error(Operation::SyncDir, path, source))
    }
}

/// A writable buffer.
pub struct MemoryBuf(AlignedVec<BLOCK_LEN>);

impl AsRef<[u8]> for MemoryBuf {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for MemoryBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// An immutable, shared buffer.
#[derive(Clone, Debug)]
pub struct MemoryPage {
    bytes: Rc<AlignedVec<BLOCK_LEN>>,
    len: usize,
}

impl AsRef<[u8]> for MemoryPage {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn error(operation: Operation, path: &Path, source: io::Error) -> DiskError {
    DiskError {
        operation: operation.verb(),
        path: path.to_owned(),
        source,
    }
}

const _: () = assert!(BLOCK_LEN.is_multiple_of(SECTOR_LEN));
