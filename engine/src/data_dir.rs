//! The data directory: who may use it, what it holds, and how the last life ended.
//!
//! | name | what |
//! | --- | --- |
//! | `lock` | locked (flock) by the broker that runs on it; holds its process id |
//! | `meta.properties` | layout version, cluster id, node id, start epoch, checksum |
//! | `clean-shutdown` | there only between a clean shutdown and the next start; the broker epoch of that life |
//! | `logs/`, `metadata/` | the partitions and the metadata of the cluster |
//!
//! At start, in this order: lock, read, count the epoch up, remove the marker, make both
//! durable. So an epoch is never used twice, and a broker that was killed never looks
//! cleanly shut down. `meta.properties` is replaced by a rename: it is always a whole one.
//!
//! **Invariant:** while a [`DataDir`] lives, no other process has one on the same directory.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use millrace_model::{BrokerEpoch, BrokerId, ClusterId, LeaderEpoch};

use crate::controller::random_cluster_id;

const LOCK: &str = "lock";
const META: &str = "meta.properties";
const NEW_META: &str = "meta.properties.new";
const CLEAN: &str = "clean-shutdown";

/// What a life's epoch follows in the marker of its clean end.
const CLEAN_EPOCH: &str = "broker.epoch=";

/// Version of the layout that this module describes.
const LAYOUT_VERSION: u32 = 1;

/// `meta.properties` is a handful of short lines; what is longer is not one.
const MAX_META_LEN: u64 = 4096;

/// Names that may be in a directory which was never used: the lock, what a first start left
/// that did not get far, and what file systems put at their root.
const NAMES_OF_AN_UNUSED_DIRECTORY: [&str; 3] = [LOCK, NEW_META, "lost+found"];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The system refuses an operation.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// The operation, a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another broker runs on it.
    #[error("data directory {path} is in use by another broker{}", process(.pid))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// That broker's process, if it can be told.
        pid: Option<u32>,
    },
    /// There are files, but not of a broker.
    #[error(
        "{path} is not a data directory: it has no {META}, but `{found}`; name an empty directory, or restore {META} from a copy"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the names found.
        found: String,
    },
    /// A later version of Millrace made it.
    #[error(
        "{path} has layout version {version}, but this broker knows up to {LAYOUT_VERSION}; run the version that made it or a later one"
    )]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// It belongs to another broker.
    #[error("{path} belongs to node.id {found}, but this broker is configured as {configured}")]
    Node {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What the configuration says.
        configured: u32,
    },
    /// It belongs to another cluster.
    #[error("{path} belongs to cluster.id {found}, but this broker is configured for {configured}")]
    Cluster {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What the configuration says.
        configured: ClusterId,
    },
    /// The file does not hold.
    #[error("{path} is damaged: {reason}; restore it from a copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Every start epoch was used.
    #[error("the data directory was started 4294967295 times, and has no epoch left")]
    EpochsSpent,
}

fn process(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// How the last life on a data directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastShutdown {
    /// There was none: the directory is new.
    None,
    /// Everything was flushed.
    Clean,
    /// The broker was killed, or the machine stopped.
    Unclean,
}

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    meta: Meta,
    last_shutdown: LastShutdown,
    clean_from: Option<BrokerEpoch>,
    /// Unlocks when it is closed.
    _lock: File,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Meta {
    cluster_id: String,
    node_id: u32,
    epoch: u32,
}

impl DataDir {
    /// Takes the directory, makes it if it is missing, and begins a new epoch, durably.
    ///
    /// # Errors
    /// It cannot be used; nothing but the lock file has changed then.
    pub fn open(path: &Path, node: BrokerId) -> Result<Self, DataDirError> {
        Self::open_in(path, node, None)
    }

