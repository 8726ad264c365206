//! Certificates and keys in PEM files.

use std::fs;
use std::path::{Path, PathBuf};

use ring::digest;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Fingerprint, TlsError};

/// A certificate with its chain, and its key, as they are read.
pub(super) struct Credentials {
    /// The certificate first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// Where the certificate comes from.
    pub(super) path: PathBuf,
}

impl Credentials {
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            chain: read_chain(certificate)?,
            key: read_key(key)?,
            path: certificate.to_owned(),
        })
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let digest = digest::digest(&digest::SHA256, self.certificate());
        let digest = digest.as_ref().try_into();
        Fingerprint(digest.expect("SHA-256 is 32 bytes"))
    }

    /// What [`TlsError`] says when rustls does not take them.
    pub(super) fn unusable(&self) -> impl FnOnce(rustls::Error) -> TlsError + use<> {
        let path = self.path.clone();
        |source| TlsError::Unusable { path, source }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Io {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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
