//! What recovery and a full disk do to files: scan them, cut them, replace small ones.

use crate::disk::{BLOCK_LEN, Disk, DiskError, Durability, File, OpenMode};
use crate::layout::{NEW_START_FILE, START_FILE};
use crate::position::Position;
use crate::scan::{Beyond, Item, Scanner, Step, Stop};
use crate::start_file::StartFile;
use crate::storage::Shared;
use millrace_model::Offset;
use std::path::Path;

/// Bytes of one read of a scan: large enough for the device's full speed.
const SCAN_READ_LEN: usize = 1 << 20;

/// How a scan of a segment ended.
pub(crate) struct Scanned {
    /// Stands behind the last valid item.
    pub(crate) scanner: Scanner,
    pub(crate) stop: Stop,
    /// Whether it ended at the limit that it was given.
    pub(crate) limited: bool,
    pub(crate) file_len: u64,
}

impl<D: Disk> Shared<D> {
    /// Walks over the items of a segment file from its start until something does not
    /// continue the log, or a frame reaches above `limit`.
    pub(crate) async fn scan(
        &self,
        file: &D::File,
        seed: u32,
        base: Offset,
        limit: Option<Offset>,
        mut visit: impl FnMut(Position, &Item),
    ) -> Result<Scanned, DiskError> {
        let file_len = file.len().await?;
        let mut scanner = Scanner::new(seed, base);
        let (mut window, mut read_to) = (Vec::new(), 0);
        loop {
            let at_end = read_to >= file_len;
            let from = window.len() - (read_to.min(file_len) - scanner.position().0) as usize;
            let before = scanner;
            let mut limited = false;
            let stop = match scanner.step(&window[from..], at_end) {
                Step::Item(_, Item::Frame(frame)) if limit.is_some_and(|l| frame.next > l) => {
                    scanner = before;
                    limited = true;
                    Stop::Zeros
                }
                Step::Item(at, item) => {
                    visit(at, &item);
                    continue;
                }
                Step::Need(_) => {
                    window.drain(..from);
                    let page = file.read_at(read_to, SCAN_READ_LEN).await?;
                    window.extend_from_slice(page.as_ref());
                    read_to += SCAN_READ_LEN as u64;
                    continue;
                }
                Step::Stop(stop) => stop,
            };
            return Ok(Scanned {
                scanner,
                stop,
                limited,
                file_len,
            });
        }
    }

    /// Looks at all that follows `from` in a file.
    pub(crate) async fn look_beyond(
        &self,
        file: &D::File,
        seed: u32,
        from: &Scanner,
    ) -> Result<Beyond, DiskError> {
        const { assert!(Beyond::OVERLAP <= BLOCK_LEN) };
        let (len, mut beyond) = (file.len().await?, Beyond::default());
        let mut at = from.position().block_floor();
        while at.0 < len {
            let page = file.read_at(at.0, SCAN_READ_LEN + BLOCK_LEN).await?;
            let skip = if at < from.position() {
                from.position().in_block()
            } else {
                0
            };
            let bytes = page.as_ref().get(skip..).unwrap_or_default();
            beyond.look(bytes, at.plus(skip), seed, from.expected());
            at = at.plus(SCAN_READ_LEN);
        }
        Ok(beyond)
    }

    /// The content of the device block that holds `end`, up to it.
    pub(crate) async fn tail_of(
        &self,
        file: &D::File,
        end: Position,
    ) -> Result<Vec<u8>, DiskError> {
        if end.in_block() == 0 {
            return Ok(Vec::new());
        }
        let page = file.read_at(end.block_floor().0, BLOCK_LEN).await?;
        let mut tail = page.as_ref()[..end.in_block().min(page.as_ref().len())].to_vec();
        tail.resize(end.in_block(), 0);
        Ok(tail)
    }

    /// Ends a segment file at `end`: zeros in the rest of the last block, `tail` before them,
    /// nothing behind. Durable.
    pub(crate) async fn cut(
        &self,
        file: &D::File,
        end: Position,
        tail: &[u8],
    ) -> Result<(), DiskError> {
        if !tail.is_empty() {
            file.write_at(&self.page_of(tail), end.block_floor().0)
                .await?;
        }
        file.truncate(end.block_ceil().0).await?;
        file.sync().await
    }

    /// Replaces the log-start file, durably and at once.
    pub(crate) async fn replace_start_file(
        &self,
        dir: &Path,
        seed: u32,
        content: &StartFile,
    ) -> Result<(), DiskError> {
        self.prepare_start_file(dir, seed, content).await?;
        self.install_start_file(dir).await
    }

    /// Writes the next log-start file beside the present one. As long as it is not
    /// installed, nothing is changed.
    pub(crate) async fn prepare_start_file(
        &self,
        dir: &Path,
        seed: u32,
        content: &StartFile,
    ) -> Result<(), DiskError> {
        let new = dir.join(NEW_START_FILE);
        match self.disk.remove_file(&new).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let file = self
            .disk
            .open(&new, OpenMode::CreateNew(Durability::OnSync))
            .await?;
        file.write_at(&self.page_of(&content.encode(seed)), 0)
            .await?;
        file.sync().await
    }

    /// Puts the prepared log-start file in the place of the present one. Either may be there
    /// after an error.
    pub(crate) async fn install_start_file(&self, dir: &Path) -> Result<(), DiskError> {
        let new = dir.join(NEW_START_FILE);
        self.disk.rename(&new, &dir.join(START_FILE)).await?;
        self.disk.sync_dir(dir).await
    }

    /// Writes the log-start file where it stands, one copy after the other, which takes no
    /// space: for content of the same length, where the old content does no harm.
    pub(crate) async fn overwrite_start_file(
        &self,
        dir: &Path,
        seed: u32,
        content: &StartFile,
    ) -> Result<(), DiskError> {
        let bytes = content.encode(seed);
        let copy = self.page_of(&bytes[..bytes.len() / 2]);
        let mode = OpenMode::Write(Durability::OnSync);
        let file = self.disk.open(&dir.join(START_FILE), mode).await?;
        for at in [0, bytes.len() / 2] {
            file.write_at(&copy, at as u64).await?;
            file.sync().await?;
        }
        Ok(())
    }
}