    /// As [`Self::open`], for a broker of this cluster. Without one, a new directory draws its own,
    /// and one that has been used keeps what it has.
    ///
    /// # Errors
    /// As [`Self::open`], and it belongs to another cluster.
    pub fn open_in(
        path: &Path,
        node: BrokerId,
        cluster: Option<ClusterId>,
    ) -> Result<Self, DataDirError> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let lock = lock(path)?;
        let stored = read_meta(path, node)?;
        check_cluster(path, stored.as_ref(), cluster)?;
        let clean = path.join(CLEAN);
        let clean_from = read_clean(&clean)?;
        let last_shutdown = match &stored {
            None => LastShutdown::None,
            Some(_) if clean.exists() => LastShutdown::Clean,
            Some(_) => LastShutdown::Unclean,
        };
        let meta = next_life(stored, node, cluster)?;
        write_meta(path, &meta)?;
        match fs::remove_file(&clean) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &clean)(error));
            }
            _ => sync_directory(path)?,
        }
        let (shown, epoch) = (path.display(), meta.epoch);
        tracing::info!(path = %shown, epoch, ?last_shutdown, "data directory");
        Ok(Self {
            path: path.to_owned(),
            meta,
            last_shutdown,
            clean_from,
            _lock: lock,
        })
    }

    /// Whether another process holds the directory, without taking it.
    ///
    /// # Errors
    /// [`DataDirError::InUse`], or the lock file cannot be opened.
    pub fn probe(path: &Path) -> Result<(), DataDirError> {
        if path.join(LOCK).exists() {
            lock(path).map(drop)
        } else {
            Ok(())
        }
    }

    /// States, durably, that everything is flushed. The next start will know.
    ///
    /// # Errors
    /// The system's.
    pub fn mark_clean(&self) -> Result<(), DataDirError> {
        self.write_clean("")
    }

    /// As [`Self::mark_clean`], with the broker epoch of the life that ends (R11 of replication: who
    /// comes back from it has lost nothing).
    ///
    /// # Errors
    /// The system's.
    pub fn mark_clean_of(&self, life: BrokerEpoch) -> Result<(), DataDirError> {
        self.write_clean(&format!("{CLEAN_EPOCH}{life}\n"))
    }

    fn write_clean(&self, text: &str) -> Result<(), DataDirError> {
        let path = self.path.join(CLEAN);
        let mut file = File::create(&path).map_err(io_error("create", &path))?;
        file.write_all(text.as_bytes())
            .map_err(io_error("write", &path))?;
        file.sync_all().map_err(io_error("sync", &path))?;
        sync_directory(&self.path)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The broker epoch of the last life, if that ended in good order and had one.
    #[must_use]
    pub fn clean_from(&self) -> Option<BrokerEpoch> {
        self.clean_from
    }

    /// Identity of the cluster: the configured one, or the one drawn when the directory was made.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.meta.cluster_id
    }

    /// The epoch of this life: one more than that of the last.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.meta.epoch)
    }

    /// How the last life ended.
    #[must_use]
    pub fn last_shutdown(&self) -> LastShutdown {
        self.last_shutdown
    }
}

impl Meta {
    fn to_text(&self) -> String {
        let Self {
            cluster_id,
            node_id,
            epoch,
        } = self;
        let mut text = format!(
            "version={LAYOUT_VERSION}\ncluster.id={cluster_id}\nnode.id={node_id}\nstart.epoch={epoch}\n"
        );
        let checksum = crc32c::crc32c(text.as_bytes());
        writeln!(text, "checksum={checksum:08x}").expect("writing to a string does not fail");
        text
    }

    fn from_text(text: &str, path: &Path) -> Result<Self, DataDirError> {
        let damaged = |reason: String| DataDirError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let found = lines.find(|(name, _)| *name == key).map(|(_, value)| value);
            found.ok_or_else(|| damaged(format!("it has no line {key}=")))
        };
        let number = |key: &str| {
            value(key)?
                .parse::<u32>()
                .map_err(|_| damaged(format!("{key} is not a number")))
        };
        let version = number("version")?;
        if version != LAYOUT_VERSION {
            return Err(DataDirError::Version {
                path: path.to_owned(),
                version,
            });
        }
        let meta = Self {
            cluster_id: value("cluster.id")?.to_owned(),
            node_id: number("node.id")?,
            epoch: number("start.epoch")?,
        };
        if meta.to_text() != text {
            return Err(damaged("its checksum does not hold".to_owned()));
        }
        Ok(meta)
    }
}

