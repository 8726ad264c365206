//! The files of a stopped broker, read as any program reads files: no direct I/O, no ring, so
//! that a copy on any file system can be looked at.
//!
//! Every operation that would change something fails.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millrace_storage::disk::{BLOCK_LEN, DirEntry, Disk, DiskError, File, OpenMode};

/// A disk that can only be read.
#[derive(Clone, Debug)]
pub(super) struct ReadOnlyFiles;

/// An open file of it.
#[derive(Debug)]
pub(super) struct ReadOnlyFile {
    file: fs::File,
    path: PathBuf,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError {
        operation,
        path: path.to_owned(),
        source,
    }
}

fn refused<T>(operation: &'static str, path: &Path) -> Result<T, DiskError> {
    Err(failed(operation, path)(
        io::ErrorKind::ReadOnlyFilesystem.into(),
    ))
}

impl Disk for ReadOnlyFiles {
    type File = ReadOnlyFile;
    type Buf = Vec<u8>;
    type Page = Bytes;

    fn buffer(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }

    fn freeze(&self, mut buf: Vec<u8>, len: usize) -> Bytes {
        buf.truncate(len);
        Bytes::from(buf)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> Result<ReadOnlyFile, DiskError> {
        if mode != OpenMode::Read {
            return refused("open for writing", path);
        }
        let file = fs::File::open(path).map_err(failed("open", path))?;
        Ok(ReadOnlyFile {
            file,
            path: path.to_owned(),
        })
    }

    async fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        refused("create", path)
    }

    async fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(failed("list", path))? {
            let entry = entry.map_err(failed("list", path))?;
            let is_dir = entry.file_type().map_err(failed("list", path))?.is_dir();
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into(),
                is_dir,
            });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    async fn rename(&self, from: &Path, _to: &Path) -> Result<(), DiskError> {
        refused("rename", from)
    }

    async fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        refused("remove", path)
    }

    async fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        refused("remove", path)
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        refused("sync", path)
    }
}

impl File for ReadOnlyFile {
    type Buf = Vec<u8>;
    type Page = Bytes;

    async fn read_at(&self, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        assert!(len.is_multiple_of(BLOCK_LEN), "the log reads whole blocks");
        let mut page = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.file.read_at(&mut page[filled..], pos + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", &self.path)(error)),
            }
        }
        page.truncate(filled);
        Ok(Bytes::from(page))
    }

    async fn write_at(&self, _page: &Bytes, _pos: u64) -> Result<(), DiskError> {
        refused("write", &self.path)
    }

    async fn sync(&self) -> Result<(), DiskError> {
        refused("sync", &self.path)
    }

    async fn allocate(&self, _len: u64) -> Result<(), DiskError> {
        refused("allocate", &self.path)
    }

    async fn truncate(&self, _len: u64) -> Result<(), DiskError> {
        refused("truncate", &self.path)
    }

    async fn len(&self) -> Result<u64, DiskError> {
        self.file
            .metadata()
            .map(|metadata| metadata.len())
            .map_err(failed("measure", &self.path))
    }
}
