//! glommio's TCP stream and timer, as hyper wants them.

use crate::runtime::ThreadBound;
use futures_lite::{AsyncRead, AsyncWrite, ready};
use glommio::net::TcpStream;
use glommio::timer::Timer;
use hyper::rt::{Read, ReadBufCursor, Sleep, Write};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Bytes of one read, on the stack: a request's head is rarely longer.
const READ_LEN: usize = 2048;

/// A TCP connection for hyper.
pub(super) struct HyperStream(TcpStream);

impl HyperStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl Read for HyperStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_LEN];
        let wanted = into.remaining().min(READ_LEN);
        let read = ready!(Pin::new(&mut self.0).poll_read(cx, &mut bytes[..wanted]))?;
        into.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl Write for HyperStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// Timers for hyper, on the current executor.
#[derive(Clone, Copy)]
pub(super) struct HyperTimer;

struct HyperSleep(ThreadBound<Timer>);

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(HyperSleep(ThreadBound::new(Timer::new(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

impl Sleep for HyperSleep {}

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut *self.0).poll(cx).map(|_| ())
    }
}
