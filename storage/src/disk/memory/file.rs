//! An open file of the disk in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rkyv::util::AlignedVec;

use super::faults::{Operation, full, io_error};
use super::names::NodeId;
use super::record::Event;
use super::{MemoryBuf, MemoryDisk, MemoryPage, State, error};
use crate::disk::{BLOCK_LEN, DiskError, Durability, File, OpenMode, SECTOR_LEN};

/// An open file of a [`MemoryDisk`].
pub struct MemoryFile {
    disk: MemoryDisk,
    id: NodeId,
    path: PathBuf,
    mode: OpenMode,
}

impl MemoryFile {
    pub(super) fn new(disk: MemoryDisk, id: NodeId, path: &Path, mode: OpenMode) -> Self {
        Self {
            disk,
            id,
            path: path.to_owned(),
            mode,
        }
    }

    fn durability(&self, operation: Operation) -> Result<Durability, DiskError> {
        match self.mode {
            OpenMode::Write(durability) | OpenMode::CreateNew(durability) => Ok(durability),
            OpenMode::Read => Err(self.error(operation, io::ErrorKind::PermissionDenied.into())),
        }
    }

    /// Waits for the device while a write is in flight, then says how it ended.
    async fn write_ends(&self, len: u64) -> Result<(), io::Error> {
        self.disk.point().await;
        let mut state = self.disk.state.borrow_mut();
        if state.faults.strikes(Operation::Write) {
            return Err(io_error());
        }
        if state.fits(self.id, len) {
            Ok(())
        } else {
            Err(full())
        }
    }

    fn error(&self, operation: Operation, source: io::Error) -> DiskError {
        error(operation, &self.path, source)
    }
}

impl File for MemoryFile {
    type Buf = MemoryBuf;
    type Page = MemoryPage;

    async fn read_at(&self, pos: u64, len: usize) -> Result<MemoryPage, DiskError> {
        assert_aligned(pos, len);
        self.disk.begin(Operation::Read, &self.path).await?;
        let page = {
            let tree = self.disk.tree();
            let bytes = tree.image(self.id).readable();
            let from = bytes.len().min(pos as usize);
            let until = bytes.len().min(from + len);
            let mut page = AlignedVec::with_capacity(until - from);
            page.extend_from_slice(&bytes[from..until]);
            MemoryPage {
                len: page.len(),
                bytes: Rc::new(page),
            }
        };
        self.disk.point().await;
        Ok(page)
    }

    /// # Panics
    /// If another write is in flight to the same bytes: what would be there is not
    /// defined on a real disk.
    async fn write_at(&self, page: &MemoryPage, pos: u64) -> Result<(), DiskError> {
        assert_aligned(pos, page.len);
        let durability = self.durability(Operation::Write)?;
        self.disk.begin(Operation::Write, &self.path).await?;
        let stamp = {
            let mut state = self.disk.state.borrow_mut();
            let State { tree, rng, .. } = &mut *state;
            let image = tree.image_mut(self.id);
            assert!(
                !image.writing(pos as usize, page.len),
                "two writes in flight to one place"
            );
            image.begin_write(pos as usize, page, || rng.bool())
        };
        let ended = self.write_ends(pos + page.len as u64).await;
        {
            let mut state = self.disk.state.borrow_mut();
            let State {
                tree, rng, faults, ..
            } = &mut *state;
            let image = tree.image_mut(self.id);
            match &ended {
                Ok(()) => {
                    image.end_write(stamp, durability == Durability::EachWrite && !faults.lying);
                    state.note(|| Event::Write(self.id, pos, page.clone()));
                }
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    // What needs no new space may have been written.
                    let old = image.readable().len().saturating_sub(pos as usize) / SECTOR_LEN;
                    image.fail_write(stamp, |index| index < old && rng.bool());
                }
                Err(_) => image.fail_write(stamp, |_| rng.bool()),
            }
        }
        self.disk.let_others_run().await;
        ended.map_err(|source| self.error(Operation::Write, source))
    }

    async fn sync(&self) -> Result<(), DiskError> {
        let point = self.disk.tree().image(self.id).sync_point();
        self.disk.begin(Operation::Sync, &self.path).await?;
        self.disk.point().await;
        {
            let mut state = self.disk.state.borrow_mut();
            if !state.faults.lying {
                state.tree.image_mut(self.id).sync(point);
            }
        }
        self.disk.let_others_run().await;
        Ok(())
    }

    async fn allocate(&self, len: u64) -> Result<(), DiskError> {
        self.durability(Operation::Allocate)?;
        self.disk.begin(Operation::Allocate, &self.path).await?;
        let reserved = {
            let mut state = self.disk.state.borrow_mut();
            let fits = state.fits(self.id, len);
            if fits {
                state.tree.image_mut(self.id).reserve(len);
            }
            fits.then_some(()).ok_or_else(full)
        };
        self.disk.point().await;
        reserved.map_err(|source| self.error(Operation::Allocate, source))
    }

    /// # Panics
    /// If a write is in flight to what is cut off.
    async fn truncate(&self, len: u64) -> Result<(), DiskError> {
        self.durability(Operation::Truncate)?;
        self.disk.begin(Operation::Truncate, &self.path).await?;
        {
            let mut state = self.disk.state.borrow_mut();
            let image = state.tree.image_mut(self.id);
            assert!(
                !image.writing(len as usize, usize::MAX),
                "cut off under a write in flight"
            );
            image.set_len(len as usize);
            state.note(|| Event::Length(self.id, len));
        }
        self.disk.point().await;
        Ok(())
    }

    async fn len(&self) -> Result<u64, DiskError> {
        self.disk.begin(Operation::Read, &self.path).await?;
        let len = self.disk.tree().image(self.id).readable().len();
        self.disk.point().await;
        Ok(len as u64)
    }
}

fn assert_aligned(pos: u64, len: usize) {
    assert!(
        pos.is_multiple_of(BLOCK_LEN as u64),
        "direct I/O begins at a block"
    );
    assert!(
        len.is_multiple_of(BLOCK_LEN),
        "direct I/O moves whole blocks"
    );
}
