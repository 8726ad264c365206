//! Ends a segment and begins the next. The order of the steps is what the crash argument in
//! `storage/FORMAT.md` rests on.

use super::Log;
use super::state::Spare;
use crate::disk::{BLOCK_LEN, Disk, DiskError, Durability, File, OpenMode};
use crate::files::Use;
use crate::footer::{Footer, Trailer};
use crate::index::Index;
use crate::layout::segment_name;
use crate::position::Position;
use crate::segment::{Closing, Segment, Stage};
use crate::space::Space;
use millrace_model::{Offset, Timestamp};
use std::path::Path;
use std::rc::Rc;

/// The two parts of a segment's end, and where they go.
pub(super) struct SegmentEnd {
    footer_at: Position,
    footer_len: u32,
    sealed_at: Timestamp,
    bytes: Vec<u8>,
}

impl SegmentEnd {
    pub(super) fn new(
        segment: &Segment,
        index: Index,
        closing: &Closing,
        now: Timestamp,
        seed: u32,
    ) -> Self {
        let epochs = closing.epochs.clone();
        let last_epoch = epochs.latest().unwrap_or_default();
        let producers = closing.producers.clone();
        let (base, next) = (segment.base, segment.end);
        let footer = Footer {
            base,
            next,
            index,
            epochs,
            producers,
        };
        let mut bytes = footer.encode(seed);
        let footer_len = u32::try_from(bytes.len()).expect("a footer is far below 4 GiB");
        let footer_at = segment.data_end.block_ceil();
        let trailer = Trailer {
            base: segment.base,
            next: segment.end,
            data_end: segment.data_end,
            footer_at,
            footer_len,
            last_epoch,
            max_timestamp: segment.max_timestamp,
            sealed_at: now,
        };
        bytes.extend(trailer.encode(seed));
        Self {
            footer_at,
            footer_len,
            sealed_at: now,
            bytes,
        }
    }

    /// Writes footer and trailer, and gives the file its exact length, durably.
    pub(super) async fn write<D: Disk>(
        &self,
        storage: &crate::storage::Shared<D>,
        file: &D::File,
    ) -> Result<(), DiskError> {
        let page = storage.page_of(&self.bytes);
        file.write_at(&page, self.footer_at.0).await?;
        file.sync().await?;
        file.truncate(self.footer_at.plus(self.footer_len as usize + BLOCK_LEN).0)
            .await?;
        file.sync().await
    }

    pub(super) const fn stage(&self) -> Stage {
        Stage::Sealed {
            footer_at: self.footer_at,
            footer_len: self.footer_len,
            sealed_at: self.sealed_at,
        }
    }
}

impl<D: Disk> Log<D> {
    /// Brings the files to where a write to the segment `base` can follow: all segments
    /// before it sealed, its own file there. The caller holds the device gate.
    pub(super) async fn roll_to(&self, base: Offset) -> Result<(), DiskError> {
        while let Some(closed) = self.first_closed_before(base) {
            self.seal(closed).await?;
        }
        let has_file = self
            .shared
            .state
            .borrow()
            .segment(base)
            .is_some_and(|s| s.has_file);
        if !has_file {
            self.make_file(base).await?;
        }
        Ok(())
    }

    fn first_closed_before(&self, base: Offset) -> Option<Offset> {
        let state = self.shared.state.borrow();
        let mut unsealed = state
            .segments
            .iter()
            .filter(|s| s.base < base && !s.is_sealed());
        unsealed.next().map(|segment| segment.base)
    }

