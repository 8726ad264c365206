//! Looks at a log's directory without changing it: for `millctl log dump` and `verify`, on
//! the files of a stopped broker.

use crate::disk::{BLOCK_LEN, Disk, DiskError, File, OpenMode};
use crate::footer::{Footer, Trailer};
use crate::index::IndexEntry;
use crate::layout::{START_FILE, log_id, segment_base, segment_name};
use crate::limits::StorageLimits;
use crate::position::Position;
use crate::scan::{Item, Stop};
use crate::start_file::{MAX_START_FILE_LEN, StartFile};
use crate::storage::Shared;
use millrace_model::EpochStart;
use millrace_model::{LogId, Offset, Timestamp};
use std::path::Path;

/// Something that was found, in the order of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The log-start file.
    Start {
        /// Log start offset.
        log_start: Offset,
        /// A truncation to this offset was begun and not finished.
        truncate_to: Option<Offset>,
    },
    /// A segment file begins.
    Segment {
        /// Offset of its first record, by its name.
        base: Offset,
        /// Bytes of the file.
        file_len: u64,
    },
    /// A write header or a frame.
    Item {
        /// Where in the segment.
        position: Position,
        /// Which.
        item: Item,
    },
    /// The footer and trailer of a sealed segment.
    Sealed {
        /// Where the footer stands.
        position: Position,
        /// Offset after the last record.
        next: Offset,
        /// Upper bound of the timestamps.
        max_timestamp: Timestamp,
        /// When it was sealed.
        sealed_at: Timestamp,
        /// The sparse index.
        index: Vec<IndexEntry>,
        /// The leader epochs up to here.
        epochs: Vec<EpochStart>,
        /// Idempotent producers remembered.
        producers: usize,
    },
    /// The end of the last segment's valid part. A tail behind it, if any, was never
    /// acknowledged: the next start of the broker cuts it.
    End {
        /// Where.
        position: Position,
        /// Offset of the next record.
        next: Offset,
        /// Why nothing more is valid.
        stop: Stop,
        /// Whether anything but zeros follows.
        torn: bool,
    },
    /// Something is wrong: damage, or a gap.
    Problem {
        /// Where.
        position: Position,
        /// What.
        reason: String,
    },
}

/// What a whole look has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segment files.
    pub segments: usize,
    /// Valid frames.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Problems.
    pub problems: usize,
}

/// The log whose directory this is, by its name.
#[must_use]
pub fn id_of_directory(dir: &Path) -> Option<LogId> {
    log_id(dir.file_name()?.to_str()?)
}

/// Looks at the log `id` in `dir`, and tells `visit` the file's name and what is found there.
///
/// # Errors
/// [`DiskError`] when a file cannot be read. Damage is no error but a [`Found::Problem`].
pub async fn look<D: Disk>(
    disk: &D,
    dir: &Path,
    id: LogId,
    mut visit: impl FnMut(&str, Found),
) -> Result<Summary, DiskError> {
    let limits = StorageLimits::default();
    let shared = Shared::new(disk.clone(), dir.to_owned(), limits);
    let entries = disk.list(dir).await?;
    let mut bases: Vec<_> = entries
        .iter()
        .filter_map(|e| segment_base(&e.name))
        .collect();
    bases.sort_unstable();
    let mut look = Look {
        shared,
        dir,
        seed: id.checksum_seed(),
        visit: &mut visit,
        summary: Summary::default(),
    };
    if entries.iter().any(|e| e.name == START_FILE) {
        look.start_file().await?;
    }
    for (n, &base) in bases.iter().enumerate() {
        look.segment(base, bases.get(n + 1).copied()).await?;
    }
    Ok(look.summary)
}

struct Look<'a, D: Disk> {
    shared: Shared<D>,
    dir: &'a Path,
    seed: u32,
    visit: &'a mut dyn FnMut(&str, Found),
    summary: Summary,
}

