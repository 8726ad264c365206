//! Who the broker is: a certificate known by its SHA-256.
//!
//! The handshake's signature is always verified, so whoever shows the certificate also
//! holds its key. Names, dates and issuers are not looked at: the fingerprint says more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::{CertificateChange, Hex};
use crate::known_brokers::{self, Pin};
use crate::{ClientError, Trust};

/// What this crate needs of TLS 1.3, the only version that QUIC has.
const NOT_TLS12: &str = "QUIC has no TLS 1.2";

/// The SHA-256 of a certificate in DER.
#[must_use]
pub fn certificate_fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256
        .tls13()
        .expect("a suite of TLS 1.3 by its name");
    let digest = suite.common.hash_provider.hash(certificate);
    digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

/// What a broker must show, read from the files that say so.
#[derive(Clone, Debug)]
enum Expected {
    /// The first certificate is to be remembered in this file.
    First(PathBuf),
    /// This one, by a line of this file.
    Pinned(PathBuf, Pin),
    /// One of these, of which the text says where they come from.
    OneOf(Vec<[u8; 32]>, String),
}

impl Expected {
    fn read(trust: &Trust, broker: SocketAddr) -> Result<Self, ClientError> {
        Ok(match trust {
            Trust::FirstUse(file) => match known_brokers::find(file, &broker.to_string())? {
                Some(pin) => Self::Pinned(file.clone(), pin),
                None => Self::First(file.clone()),
            },
            Trust::Fingerprint(fingerprint) => {
                Self::OneOf(vec![*fingerprint], format!("sha256:{}", Hex(fingerprint)))
            }
            Trust::File(file) => {
                let trouble = |reason: String| ClientError::TrustFile {
                    file: file.clone(),
                    reason,
                };
                let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
                    .and_then(Iterator::collect::<Result<_, _>>)
                    .map_err(|error| trouble(error.to_string()))?;
                if certificates.is_empty() {
                    return Err(trouble("no certificate in it".to_owned()));
                }
                let known = certificates.iter().map(certificate_fingerprint).collect();
                Self::OneOf(known, format!("those in {}", file.display()))
            }
        })
    }

    fn accepts(&self, fingerprint: &[u8; 32]) -> bool {
        match self {
            Self::First(_) => true,
            Self::Pinned(_, pin) => pin.fingerprint == *fingerprint,
            Self::OneOf(known, _) => known.contains(fingerprint),
        }
    }
}

/// The check of one broker's certificate in one connection attempt.
#[derive(Debug)]
pub(crate) struct CertificateCheck {
    broker: SocketAddr,
    expected: Expected,
    /// What the broker showed.
    seen: Mutex<Option<[u8; 32]>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl CertificateCheck {
    /// Reads what is trusted now, so that a file mended by hand counts at the next attempt.
    pub(crate) fn new(trust: &Trust, broker: SocketAddr) -> Result<Arc<Self>, ClientError> {
        let expected = Expected::read(trust, broker)?;
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Ok(Arc::new(Self {
            broker,
            expected,
            seen: Mutex::new(None),
            algorithms,
        }))
    }

    /// The TLS configuration that applies this check.
    pub(crate) fn config(self: &Arc<Self>) -> rustls::ClientConfig {
        let provider = Arc::new(provider());
        let verifier: Arc<dyn ServerCertVerifier> = Arc::<Self>::clone(self);
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider serves TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![millrace_wire::ALPN.to_vec()];
        config
    }

    /// To be called when the handshake is done: remembers what was trusted on first use.
    pub(crate) fn accepted(&self) -> Result<(), ClientError> {
        match (&self.expected, self.seen()) {
            (Expected::First(file), Some(seen)) => {
                known_brokers::add(file, &self.broker.to_string(), &seen)
            }
            _ => Ok(()),
        }
    }

    /// Why the handshake failed, when the certificate was the reason.
    pub(crate) fn refusal(&self) -> Option<ClientError> {
        let (found, broker) = (self.seen()?, self.broker);
        if self.expected.accepts(&found) {
            return None;
        }
        Some(match &self.expected {
            Expected::First(_) => return None,
            Expected::Pinned(file, Pin { line, fingerprint }) => {
                let (file, line, pinned) = (file.clone(), *line, *fingerprint);
                let change = CertificateChange {
                    broker,
                    file,
                    line,
                    pinned,
                    found,
                };
                ClientError::CertificateChanged(Box::new(change))
            }
            Expected::OneOf(_, trusted) => ClientError::CertificateUntrusted {
                broker,
                found,
                trusted: trusted.clone(),
            },
        })
    }

    fn seen(&self) -> Option<[u8; 32]> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// ring, with AES-128-GCM first: the broker follows its clients, and this is the cheapest suite on
/// processors with AES instructions, and beyond what anybody breaks.
fn provider() -> CryptoProvider {
    use ring::cipher_suite;
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    }
}

impl ServerCertVerifier for CertificateCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = certificate_fingerprint(end_entity);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
        if self.expected.accepts(&fingerprint) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(NOT_TLS12.to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
