//! An authority and the certificates of brokers, with every fault that a certificate can have.

use millrace_net::PeerFiles;
use millrace_wire::PeerName;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Signs certificates, each written into a directory of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

/// Where a broker's files are.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

impl Files {
    pub fn paths(&self) -> PeerFiles<'_> {
        PeerFiles {
            certificate: &self.certificate,
            key: &self.key,
            authority: &self.authority,
        }
    }
}

/// Until when a certificate holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    Later,
    LongAgo,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The files of a broker.
    pub fn broker(&self, name: PeerName) -> Files {
        self.issue(&[name], Until::Later)
    }

    pub fn issue(&self, names: &[PeerName], until: Until) -> Files {
        let mut sans: Vec<String> = names.iter().map(PeerName::to_string).collect();
        sans.push("localhost".to_owned());
        let mut params = CertificateParams::new(sans).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if until == Until::LongAgo {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let pair = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&pair, &self.issuer).unwrap();
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let written = |name: &str, text: String| {
            let path: &Path = &dir.join(name);
            fs::write(path, text).unwrap();
            path.to_owned()
        };
        Files {
            certificate: written("cert.pem", certificate.pem()),
            key: written("key.pem", pair.serialize_pem()),
            authority: self.file(),
        }
    }
}
