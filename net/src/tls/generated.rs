//! The certificate that a broker makes for itself.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};

use super::TlsError;

/// Where a broker keeps the certificate that it made, inside its data directory.
const DIRECTORY: &str = "tls";
/// Where it makes it. Renamed to [`DIRECTORY`] when whole, so that a crash leaves both files or
/// none.
const NEW_DIRECTORY: &str = "tls.new";
const CERTIFICATE_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";

/// The name in certificates that the broker makes. Clients pin the certificate and do not
/// compare names; this one is for `quinn::Endpoint::connect`, which wants one.
pub const SERVER_NAME: &str = "millrace";

/// The files of the certificate and key in `data_dir`, made there if there are none yet.
pub(super) fn in_data_dir(data_dir: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let certificate = data_dir.join(DIRECTORY).join(CERTIFICATE_FILE);
    let key = data_dir.join(DIRECTORY).join(KEY_FILE);
    match (certificate.exists(), key.exists()) {
        (true, true) => {}
        (false, false) => generate(data_dir)?,
        (true, false) => {
            return Err(TlsError::Half {
                present: certificate,
                missing: key,
            });
        }
        (false, true) => {
            return Err(TlsError::Half {
                present: key,
                missing: certificate,
            });
        }
    }
    Ok((certificate, key))
}

/// Only the broker's user reads the key.
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// Makes a self-signed certificate.
fn generate(data_dir: &Path) -> Result<(), TlsError> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned(), "localhost".to_owned()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Millrace broker");
    for ip in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        params.subject_alt_names.push(SanType::IpAddress(ip));
    }
    let certificate = params.self_signed(&pair)?;
    store(data_dir, &pair.serialize_pem(), &certificate.pem())
}

fn store(data_dir: &Path, key: &str, certificate: &str) -> Result<(), TlsError> {
    let new = data_dir.join(NEW_DIRECTORY);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Io { path, source }
    };
    fs::create_dir_all(&new).map_err(io(&new))?;
    write(&new.join(KEY_FILE), key, KEY_MODE)?;
    write(&new.join(CERTIFICATE_FILE), certificate, CERTIFICATE_MODE)?;
    sync_dir(&new).map_err(io(&new))?;
    fs::rename(&new, data_dir.join(DIRECTORY)).map_err(io(&new))?;
    sync_dir(data_dir).map_err(io(data_dir))
}

/// Writes `text` to a file of its own, never readable by more than `mode` says.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let io = |source| TlsError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    file.sync_all().map_err(io)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}
