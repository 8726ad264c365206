//! The broker's certificate, the keys that follow from it, and how brokers of a cluster know each
//! other.
//!
//! - [`ServerIdentity`]: what a broker shows to whoever connects. One alone makes a self-signed
//!   certificate on its first start, which clients pin by its fingerprint.
//! - [`PeerIdentity`]: what it shows and asks for among the brokers of a cluster, whose certificates
//!   one authority signs.
//!
//! TLS 1.3 only, with ring; no session tickets and no 0-RTT, for a produce request must not be
//! replayed.
//!
//! Invariant: a connection is a broker's only if [`proven_peer`] says so. Clients need no
//! certificate, and one that shows a certificate of another authority is refused in the handshake.

mod generated;
mod identity;
mod peers;
mod pem;

use std::fmt;
use std::io;
use std::path::PathBuf;

use millrace_wire::PeerName;

pub use generated::SERVER_NAME;
pub use identity::ServerIdentity;
pub use peers::{PeerFault, PeerFiles, PeerIdentity, proven_peer};

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
    /// The certificate is not that of the broker that is to show it.
    #[error(
        "{path} is not the certificate of {expected}, but of {found}; make one with `millctl certs`",
        path = path.display()
    )]
    Another {
        /// The certificate's file.
        path: PathBuf,
        /// Who shows it.
        expected: PeerName,
        /// Whose names are in it.
        found: String,
    },
    /// The peers would refuse the certificate.
    #[error(
        "{path} would be refused by the other brokers, who trust {authority}: {source}; make one with `millctl certs`",
        path = path.display(), authority = authority.display()
    )]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// The file of the authority that they trust.
        authority: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The certificate could not be made.
    #[error("no certificate could be made: {0}")]
    Generate(#[from] rcgen::Error),
}
