//! The disk on glommio: O_DIRECT files on the io_uring of the shard's executor.
//!
//! To be used on a glommio executor only, after [`prepare`] was awaited there. Buffers
//! come from the memory that glommio registered with the ring, and from the heap when that
//! is used up. What has no io_uring operation or may block for long (listing, removing)
//! runs on the executor's blocking pool.
//!
//! A file that is dropped is closed by the reactor in its next round.
//!
//! # Buffered mode
//! [`GlommioDisk::buffered`] is for development on file systems without O_DIRECT: it goes
//! through the page cache, copies each page, and follows each durable write with
//! fdatasync. It keeps the same promises and is slower.
//!
//! Not here: retries. A failed operation is reported, and the log decides.

mod claims;
mod probe;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use glommio::GlommioError;
use glommio::io::{BufferedFile, Directory, DmaBuffer, DmaFile, OpenOptions, ReadResult};

use self::claims::Claims;
use super::{BLOCK_LEN, DirEntry, Disk, DiskError, Durability, File, OpenMode};

pub use self::probe::{DirectIo, prepare};

/// The disk of a shard. Clones share the executor's ring.
#[derive(Clone)]
pub struct GlommioDisk {
    caching: Caching,
    claims: Claims,
}

/// Whether file content goes through the kernel's page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caching {
    Direct,
    Buffered,
}

impl GlommioDisk {
    /// The disk with O_DIRECT, for file systems that [`prepare`] found to support it.
    #[must_use]
    pub fn direct() -> Self {
        Self {
            caching: Caching::Direct,
            claims: Claims::default(),
        }
    }

    /// The disk through the page cache, for development. See the module's documentation.
    #[must_use]
    pub fn buffered() -> Self {
        Self {
            caching: Caching::Buffered,
            claims: Claims::default(),
        }
    }

    async fn open_handle(&self, path: &Path, mode: OpenMode) -> Result<Handle, GlommioError<()>> {
        let mut options = OpenOptions::new();
        options.read(true);
        if let OpenMode::Write(durability) | OpenMode::CreateNew(durability) = mode {
            options
                .write(true)
                .create_new(matches!(mode, OpenMode::CreateNew(_)));
            // A buffered file is followed by fdatasync instead: a write larger than what
            // the kernel takes at once is then synced once.
            if (self.caching, durability) == (Caching::Direct, Durability::EachWrite) {
                options.custom_flags(libc::O_DSYNC);
            }
        }
        Ok(match self.caching {
            Caching::Direct => Handle::Direct(options.dma_open(path).await?),
            Caching::Buffered => Handle::Buffered(options.buffered_open(path).await?),
        })
    }
}

impl Disk for GlommioDisk {
    type File = GlommioFile;
    type Buf = DmaBuffer;
    type Page = GlommioPage;

    fn buffer(&self, len: usize) -> DmaBuffer {
        assert!(
            len > 0 && len.is_multiple_of(BLOCK_LEN),
            "a buffer is made of whole blocks"
        );
        glommio::allocate_dma_buffer(len)
    }

    fn freeze(&self, mut buf: DmaBuffer, len: usize) -> GlommioPage {
        assert!(
            len.is_multiple_of(BLOCK_LEN),
            "a page is made of whole blocks"
        );
        let memory = buf.len();
        buf.trim_to_size(len);
        let buf = Rc::new(buf);
        GlommioPage(Bytes::Owned { buf, memory })
    }

    fn memory_of(&self, page: &GlommioPage) -> usize {
        match &page.0 {
            Bytes::Owned { memory, .. } => *memory,
            Bytes::Read(read) => read.len(),
        }
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> Result<GlommioFile, DiskError> {
        let _claim = self.claims.claim(path).await;
        let opened = self.open_handle(path, mode).await;
        let handle = opened.map_err(|source| error("open", path, io_error(source)))?;
        Ok(GlommioFile {
            handle,
            path: path.to_owned(),
            mode,
        })
    }

    async fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let owned = path.to_owned();
        let made = blocking(move || create_durable_dirs(&owned)).await;
        made.map_err(|source| error("create directory", path, source))
    }