fn next_life(
    stored: Option<Meta>,
    node: BrokerId,
    cluster: Option<ClusterId>,
) -> Result<Meta, DataDirError> {
    match stored {
        Some(meta) => {
            let epoch = meta.epoch.checked_add(1).ok_or(DataDirError::EpochsSpent)?;
            Ok(Meta { epoch, ..meta })
        }
        None => {
            let draw = || {
                random_cluster_id()
                    .map_err(io_error("draw random bits from", Path::new("getrandom")))
            };
            let cluster = cluster.map_or_else(draw, Ok)?;
            Ok(Meta {
                cluster_id: cluster.to_string(),
                node_id: node.0,
                epoch: 1,
            })
        }
    }
}

fn check_cluster(
    directory: &Path,
    stored: Option<&Meta>,
    configured: Option<ClusterId>,
) -> Result<(), DataDirError> {
    match (stored, configured) {
        (Some(stored), Some(configured)) if stored.cluster_id != configured.to_string() => {
            Err(DataDirError::Cluster {
                path: directory.join(META),
                found: stored.cluster_id.clone(),
                configured,
            })
        }
        _ => Ok(()),
    }
}

/// The broker epoch in the marker of a clean shutdown. A marker that does not say one is of a broker
/// that had none; one that was cut says none either, and the broker counts as having lost something.
fn read_clean(path: &Path) -> Result<Option<BrokerEpoch>, DataDirError> {
    let text = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_META_LEN)
                .read_to_end(&mut bytes)
                .map_err(io_error("read", path))?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let line = text.strip_prefix(CLEAN_EPOCH);
    let number = line.and_then(|line| line.strip_suffix('\n'));
    Ok(number.and_then(|number| number.parse().ok()))
}

fn lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The process id is a courtesy; without it the directory is in use all the same.
            let _ = (&file).take(32).read_to_string(&mut text);
            let pid = text.trim().parse().ok();
            return Err(DataDirError::InUse {
                path: directory.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
    }
    file.set_len(0).map_err(io_error("write", &path))?;
    writeln!(file, "{}", std::process::id()).map_err(io_error("write", &path))?;
    Ok(file)
}

fn read_meta(directory: &Path, node: BrokerId) -> Result<Option<Meta>, DataDirError> {
    let path = directory.join(META);
    let text = match File::open(&path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(MAX_META_LEN)
                .read_to_string(&mut text)
                .map_err(io_error("read", &path))?;
            text
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return check_unused(directory).map(|()| None);
        }
        Err(error) => return Err(io_error("open", &path)(error)),
    };
    let meta = Meta::from_text(&text, &path)?;
    if meta.node_id != node.0 {
        return Err(DataDirError::Node {
            path,
            found: meta.node_id,
            configured: node.0,
        });
    }
    Ok(Some(meta))
}