    /// Seals a closed segment, all of whose frames are written.
    pub(super) async fn seal(&self, base: Offset) -> Result<(), DiskError> {
        if self.shared.state.borrow().has_unsynced_writes() {
            self.sync_written().await?;
        }
        let end = {
            let state = self.shared.state.borrow();
            let segment = state
                .segment(base)
                .expect("a segment that is not sealed stays");
            let Stage::Closed(closing) = &segment.stage else {
                panic!("a segment is closed before it is sealed");
            };
            assert!(
                segment.end <= state.appender.durable(),
                "a footer follows durable frames"
            );
            let index = segment.index.as_deref().cloned().unwrap_or_default();
            SegmentEnd::new(segment, index, closing, state.clock, state.seed)
        };
        let _unprepared = self.shared.ahead.enter().await;
        let file = self.file(base, Use::WriteOnSync).await?;
        end.write(&self.shared.storage, &*file).await?;
        drop(file);
        self.shared.storage.files.close(self.key(base));
        let mut state = self.shared.state.borrow_mut();
        let segment = state
            .segment_mut(base)
            .expect("a segment that is not sealed stays");
        segment.stage = end.stage();
        let next = segment.end;
        state.appender.sealed_before(next);
        Ok(())
    }

    /// Makes the file of the segment `base`: a spare one if there is one, else a new one.
    async fn make_file(&self, base: Offset) -> Result<(), DiskError> {
        let storage = &self.shared.storage;
        let path = self.path(base);
        let _unprepared = self.shared.ahead.enter().await;
        // A write that found the disk full may have left a file of this name, and it open:
        // what is written to that handle would go with the file that is replaced here.
        storage.files.close(self.key(base));
        let spare = self.shared.state.borrow_mut().spares.pop();
        let len = match spare {
            Some(spare) => self.use_spare(spare, &path).await?,
            None => create_empty(&storage.disk, &path).await?,
        };
        storage.disk.sync_dir(&self.shared.dir).await?;
        let mut state = self.shared.state.borrow_mut();
        state.space = Space::of_file(len);
        if let Some(segment) = state.segment_mut(base) {
            segment.has_file = true;
        }
        Ok(())
    }

    async fn use_spare(&self, spare: Spare, path: &Path) -> Result<u64, DiskError> {
        let recycled = &self.shared.storage.recycled_bytes;
        recycled.set(recycled.get().saturating_sub(spare.len));
        let from = self.shared.dir.join(&spare.name);
        self.shared.storage.disk.rename(&from, path).await?;
        Ok(spare.len)
    }

    /// Keeps the file of a removed segment to be written again, or removes it.
    pub(super) async fn recycle(&self, segment: &Segment) -> Result<(), DiskError> {
        let storage = &self.shared.storage;
        let in_use = storage.files.close(self.key(segment.base));
        storage.cache.forget_segment(self.key(segment.base));
        let (path, len) = (self.path(segment.base), segment.bytes());
        let room = storage.recycled_bytes.get() + len <= storage.limits.recycled_bytes;
        let is_wanted = self.shared.state.borrow().spares.is_empty();
        if in_use || !room || !is_wanted {
            return storage.disk.remove_file(&path).await;
        }
        let name = spare_name(segment.base);
        storage
            .disk
            .rename(&path, &self.shared.dir.join(&name))
            .await?;
        storage.disk.sync_dir(&self.shared.dir).await?;
        storage
            .recycled_bytes
            .set(storage.recycled_bytes.get() + len);
        self.shared
            .state
            .borrow_mut()
            .spares
            .push(Spare { name, len });
        Ok(())
    }
}

/// The name of a file that was the segment `base`.
fn spare_name(base: Offset) -> String {
    segment_name(base).replace(".log", SPARE_SUFFIX)
}

/// How the names of spare files end.
pub(super) const SPARE_SUFFIX: &str = ".free";

/// Makes an empty file, also where a failed attempt has left one.
async fn create_empty<D: Disk>(disk: &D, path: &Path) -> Result<u64, DiskError> {
    match disk
        .open(path, OpenMode::CreateNew(Durability::OnSync))
        .await
    {
        Ok(_) => Ok(0),
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {
            let file = disk.open(path, OpenMode::Write(Durability::OnSync)).await?;
            file.truncate(0).await?;
            file.sync().await?;
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// What the closed segment's footer is made of, for a segment that was scanned.
pub(super) fn closing(epochs: millrace_model::LeaderEpochs, producers: Vec<u8>) -> Rc<Closing> {
    Rc::new(Closing { epochs, producers })
}
