//! Why a port cannot be had, and when to try again.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// How long a port in use is tried again. The kernel takes an io_uring down in the background,
/// after its process is gone, and until then the ring holds its sockets: 5 to 10 ms were seen
/// after a `kill -9`.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error("{addr} is in use by another process (`ss -lntup` shows which)")]
    InUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// No interface has the address.
    #[error("no interface of this machine has the address of {addr}")]
    NotLocal {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// Ports of this number are for root or `CAP_NET_BIND_SERVICE`.
    #[error("no permission to listen on {addr}")]
    Denied {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// Any other failure of a socket call.
    #[error("{addr}: {source}")]
    Io {
        /// The address asked for.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BindError {
    pub(crate) fn new(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { addr },
            io::ErrorKind::AddrNotAvailable => Self::NotLocal { addr },
            io::ErrorKind::PermissionDenied => Self::Denied { addr },
            _ => Self::Io { addr, source },
        }
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        let kind = match &error {
            BindError::InUse { .. } => io::ErrorKind::AddrInUse,
            BindError::NotLocal { .. } => io::ErrorKind::AddrNotAvailable,
            BindError::Denied { .. } => io::ErrorKind::PermissionDenied,
            BindError::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// A listening TCP socket; of port 0 the kernel makes a free one.
///
/// # Errors
/// The port is taken, or a socket call fails.
pub fn bind_tcp(addr: SocketAddr) -> Result<TcpListener, BindError> {
    patiently(|| TcpListener::bind(addr)).map_err(|source| BindError::new(addr, source))
}

/// Binds, waiting for the sockets of a broker that has just ended.
///
/// # Errors
/// That of the last attempt.
pub fn patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let started = Instant::now();
    loop {
        match bind() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && started.elapsed() < PATIENCE =>
            {
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}
