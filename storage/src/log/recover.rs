//! Opens a log: finds out what is there, cuts what was torn, refuses what is damaged.
//!
//! Sealed segments are known by their trailers. The last one is scanned, and so is every
//! other whose trailer or, where state depends on it, footer does not hold. What to do about
//! a scan's end is decided in [`crate::recovery`]; here it is done. A log that is damaged is
//! not written to at all.

use super::repair::Scanned;
use super::seal::{SPARE_SUFFIX, SegmentEnd, closing};
use super::state::Recovered;
use crate::Latch;
use crate::appender::{Appender, Place};
use crate::disk::{BLOCK_LEN, Disk, DiskError, Durability, File, OpenMode};
use crate::footer::{Footer, Trailer};
use crate::layout::{NEW_START_FILE, START_FILE, segment_base, segment_name};
use crate::planted::{Planted, is_planted};
use crate::position::Position;
use crate::producers::{self, Producers};
use crate::recovery::{Decision, Finding, Role, Truncation, decide};
use crate::scan::Item;
use crate::segment::{Segment, Stage};
use crate::space::Space;
use crate::start_file::{MAX_START_FILE_LEN, StartFile};
use crate::storage::{RecoveryReport, Shared};
use millrace_model::LeaderEpochs;
use millrace_model::{Offset, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// State of the log at some offset.
type ReplayState = (LeaderEpochs, Producers);

struct Recovery<'a, D: Disk> {
    storage: &'a Rc<Shared<D>>,
    dir: &'a Path,
    seed: u32,
    now: Timestamp,
    start: StartFile,
    segments: VecDeque<Segment>,
    /// Names to remove once nothing is in doubt.
    obsolete: Vec<PathBuf>,
    log_start_seen: Offset,
    damage: Option<Latch>,
    /// Whether there is a log-start file that can be read, and whether its copies agree.
    start_agrees: Option<bool>,
    last_file_len: u64,
    /// Where the last write with a sound frame begins, in the segment scanned last.
    sound_write: (Offset, Position),
    report: RecoveryReport,
}

/// Opens the log in `dir`, which is made if it is missing.
pub(crate) async fn recover<D: Disk>(
    storage: &Rc<Shared<D>>,
    dir: &Path,
    seed: u32,
    now: Timestamp,
) -> Result<(Recovered<D>, RecoveryReport), DiskError> {
    storage.disk.create_dir_all(dir).await?;
    let mut recovery = Recovery {
        storage,
        dir,
        seed,
        now,
        start: StartFile::default(),
        segments: VecDeque::new(),
        obsolete: Vec::new(),
        log_start_seen: Offset::ZERO,
        damage: None,
        start_agrees: None,
        last_file_len: 0,
        sound_write: (Offset::ZERO, Position::ZERO),
        report: RecoveryReport::default(),
    };
    let bases = recovery.list().await?;
    recovery.read_start_file().await?;
    let bases = recovery.leave_out(bases).await?;
    recovery.read_trailers(&bases).await?;
    let state = recovery.replay().await?;
    recovery.finish(state).await
}

