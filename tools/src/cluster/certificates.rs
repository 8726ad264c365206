//! The certificates of a cluster's brokers: an authority, and what it signs.
//!
//! | file | mode | what |
//! | --- | --- | --- |
//! | `cluster-id` | 0644 | the cluster, 32 hexadecimal digits |
//! | `ca.pem` | 0644 | the authority's certificate, which every broker is given |
//! | `ca-key.pem` | 0600 | its key: who has it can make brokers. No broker needs it |
//! | `broker-<id>/cert.pem` | 0644 | a broker's certificate, with its name in the cluster |
//! | `broker-<id>/key.pem` | 0600 | its key |
//!
//! **Invariant:** a key is never overwritten. A renewed certificate is one for the same key, put in
//! place by one rename, so that an interrupted renewal leaves the old one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millrace_model::{BrokerId, ClusterId};
use millrace_wire::PeerName;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};

const CLUSTER_ID: &str = "cluster-id";
const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca-key.pem";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// Only the user reads keys.
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// The names that every broker has, beside its own: how it is reached on its own machine.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Until when an authority signs. As long as a cluster may live; to replace it, brokers are given a
/// file with the old and the new one.
const AUTHORITY_DAYS: u64 = 20 * 365;

/// How far before now a certificate holds, for clocks that differ.
const SLACK: Duration = Duration::from_secs(24 * 3600);

/// Why certificates are not made.
#[derive(Debug)]
pub enum CertificateError {
    /// A file or directory cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is there already, and would have to be overwritten.
    Exists(PathBuf),
    /// What is there does not fit what was asked for, or is not what it should be.
    Unfit(String),
    /// The certificate could not be made.
    Generate(rcgen::Error),
}

