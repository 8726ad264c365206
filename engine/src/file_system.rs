//! The file system below the data directory.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// All of it.
    pub(crate) total: u64,
    /// What the broker may still use.
    pub(crate) usable: u64,
}

/// The room on the file system of `path`.
///
/// # Errors
/// The system's, where the path does not exist or the file system does not say.
pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero statvfs is a valid value of that plain struct.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero byte, and the struct is whole and writable.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut answer) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Space {
        total: answer.f_blocks.saturating_mul(answer.f_frsize),
        usable: answer.f_bavail.saturating_mul(answer.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_is_usable_is_within_the_total_and_nowhere_is_an_error() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.usable <= space.total && space.total > 0);
        assert!(super::space(Path::new("/no/such/place")).is_err());
    }
}
