//! One TCP connection on its executor.

use super::rope::{NO_SLICES, Rope};
use crate::runtime::{Spinner, Stint};
use bytes::{BufMut, BytesMut};
use futures_lite::{AsyncRead, AsyncWrite, ready};
use glommio::net::{TcpListener, TcpStream};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Accepts the connections of one listening socket.
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
    spinner: Rc<Spinner>,
}

impl TcpAcceptor {
    /// Takes over a listening socket of [`super::bind_tcp_group`]. Its connections keep the
    /// executor awake by `spinner`.
    ///
    /// # Panics
    /// Outside of a glommio executor.
    #[must_use]
    pub fn new(listener: std::net::TcpListener, spinner: Rc<Spinner>) -> Self {
        // SAFETY: the descriptor is open and was just given up by its only owner.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        Self { listener, spinner }
    }

    /// The next connection.
    ///
    /// # Errors
    /// The system has no descriptor or memory for it, or it is gone already.
    pub async fn accept(&self) -> io::Result<TcpConnection> {
        let stream = self.listener.accept().await.map_err(io::Error::from)?;
        TcpConnection::new(stream, Rc::clone(&self.spinner))
    }
}

/// A connection. What it reads and writes may be awaited by two tasks at the same time, one
/// each.
#[derive(Debug)]
pub struct TcpConnection {
    stream: RefCell<TcpStream>,
    descriptor: RawFd,
    local: SocketAddr,
    peer: SocketAddr,
    spinner: Rc<Spinner>,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl TcpConnection {
    fn new(stream: TcpStream, spinner: Rc<Spinner>) -> io::Result<Self> {
        stream.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Self {
            descriptor: stream.as_raw_fd(),
            local: stream.local_addr().map_err(io::Error::from)?,
            peer: stream.peer_addr().map_err(io::Error::from)?,
            stream: RefCell::new(stream),
            spinner,
            received: Cell::new(0),
            sent: Cell::new(0),
        })
    }

    /// The address that the client connected to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Bytes received and sent so far: what has changed since a look shows life.
    #[must_use]
    pub fn traffic(&self) -> u64 {
        self.received.get() + self.sent.get()
    }

    /// Appends to `into` what is there, at most `limit` bytes and no more than `into` has room
    /// for. `None`: nothing is there now. `Some(0)`: the client sends no more.
    ///
    /// # Errors
    /// The connection is broken.
    ///
    /// # Panics
    /// If there is no room, or the limit is zero: the answer would look like the end.
    pub fn try_read(&self, into: &mut BytesMut, limit: usize) -> io::Result<Option<usize>> {
        let room = into.capacity() - into.len();
        let limit = limit.min(room);
        assert!(limit > 0, "there is room to read into");
        let spare = into.spare_capacity_mut().as_mut_ptr();
        // SAFETY: the kernel writes at most `limit` bytes, for which there is spare capacity.
        let read = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::recv(self.descriptor, spare.cast(), limit, flags)
        };
        let Some(read) = outcome(read)? else {
            return Ok(None);
        };
        // SAFETY: the kernel has just filled so many bytes of the spare capacity.
        unsafe { into.advance_mut(read) };
        self.received.set(self.received.get() + read as u64);
        self.spinner.active();
        Ok(Some(read))
    }

    /// Waits until there is something to read, or the end.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut stream = self.stream.borrow_mut();
            // Zero bytes are read when there are some, and none is taken.
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut []));
            Poll::Ready(read.map(drop))
        })
        .await
    }

    /// Writes of `rope` what the socket takes now. True when that is all.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn try_write_all(&self, rope: &mut Rope) -> io::Result<bool> {
        while !rope.is_empty() {
            match self.try_write(rope)? {
                Some(written) => self.wrote(rope, written),
                None => return Ok(false),
            }
        }
        self.spinner.active();
        Ok(true)
    }

    /// Writes the next `len` bytes of `rope`, or all if there are fewer, perhaps more.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn write(&self, rope: &mut Rope, len: usize) -> io::Result<()> {
        let until = rope.len().saturating_sub(len);
        let mut stint = Stint::default();
        while rope.len() > until {
            if !self.try_write_all(rope)? {
                let written = poll_fn(|cx| self.poll_write(cx, rope.first())).await?;
                self.wrote(rope, written);
            }
            stint.go_on().await;
        }
        Ok(())
    }

    /// Tells the client, and whoever waits here, that the connection is over.
    pub fn shut_down(&self) {
        // SAFETY: the descriptor is open as long as the stream lives. An error means that the
        // connection is over already.
        unsafe { libc::shutdown(self.descriptor, libc::SHUT_RDWR) };
    }

    fn wrote(&self, rope: &mut Rope, written: usize) {
        self.sent.set(self.sent.get() + written as u64);
        rope.advance(written);
    }

    fn try_write(&self, rope: &Rope) -> io::Result<Option<usize>> {
        let mut slices = NO_SLICES.map(IoSlice::new);
        let count = rope.slices(&mut slices);
        // SAFETY: zeros are a message without name, control data and slices.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        // `IoSlice` is `iovec` in memory; the kernel only reads what it names.
        message.msg_iov = slices.as_mut_ptr().cast();
        message.msg_iovlen = count;
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the message names `count` slices of live memory.
        outcome(unsafe { libc::sendmsg(self.descriptor, &raw const message, flags) })
    }

    /// Waits until the socket takes something of `chunk`.
    fn poll_write(&self, cx: &mut Context<'_>, chunk: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, chunk)
    }
}

/// The bytes that a system call moved; `None` if it would have had to wait.
fn outcome(moved: isize) -> io::Result<Option<usize>> {
    if let Ok(moved) = usize::try_from(moved) {
        return Ok(Some(moved));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}
