//! Which logs a directory holds, and that no broker uses them meanwhile.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use millrace_model::LogId;
use millrace_storage::read_only::id_of_directory;

use super::super::exit::{Exit, Failure};

/// Where logs are in a data directory: those of the topics, and the registry's own.
const LOG_FOLDERS: [&str; 2] = ["logs", "metadata/logs"];

/// Locked by the broker that runs on a data directory.
const LOCK: &str = "lock";

/// Of a log's directory, itself included, the ancestors among which its data directory is.
const DEPTH: usize = 4;

/// Logs of a stopped broker. While this lives no broker starts on them.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) logs: Vec<LogDirectory>,
    _lock: Option<File>,
}

/// A log and where its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogDirectory {
    pub(super) id: LogId,
    pub(super) path: PathBuf,
}

impl Logs {
    /// The logs of a data directory, by name, or the one whose directory this is.
    pub(super) fn find(dir: &Path) -> Result<Self, Failure> {
        let missing = |error| {
            Failure::not_found(format!(
                "directory {} cannot be read: {error}",
                dir.display()
            ))
        };
        let dir = dir.canonicalize().map_err(missing)?;
        let lock = lock(&dir)?;
        let logs = match id_of_directory(&dir) {
            Some(id) => vec![LogDirectory { id, path: dir }],
            None => logs_of_data_directory(&dir)?,
        };
        Ok(Self { logs, _lock: lock })
    }
}

fn logs_of_data_directory(dir: &Path) -> Result<Vec<LogDirectory>, Failure> {
    let folders: Vec<PathBuf> = LOG_FOLDERS
        .iter()
        .map(|folder| dir.join(folder))
        .filter(|path| path.is_dir())
        .collect();
    if folders.is_empty() {
        return Err(Failure::not_found(format!(
            "{} is neither a data directory, for it has no directory 'logs', nor the directory \
             of a partition, which is named <topic id>-<partition>",
            dir.display()
        )));
    }
    let mut logs = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(&folder).map_err(|error| {
            Failure::new(
                Exit::Other,
                format!("{} cannot be read: {error}", folder.display()),
            )
        })?;
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        logs.extend(paths.filter_map(|path| {
            Some(LogDirectory {
                id: id_of_directory(&path)?,
                path,
            })
        }));
    }
    logs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(logs)
}

/// Locks the data directory that this one is or lies in, when there is one.
fn lock(dir: &Path) -> Result<Option<File>, Failure> {
    let Some(path) = dir
        .ancestors()
        .take(DEPTH)
        .map(|at| at.join(LOCK))
        .find(|at| at.is_file())
    else {
        // A copy of single files has no lock, and needs none.
        return Ok(None);
    };
    let unusable = |error: std::io::Error| {
        Failure::new(
            Exit::Other,
            format!("{} cannot be locked: {error}", path.display()),
        )
    };
    let lock = File::open(&path).map_err(unusable)?;
    match lock.try_lock_shared() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Other,
            format!(
                "a broker runs on {}; stop it first, or look at a copy of its files",
                path.parent().unwrap_or(dir).display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "000102030405060708090a0b0c0d0e0f-3";

    #[test]
    fn logs_are_found_from_the_data_directory_and_from_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs").join(LOG);
        fs::create_dir_all(&log).unwrap();
        fs::create_dir_all(dir.path().join("metadata/logs").join(LOG)).unwrap();
        fs::create_dir_all(dir.path().join("logs/other")).unwrap();
        assert_eq!(Logs::find(dir.path()).unwrap().logs.len(), 2);
        let only = Logs::find(&log).unwrap().logs;
        assert_eq!(only.len(), 1);
        assert_eq!(only[0].id.to_string(), LOG);
    }

    #[test]
    fn what_holds_no_logs_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("missing")] {
            assert_eq!(Logs::find(&path).unwrap_err().exit, Exit::NotFound);
        }
    }

    #[test]
    fn a_broker_that_runs_is_not_disturbed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs").join(LOG);
        fs::create_dir_all(&log).unwrap();
        let broker = File::create(dir.path().join(LOCK)).unwrap();
        broker.lock().unwrap();
        for path in [dir.path(), &log] {
            assert!(
                Logs::find(path)
                    .unwrap_err()
                    .message
                    .contains("stop it first")
            );
        }
        drop(broker);
        let found = Logs::find(dir.path()).unwrap();
        let starting = File::open(dir.path().join(LOCK)).unwrap();
        assert!(starting.try_lock().is_err(), "no broker starts meanwhile");
        drop(found);
        assert!(starting.try_lock().is_ok());
    }
}
