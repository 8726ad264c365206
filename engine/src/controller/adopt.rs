//! What a broker that was alone before there were clusters has on disk: its own log of commands and
//! its snapshot, in `metadata/` of the data directory.
//!
//! It is read once, becomes the first state of a quorum of one, and is removed when that is durable.
//! A crash between the two is harmless: a quorum that has a state takes no other.

use std::path::{Path, PathBuf};

use millrace_model::{LeaderEpoch, Offset, Timestamp};
use millrace_replication::{Command, Metadata};
use millrace_storage::disk::{Disk, DiskError};
use millrace_storage::{Storage, StorageLimits};

use super::journal::records;
use super::journal::sealed::SealedFile;
use super::journal::{JournalError, open_log};

/// The log's directory in it.
const LOGS: &str = "logs";

/// Its files beside the log.
const FILES: [&str; 2] = ["snapshot", "snapshot.new"];

/// The metadata of a broker that was alone; `None` where there is none. `directory` is `metadata/`
/// of the data directory, `epoch` that of this life on it.
///
/// # Errors
/// The disk's, or the content is damaged.
pub(super) async fn read_former<D: Disk>(
    disk: D,
    directory: &Path,
    epoch: LeaderEpoch,
    now: Timestamp,
) -> Result<Option<Metadata>, JournalError> {
    match disk.list(&directory.join(LOGS)).await {
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    let file = SealedFile::new(disk.clone(), directory.to_owned(), *b"MRSN");
    let storage = Storage::new(disk, directory.to_owned(), StorageLimits::default());
    let log = open_log(&storage, epoch, now).await?;
    let (next, mut state) = match file.load().await? {
        None => (Offset::ZERO, Metadata::default()),
        Some(sealed) => {
            let state = Metadata::from_snapshot(&sealed.bytes);
            (sealed.next, state.map_err(|error| damaged(&error))?)
        }
    };
    for (offset, value) in records::read(&log, next).await? {
        let command = Command::from_bytes(&value)
            .map_err(|error| damaged(&format!("command {offset}: {error}")))?;
        state
            .apply(&command)
            .map_err(|error| damaged(&format!("command {offset}: {error}")))?;
    }
    Ok(Some(state))
}

/// Removes what [`read_former`] reads, durably.
///
/// # Errors
/// The disk's. It can be tried again; until it succeeds, the broker must not serve.
pub(super) async fn forget_former<D: Disk>(disk: &D, directory: &Path) -> Result<(), DiskError> {
    let is_there = match disk.list(directory).await {
        Err(error) if error.is_not_found() => return Ok(()),
        entries => entries?
            .iter()
            .any(|entry| entry.name == LOGS || FILES.contains(&entry.name.as_str())),
    };
    if !is_there {
        return Ok(());
    }
    // The log goes first: without it there is nothing to read.
    disk.remove_dir_all(&directory.join(LOGS)).await?;
    disk.sync_dir(directory).await?;
    for name in FILES {
        let path: PathBuf = directory.join(name);
        match disk.remove_file(&path).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    disk.sync_dir(directory).await
}

fn damaged(error: &dyn std::fmt::Display) -> JournalError {
    JournalError::Damaged(error.to_string())
}