impl std::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Exists(path) => write!(
                f,
                "{} exists and is not overwritten; --renew makes a new certificate for the same key",
                path.display()
            ),
            Self::Unfit(what) => f.write_str(what),
            Self::Generate(error) => write!(f, "no certificate could be made: {error}"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl From<rcgen::Error> for CertificateError {
    fn from(error: rcgen::Error) -> Self {
        Self::Generate(error)
    }
}

/// A cluster's authority, in its directory.
pub struct Authority {
    dir: PathBuf,
    cluster: ClusterId,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a broker.
#[derive(Clone, Debug)]
pub struct BrokerCertificate {
    /// Its name.
    pub name: PeerName,
    /// Its certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The last day on which it holds, as year, month and day.
    pub until: (i32, u8, u8),
}

/// What a broker's certificate is to say.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Further names and addresses of the broker's host.
    pub hosts: Vec<String>,
    /// For how many days it holds.
    pub days: u64,
}

impl Authority {
    /// The authority in `dir`, which is made with it if it is not there. `cluster` is the cluster that it
    /// is to be of; without it, that which is there, or a new one.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn open(dir: &Path, cluster: Option<ClusterId>) -> Result<Self, CertificateError> {
        match dir.join(AUTHORITY_KEY).exists() {
            true => Self::load(dir, cluster),
            false => Self::make(dir, cluster.unwrap_or_else(draw_cluster)),
        }
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The file that brokers are given.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.join(AUTHORITY)
    }

    /// The file of the authority's key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.dir.join(AUTHORITY_KEY)
    }

    /// Makes key and certificate of a broker that has none.
    ///
    /// # Errors
    /// [`CertificateError::Exists`], or it cannot be made or written.
    pub fn issue(
        &self,
        broker: BrokerId,
        terms: &Terms,
    ) -> Result<BrokerCertificate, CertificateError> {
        self.expect_none([broker])?;
        let files = self.files(broker);
        let pair = KeyPair::generate()?;
        let (certificate, until) = self.sign(files.name, &pair, terms)?;
        make_dir(files.key.parent().unwrap_or(&self.dir))?;
        write_new(&files.key, &pair.serialize_pem(), SECRET)?;
        write_new(&files.certificate, &certificate.pem(), PUBLIC)?;
        Ok(BrokerCertificate { until, ..files })
    }

    /// Makes a new certificate for the key of a broker that has one.
    ///
    /// # Errors
    /// The key is not there or cannot be read, or the certificate cannot be made or written.
    pub fn renew(
        &self,
        broker: BrokerId,
        terms: &Terms,
    ) -> Result<BrokerCertificate, CertificateError> {
        let files = self.files(broker);
        let pair = read_key(&files.key)?;
        let (certificate, until) = self.sign(files.name, &pair, terms)?;
        let new = files.certificate.with_extension("pem.new");
        remove_left_over(&new)?;
        write_new(&new, &certificate.pem(), PUBLIC)?;
        fs::rename(&new, &files.certificate).map_err(io_error(&files.certificate))?;
        Ok(BrokerCertificate { until, ..files })
    }

    /// Makes sure that these brokers have no certificates yet.
    ///
    /// # Errors
    /// [`CertificateError::Exists`] with the first file that is there.
    pub fn expect_none(
        &self,
        brokers: impl IntoIterator<Item = BrokerId>,
    ) -> Result<(), CertificateError> {
        for broker in brokers {
            let files = self.files(broker);
            for path in [files.key, files.certificate] {
                if path.exists() {
                    return Err(CertificateError::Exists(path));
                }
            }
        }
        Ok(())
    }

    /// Where the files of a broker are, whether they are there or not.
    fn files(&self, broker: BrokerId) -> BrokerCertificate {
        let dir = self.dir.join(format!("broker-{broker}"));
        BrokerCertificate {
            name: PeerName {
                broker,
                cluster: self.cluster,
            },
            certificate: dir.join(CERTIFICATE),
            key: dir.join(KEY),
            until: (0, 0, 0),
        }
    }

    fn make(dir: &Path, cluster: ClusterId) -> Result<Self, CertificateError> {
        let certificate = dir.join(AUTHORITY);
        if certificate.exists() {
            return Err(CertificateError::Unfit(format!(
                "{} is there without its key {AUTHORITY_KEY}: bring the key, or name another --dir",
                certificate.display()
            )));
        }
        make_dir(dir)?;
        let pair = KeyPair::generate()?;
        let made = authority_params(cluster).self_signed(&pair)?;
        let id = dir.join(CLUSTER_ID);
        remove_left_over(&id)?;
        write_new(&id, &format!("{cluster}\n"), PUBLIC)?;
        write_new(&certificate, &made.pem(), PUBLIC)?;
        // Last: with the key, all is there.
        write_new(&dir.join(AUTHORITY_KEY), &pair.serialize_pem(), SECRET)?;
        Ok(Self {
            dir: dir.to_owned(),
            cluster,
            issuer: Issuer::new(authority_params(cluster), pair),
        })
    }

    fn load(dir: &Path, wanted: Option<ClusterId>) -> Result<Self, CertificateError> {
        let id = dir.join(CLUSTER_ID);
        let text = fs::read_to_string(&id).map_err(io_error(&id))?;
        let cluster: ClusterId = text
            .trim()
            .parse()
            .map_err(|error| CertificateError::Unfit(format!("{}: {error}", id.display())))?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != cluster) {
            return Err(CertificateError::Unfit(format!(
                "{} has the certificates of cluster {cluster}, not of {wanted}; name another --dir",
                dir.display()
            )));
        }
        Ok(Self {
            dir: dir.to_owned(),
            cluster,
            issuer: Issuer::new(
                authority_params(cluster),
                read_key(&dir.join(AUTHORITY_KEY))?,
            ),
        })
    }

    fn sign(
        &self,
        name: PeerName,
        pair: &KeyPair,
        terms: &Terms,
    ) -> Result<(Certificate, (i32, u8, u8)), CertificateError> {
        let local = LOCAL_NAMES.map(str::to_owned);
        let mut names = vec![name.to_string()];
        for host in local.iter().chain(&terms.hosts) {
            if !names.contains(host) {
                names.push(host.clone());
            }
        }
        // Brokers know each other by this name; one that looked like it would be another broker's.
        if terms
            .hosts
            .iter()
            .any(|host| host.parse::<PeerName>().is_ok())
        {
            let message = "a host cannot be called like a broker of a cluster".to_owned();
            return Err(CertificateError::Unfit(message));
        }
        let mut params = CertificateParams::new(names)?;
        let subject = format!("Millrace broker {}", name.broker);
        params.distinguished_name.push(DnType::CommonName, subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let until = set_validity(&mut params, terms.days);
        Ok((params.signed_by(pair, &self.issuer)?, until))
    }
}