impl<D: Disk> Look<'_, D> {
    async fn start_file(&mut self) -> Result<(), DiskError> {
        let file = self
            .shared
            .disk
            .open(&self.dir.join(START_FILE), OpenMode::Read)
            .await?;
        let len = file.len().await?.min(MAX_START_FILE_LEN) as usize;
        let page = file.read_at(0, len.next_multiple_of(BLOCK_LEN)).await?;
        match StartFile::decode(page.as_ref(), self.seed) {
            Ok(StartFile {
                log_start,
                truncate_to,
                ..
            }) => {
                (self.visit)(
                    START_FILE,
                    Found::Start {
                        log_start,
                        truncate_to,
                    },
                );
            }
            Err(error) => self.problem(START_FILE, Position::ZERO, error.to_string()),
        }
        Ok(())
    }

    async fn segment(&mut self, base: Offset, next_base: Option<Offset>) -> Result<(), DiskError> {
        let name = segment_name(base);
        let file = self
            .shared
            .disk
            .open(&self.dir.join(&name), OpenMode::Read)
            .await?;
        let file_len = file.len().await?;
        self.summary.segments += 1;
        self.summary.bytes += file_len;
        (self.visit)(&name, Found::Segment { base, file_len });
        let trailer = self.trailer(&file, base, file_len).await?;
        let limit = trailer.map(|trailer| trailer.next);
        let (visit, summary) = (&mut self.visit, &mut self.summary);
        let scanned = self
            .shared
            .scan(&file, self.seed, base, limit, |position, item| {
                if let Item::Frame(frame) = item {
                    summary.frames += 1;
                    summary.records += u64::from(frame.records);
                }
                visit(
                    &name,
                    Found::Item {
                        position,
                        item: *item,
                    },
                );
            })
            .await?;
        let (position, next) = (scanned.scanner.position(), scanned.scanner.expected());
        match trailer {
            Some(trailer) => self.sealed(&name, &file, &trailer, next, position).await?,
            None if next_base.is_some() => {
                self.problem(&name, position, format!("not sealed: {}", scanned.stop));
            }
            None => {
                let beyond = self
                    .shared
                    .look_beyond(&file, self.seed, &scanned.scanner)
                    .await?;
                if let Some((at, durable)) = beyond.vouches {
                    let reason = format!(
                        "{}, while the write at {at} vouches for all below offset {durable}",
                        scanned.stop
                    );
                    self.problem(&name, position, reason);
                }
                let (stop, torn) = (scanned.stop, beyond.remains);
                (self.visit)(
                    &name,
                    Found::End {
                        position,
                        next,
                        stop,
                        torn,
                    },
                );
            }
        }
        let end = limit.unwrap_or(next);
        if let Some(next_base) = next_base.filter(|next_base| *next_base != end) {
            let reason = format!("ends at offset {end}, the next segment begins at {next_base}");
            self.problem(&name, position, reason);
        }
        Ok(())
    }

    async fn trailer(
        &self,
        file: &D::File,
        base: Offset,
        file_len: u64,
    ) -> Result<Option<Trailer>, DiskError> {
        let block = BLOCK_LEN as u64;
        let Some(at) = file_len
            .checked_sub(block)
            .filter(|at| at.is_multiple_of(block))
        else {
            return Ok(None);
        };
        let page = file.read_at(at, BLOCK_LEN).await?;
        Ok(Trailer::decode(page.as_ref(), self.seed, base, file_len).ok())
    }

    async fn sealed(
        &mut self,
        name: &str,
        file: &D::File,
        trailer: &Trailer,
        next: Offset,
        position: Position,
    ) -> Result<(), DiskError> {
        if next != trailer.next {
            let reason = format!("the data ends at offset {next}, not at {}", trailer.next);
            self.problem(name, position, reason);
        }
        let page = file
            .read_at(trailer.footer_at.0, trailer.footer_len as usize)
            .await?;
        let footer = Footer::decode(page.as_ref(), self.seed, trailer.base, trailer.next);
        let producers = footer
            .as_ref()
            .map_err(|e| *e)
            .and_then(|f| Ok(f.producers()?.len()));
        match (footer, producers) {
            (Ok(footer), Ok(producers)) => (self.visit)(
                name,
                Found::Sealed {
                    position: trailer.footer_at,
                    next: trailer.next,
                    max_timestamp: trailer.max_timestamp,
                    sealed_at: trailer.sealed_at,
                    index: footer.index.entries().to_vec(),
                    epochs: footer.epochs.starts().to_vec(),
                    producers,
                },
            ),
            (Err(error), _) | (_, Err(error)) => {
                self.problem(name, trailer.footer_at, format!("footer: {error}"));
            }
        }
        Ok(())
    }

    fn problem(&mut self, name: &str, position: Position, reason: String) {
        self.summary.problems += 1;
        (self.visit)(name, Found::Problem { position, reason });
    }
}
