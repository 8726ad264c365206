//! What a broker shows to whoever connects to it.
//!
//! The keys of stateless resets and retry tokens are derived from the private key. So they are
//! the same on all shards, and a broker that was killed and started again can tell the clients
//! of its former life at once that their connections are gone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use ring::{hkdf, hmac};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::PrivateKeyDer;

use super::pem::Credentials;
use super::{Fingerprint, TlsError, generated};

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

impl ServerIdentity {
    /// The identity in `data_dir`, made there if it has none yet.
    ///
    /// # Errors
    /// The files cannot be written, read or used.
    pub fn in_data_dir(data_dir: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = generated::in_data_dir(data_dir)?;
        Self::from_files(&certificate, &key)
    }

    /// The identity of a user's own PEM files: the certificate with its chain, and its key.
    ///
    /// # Errors
    /// The files cannot be read or used.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let credentials = Credentials::read(certificate, key)?;
        Self::new(credentials, WebPkiClientVerifier::no_client_auth())
    }

    /// An identity that judges the certificates of clients so.
    pub(super) fn new(
        credentials: Credentials,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<Self, TlsError> {
        let reset_key = derive(&credentials.key, RESET_KEY_LABEL);
        let token_key = derive(&credentials.key, TOKEN_KEY_LABEL);
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(token_key.as_ref());
        let (fingerprint, certificate) = (credentials.fingerprint(), credentials.path.clone());
        let unusable = credentials.unusable();
        Ok(Self {
            crypto: Arc::new(quic_config(credentials, clients).map_err(unusable)?),
            reset_key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key.as_ref())),
            token_key: Arc::new(token_key),
            fingerprint,
            certificate,
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
    credentials: Credentials,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<QuicServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(credentials.chain, credentials.key)?;
    config.alpn_protocols = vec![millrace_wire::ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    let no_initial_suite = |_| rustls::Error::General("no cipher suite for QUIC".to_owned());
    QuicServerConfig::try_from(config).map_err(no_initial_suite)
}

/// ring, with AES-128-GCM first: the cheapest suite on processors with AES instructions, and
/// beyond what anybody breaks. A client that prefers another one gets it.
pub(super) fn provider() -> CryptoProvider {
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