fn check_unused(directory: &Path) -> Result<(), DataDirError> {
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let name = entry.map_err(io_error("list", directory))?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !NAMES_OF_AN_UNUSED_DIRECTORY.contains(&name.as_ref()) {
            let found = name.into_owned();
            return Err(DataDirError::Foreign {
                path: directory.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

/// Replaces `meta.properties`. The rename is durable once the directory is synced.
fn write_meta(directory: &Path, meta: &Meta) -> Result<(), DataDirError> {
    let (new, path) = (directory.join(NEW_META), directory.join(META));
    let mut file = File::create(&new).map_err(io_error("create", &new))?;
    file.write_all(meta.to_text().as_bytes())
        .map_err(io_error("write", &new))?;
    file.sync_all().map_err(io_error("sync", &new))?;
    fs::rename(&new, &path).map_err(io_error("rename", &new))
}

fn sync_directory(path: &Path) -> Result<(), DataDirError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("sync", path))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const NODE: BrokerId = BrokerId(7);

    #[test]
    fn each_start_has_a_new_epoch_and_knows_how_the_last_life_ended() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("made/when/missing");
        let first = DataDir::open(&path, NODE).unwrap();
        let cluster = first.cluster_id().to_owned();
        assert_eq!(
            (first.epoch().0, first.last_shutdown()),
            (1, LastShutdown::None)
        );
        drop(first);
        let second = DataDir::open(&path, NODE).unwrap();
        assert_eq!(
            (second.epoch().0, second.last_shutdown()),
            (2, LastShutdown::Unclean)
        );
        second.mark_clean().unwrap();
        drop(second);
        let third = DataDir::open(&path, NODE).unwrap();
        assert_eq!(
            (third.epoch().0, third.last_shutdown()),
            (3, LastShutdown::Clean)
        );
        assert_eq!(third.cluster_id(), cluster);
        drop(third);
        let fourth = DataDir::open(&path, NODE).unwrap();
        assert_eq!(
            fourth.last_shutdown(),
            LastShutdown::Unclean,
            "the marker holds once"
        );
    }

    #[test]
    fn a_clean_end_names_its_life_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), NODE).unwrap();
        assert_eq!(first.clean_from(), None);
        first.mark_clean_of(BrokerEpoch(42)).unwrap();
        drop(first);
        let second = DataDir::open(dir.path(), NODE).unwrap();
        assert_eq!(second.last_shutdown(), LastShutdown::Clean);
        assert_eq!(second.clean_from(), Some(BrokerEpoch(42)));
        drop(second);
        let third = DataDir::open(dir.path(), NODE).unwrap();
        assert_eq!(third.clean_from(), None);
        third.mark_clean().unwrap();
        drop(third);
        let fourth = DataDir::open(dir.path(), NODE).unwrap();
        assert_eq!(fourth.last_shutdown(), LastShutdown::Clean);
        assert_eq!(fourth.clean_from(), None);
    }

    #[test]
    fn a_directory_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ours = ClusterId([1; 16]);
        let first = DataDir::open_in(dir.path(), NODE, Some(ours)).unwrap();
        assert_eq!(first.cluster_id(), ours.to_string());
        drop(first);
        let other = DataDir::open_in(dir.path(), NODE, Some(ClusterId([2; 16]))).unwrap_err();
        assert!(matches!(other, DataDirError::Cluster { .. }), "{other}");
        assert_eq!(
            DataDir::open(dir.path(), NODE).unwrap().epoch().0,
            2,
            "what was refused has not begun a life"
        );
    }

    #[test]
    fn a_directory_in_use_names_the_process() {
        let dir = tempfile::tempdir().unwrap();
        DataDir::probe(dir.path()).unwrap();
        let held = DataDir::open(dir.path(), NODE).unwrap();
        let refused = DataDir::open(dir.path(), NODE).unwrap_err();
        let pid = std::process::id();
        assert!(
            refused.to_string().contains(&format!("(process {pid})")),
            "{refused}"
        );
        assert!(matches!(
            DataDir::probe(dir.path()),
            Err(DataDirError::InUse { .. })
        ));
        drop(held);
        DataDir::probe(dir.path()).unwrap();
    }

    #[test]
    fn files_of_somebody_else_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let refused = DataDir::open(dir.path(), NODE).unwrap_err();
        assert!(refused.to_string().contains("`thesis.tex`"), "{refused}");
    }

    #[test]
    fn a_damaged_foreign_or_later_meta_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), NODE).unwrap());
        let path = dir.path().join(META);
        let text = fs::read_to_string(&path).unwrap();
        let with = |from: &str, to: &str| {
            fs::write(&path, text.replace(from, to)).unwrap();
            DataDir::open(dir.path(), NODE).unwrap_err()
        };
        assert!(matches!(
            with("start.epoch=1", "start.epoch=0"),
            DataDirError::Damaged { .. }
        ));
        assert!(matches!(
            with("start.epoch=1\n", ""),
            DataDirError::Damaged { .. }
        ));
        assert!(matches!(
            with("version=1", "version=9"),
            DataDirError::Version { version: 9, .. }
        ));
        fs::write(&path, text).unwrap();
        let other = DataDir::open(dir.path(), BrokerId(8)).unwrap_err();
        assert!(matches!(
            other,
            DataDirError::Node {
                found: 7,
                configured: 8,
                ..
            }
        ));
    }

    #[test]
    fn the_meta_file_is_as_documented() {
        let meta = Meta {
            cluster_id: "c0ffee".to_owned(),
            node_id: 3,
            epoch: 12,
        };
        assert_eq!(
            meta.to_text(),
            "version=1\ncluster.id=c0ffee\nnode.id=3\nstart.epoch=12\nchecksum=bb83b1f1\n"
        );
    }
}
