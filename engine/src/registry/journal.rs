//! Where the registry's commands are durable.
//!
//! [`LogJournal`] keeps them as records of a [`Log`] of its own, and beside it the last
//! snapshot. What holds at every crash point:
//!
//! - a command is a record; the log tells after a crash whether all of it is there;
//! - a snapshot is written to `snapshot.new`, synced, renamed over `snapshot`, and the
//!   directory synced, so `snapshot` is always a whole one;
//! - the log's start is raised after that. Commands that the snapshot covers and the log
//!   still has are passed over by their offsets.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::BytesMut;
use millrace_model::{
    BatchBuilder, BatchSpec, Decompressor, Frame, LeaderEpoch, LogId, Offset, PartitionId,
    Timestamp, TopicId, TopicSettings,
};
use millrace_storage::disk::{Disk, DiskError};
use millrace_storage::{
    AppendError, ChangeError, Latch, Log, OpenError, ReadError, Storage, StorageLimits,
};

use super::snapshot_file::{SnapshotFile, StoredSnapshot};

/// The log of commands has the id that no topic has.
const LOG: LogId = LogId {
    topic: TopicId([0; 16]),
    partition: PartitionId(0),
};

/// Commands are few and small: 4 MiB hold some ten thousand.
const SEGMENT_BYTES: u64 = 4 << 20;

/// Bytes of commands read at a time when the log is replayed.
const READ_BYTES: usize = 1 << 20;

/// The longest command when it is replayed; they are stored without compression.
const MAX_COMMAND_BYTES: usize = 4 << 20;

/// A sequence of commands and the snapshot before it, durable.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub trait Journal {
    /// Adds a command at the end. Durable when it returns.
    ///
    /// # Errors
    /// [`JournalError::Full`]: it was not added, and may be tried again. After any other
    /// nothing is known of it.
    async fn append(&mut self, command: Vec<u8>) -> Result<(), JournalError>;

    /// Replaces all commands up to now by a snapshot: either all of it happened or nothing.
    ///
    /// # Errors
    /// The disk's. The commands are still there.
    async fn save_snapshot(&mut self, snapshot: Vec<u8>) -> Result<(), JournalError>;
}