/// What an authority says of itself. It depends on the cluster alone but for the dates, so that what it
/// signs can be made from its key.
fn authority_params(cluster: ClusterId) -> CertificateParams {
    let mut params = CertificateParams::default();
    let subject = format!("Millrace cluster {cluster}");
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, AUTHORITY_DAYS);
    params
}

/// Makes a certificate hold from now on, under a number of its own; the last day.
fn set_validity(params: &mut CertificateParams, days: u64) -> (i32, u8, u8) {
    let now = SystemTime::now();
    params.not_before = now.checked_sub(SLACK).unwrap_or(now).into();
    params.not_after = (now + Duration::from_secs(days * 24 * 3600)).into();
    let until = params.not_after;
    // The first bit stays clear: the number is to be positive.
    let serial = fastrand::u128(1 << 64..1 << 127).to_be_bytes();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    (until.year(), until.month().into(), until.day())
}

/// A new cluster's identity.
fn draw_cluster() -> ClusterId {
    ClusterId(fastrand::u128(..).to_be_bytes())
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CertificateError + use<> {
    let path = path.to_owned();
    |source| CertificateError::Io { path, source }
}

/// Makes a directory that only the user looks into, with those above it.
fn make_dir(path: &Path) -> Result<(), CertificateError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(io_error(path))
}

/// Writes a file that is not there yet, never readable by more than `mode` says.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CertificateError::Exists(path.to_owned()),
        _ => io_error(path)(source),
    })?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(io_error(path))
}

fn remove_left_over(path: &Path) -> Result<(), CertificateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

fn read_key(path: &Path) -> Result<KeyPair, CertificateError> {
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    KeyPair::from_pem(&text).map_err(|error| {
        CertificateError::Unfit(format!("{} is no private key: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const ONE: BrokerId = BrokerId(1);

    fn terms() -> Terms {
        Terms {
            hosts: vec![
                "broker-1.example.com".into(),
                "10.0.0.1".into(),
                "localhost".into(),
            ],
            days: 30,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_secret_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("certs");
        let cluster = ClusterId([0xc1; 16]);
        let authority = Authority::open(&dir, Some(cluster)).unwrap();
        let broker = authority.issue(ONE, &terms()).unwrap();
        assert_eq!(
            (mode(&authority.key_file()), mode(&broker.key)),
            (0o600, 0o600)
        );
        assert_eq!(mode(&broker.certificate), 0o644);
        let key = fs::read_to_string(&broker.key).unwrap();

        let again = Authority::open(&dir, None).unwrap();
        assert_eq!(again.cluster(), cluster);
        let refused = again.issue(ONE, &terms()).unwrap_err();
        assert!(
            matches!(&refused, CertificateError::Exists(path) if *path == broker.key),
            "{refused}"
        );
        assert!(
            again.issue(BrokerId(4), &terms()).is_ok(),
            "a broker is added later"
        );
        let other = Authority::open(&dir, Some(ClusterId([2; 16])));
        assert!(matches!(other, Err(CertificateError::Unfit(_))));

        let before = fs::read_to_string(&broker.certificate).unwrap();
        again.renew(ONE, &terms()).unwrap();
        assert_ne!(fs::read_to_string(&broker.certificate).unwrap(), before);
        assert_eq!(
            fs::read_to_string(&broker.key).unwrap(),
            key,
            "the key stays"
        );
        assert!(
            again.renew(BrokerId(9), &terms()).is_err(),
            "nothing to renew"
        );
    }

    #[test]
    fn an_authority_without_its_key_signs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), None).unwrap();
        fs::remove_file(authority.key_file()).unwrap();
        let error = Authority::open(dir.path(), None).map(drop).unwrap_err();
        assert!(error.to_string().contains("without its key"), "{error}");
    }

    #[test]
    fn a_host_is_not_called_like_a_broker() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), None).unwrap();
        let name = PeerName {
            broker: BrokerId(2),
            cluster: authority.cluster(),
        };
        let terms = Terms {
            hosts: vec![name.to_string()],
            days: 1,
        };
        assert!(authority.issue(ONE, &terms).is_err());
    }
}