impl<D: Disk> Recovery<'_, D> {
    /// The segments' base offsets, rising.
    async fn list(&mut self) -> Result<Vec<Offset>, DiskError> {
        let mut bases = Vec::new();
        for entry in self.storage.disk.list(self.dir).await? {
            let path = self.dir.join(&entry.name);
            match segment_base(&entry.name) {
                Some(base) if !entry.is_dir => bases.push(base),
                _ if entry.name == START_FILE => {}
                _ if entry.name == NEW_START_FILE || entry.name.ends_with(SPARE_SUFFIX) => {
                    self.obsolete.push(path);
                }
                _ => self.note(format!("{} is none of the log's files", path.display())),
            }
        }
        bases.sort_unstable();
        Ok(bases)
    }

    async fn read_start_file(&mut self) -> Result<(), DiskError> {
        let path = self.dir.join(START_FILE);
        let file = match self.storage.disk.open(&path, OpenMode::Read).await {
            Err(error) if error.is_not_found() => return Ok(()),
            file => file?,
        };
        let len = file.len().await?.min(MAX_START_FILE_LEN) as usize;
        let page = file.read_at(0, len.next_multiple_of(BLOCK_LEN)).await?;
        match StartFile::decode(page.as_ref(), self.seed) {
            Ok(start) => {
                self.start_agrees = Some(page.as_ref() == start.encode(self.seed));
                self.start = start;
            }
            Err(error) => self.note(format!(
                "{} is damaged ({error}): deleted records may be back",
                path.display()
            )),
        }
        Ok(())
    }

    /// Leaves out segments that hold nothing any more: those that a truncation, begun before
    /// the crash, takes away, the newest first, and those below the log start.
    async fn leave_out(&mut self, mut bases: Vec<Offset>) -> Result<Vec<Offset>, DiskError> {
        if let Some(to) = self.start.truncate_to {
            while let Some(base) = bases.pop_if(|base| *base >= to) {
                self.storage
                    .disk
                    .remove_file(&self.dir.join(segment_name(base)))
                    .await?;
                self.storage.disk.sync_dir(self.dir).await?;
            }
        }
        let live = self.first_kept(&bases).await?;
        let below = bases
            .drain(..live)
            .map(|base| self.dir.join(segment_name(base)));
        self.obsolete.extend(below);
        Ok(bases)
    }

    /// The place of the first segment that stays: the one that holds the log start. The one
    /// before it stays as well while nothing else tells the state at its end, as when the
    /// start had moved and the segment was not removed yet; it goes as any that expires.
    async fn first_kept(&self, bases: &[Offset]) -> Result<usize, DiskError> {
        let log_start = self.start.log_start;
        let below = bases.partition_point(|base| *base <= log_start);
        let Some(live) = below.checked_sub(1) else {
            return Ok(0);
        };
        let noted = self.start.deleted.as_ref().map(|deleted| deleted.end);
        if live == 0 || noted == Some(bases[live]) {
            return Ok(live);
        }
        let trailer = self.read_trailer(bases[live - 1]).await?;
        let leads_up = trailer.is_some_and(|trailer| trailer.next == bases[live]);
        Ok(live - usize::from(leads_up))
    }

    /// Builds the list of segments from their trailers. One without a valid trailer is listed
    /// as open. Ends at the first gap, which is damage.
    async fn read_trailers(&mut self, bases: &[Offset]) -> Result<(), DiskError> {
        for (n, &base) in bases.iter().enumerate() {
            let next_base = bases.get(n + 1).copied();
            let mut segment = Segment::new(base, self.now);
            segment.has_file = true;
            if let Some(trailer) = self.read_trailer(base).await?.filter(|t| self.is_kept(t)) {
                apply_trailer(&mut segment, &trailer);
            }
            let gap = segment.is_sealed() && next_base.is_some_and(|next| next != segment.end);
            let (end, data_end) = (segment.end, segment.data_end);
            self.segments.push_back(segment);
            if gap {
                self.refuse(n, end, data_end, "the next segment begins elsewhere");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether a sealed segment stays as it is under a truncation that was begun.
    fn is_kept(&self, trailer: &Trailer) -> bool {
        self.start.truncate_to.is_none_or(|to| trailer.next <= to)
    }

    async fn read_trailer(&self, base: Offset) -> Result<Option<Trailer>, DiskError> {
        let file = self.open(base, OpenMode::Read).await?;
        let len = file.len().await?;
        let Some(at) = len
            .checked_sub(BLOCK_LEN as u64)
            .filter(|at| at % BLOCK_LEN as u64 == 0)
        else {
            return Ok(None);
        };
        let page = file.read_at(at, BLOCK_LEN).await?;
        Ok(Trailer::decode(page.as_ref(), self.seed, base, len).ok())
    }

    /// The state at the end of the log. Scans what has to be scanned for it.
    async fn replay(&mut self) -> Result<ReplayState, DiskError> {
        let mut footers = self.needed_footers().await?;
        let mut state = Some(self.state_at_first()?);
        let mut n = 0;
        while n < self.segments.len() {
            if let Some(known) = footers.remove(&n) {
                state = Some(known);
            } else if self.segments[n].is_sealed() {
                state = None;
            } else {
                let known = state.take().expect("needed_footers has seen to it");
                state = Some(self.scan_segment(n, known).await?);
            }
            n += 1;
        }
        Ok(state.expect("needed_footers has seen to it"))
    }

    /// States at the ends of those sealed segments after which a scan, or the log's end,
    /// follows. One whose footer does not hold is scanned itself.
    async fn needed_footers(&mut self) -> Result<BTreeMap<usize, ReplayState>, DiskError> {
        let (mut footers, mut needed) = (BTreeMap::new(), true);
        for n in (0..self.segments.len()).rev() {
            if !self.segments[n].is_sealed() {
                needed = true;
            } else if needed {
                let segment = self.segments[n].clone();
                match self.read_state(&segment).await? {
                    Some(state) => {
                        footers.insert(n, state);
                        needed = false;
                    }
                    None => {
                        self.segments[n] = Segment::new(segment.base, segment.created);
                        self.segments[n].has_file = true;
                    }
                }
            }
        }
        Ok(footers)
    }

    async fn read_state(&self, segment: &Segment) -> Result<Option<ReplayState>, DiskError> {
        let Stage::Sealed {
            footer_at,
            footer_len,
            ..
        } = segment.stage
        else {
            return Ok(None);
        };
        let (base, end) = (segment.base, segment.end);
        let file = self.open(base, OpenMode::Read).await?;
        let page = file.read_at(footer_at.0, footer_len as usize).await?;
        let footer = Footer::decode(page.as_ref(), self.seed, base, end).ok();
        Ok(footer.and_then(|footer| {
            let producers = footer.producers().ok()?;
            Some((footer.epochs, producers))
        }))
    }

    /// The state before the first segment, as the log-start file keeps it.
    fn state_at_first(&mut self) -> Result<ReplayState, DiskError> {
        let first = self.segments.front().map(|segment| segment.base);
        let Some(deleted) = &self.start.deleted else {
            return Ok(ReplayState::default());
        };
        if first.is_some_and(|base| base != deleted.end) {
            return Ok(ReplayState::default());
        }
        let producers = producers::decode(&deleted.producers).unwrap_or_default();
        Ok((deleted.epochs.clone(), producers))
    }

    /// Scans the segment at place `n`, and acts on what is found.
    async fn scan_segment(
        &mut self,
        n: usize,
        (mut epochs, mut producers): ReplayState,
    ) -> Result<ReplayState, DiskError> {
        let base = self.segments[n].base;
        let is_last = n + 1 == self.segments.len();
        let limit = self.start.truncate_to.filter(|_| is_last);
        let file = self.open(base, OpenMode::Read).await?;
        let mut segment = Segment::new(base, self.now);
        segment.has_file = true;
        let mut log_start = Offset::ZERO;
        let (mut write, mut sound_write) = ((base, Position::ZERO), (base, Position::ZERO));
        let scanned = self
            .storage
            .scan(&file, self.seed, base, limit, |at, item| match item {
                Item::Write(header) => {
                    log_start = log_start.max(header.log_start);
                    write = (header.next_offset, at);
                    segment.add_write(at);
                }
                Item::Frame(frame) => {
                    if segment.end == base {
                        segment.created = frame.append_timestamp;
                    }
                    sound_write = write;
                    segment.add_frame(at, frame);
                    epochs.assign(frame.epoch, frame.base);
                    if let Some(batch) = &frame.producer {
                        producers.record(batch, frame.base, frame.next, frame.append_timestamp);
                        producers.settle(frame.next);
                    }
                }
            })
            .await?;
        self.report.scanned += scanned.scanner.position().0;
        self.log_start_seen = self.log_start_seen.max(log_start);
        self.sound_write = sound_write;
        self.last_file_len = scanned.file_len;
        let role = match self.segments.get(n + 1) {
            Some(next) => Role::Inner {
                next_base: next.base,
            },
            None => Role::Last,
        };
        self.segments[n] = segment;
        let finding = {
            let truncation = match limit {
                None => Truncation::None,
                Some(to) if scanned.limited || scanned.scanner.expected() >= to => {
                    Truncation::Reached
                }
                Some(_) => Truncation::Short,
            };
            self.finding(&file, role, &scanned, truncation).await?
        };
        drop(file);
        self.act(n, &finding, &epochs, &producers).await?;
        Ok((epochs, producers))
    }

    async fn finding(
        &self,
        file: &D::File,
        role: Role,
        scanned: &Scanned,
        truncation: Truncation,
    ) -> Result<Finding, DiskError> {
        Ok(Finding {
            role,
            expected: scanned.scanner.expected(),
            stop: scanned.stop.clone(),
            beyond: self
                .storage
                .look_beyond(file, self.seed, &scanned.scanner)
                .await?,
            truncation,
        })
    }

    async fn act(
        &mut self,
        n: usize,
        finding: &Finding,
        epochs: &LeaderEpochs,
        producers: &Producers,
    ) -> Result<(), DiskError> {
        let (end, data_end) = (self.segments[n].end, self.segments[n].data_end);
        match decide(finding) {
            Decision::Keep => Ok(()),
            Decision::Cut => self.cut(n).await,
            Decision::Reseal => self.reseal(n, epochs, producers).await,
            Decision::Refuse => {
                self.refuse(n, end, data_end, &finding.stop.to_string());
                Ok(())
            }
        }
    }

    async fn cut(&mut self, n: usize) -> Result<(), DiskError> {
        if is_planted(Planted::WrongTruncation) && self.start.truncate_to.is_none() {
            let (offset, position) = self.sound_write;
            self.segments[n].take_back(offset, position);
        }
        let (base, end) = (self.segments[n].base, self.segments[n].data_end);
        let file = self.open(base, OpenMode::Write(Durability::OnSync)).await?;
        let tail = self.storage.tail_of(&file, end).await?;
        self.storage.cut(&file, end, &tail).await?;
        self.report.cut = Some(end.0);
        self.note(format!(
            "{}: cut at {end}, what followed was never acknowledged",
            segment_name(base)
        ));
        self.last_file_len = end.block_ceil().0;
        Ok(())
    }

    /// Makes the footer of a segment again that has lost it.
    async fn reseal(
        &mut self,
        n: usize,
        epochs: &LeaderEpochs,
        producers: &Producers,
    ) -> Result<(), DiskError> {
        let mut encoded = Vec::new();
        producers::encode(producers, &mut encoded);
        let segment = &mut self.segments[n];
        let index = segment
            .index
            .take()
            .map(Rc::unwrap_or_clone)
            .unwrap_or_default();
        let closing = closing(epochs.clone(), encoded);
        let end = SegmentEnd::new(segment, index, &closing, self.now, self.seed);
        segment.stage = end.stage();
        let base = segment.base;
        let file = self.open(base, OpenMode::Write(Durability::OnSync)).await?;
        end.write(self.storage, &file).await?;
        self.report.rebuilt_footers += 1;
        self.note(format!(
            "{}: the footer was damaged and is made again",
            segment_name(base)
        ));
        Ok(())
    }

    /// Acknowledged data is damaged: the log ends before it, and is not written to.
    fn refuse(&mut self, n: usize, offset: Offset, position: Position, reason: &str) {
        let file = segment_name(self.segments[n].base);
        self.note(format!(
            "{file}: damaged at {position}, offset {offset}: {reason}"
        ));
        self.report.damaged_at = Some(offset);
        self.damage = Some(Latch::Damaged {
            offset,
            file: file.into(),
            position,
        });
        self.segments.truncate(n + 1);
    }

    async fn finish(
        mut self,
        (epochs, producers): ReplayState,
    ) -> Result<(Recovered<D>, RecoveryReport), DiskError> {
        let first = self
            .segments
            .front()
            .map_or(Offset::ZERO, |segment| segment.base);
        let mut log_start = self.start.log_start.max(first).max(self.log_start_seen);
        if self.damage.is_none() {
            self.drop_all_below(log_start);
            self.tidy_up().await?;
        }
        let end = self.end().await?;
        log_start = log_start.min(end.0.offset);
        let limit = self.storage.limits.append_buffer_bytes;
        let disk = self.storage.disk.clone();
        let recovered = Recovered {
            appender: Appender::new(disk, self.seed, limit, end.0, end.1),
            segments: self.segments,
            epochs,
            producers,
            log_start,
            deleted: self.start.deleted,
            latch: self.damage,
            space: Space::of_file(self.last_file_len),
        };
        self.report
            .notes
            .iter()
            .for_each(|note| tracing::warn!(dir = %self.dir.display(), "{note}"));
        Ok((recovered, self.report))
    }

    /// A log whose last records were lost below its start goes on at the start.
    fn drop_all_below(&mut self, log_start: Offset) {
        let end = self.segments.back().map_or(log_start, |last| last.end);
        if end < log_start {
            let paths = self
                .segments
                .iter()
                .map(|s| self.dir.join(segment_name(s.base)));
            self.obsolete.extend(paths);
            self.segments.clear();
        }
    }

    /// Makes durable what a killed process may have left in flight, and removes leftovers.
    async fn tidy_up(&mut self) -> Result<(), DiskError> {
        if let Some(last) = self.segments.back() {
            self.open(last.base, OpenMode::Write(Durability::OnSync))
                .await?
                .sync()
                .await?;
        }
        for path in std::mem::take(&mut self.obsolete) {
            self.storage.disk.remove_file(&path).await?;
        }
        self.storage.disk.sync_dir(self.dir).await?;
        self.settle_start_file().await
    }

    /// Takes a truncation back that is done, and sees to it that no copy of the log-start file
    /// brings one back, by rot or because the process that wrote the other copy was killed
    /// before that was durable.
    async fn settle_start_file(&mut self) -> Result<(), DiskError> {
        let is_done = self.start.truncate_to.take().is_some();
        match self.start_agrees {
            None => Ok(()),
            Some(true) if !is_done => {
                let mode = OpenMode::Write(Durability::OnSync);
                let path = self.dir.join(START_FILE);
                self.storage.disk.open(&path, mode).await?.sync().await
            }
            Some(_) => {
                self.storage
                    .overwrite_start_file(self.dir, self.seed, &self.start)
                    .await
            }
        }
    }

    /// Where the log goes on, and the content of that block before it.
    async fn end(&self) -> Result<(Place, Vec<u8>), DiskError> {
        let deleted = self.start.deleted.as_ref().map_or(Offset::ZERO, |d| d.end);
        let Some(last) = self.segments.back() else {
            let offset = self.start.log_start.max(deleted).max(self.log_start_seen);
            return Ok((
                Place {
                    segment: offset,
                    position: Position::ZERO,
                    offset,
                },
                Vec::new(),
            ));
        };
        if last.is_sealed() {
            let offset = last.end;
            return Ok((
                Place {
                    segment: offset,
                    position: Position::ZERO,
                    offset,
                },
                Vec::new(),
            ));
        }
        let file = self.open(last.base, OpenMode::Read).await?;
        let tail = self.storage.tail_of(&file, last.data_end).await?;
        let place = Place {
            segment: last.base,
            position: last.data_end,
            offset: last.end,
        };
        Ok((place, tail))
    }

    async fn open(&self, base: Offset, mode: OpenMode) -> Result<D::File, DiskError> {
        self.storage
            .disk
            .open(&self.dir.join(segment_name(base)), mode)
            .await
    }

    fn note(&mut self, note: String) {
        self.report.notes.push(note);
    }
}

fn apply_trailer(segment: &mut Segment, trailer: &Trailer) {
    segment.end = trailer.next;
    segment.data_end = trailer.data_end;
    segment.max_timestamp = trailer.max_timestamp;
    segment.index = None;
    segment.created = trailer.sealed_at;
    segment.stage = Stage::Sealed {
        footer_at: trailer.footer_at,
        footer_len: trailer.footer_len,
        sealed_at: trailer.sealed_at,
    };
}