/// What a journal held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last snapshot, if one was ever written.
    pub snapshot: Option<Vec<u8>>,
    /// The commands after it.
    pub commands: Vec<Vec<u8>>,
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
    /// The disk refuses.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log cannot be opened.
    #[error("the metadata log: {0}")]
    Open(#[from] OpenError),
    /// The log cannot be read.
    #[error("the metadata log: {0}")]
    Read(#[from] ReadError),
    /// The log refuses a command.
    #[error("the metadata log: {0}")]
    Append(#[from] AppendError),
    /// The log refuses to forget old commands.
    #[error("the metadata log: {0}")]
    Change(#[from] ChangeError),
    /// The log is read-only.
    #[error("the metadata log: {0}")]
    Latched(Latch),
}

/// Commands in a log of their own, under `metadata/` of the data directory.
pub struct LogJournal<D: Disk> {
    log: Log<D>,
    snapshot: SnapshotFile<D>,
    builder: BatchBuilder,
    now: fn() -> Timestamp,
}

impl<D: Disk> LogJournal<D> {
    /// Opens or makes the journal in `directory`, and reads what it holds. `epoch` is that
    /// of this life of the broker.
    ///
    /// # Errors
    /// The disk's, or the content is damaged.
    pub async fn open(
        disk: D,
        directory: PathBuf,
        epoch: LeaderEpoch,
        now: fn() -> Timestamp,
    ) -> Result<(Self, Recovered), JournalError> {
        disk.create_dir_all(&directory).await?;
        let snapshot = SnapshotFile::new(disk.clone(), directory.clone());
        let stored = snapshot.load().await?;
        let settings = Rc::new(log_settings());
        let storage = Storage::new(disk, directory, StorageLimits::default());
        let (log, report) = storage.open_log(LOG, settings, epoch, now()).await?;
        if let Some(offset) = report.damaged_at {
            return Err(JournalError::Damaged(format!(
                "command {offset} of the log"
            )));
        }
        let (next, snapshot_bytes) = match stored {
            Some(StoredSnapshot { next, bytes }) => (next, Some(bytes)),
            None => (Offset::ZERO, None),
        };
        let commands = read_commands(&log, next).await?;
        let recovered = Recovered {
            snapshot: snapshot_bytes,
            commands,
        };
        Ok((
            Self {
                log,
                snapshot,
                builder: BatchBuilder::new(),
                now,
            },
            recovered,
        ))
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
}

impl<D: Disk> Journal for LogJournal<D> {
    async fn append(&mut self, command: Vec<u8>) -> Result<(), JournalError> {
        let now = (self.now)();
        let mut frame = BytesMut::new();
        self.builder
            .append(None, Some(&command), [], now)
            .and_then(|()| {
                self.builder
                    .build_frame(LOG, &BatchSpec::default(), &mut frame)
            })
            .expect("a command is bounded by the limits of the metadata, far below a frame's");
        match self.log.append(now, &[frame.freeze()]) {
            Ok(appended) => self.write_until(appended.next_offset).await,
            Err(AppendError::Latched(Latch::Full)) => Err(JournalError::Full),
            Err(error) => Err(error.into()),
        }
    }

    async fn save_snapshot(&mut self, snapshot: Vec<u8>) -> Result<(), JournalError> {
        let next = self.log.durable_end();
        self.snapshot
            .save(&StoredSnapshot {
                next,
                bytes: snapshot,
            })
            .await?;
        self.log.set_log_start(next).await?;
        Ok(())
    }
}

/// A log that forgets nothing by itself, and takes a command whatever the clocks say.
fn log_settings() -> TopicSettings {
    TopicSettings {
        retention_ms: None,
        retention_bytes: None,
        segment_bytes: SEGMENT_BYTES,
        ..TopicSettings::default()
    }
}

/// The commands from `next` on.
async fn read_commands<D: Disk>(log: &Log<D>, next: Offset) -> Result<Vec<Vec<u8>>, JournalError> {
    let end = log.durable_end();
    if log.log_start() > next || next > end {
        let message = format!(
            "the snapshot ends at {next}, but the log holds {} to {end}",
            log.log_start()
        );
        return Err(JournalError::Damaged(message));
    }
    let mut commands = Vec::new();
    let mut at = next;
    while at < end {
        let runs = log.read(at, READ_BYTES, end).await?;
        let Some(last) = runs.last() else {
            return Err(JournalError::Damaged(format!(
                "nothing is readable at {at}"
            )));
        };
        let reached = last.next;
        for run in &runs {
            frames(run.as_bytes(), next, &mut commands)?;
        }
        at = reached;
    }
    Ok(commands)
}

/// Adds the values of the records from `next` on.
fn frames(mut bytes: &[u8], next: Offset, out: &mut Vec<Vec<u8>>) -> Result<(), JournalError> {
    let damaged = |error: &dyn std::fmt::Display| JournalError::Damaged(error.to_string());
    let mut scratch = Decompressor::new();
    while !bytes.is_empty() {
        let frame = Frame::check_stored(bytes, LOG.checksum_seed()).map_err(|e| damaged(&e))?;
        let batch = frame.batch();
        let records = batch
            .records(&mut scratch, MAX_COMMAND_BYTES)
            .map_err(|e| damaged(&e))?;
        for record in records {
            let record = record.map_err(|e| damaged(&e))?;
            let value = record
                .value
                .ok_or_else(|| damaged(&"a command without a value"))?;
            if record.offset >= next {
                out.push(value.to_vec());
            }
        }
        bytes = &bytes[frame.len()..];
    }
    Ok(())
}
