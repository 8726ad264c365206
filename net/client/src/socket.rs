//! The client's UDP socket. It is connected to the broker's address, so the kernel hands over what the network says of
//! datagrams that were sent: above all that nobody listens at the port, which is how the end of a broker's process shows
//! while no other has taken its place.
//!
//! Such a report never ends the endpoint: it is told to whoever has a connection there, and they decide.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::watch;

use crate::runtime::Runtime;

/// Reports in a row that one look at the socket passes over. More are an error of the socket itself.
const MAX_REPORTS: u32 = 16;

/// Where it is told that nobody listens at the broker's port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(watch::Sender<()>);

impl Refusals {
    /// What is told from now on.
    pub(crate) fn later(&self) -> Refused {
        Refused(self.0.subscribe())
    }

    fn tell(&self) {
        self.0.send_replace(());
    }
}

/// See [`Refusals::later`].
#[derive(Debug)]
pub(crate) struct Refused(watch::Receiver<()>);

impl Refused {
    /// Resolves when it is told.
    pub(crate) async fn told(&mut self) {
        if self.0.changed().await.is_err() {
            // The endpoint is gone, and nothing will be told.
            std::future::pending::<()>().await;
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// The same socket, to ask for its pending error.
    reports: UdpSocket,
    refusals: Refusals,
    /// Something was sent since something was received. Only then a report may wait.
    is_unanswered: AtomicBool,
}

impl Socket {
    pub(crate) fn new(
        socket: UdpSocket,
        runtime: &Runtime,
        refusals: Refusals,
    ) -> io::Result<Arc<Self>> {
        let reports = socket.try_clone()?;
        Ok(Arc::new(Self {
            inner: runtime.quinn().wrap_udp_socket(socket)?,
            reports,
            refusals,
            is_unanswered: AtomicBool::new(false),
        }))
    }

    fn hear(&self, report: &io::Error) {
        tracing::trace!(%report, "the network says of a datagram");
        if report.kind() == io::ErrorKind::ConnectionRefused {
            self.refusals.tell();
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // The next send would take the report for its own failure, and pass over it.
        if self.is_unanswered.swap(true, Ordering::Relaxed)
            && let Ok(Some(report)) = self.reports.take_error()
        {
            self.hear(&report);
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut reports = 0;
        loop {
            match self.inner.poll_recv(cx, buffers, metas) {
                Poll::Ready(Err(report)) if reports < MAX_REPORTS => {
                    reports += 1;
                    self.hear(&report);
                }
                Poll::Ready(received) => {
                    self.is_unanswered.store(false, Ordering::Relaxed);
                    return Poll::Ready(received);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
