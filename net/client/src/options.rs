//! How to reach a broker, and how to know that it is the right one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Time for the QUIC handshake. QUIC has no refusal of a connection: a port where nobody
/// listens looks like a packet lost, so this is how soon that becomes an error.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Kafka's `request.timeout.ms`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Kafka's `reconnect.backoff.ms`.
const RECONNECT_BACKOFF: Duration = Duration::from_millis(50);

/// Kafka's `reconnect.backoff.max.ms`.
const RECONNECT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A broker that was silent for this long, although asked for a sign of life, is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that the broker may send ahead on one stream: 2 MiB are 2 GB/s at a round trip of
/// a millisecond. A consumer that stands still holds this much per partition.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// How to reach a broker.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The broker's address, native protocol.
    pub broker: SocketAddr,
    /// How to know that it is the right one.
    pub trust: Trust,
    /// What runs this client's tasks and timers.
    pub runtime: RuntimeKind,
    /// Bound on the handshake of a connection.
    pub connect_timeout: Duration,
    /// Bound on a request, from sending it to having the answer.
    pub request_timeout: Duration,
    /// A broker that was silent for this long is gone: the connection is opened anew. An
    /// idle connection asks for a sign of life three times in this time.
    pub idle_timeout: Duration,
    /// Wait before the second attempt to connect; it doubles with each, and half of it is
    /// random.
    pub reconnect_backoff: Duration,
    /// The longest wait between two attempts.
    pub reconnect_backoff_max: Duration,
    /// Bytes that the broker may send ahead on one stream. A consumer that stands still
    /// holds this much per partition.
    pub stream_window_bytes: u32,
}

impl ConnectOptions {
    /// The defaults for this broker.
    #[must_use]
    pub fn new(broker: SocketAddr, trust: Trust) -> Self {
        Self {
            broker,
            trust,
            runtime: RuntimeKind::default(),
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            reconnect_backoff: RECONNECT_BACKOFF,
            reconnect_backoff_max: RECONNECT_BACKOFF_MAX,
            stream_window_bytes: STREAM_WINDOW_BYTES,
        }
    }
}

/// How a client knows a broker. Names and dates in certificates mean nothing here: a
/// broker is whoever holds the key of the certificate that is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Trust the certificate that the broker shows first, remember its fingerprint in this
    /// file, and refuse another one later. Lines of `host:port sha256:hex`.
    FirstUse(PathBuf),
    /// Trust the certificates in this PEM file.
    File(PathBuf),
    /// Trust the certificate with this SHA-256.
    Fingerprint([u8; 32]),
}

/// What runs a client's tasks and timers. The client must be made and used inside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeKind {
    /// The tokio runtime that the caller is in.
    #[cfg(feature = "tokio")]
    Tokio,
    /// The glommio executor that the caller is in. Build it with a preemption timer that does
    /// not fire (`millrace_net::PREEMPTION_TIMER`): one that fires early makes glommio 0.9
    /// sleep on tasks that can run.
    #[cfg(feature = "glommio")]
    Glommio,
}

impl Default for RuntimeKind {
    fn default() -> Self {
        #[cfg(feature = "tokio")]
        return Self::Tokio;
        #[cfg(not(feature = "tokio"))]
        return Self::Glommio;
    }
}
