//! Where a node of the quorum keeps what it must not forget.
//!
//! [`LogJournal`] keeps the hard state and the entries as records of a [`Log`] of its own, in the
//! order in which they were written, and beside it the last snapshot. Nothing is ever cut from the
//! end of the log: an entry whose place is taken already stands for itself and for the loss of
//! everything from there on. So each write is one append, and recovery reads the records in order.
//! What holds at every crash point:
//!
//! - a record is there as a whole or not at all, and with it all before it: a write leaves its
//!   first parts;
//! - a snapshot is written to a new file, synced, renamed over the old one, and the directory
//!   synced, so it is always a whole one. It names the first record that counts behind it, and
//!   holds the hard state as of then, so that nothing before that record is needed;
//! - the log's start is raised after that.

mod record;
pub(super) mod records;
pub(super) mod sealed;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::BytesMut;
use millrace_model::{
    BatchBuilder, BatchSpec, LeaderEpoch, LogId, Offset, PartitionId, Timestamp, TopicId,
    TopicSettings,
};
use millrace_replication::quorum::{
    HardState, Index, LogTail, Recovered, SnapshotWrite, WireError, Write,
};
use millrace_storage::disk::{Disk, DiskError};
use millrace_storage::{
    AppendError, ChangeError, Latch, Log, OpenError, ReadError, Storage, StorageLimits,
};

use record::{Record, StoredSnapshot};
use sealed::SealedFile;

/// Its directory in `metadata/` of the data directory.
pub const QUORUM_DIR: &str = "quorum";

/// The log has the id that no topic has.
pub(super) const LOG: LogId = LogId {
    topic: TopicId([0; 16]),
    partition: PartitionId(0),
};

/// Entries are few and small: 4 MiB hold some ten thousand.
const SEGMENT_BYTES: u64 = 4 << 20;

/// Records of one frame. With the longest command behind them they stay below what a frame holds.
const FRAME_BYTES: usize = 1 << 20;

/// What the log accepts in one frame: [`FRAME_BYTES`], one command more, and what is around them.
const MAX_FRAME_BYTES: u32 = 4 << 20;

const _: () = assert!(
    FRAME_BYTES + millrace_replication::quorum::MAX_COMMAND_LEN + 4096 < MAX_FRAME_BYTES as usize
);

/// What a journal held when it was opened.
pub type RecoveredJournal = Recovered;

/// What a node must not forget, durable.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub trait QuorumJournal: 'static {
    /// Carries out the writes in their order. All of it is durable when it returns. A crash in
    /// the middle leaves the first parts: of each write the hard state, then the snapshot, then
    /// the entries.
    ///
    /// # Errors
    /// [`JournalError::Full`]: the same writes may be tried again. After any other nothing is
    /// known of them.
    async fn persist(&mut self, writes: &[Write]) -> Result<(), JournalError>;
}

