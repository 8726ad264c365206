//! How brokers of a cluster know each other: each has a certificate with its [`PeerName`], signed by the
//! cluster's authority, and shows it whether it calls or is called.
//!
//! The caller knows whom it wants and demands that name. Who is called asks everybody for a
//! certificate and demands none, for clients have none; a caller is a broker if it showed one.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use millrace_wire::PeerName;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, TransportErrorCode};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{AlertDescription, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::identity::provider;
use super::pem::{Credentials, read_chain};
use super::{ServerIdentity, TlsError};

/// Names of a certificate that are looked at: a broker's has its peer name and those of its host.
const MAX_NAMES: usize = 64;

/// The files of a broker of a cluster, all PEM.
#[derive(Clone, Copy, Debug)]
pub struct PeerFiles<'a> {
    /// The broker's certificate.
    pub certificate: &'a Path,
    /// Its private key.
    pub key: &'a Path,
    /// The certificate of the cluster's authority, or several while one is replaced.
    pub authority: &'a Path,
}

/// What a broker is among its peers. Cheap to clone.
#[derive(Clone)]
pub struct PeerIdentity {
    name: PeerName,
    server: ServerIdentity,
    client: Arc<QuicClientConfig>,
}

impl PeerIdentity {
    /// The identity in these files, which must be that of `name`.
    ///
    /// # Errors
    /// The files cannot be read or used, the certificate has another name, or the peers would refuse
    /// it: another authority has signed it, it has expired, or it is not made for both directions.
    pub fn from_files(files: PeerFiles<'_>, name: PeerName) -> Result<Self, TlsError> {
        let credentials = Credentials::read(files.certificate, files.key)?;
        let roots = Arc::new(read_authority(files.authority)?);
        let content = |error: rustls::server::VerifierBuilderError| TlsError::Content {
            path: files.authority.to_owned(),
            what: error.to_string(),
        };
        let provider = Arc::new(provider());
        let servers =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(content)?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(content)?;
        check_name(&credentials, name)?;
        check_trusted(&credentials, name, &servers, &*clients).map_err(|source| {
            TlsError::Refused {
                path: credentials.path.clone(),
                authority: files.authority.to_owned(),
                source,
            }
        })?;
        let client = client_config(&credentials, servers).map_err(credentials.unusable())?;
        Ok(Self {
            name,
            client: Arc::new(client),
            server: ServerIdentity::new(credentials, clients)?,
        })
    }

    /// The broker.
    #[must_use]
    pub fn name(&self) -> PeerName {
        self.name
    }

    /// What it shows to whoever connects.
    #[must_use]
    pub fn server(&self) -> &ServerIdentity {
        &self.server
    }

    /// What it shows to peers that it connects to. The name to demand of one is that of its
    /// [`PeerName`], given to [`quinn::Endpoint::connect_with`].
    #[must_use]
    pub fn client(&self) -> Arc<QuicClientConfig> {
        Arc::clone(&self.client)
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PeerIdentity");
        debug
            .field("name", &self.name)
            .field("server", &self.server);
        debug.finish_non_exhaustive()
    }
}

/// The broker that the other end of a connection has proved to be, whichever end has called; `None`
/// for a client. Its cluster is to be compared: an authority may sign for several.
#[must_use]
pub fn proven_peer(connection: &Connection) -> Option<PeerName> {
    let shown = connection.peer_identity()?;
    let chain = shown.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    only_peer_name(chain.first()?)
}

/// Why two brokers do not talk: something that a person mends, so that trying again is slow or vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// The other's certificate is of another authority.
    #[error(
        "its certificate is not signed by our authority (tls.ca.file); is it a broker of this cluster?"
    )]
    UnknownAuthority,
    /// The other is not who was called.
    #[error("another broker, or one of another cluster, answers at that address")]
    AnotherBroker,
    /// The other's certificate is out of date.
    #[error(
        "its certificate has expired or is not valid yet; `millctl certs --renew` makes a new one"
    )]
    Expired,
    /// The other refuses this broker's certificate, with this alert of TLS.
    #[error(
        "it refuses our certificate ({0}): its authority (tls.ca.file) is another, or the certificate has expired"
    )]
    Refused(u8),
    /// Something else of TLS, with its alert.
    #[error("the handshake failed (TLS alert {0})")]
    Handshake(u8),
}

impl PeerFault {
    /// The fault behind the end of a connection to a peer, if it is one.
    #[must_use]
    pub fn of(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::TransportError(error) => alert(error.code).map(Self::ours),
            ConnectionError::ConnectionClosed(close) => alert(close.error_code).map(Self::Refused),
            _ => None,
        }
    }

    /// What this end has told the other.
    fn ours(alert: u8) -> Self {
        match AlertDescription::from(alert) {
            AlertDescription::UnknownCA => Self::UnknownAuthority,
            AlertDescription::BadCertificate => Self::AnotherBroker,
            AlertDescription::CertificateExpired => Self::Expired,
            _ => Self::Handshake(alert),
        }
    }
}

/// The alert of TLS in a code of QUIC (RFC 9001 section 4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    (0..=u8::MAX).find(|alert| TransportErrorCode::crypto(*alert) == code)
}

fn read_authority(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Unusable {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(roots)
}

/// The names of brokers in a certificate; it parses nothing else of it.
fn peer_names(certificate: &CertificateDer<'_>) -> Vec<PeerName> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let names = certificate.valid_dns_names().take(MAX_NAMES);
    names.filter_map(|name| name.parse().ok()).collect()
}

/// The one broker that a certificate is of. One with two names is nobody's.
fn only_peer_name(certificate: &CertificateDer<'_>) -> Option<PeerName> {
    match peer_names(certificate)[..] {
        [name] => Some(name),
        _ => None,
    }
}

fn check_name(credentials: &Credentials, expected: PeerName) -> Result<(), TlsError> {
    if only_peer_name(credentials.certificate()) == Some(expected) {
        return Ok(());
    }
    let names = peer_names(credentials.certificate());
    let names: Vec<String> = names.iter().map(PeerName::to_string).collect();
    Err(TlsError::Another {
        path: credentials.path.clone(),
        expected,
        found: match names.is_empty() {
            true => "no broker".to_owned(),
            false => names.join(" and "),
        },
    })
}

/// Judges the broker's own certificate as its peers will, in both directions.
fn check_trusted(
    credentials: &Credentials,
    name: PeerName,
    servers: &WebPkiServerVerifier,
    clients: &dyn ClientCertVerifier,
) -> Result<(), rustls::Error> {
    let (own, others) = (credentials.certificate(), &credentials.chain[1..]);
    let now = UnixTime::now();
    let name = server_name(name);
    servers.verify_server_cert(own, others, &name, &[], now)?;
    clients.verify_client_cert(own, others, now).map(drop)
}

fn server_name(name: PeerName) -> ServerName<'static> {
    let name = ServerName::try_from(name.to_string());
    name.expect("a broker's name is a legal DNS name; a test says so for the longest")
}

fn client_config(
    credentials: &Credentials,
    servers: Arc<WebPkiServerVerifier>,
) -> Result<QuicClientConfig, rustls::Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(servers)
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    config.alpn_protocols = vec![millrace_wire::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    let no_initial_suite = |_| rustls::Error::General("no cipher suite for QUIC".to_owned());
    QuicClientConfig::try_from(config).map_err(no_initial_suite)
}
