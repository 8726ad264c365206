//! The disk, as the log sees it: aligned whole-buffer writes, aligned reads, durable
//! directory operations. Two implementations are held to one contract
//! (`tests/disk_contract.rs`): [`mod@glommio`] with O_DIRECT on io_uring, and
//! [`memory`], which crashes, tears, rots and fills up on purpose.
//!
//! Everything is for one thread: no future here is `Send`. A future that is dropped before
//! it is done leaves its operation to go on by itself, or not.
//!
//! # Durability
//! - `write_at` on a file opened with [`Durability::EachWrite`] returns after the bytes, and
//!   the metadata needed to read them back, are durable. With [`Durability::OnSync`] only
//!   [`File::sync`] makes earlier writes durable.
//! - A name made, changed or removed by `open`, `rename`, `remove_file` or `remove_dir_all`
//!   is durable after [`Disk::sync_dir`] on its directory.
//! - A crash may keep any subset of the 512-byte sectors of a write that was not durable.
//!   A sector itself is never torn.

#[cfg(feature = "glommio")]
pub mod glommio;
pub mod memory;

use std::io;
use std::path::{Path, PathBuf};

/// Positions, lengths and addresses of direct I/O are multiples of this many bytes. Device
/// sectors may be smaller; 4 KiB fits all.
pub const BLOCK_LEN: usize = 4096;

/// The unit that a device writes whole or not at all, as the crash model assumes.
pub const SECTOR_LEN: usize = 512;

/// When a write is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At its completion (O_DSYNC).
    EachWrite,
    /// At the next [`File::sync`].
    OnSync,
}

/// How a file is opened. All modes allow reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file exists and is only read.
    Read,
    /// The file exists and is written.
    Write(Durability),
    /// The file must not exist; it is made empty.
    CreateNew(Durability),
}

/// An operation of the disk that failed: which, on what, and why.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}: {source}")]
pub struct DiskError {
    /// The operation, a verb: `write`, `open`, ...
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

/// Linux's numbers for too many open files, in the process and in the system, for which the
/// standard library has no kind.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

impl DiskError {
    /// Whether the device or a quota is full, or no file can be opened because too many
    /// are. Either heals by itself when there is room again.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) || matches!(self.source.raw_os_error(), Some(EMFILE | ENFILE))
    }

    /// Whether the named file or directory does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// What [`Disk::list`] finds in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last component of the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A place for files. Cheap to clone; clones share what they stand for.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: File<Buf = Self::Buf, Page = Self::Page>;
    /// A writable buffer, aligned for direct I/O, owned by one.
    type Buf: AsRef<[u8]> + AsMut<[u8]> + 'static;
    /// An immutable buffer, shared by reference within the shard. Clones are cheap.
    type Page: AsRef<[u8]> + Clone + 'static;

    /// A buffer of `len` bytes, a multiple of [`BLOCK_LEN`], its content unspecified.
    fn buffer(&self, len: usize) -> Self::Buf;

    /// Cuts `buf` to its first `len` bytes (a multiple of [`BLOCK_LEN`], at most its
    /// length) and makes it immutable and shareable.
    fn freeze(&self, buf: Self::Buf, len: usize) -> Self::Page;

    /// Bytes of memory that a page keeps: its length, or more if it was cut from a longer
    /// buffer.
    fn memory_of(&self, page: &Self::Page) -> usize {
        page.as_ref().len()
    }

    /// Opens a file.
    async fn open(&self, path: &Path, mode: OpenMode) -> Result<Self::File, DiskError>;

    /// Makes a directory and its missing parents. Names are durable when it returns.
    async fn create_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// The entries of a directory, sorted by name. A missing directory is an error.
    async fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError>;

    /// Renames a file, replacing the target. Both in the same file system.
    async fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file.
    async fn remove_file(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes a directory and all in it. Missing is success.
    async fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the names in a directory durable.
    async fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;
}

/// An open file. Dropping it closes it in the background.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
#[allow(
    clippy::len_without_is_empty,
    reason = "the length is asked of the system, for itself"
)]
pub trait File: 'static {
    /// See [`Disk::Buf`].
    type Buf;
    /// See [`Disk::Page`].
    type Page;

    /// Reads `len` bytes at `pos`, both multiples of [`BLOCK_LEN`]; fewer only at the end
    /// of the file, none beyond it.
    async fn read_at(&self, pos: u64, len: usize) -> Result<Self::Page, DiskError>;

    /// Writes the whole page at `pos`, a multiple of [`BLOCK_LEN`]. On an error nothing is
    /// known of what reached the device. Two writes to the same bytes, or a write and a
    /// truncation of its place, must not be under way at once.
    async fn write_at(&self, page: &Self::Page, pos: u64) -> Result<(), DiskError>;

    /// Makes all completed writes durable, with the file's length.
    async fn sync(&self) -> Result<(), DiskError>;

    /// Reserves space up to `len` bytes without changing the length of the file or its
    /// content. A disk that cannot reserve succeeds without effect.
    async fn allocate(&self, len: u64) -> Result<(), DiskError>;

    /// Sets the length of the file; what grows reads as zero. Durable after
    /// [`File::sync`].
    async fn truncate(&self, len: u64) -> Result<(), DiskError>;

    /// The length of the file in bytes.
    async fn len(&self) -> Result<u64, DiskError>;
}
