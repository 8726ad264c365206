//! Finds out, before anything else is opened, whether a directory's file system does
//! direct I/O, and keeps glommio from drawing the wrong conclusion about polled I/O.
//!
//! glommio 0.9 decides once for each executor and device whether to use polled I/O, by
//! reading the first block of the first file that it opens there. If that file is empty
//! the read succeeds whatever the device can do, and all later reads fail with EOPNOTSUPP
//! on devices without poll queues. So the first file has to have content: the probe file.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use glommio::io::DmaFile;

use super::{blocking, io_error};
use crate::disk::{BLOCK_LEN, DiskError};

/// Whether a file system can be used with [`super::GlommioDisk::direct`].
#[derive(Debug)]
pub enum DirectIo {
    /// It can.
    Supported,
    /// It cannot, for this reason; [`super::GlommioDisk::buffered`] works.
    Refused(io::Error),
}

/// Probes the file system of `data_dir`, which exists. To be awaited once on **each
/// executor**, before that executor opens any file there: what glommio learns from the
/// probe file it remembers for each thread.
///
/// # Errors
/// If the directory cannot be written or read.
pub async fn prepare(data_dir: &Path) -> Result<DirectIo, DiskError> {
    let name = format!(".probe-{}-{}", std::process::id(), glommio::executor().id());
    let path = data_dir.join(name);
    let probed = probe(&path).await;
    let removed = {
        let path = path.clone();
        blocking(move || fs::remove_file(path)).await
    };
    match (probed, removed) {
        (Ok(answer), Ok(())) => Ok(answer),
        (Err(source), _) | (_, Err(source)) => Err(DiskError {
            operation: "probe",
            path,
            source,
        }),
    }
}

async fn probe(path: &Path) -> io::Result<DirectIo> {
    let plain = path.to_owned();
    let opened = blocking(move || write_probe_file(&plain).map(|()| open_direct(&plain)));
    if let Err(refusal) = opened.await? {
        return Ok(DirectIo::Refused(refusal));
    }
    let file = DmaFile::open(path).await.map_err(io_error)?;
    let alignment = file.alignment();
    let read = file.read_at_aligned(0, BLOCK_LEN).await;
    file.close().await.map_err(io_error)?;
    match read {
        Err(error) => Ok(DirectIo::Refused(io_error(error))),
        Ok(_) if alignment > BLOCK_LEN as u64 => Ok(DirectIo::Refused(io::Error::other(format!(
            "the device needs an alignment of {alignment} bytes"
        )))),
        Ok(block) if block.len() == BLOCK_LEN => Ok(DirectIo::Supported),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Leaves one durable block at `path`, over whatever an earlier life left there.
fn write_probe_file(path: &PathBuf) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(&[0; BLOCK_LEN])?;
    file.sync_all()
}

/// Opens with O_DIRECT as such, without glommio, which does not try it on tmpfs.
fn open_direct(path: &PathBuf) -> io::Result<()> {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map(drop)
}