/// The journal failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No space is left. It can be tried again when there is.
    #[error("no space is left in the metadata directory")]
    Full,
    /// Its content does not hold.
    #[error("the metadata directory is damaged: {0}; restore it from a copy")]
    Damaged(String),
    /// A record that is none, or of a later version.
    #[error("the metadata directory is damaged: {0}; restore it from a copy")]
    Record(#[from] WireError),
    /// The disk refuses.
    #[error(transparent)]
    Disk(DiskError),
    /// The log cannot be opened.
    #[error("the metadata log: {0}")]
    Open(#[from] OpenError),
    /// The log cannot be read.
    #[error("the metadata log: {0}")]
    Read(#[from] ReadError),
    /// The log refuses a record.
    #[error("the metadata log: {0}")]
    Append(AppendError),
    /// The log refuses to forget old records.
    #[error("the metadata log: {0}")]
    Change(#[from] ChangeError),
    /// The log is read-only.
    #[error("the metadata log: {0}")]
    Latched(Latch),
}

impl From<DiskError> for JournalError {
    fn from(error: DiskError) -> Self {
        match error.is_full() {
            true => Self::Full,
            false => Self::Disk(error),
        }
    }
}

/// A journal in a directory of its own.
pub struct LogJournal<D: Disk> {
    log: Log<D>,
    snapshot: SealedFile<D>,
    builder: BatchBuilder,
    /// What is in the builder.
    gathered: Vec<Record>,
    gathered_bytes: usize,
    /// As of the last durable record.
    hard: HardState,
    /// The record of each entry behind the snapshot, in their order.
    places: VecDeque<(Index, Offset)>,
    now: fn() -> Timestamp,
}

impl<D: Disk> LogJournal<D> {
    /// Opens or makes the journal in `directory`, and reads what it holds. `epoch` is that
    /// of this life on the data directory, above that of every earlier one.
    ///
    /// # Errors
    /// The disk's, or the content is damaged.
    pub async fn open(
        disk: D,
        directory: PathBuf,
        epoch: LeaderEpoch,
        now: fn() -> Timestamp,
    ) -> Result<(Self, RecoveredJournal), JournalError> {
        disk.create_dir_all(&directory).await?;
        let snapshot = SealedFile::new(disk.clone(), directory.clone(), *b"MRQS");
        let stored = snapshot.load().await?;
        let storage = Storage::new(disk, directory, StorageLimits::default());
        let log = open_log(&storage, epoch, now()).await?;
        let mut journal = Self {
            log,
            snapshot,
            builder: BatchBuilder::new(),
            gathered: Vec::new(),
            gathered_bytes: 0,
            hard: HardState::default(),
            places: VecDeque::new(),
            now,
        };
        let mut recovered = Recovered::default();
        let mut next = Offset::ZERO;
        if let Some(sealed) = stored {
            let snapshot = StoredSnapshot::from_bytes(&sealed.bytes)?;
            next = sealed.next;
            (recovered.hard_state, recovered.snapshot) = (snapshot.hard_state, snapshot.snapshot);
        }
        journal.replay(next, &mut recovered).await?;
        journal.hard = recovered.hard_state;
        Ok((journal, recovered))
    }

    /// The records from `next` on.
    async fn replay(&mut self, next: Offset, into: &mut Recovered) -> Result<(), JournalError> {
        for (offset, value) in records::read(&self.log, next).await? {
            match Record::from_bytes(&value.into())? {
                Record::HardState(hard) => into.hard_state = hard,
                Record::Entry(entry) => {
                    let known = |known: &_| known_below(known, entry.index);
                    into.entries.truncate(into.entries.partition_point(known));
                    self.place(entry.index, offset);
                    into.entries.push(entry);
                }
            }
        }
        Ok(())
    }

    /// Where the entry stands, in place of those from there on.
    fn place(&mut self, index: Index, offset: Offset) {
        let kept = self.places.partition_point(|(at, _)| *at < index);
        self.places.truncate(kept);
        self.places.push_back((index, offset));
    }

    async fn add(&mut self, record: Record) -> Result<(), JournalError> {
        let value = record.to_bytes();
        if self.gathered_bytes > 0 && self.gathered_bytes + value.len() > FRAME_BYTES {
            self.flush().await?;
        }
        self.builder
            .append(None, Some(&value), [], (self.now)())
            .expect("a command is bounded, far below what a frame holds");
        self.gathered_bytes += value.len();
        self.gathered.push(record);
        Ok(())
    }

    /// Writes what was gathered, and waits until it is durable.
    async fn flush(&mut self) -> Result<(), JournalError> {
        let gathered = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        if gathered.is_empty() {
            return Ok(());
        }
        let mut frame = BytesMut::new();
        self.builder
            .build_frame(LOG, &BatchSpec::default(), &mut frame)
            .expect("what is gathered is bounded, below what a frame holds");
        let appended = match self.log.append((self.now)(), &[frame.freeze()]) {
            Ok(appended) => appended,
            Err(AppendError::Latched(Latch::Full)) => return Err(JournalError::Full),
            Err(error) => return Err(JournalError::Append(error)),
        };
        self.write_until(appended.next_offset).await?;
        let mut offset = appended.base_offset;
        for record in gathered {
            match record {
                Record::HardState(hard) => self.hard = hard,
                Record::Entry(entry) => self.place(entry.index, offset),
            }
            offset = offset.plus(1);
        }
        Ok(())
    }

    /// Writes until everything below `end` is durable.
    async fn write_until(&self, end: Offset) -> Result<(), JournalError> {
        while self.log.durable_end() < end {
            match self.log.latched() {
                Some(Latch::Full) => return Err(JournalError::Full),
                Some(latch) => return Err(JournalError::Latched(latch)),
                None if self.log.wants_writer() => self.log.write_pending().await,
                None => self.log.changed().await,
            }
        }
        Ok(())
    }

    async fn save(&mut self, write: &SnapshotWrite) -> Result<(), JournalError> {
        let index = write.snapshot.meta.index;
        let end = self.log.durable_end();
        let behind = self.places.partition_point(|(at, _)| *at <= index);
        let next = match write.tail {
            LogTail::Keep => self.places.get(behind).map_or(end, |(_, offset)| *offset),
            LogTail::Discard => end,
        };
        let stored = StoredSnapshot {
            hard_state: self.hard,
            snapshot: write.snapshot.clone(),
        };
        self.snapshot.save(next, &stored.to_bytes()).await?;
        match write.tail {
            LogTail::Keep => drop(self.places.drain(..behind)),
            LogTail::Discard => self.places.clear(),
        }
        match self.log.set_log_start(next).await {
            Err(ChangeError::Disk(error)) if error.is_full() => Err(JournalError::Full),
            result => Ok(result.map(drop)?),
        }
    }
}

impl<D: Disk> QuorumJournal for LogJournal<D> {
    async fn persist(&mut self, writes: &[Write]) -> Result<(), JournalError> {
        for write in writes {
            if let Some(hard) = write.hard_state {
                self.add(Record::HardState(hard)).await?;
            }
            if let Some(snapshot) = &write.snapshot {
                self.flush().await?;
                self.save(snapshot).await?;
            }
            for entry in &write.entries {
                self.add(Record::Entry(entry.clone())).await?;
            }
        }
        self.flush().await
    }
}

fn known_below(known: &millrace_replication::quorum::Entry, index: Index) -> bool {
    known.index < index
}

/// Opens a log of metadata that must be sound.
pub(super) async fn open_log<D: Disk>(
    storage: &Storage<D>,
    epoch: LeaderEpoch,
    now: Timestamp,
) -> Result<Log<D>, JournalError> {
    let settings = Rc::new(log_settings());
    let (log, report) = storage.open_log(LOG, settings, epoch, now).await?;
    match report.damaged_at {
        Some(offset) => Err(JournalError::Damaged(format!("record {offset} of the log"))),
        None => Ok(log),
    }
}

/// A log that forgets nothing by itself, and takes a record whatever the clocks say.
fn log_settings() -> TopicSettings {
    TopicSettings {
        retention_ms: None,
        retention_bytes: None,
        segment_bytes: SEGMENT_BYTES,
        max_message_bytes: MAX_FRAME_BYTES,
        ..TopicSettings::default()
    }
}

#[cfg(test)]
pub(super) mod tests;