    async fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let owned = path.to_owned();
        let found = blocking(move || list_sorted(&owned)).await;
        found.map_err(|source| error("list", path, source))
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let _from = self.claims.claim(from).await;
        let renamed = glommio::io::rename(from, to).await;
        renamed.map_err(|source| error("rename", from, io_error(source)))
    }

    async fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let _claim = self.claims.claim(path).await;
        let owned = path.to_owned();
        let removed = blocking(move || fs::remove_file(owned)).await;
        removed.map_err(|source| error("remove", path, source))
    }

    async fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let _claim = self.claims.claim(path).await;
        let owned = path.to_owned();
        match blocking(move || fs::remove_dir_all(owned)).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(error("remove", path, source))
            }
            _ => Ok(()),
        }
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let sync = async {
            // glommio opens a directory relative to no descriptor at all.
            let directory = Directory::open(std::path::absolute(path)?).await?;
            let synced = directory.sync().await;
            directory.close().await?;
            synced
        };
        sync.await
            .map_err(|source| error("sync directory", path, io_error(source)))
    }
}

/// An open file of a [`GlommioDisk`].
pub struct GlommioFile {
    handle: Handle,
    path: PathBuf,
    mode: OpenMode,
}

enum Handle {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

impl GlommioFile {
    /// Writes all of `page`, going on after a short write, which is how the kernel reports
    /// a device that fills up in the middle; the next attempt then gives the reason.
    async fn write_all(&self, page: &GlommioPage, pos: u64) -> io::Result<()> {
        let len = page.as_ref().len();
        let mut done = self.write_some(page, pos).await?;
        while done < len {
            // Direct I/O goes on at a block; what is written twice is the same.
            done -= done % BLOCK_LEN;
            let rest = GlommioPage::copy_of(&page.as_ref()[done..]);
            match self.write_some(&rest, pos + done as u64).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => done += more,
            }
        }
        Ok(())
    }

    async fn write_some(&self, page: &GlommioPage, pos: u64) -> io::Result<usize> {
        let written = match &self.handle {
            Handle::Direct(file) => file.write_rc_at(page.to_dma(), pos).await,
            Handle::Buffered(file) => file.write_at(page.as_ref().to_vec(), pos).await,
        };
        written.map_err(io_error)
    }

    async fn fdatasync(&self) -> io::Result<()> {
        let synced = match &self.handle {
            Handle::Direct(file) => file.fdatasync().await,
            Handle::Buffered(file) => file.fdatasync().await,
        };
        synced.map_err(io_error)
    }

    async fn read(&self, pos: u64, len: usize) -> io::Result<GlommioPage> {
        let read = match &self.handle {
            Handle::Direct(file) => {
                let read = file.read_at_aligned(pos, len).await.map_err(io_error)?;
                GlommioPage(Bytes::Read(read))
            }
            // The page cache's answer comes in unaligned memory.
            Handle::Buffered(file) => {
                GlommioPage::copy_of(&file.read_at(pos, len).await.map_err(io_error)?)
            }
        };
        let got = read.as_ref().len();
        if got < len && pos + (got as u64) < self.stat_len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }

    /// The length by descriptor. glommio asks by path, which may have changed.
    fn stat_len(&self) -> io::Result<u64> {
        let fd = match &self.handle {
            Handle::Direct(file) => file.as_raw_fd(),
            Handle::Buffered(file) => file.as_raw_fd(),
        };
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: `fd` is open as long as `self`, and `stat` is valid for one write.
        if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fstat succeeded, so it filled `stat` in.
        let stat = unsafe { stat.assume_init() };
        u64::try_from(stat.st_size).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn syncs_each_write(&self) -> bool {
        let durable = matches!(
            self.mode,
            OpenMode::Write(Durability::EachWrite) | OpenMode::CreateNew(Durability::EachWrite)
        );
        durable && matches!(self.handle, Handle::Buffered(_))
    }

    fn error(&self, operation: &'static str, source: io::Error) -> DiskError {
        error(operation, &self.path, source)
    }
}

impl File for GlommioFile {
    type Buf = DmaBuffer;
    type Page = GlommioPage;

    async fn read_at(&self, pos: u64, len: usize) -> Result<GlommioPage, DiskError> {
        assert_aligned(pos, len);
        self.read(pos, len)
            .await
            .map_err(|source| self.error("read", source))
    }

    async fn write_at(&self, page: &GlommioPage, pos: u64) -> Result<(), DiskError> {
        assert_aligned(pos, page.as_ref().len());
        let write = async {
            self.write_all(page, pos).await?;
            if self.syncs_each_write() {
                self.fdatasync().await
            } else {
                Ok(())
            }
        };
        write.await.map_err(|source| self.error("write", source))
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.fdatasync()
            .await
            .map_err(|source| self.error("sync", source))
    }

