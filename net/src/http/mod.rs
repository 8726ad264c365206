//! A small HTTP/1.1 server for metrics and health: `GET` and `HEAD`, no request bodies, few
//! clients.
//!
//! Every wait has an end: for the head of a request, between requests, for a client that does
//! not read its response, and for a connection as a whole. So a slow client holds one of few
//! places for a bounded time, and nothing else.
//!
//! Absent on purpose: TLS, routing, compression.

mod stream;

use crate::pulse::{Work, named};
use bytes::Bytes;
use futures_lite::{AsyncWrite, FutureExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use stream::{HyperStream, HyperTimer};

pub use hyper::StatusCode;

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at once. One more is answered 503 and closed.
    pub connections: usize,
    /// Bytes of a request's head. A longer one is answered 431.
    pub head_bytes: usize,
    /// Headers of a request. More are answered 431.
    pub headers: usize,
    /// The head of a request must have arrived in this time.
    pub head_timeout: Duration,
    /// A connection is closed when nothing could be read (between requests) or written for so
    /// long.
    pub idle_timeout: Duration,
    /// A connection is closed after this time in any case.
    pub lifetime: Duration,
}

impl Default for HttpLimits {
    /// A few scrapers, probes and people with a browser. hyper's least buffer is 8 KiB.
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 8 << 10,
            headers: 64,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            lifetime: Duration::from_secs(600),
        }
    }
}

/// Pause after `accept` failed, for example because the process has no descriptor left: the
/// waiting client stays in the backlog, so trying again at once would be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client over the limit of connections is told.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The path, as it came.
    pub path: String,
    /// What stands behind the question mark, as it came; empty without one.
    pub query: String,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body. Left out for `HEAD`.
    pub body: Bytes,
}

impl Reply {
    /// Plain text.
    #[must_use]
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// There is nothing at this path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }
}

/// Serves `listener` on the current executor until the future is dropped. `handler` is given
/// the path and the query of each `GET` and `HEAD`.
///
/// # Errors
/// The listener cannot be used at all.
///
/// # Panics
/// Outside of a glommio executor.
pub async fn serve<H>(
    listener: std::net::TcpListener,
    limits: HttpLimits,
    handler: H,
) -> io::Result<()>
where
    H: AsyncFn(Asked) -> Reply + 'static,
{
    // The ring's accept waits only on a blocking descriptor.
    listener.set_nonblocking(false)?;
    // SAFETY: the descriptor is open and was just given up by its only owner.
    let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let server = Rc::new(Server {
        limits,
        handler,
        connections: Cell::new(0),
    });
    loop {
        match listener.accept().await {
            Ok(stream) => server.clone().admit(stream),
            Err(error) => {
                tracing::warn!(%error, "accepting an HTTP connection failed");
                Timer::new(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Server<H> {
    limits: HttpLimits,
    handler: H,
    connections: Cell<usize>,
}

impl<H: AsyncFn(Asked) -> Reply + 'static> Server<H> {
    fn admit(self: Rc<Self>, stream: TcpStream) {
        if self.connections.get() >= self.limits.connections {
            return turn_away(stream);
        }
        self.connections.set(self.connections.get() + 1);
        let conversation = async move {
            self.converse(stream).await;
            self.connections.set(self.connections.get() - 1);
        };
        glommio::spawn_local(named(Work::Http, conversation)).detach();
    }

    async fn converse(self: &Rc<Self>, stream: TcpStream) {
        let idle = Some(self.limits.idle_timeout);
        let set_up = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(idle))
            .and_then(|()| stream.set_write_timeout(idle));
        if let Err(error) = set_up {
            tracing::debug!(%error, "an HTTP connection ended at once");
            return;
        }
        let lifetime = async {
            Timer::new(self.limits.lifetime).await;
            Ok(())
        };
        if let Err(error) = self.connection(stream).or(lifetime).await {
            tracing::debug!(%error, "an HTTP connection ended");
        }
    }

    fn connection(
        self: &Rc<Self>,
        stream: TcpStream,
    ) -> impl Future<Output = hyper::Result<()>> + use<H> {
        let server = Rc::clone(self);
        let service = service_fn(move |request| {
            let server = Rc::clone(&server);
            async move { Ok::<_, Infallible>(server.respond(request).await) }
        });
        http1::Builder::new()
            .timer(HyperTimer)
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(self.limits.head_bytes)
            .max_headers(self.limits.headers)
            .serve_connection(HyperStream::new(stream), service)
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let refusal = Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let mut response = response(refusal);
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let asked = Asked {
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
        };
        response((self.handler)(asked).await)
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    let content_type = HeaderValue::from_static(reply.content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Says that there are too many connections, if that fits into the socket's buffer.
fn turn_away(mut stream: TcpStream) {
    let mut nobody = Context::from_waker(Waker::noop());
    if let Poll::Ready(Err(error)) = Pin::new(&mut stream).poll_write(&mut nobody, BUSY) {
        tracing::debug!(%error, "an HTTP client over the limit was not told");
    }
}
