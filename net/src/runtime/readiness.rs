//! Waits until a UDP socket can be read, on the executor's ring.
//!
//! glommio has no public poll operation, so readiness is a receive of one byte with
//! `MSG_PEEK` on a second descriptor of the same socket: the ring completes it when a datagram
//! is there, and leaves the datagram in place for `recvmmsg`.

use futures_lite::{FutureExt, ready};
use glommio::net::UdpSocket;
use glommio::timer::Timer;
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Pause after a receive failed for an unknown reason. Such an error might repeat at once
/// (no memory for the ring, a socket in an error state), and must not become a busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Delay of the timer behind [`Readiness::poll_spin`]: due by the time that the executor has
/// gone round once, so that it never sleeps on it.
const SPIN_DELAY: Duration = Duration::from_nanos(500);

type Peek = Pin<Box<dyn Future<Output = glommio::Result<(), ()>>>>;

/// Readiness of one socket. Nothing is registered while nobody waits.
pub(super) struct Readiness {
    peeked: Rc<UdpSocket>,
    waiting: Waiting,
}

enum Waiting {
    Nothing,
    Peek(Peek),
    Pause(Timer),
}

impl Readiness {
    /// # Panics
    /// Outside of a glommio executor.
    pub(super) fn new(socket: &std::net::UdpSocket) -> io::Result<Self> {
        let descriptor = socket.try_clone()?.into_raw_fd();
        // SAFETY: the descriptor was just duplicated, is open, and belongs to nobody else.
        let peeked = unsafe { UdpSocket::from_raw_fd(descriptor) };
        Ok(Self {
            peeked: Rc::new(peeked),
            waiting: Waiting::Nothing,
        })
    }

    /// Whether the ring waits for a datagram.
    pub(super) fn is_armed(&self) -> bool {
        matches!(self.waiting, Waiting::Peek(_))
    }

    /// Waits until the socket can be read.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_armed() {
            self.waiting = Waiting::Peek(peek(Rc::clone(&self.peeked)));
        }
        self.poll_waiting(cx)
    }

    /// Waits for a moment, after a receive failed for an unknown reason.
    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wait(cx, ERROR_PAUSE)
    }

    /// Waits for one round of the executor: it looks at all its rings and runs all other
    /// tasks, but does not sleep.
    pub(super) fn poll_spin(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wait(cx, SPIN_DELAY)
    }

    fn wait(&mut self, cx: &mut Context<'_>, delay: Duration) -> Poll<()> {
        self.waiting = Waiting::Pause(Timer::new(delay));
        self.poll_waiting(cx)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.waiting {
            Waiting::Nothing => {}
            Waiting::Pause(timer) => {
                ready!(timer.poll(cx));
            }
            Waiting::Peek(peek) => {
                if let Err(error) = ready!(peek.poll(cx)) {
                    tracing::debug!(%error, "waiting for a datagram failed");
                    return self.poll_pause(cx);
                }
            }
        }
        self.waiting = Waiting::Nothing;
        Poll::Ready(())
    }
}

fn peek(socket: Rc<UdpSocket>) -> Peek {
    Box::pin(async move {
        let mut byte = [0];
        socket.peek_from(&mut byte).await?;
        Ok(())
    })
}