    async fn allocate(&self, len: u64) -> Result<(), DiskError> {
        let allocated = match &self.handle {
            Handle::Direct(file) => file.pre_allocate(len, true).await,
            Handle::Buffered(file) => file.pre_allocate(len, true).await,
        };
        match allocated.map_err(io_error) {
            Err(source) if source.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done.map_err(|source| self.error("allocate", source)),
        }
    }

    async fn truncate(&self, len: u64) -> Result<(), DiskError> {
        let cut = match &self.handle {
            Handle::Direct(file) => file.truncate(len).await,
            Handle::Buffered(file) => file.truncate(len).await,
        };
        cut.map_err(|source| self.error("truncate", io_error(source)))
    }

    async fn len(&self) -> Result<u64, DiskError> {
        self.stat_len().map_err(|source| self.error("stat", source))
    }
}

/// An immutable buffer of the shard: one that was filled and frozen, or one that was read.
#[derive(Clone, Debug)]
pub struct GlommioPage(Bytes);

#[derive(Clone, Debug)]
enum Bytes {
    Owned {
        buf: Rc<DmaBuffer>,
        /// What the buffer was made with, before it was cut.
        memory: usize,
    },
    Read(ReadResult),
}

impl GlommioPage {
    fn copy_of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self(Bytes::Read(ReadResult::default()));
        }
        let mut buf = glommio::allocate_dma_buffer(bytes.len());
        buf.as_bytes_mut().copy_from_slice(bytes);
        let (buf, memory) = (Rc::new(buf), bytes.len());
        Self(Bytes::Owned { buf, memory })
    }

    /// The page in the form that glommio writes: shared, or copied if it was read.
    fn to_dma(&self) -> Rc<DmaBuffer> {
        match &self.0 {
            Bytes::Owned { buf, .. } => Rc::clone(buf),
            Bytes::Read(read) => {
                let mut buf = glommio::allocate_dma_buffer(read.len());
                buf.as_bytes_mut().copy_from_slice(read);
                Rc::new(buf)
            }
        }
    }
}

impl AsRef<[u8]> for GlommioPage {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Owned { buf, .. } => buf.as_bytes(),
            Bytes::Read(read) => read,
        }
    }
}

thread_local! {
    /// Work of this executor on its blocking pool.
    static BLOCKING: Cell<usize> = const { Cell::new(0) };
}

/// How often [`quiesce`] looks.
const QUIESCE_LOOK: Duration = Duration::from_millis(1);

/// Runs what may block on the executor's blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    BLOCKING.set(BLOCKING.get() + 1);
    // A task of its own, so that the count is right even if the caller is dropped.
    let done = glommio::spawn_local(async move {
        let done = glommio::executor().spawn_blocking(work).await;
        BLOCKING.set(BLOCKING.get() - 1);
        done
    });
    done.detach()
        .await
        .expect("a detached task runs to its end while its executor lives")
}

/// Waits until nothing of this executor runs on its blocking pool. To be awaited last before
/// an executor ends: glommio's pool panics when it has nobody left to answer to.
pub async fn quiesce() {
    while BLOCKING.get() > 0 {
        glommio::timer::sleep(QUIESCE_LOOK).await;
    }
}

/// Makes missing directories from the top down, and makes each name on the way durable, also
/// of those that were there: whoever made them may have ended before that.
fn create_durable_dirs(path: &Path) -> io::Result<()> {
    let dirs: Vec<&Path> = path
        .ancestors()
        .filter(|dir| dir.file_name().is_some())
        .collect();
    for dir in dirs.into_iter().rev() {
        let made = match fs::create_dir(dir) {
            Err(_) if dir.is_dir() => false,
            made => made.map(|()| true)?,
        };
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced =
            fs::File::open(parent.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all());
        match synced {
            // A directory of the system's, which this process may not even read.
            Err(source) if !made && source.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// The entries of a directory by name. A name that is not UTF-8 is none of ours, and its
/// foreign bytes are shown as replacement characters.
fn list_sorted(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        entries.push(DirEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_dir: entry.file_type()?.is_dir(),
        });
    }
    entries.sort();
    Ok(entries)
}

/// The system's reason, with its number, without glommio's wrapping.
fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

fn error(operation: &'static str, path: &Path, source: io::Error) -> DiskError {
    DiskError {
        operation,
        path: path.to_owned(),
        source,
    }
}

fn assert_aligned(pos: u64, len: usize) {
    assert!(
        pos.is_multiple_of(BLOCK_LEN as u64),
        "direct I/O begins at a block"
    );
    assert!(
        len.is_multiple_of(BLOCK_LEN),
        "direct I/O moves whole blocks"
    );
}
