//! The file of certificates trusted on first use: one line a broker,
//! `host:port sha256:hex`. Lines that are empty or start with `#` mean nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::ClientError;
use crate::error::Hex;

/// Only the owner may read or write whom they trust.
const FILE_MODE: u32 = 0o600;

/// A line that pins a broker's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) fingerprint: [u8; 32],
}

/// The pin of this broker, if there is one.
pub(crate) fn find(file: &Path, broker: &str) -> Result<Option<Pin>, ClientError> {
    find_in(&read(file)?, broker).map_err(|(line, reason)| ClientError::TrustFile {
        file: file.to_owned(),
        reason: format!("line {line}: {reason}"),
    })
}

/// Pins a broker that has no line yet. The file is replaced as a whole, so a crash leaves
/// the old one or the new one, and a lock beside it keeps two clients from losing a line.
pub(crate) fn add(file: &Path, broker: &str, fingerprint: &[u8; 32]) -> Result<(), ClientError> {
    let trouble = |error: io::Error| ClientError::TrustFile {
        file: file.to_owned(),
        reason: error.to_string(),
    };
    if let Some(directory) = file.parent().filter(|path| !path.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(trouble)?;
    }
    let lock = create(&beside(file, "lock")).map_err(trouble)?;
    lock.lock().map_err(trouble)?;
    if find(file, broker)?.is_some() {
        return Ok(());
    }
    let mut content = read(file)?;
    if !content.is_empty() && !content.ends_with('\n') {
        content.push('\n');
    }
    content.push_str(&format!("{broker} sha256:{}\n", Hex(fingerprint)));
    replace(file, &content).map_err(trouble)
}

fn replace(file: &Path, content: &str) -> io::Result<()> {
    let new = beside(file, "new");
    let mut written = create(&new)?;
    written.set_len(0)?;
    written.write_all(content.as_bytes())?;
    written.sync_all()?;
    fs::rename(new, file)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn read(file: &Path) -> Result<String, ClientError> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| ClientError::TrustFile {
            file: file.to_owned(),
            reason: error.to_string(),
        }),
    }
}

/// A line that cannot be read is an error and not skipped: it may be the pin.
fn find_in(content: &str, broker: &str) -> Result<Option<Pin>, (usize, &'static str)> {
    for (line, text) in (1..).zip(content.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (host, fingerprint) = text
            .split_once(char::is_whitespace)
            .ok_or((line, "expected `host:port sha256:hex`"))?;
        let fingerprint = parse_fingerprint(fingerprint.trim())
            .ok_or((line, "expected `sha256:` and 64 hexadecimal digits"))?;
        if host == broker {
            return Ok(Some(Pin { line, fingerprint }));
        }
    }
    Ok(None)
}

fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?;
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut fingerprint = [0; 32];
    for (byte, at) in fingerprint.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(fingerprint)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pin_is_found_again_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deeper/known_brokers");
        assert_eq!(find(&file, "127.0.0.1:1").unwrap(), None);
        add(&file, "127.0.0.1:1", &[1; 32]).unwrap();
        add(&file, "[::1]:2", &[0xab; 32]).unwrap();
        let pin = find(&file, "[::1]:2").unwrap().unwrap();
        assert_eq!(
            pin,
            Pin {
                line: 2,
                fingerprint: [0xab; 32]
            }
        );
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            FILE_MODE
        );
    }

    #[test]
    fn a_first_pin_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("known_brokers");
        add(&file, "a:1", &[1; 32]).unwrap();
        add(&file, "a:1", &[2; 32]).unwrap();
        assert_eq!(find(&file, "a:1").unwrap().unwrap().fingerprint, [1; 32]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        assert_eq!(find_in("# x\n\na:1 sha256:zz\n", "b:1").unwrap_err().0, 3);
        assert_eq!(find_in("a:1", "a:1").unwrap_err().0, 1);
    }
}
