//! Who asks, and how.

use std::net::SocketAddr;
use std::time::Instant;

use super::connection::Behind;

/// What a handler knows of a request besides the request itself.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    /// `client.id`.
    pub(crate) client_id: Option<String>,
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    /// Version of the request, which is that of the response.
    pub(crate) version: i16,
    /// When the request's first bytes were seen.
    pub(crate) begun: Instant,
    /// When its last byte arrived.
    pub(crate) whole: Instant,
    /// What comes behind it on its connection, where the client lets a request wait for news.
    pub(crate) behind: Option<Behind>,
}
