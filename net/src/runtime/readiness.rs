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
pub(super) const SPIN_DELAY: Duration = Duration::from_nanos(500);

/// How often one peek may be polled. glommio 0.9 keeps one more waker of the task at each poll
/// until the operation completes, and panics when a task has 32,767: a socket that receives
/// nothing, of a shard whose datagrams all come from other shards' sockets.
const MAX_POLLS: u32 = 1024;

type Peek = Pin<Box<dyn Future<Output = glommio::Result<(), ()>>>>;

/// Readiness of one socket. Nothing is registered while nobody waits.
pub(super) struct Readiness {
    peeked: Rc<UdpSocket>,
    waiting: Waiting,
}

enum Waiting {
    Nothing,
    Peek { peek: Peek, polls: u32 },
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
        matches!(self.waiting, Waiting::Peek { .. })
    }

    /// Waits until the socket can be read.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.waiting {
            Waiting::Peek { polls, .. } if *polls < MAX_POLLS => *polls += 1,
            _ => {
                let peek = peek(Rc::clone(&self.peeked));
                self.waiting = Waiting::Peek { peek, polls: 1 };
            }
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
            Waiting::Peek { peek, .. } => {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::future::poll_fn;
    use std::net::Ipv4Addr;

    /// More wakers than glommio lets a task have.
    const POLLS: u32 = 40_000;

    #[test]
    fn a_silent_socket_is_polled_as_often_as_others_wake_the_task() {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(64 << 10)
            .spawn(|| async {
                let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let addr = socket.local_addr().unwrap();
                let mut readiness = Readiness::new(&socket).unwrap();
                for poll in 0..POLLS {
                    poll_fn(|cx| {
                        assert!(readiness.poll_readable(cx).is_pending());
                        Poll::Ready(())
                    })
                    .await;
                    if poll % 100 == 0 {
                        glommio::timer::sleep(Duration::from_micros(10)).await;
                    }
                }
                socket.send_to(b"x", addr).unwrap();
                poll_fn(|cx| readiness.poll_readable(cx)).await;
            });
        executor.unwrap().join().unwrap();
    }
}
