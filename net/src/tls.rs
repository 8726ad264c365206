//! The broker's certificate, and the keys that follow from it.
//!
//! A broker without a certificate makes a self-signed one on its first start, which clients
//! pin by its fingerprint. TLS 1.3 only, with ring; no session tickets and no 0-RTT, for a
//! produce request must not be replayed.
//!
//! The keys of stateless resets and retry tokens are derived from the private key. So they are
//! the same on all shards, and a broker that was killed and started again can tell the clients
//! of its former life at once that their connections are gone.

use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use ring::{digest, hkdf, hmac};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// Tell apart the keys that are derived from the private key.
const RESET_KEY_LABEL: &[u8] = b"millrace stateless reset 1";
const TOKEN_KEY_LABEL: &[u8] = b"millrace retry token 1";

/// A certificate with its key, ready for QUIC. Cheap to clone; give each shard a clone.
#[derive(Clone)]
pub struct ServerIdentity {
    crypto: Arc<QuicServerConfig>,
    reset_key: Arc<hmac::Key>,
    token_key: Arc<hkdf::Prk>,
    fingerprint: Fingerprint,
    certificate: PathBuf,
}

/// SHA-256 over a certificate's DER bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or directory cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {what}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// One of the two generated files is missing.
    #[error(
        "{missing} is missing while {present} exists: restore it, or remove both for a new \
         certificate (clients that pinned the old one will refuse it)",
        missing = missing.display(), present = present.display()
    )]
    Half {
        /// The file that exists.
        present: PathBuf,
        /// The file that does not.
        missing: PathBuf,
    },
    /// Certificate and key do not work together.
    #[error("the certificate {path} cannot be served: {source}", path = path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The certificate could not be made.
    #[error("no certificate could be made: {0}")]
    Generate(#[from] rcgen::Error),
}

impl ServerIdentity {
    /// The identity in `data_dir`, made there if it has none yet.
    ///
    /// # Errors
    /// The files cannot be written, read or used.
    pub fn in_data_dir(data_dir: &Path) -> Result<Self, TlsError> {
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
        Self::from_files(&certificate, &key)
    }

    /// The identity of a user's own PEM files: the certificate with its chain, and its key.
    ///
    /// # Errors
    /// The files cannot be read or used.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_chain(certificate)?;
        let key = read_key(key)?;
        let fingerprint = digest::digest(&digest::SHA256, &chain[0]);
        let fingerprint = fingerprint
            .as_ref()
            .try_into()
            .expect("SHA-256 is 32 bytes");
        let reset_key = derive(&key, RESET_KEY_LABEL);
        let token_key = derive(&key, TOKEN_KEY_LABEL);
        let unusable = |source| TlsError::Unusable {
            path: certificate.to_owned(),
            source,
        };
        Ok(Self {
            crypto: Arc::new(quic_config(chain, key).map_err(unusable)?),
            reset_key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key.as_ref())),
            token_key: Arc::new(
                hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(token_key.as_ref()),
            ),
            fingerprint: Fingerprint(fingerprint),
            certificate: certificate.to_owned(),
        })
    }

    /// What clients pin.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The certificate's file, which clients may be given.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    pub(crate) fn crypto(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.crypto)
    }

    pub(crate) fn reset_key(&self) -> Arc<hmac::Key> {
        Arc::clone(&self.reset_key)
    }

    pub(crate) fn token_key(&self) -> Arc<hkdf::Prk> {
        Arc::clone(&self.token_key)
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ServerIdentity");
        debug
            .field("fingerprint", &self.fingerprint)
            .field("certificate", &self.certificate);
        debug.finish_non_exhaustive()
    }
}

/// A key for one purpose, as secret as the private key.
fn derive(key: &PrivateKeyDer<'_>, label: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.secret_der()), label)
}

fn quic_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<QuicServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![millrace_wire::ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    let no_initial_suite = |_| rustls::Error::General("no cipher suite for QUIC".to_owned());
    QuicServerConfig::try_from(config).map_err(no_initial_suite)
}

/// ring, with AES-128-GCM first: the cheapest suite on processors with AES instructions, and
/// beyond what anybody breaks. A client that prefers another one gets it.
fn provider() -> CryptoProvider {
    use rustls::crypto::ring::{cipher_suite, default_provider};
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Io {
        path: path.to_owned(),
        source,
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |what: String| TlsError::Content {
        path: path.to_owned(),
        what,
    };
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| content(format!("not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(content(
            "no certificate (BEGIN CERTIFICATE) in it".to_owned(),
        ));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| TlsError::Content {
        path: path.to_owned(),
        what: format!("no private key (BEGIN PRIVATE KEY) in it: {error}"),
    })
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
