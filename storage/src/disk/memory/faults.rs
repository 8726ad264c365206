//! What shall go wrong, and when.

use std::collections::BTreeMap;
use std::io;

/// A kind of operation that can be told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Opening or making a file.
    Open,
    /// Reading from a file, or asking for its length.
    Read,
    /// Writing to a file.
    Write,
    /// Making a file durable.
    Sync,
    /// Reserving space.
    Allocate,
    /// Setting the length of a file.
    Truncate,
    /// Making a directory.
    CreateDir,
    /// Listing a directory.
    List,
    /// Renaming a file.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// Making a directory durable.
    SyncDir,
}

impl Operation {
    /// The verb in [`crate::disk::DiskError::operation`].
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Allocate => "allocate",
            Self::Truncate => "truncate",
            Self::CreateDir => "create directory",
            Self::List => "list",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDir => "sync directory",
        }
    }
}

/// The faults to come. All are off at first.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// Operations of a kind that still succeed before one fails.
    failing: BTreeMap<Operation, u64>,
    /// I/O points until the disk stops for ever.
    pub(super) crash_in: Option<u64>,
    /// Bytes that fit on the device.
    pub(super) capacity: Option<u64>,
    /// Whether writes claim to be durable when they are not.
    pub(super) lying: bool,
}

impl Faults {
    pub(super) fn fail(&mut self, operation: Operation, after: u64) {
        self.failing.insert(operation, after);
    }

    /// Whether this operation, which happens now, fails.
    pub(super) fn strikes(&mut self, operation: Operation) -> bool {
        match self.failing.get_mut(&operation) {
            None => false,
            Some(0) => {
                self.failing.remove(&operation);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }
}

/// EIO, as Linux numbers it.
pub(super) fn io_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// ENOSPC, as Linux numbers it.
pub(super) fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}
