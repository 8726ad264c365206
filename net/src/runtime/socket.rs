//! A shard's UDP socket, as quinn drives it.
//!
//! Receiving: first what other shards forwarded, then the socket itself. Each datagram of the
//! socket is looked at once, for the shard that its connection id names; a stranger is handed
//! to its owner and taken out of the batch.
//!
//! A socket that always has more would keep the executor from its rings, and with them the
//! disk from being written; so receiving goes by the [`Stint`].
//!
//! Sending: a send that finds the buffer full is repeated after [`SEND_RETRY`]. glommio offers
//! no wait for a writable UDP socket short of sending through the ring, which knows neither
//! GSO nor ECN. The buffer of [`crate::steering::SEND_BUFFER`] holds more than a link drains
//! in that time, so the link does not run dry.

use super::counters::{DatagramCounters, add};
use super::patience::Patience;
use super::readiness::Readiness;
use super::spin::Offers;
use super::stint::Stint;
use super::thread_bound::ThreadBound;
use crate::steering::{MAX_DATAGRAM_LEN, Route};
use futures_lite::ready;
use glommio::timer::Timer;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use quinn_udp::UdpSocketState;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Messages taken by one `recvmmsg`. Each may be a train of segments of up to 64 KiB, and
/// quinn's receive buffer has room for 32 of them; only the part that is used becomes
/// resident, so this bounds it to 1 MiB an endpoint.
const RECEIVE_BATCH: usize = 16;

/// The longest message, a train of datagrams that the kernel has put together.
const MAX_MESSAGE_LEN: usize = u16::MAX as usize;

/// Batches in a row of which nothing was kept before the executor's other tasks get a turn, so
/// that a flood of garbage does not hold it.
const EMPTY_BATCHES: usize = 8;

/// Pause before a send that found the send buffer full is tried again.
const SEND_RETRY: Duration = Duration::from_millis(1);

/// One UDP socket of one executor.
#[derive(Debug)]
pub(crate) struct ShardSocket(ThreadBound<Inner>);

struct Inner {
    socket: UdpSocket,
    state: UdpSocketState,
    readiness: RefCell<Readiness>,
    stint: RefCell<Stint>,
    route: Option<Route>,
    counters: Rc<DatagramCounters>,
    spin: Duration,
    offers: Offers,
    /// For the next datagram, once something was sent or received.
    patience: Patience,
    /// The socket was found empty since.
    is_waiting: Cell<bool>,
    /// When a datagram was last sent or received.
    last_active: Cell<Instant>,
    /// Set while the send buffer is full.
    send_blocked_until: Cell<Option<Instant>>,
}

impl ShardSocket {
    /// # Panics
    /// Outside of a glommio executor.
    pub(crate) fn new(
        socket: UdpSocket,
        spin: Duration,
        route: Option<Route>,
        counters: Rc<DatagramCounters>,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let readiness = RefCell::new(Readiness::new(&socket)?);
        let inner = Inner {
            socket,
            state,
            readiness,
            stint: RefCell::default(),
            route,
            counters,
            spin,
            offers: Offers::default(),
            patience: Patience::new(spin),
            is_waiting: Cell::new(false),
            last_active: Cell::new(Instant::now()),
            send_blocked_until: Cell::new(None),
        };
        Ok(Self(ThreadBound::new(inner)))
    }
}

impl AsyncUdpSocket for ShardSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(SendPoller {
            socket: self,
            retry: ThreadBound::new(None),
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, buffers, metas).map(Ok)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.state.max_gso_segments()
    }

    /// As many of the longest datagrams as one message may be long: quinn makes its buffers for as
    /// many as this says, and a message of shorter ones is no longer.
    fn max_receive_segments(&self) -> usize {
        MAX_MESSAGE_LEN
            .div_ceil(MAX_DATAGRAM_LEN)
            .min(self.0.state.gro_segments())
    }

    fn may_fragment(&self) -> bool {
        self.0.state.may_fragment()
    }
}

impl Inner {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send((&self.socket).into(), transmit);
        let now = Instant::now();
        match &sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                add(&self.counters.send_blocked, 1);
                self.send_blocked_until.set(Some(now + SEND_RETRY));
            }
            _ => self.last_active.set(now),
        }
        sent
    }

    /// Fills `buffers`. Never fails: an error would end the endpoint with all its connections.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        let mut stint = self.stint.borrow_mut();
        ready!(stint.poll_go_on(cx));
        let mut readiness = self.readiness.borrow_mut();
        let mut empty_batches = 0;
        while empty_batches < EMPTY_BATCHES {
            if let Some(count) = self.take_forwarded(cx, buffers, metas) {
                return Poll::Ready(count);
            }
            let batch = buffers.len().min(RECEIVE_BATCH);
            match self
                .state
                .recv((&self.socket).into(), &mut buffers[..batch], metas)
            {
                Ok(count) => {
                    self.came(Instant::now());
                    match self.keep_own(buffers, metas, count) {
                        0 => empty_batches += 1,
                        kept => return Poll::Ready(kept),
                    }
                }
                Err(error) => {
                    if self.wait(&mut readiness, cx, &error).is_pending() {
                        stint.pause();
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits as `error`, the outcome of a receive, demands.
    fn wait(&self, readiness: &mut Readiness, cx: &mut Context<'_>, error: &io::Error) -> Poll<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => return Poll::Ready(()),
            io::ErrorKind::WouldBlock => self.is_waiting.set(true),
            _ => {
                add(&self.counters.receive_errors, 1);
                tracing::debug!(%error, "receiving datagrams failed; trying again");
                return readiness.poll_pause(cx);
            }
        }
        if !readiness.is_armed() && self.may_spin() {
            add(&self.counters.spins, 1);
            // Whether it is taken shows in the next round.
            self.offers.offer();
            return readiness.poll_spin(cx);
        }
        ready!(readiness.poll_readable(cx));
        add(&self.counters.wakeups, 1);
        Poll::Ready(())
    }

    fn may_spin(&self) -> bool {
        let now = Instant::now();
        let spin = self.patience.next().unwrap_or_default().max(self.spin);
        now.duration_since(self.last_active.get()) < spin && self.offers.may_spin(now)
    }

    /// Datagrams have come.
    fn came(&self, now: Instant) {
        let before = self.last_active.replace(now);
        if self.is_waiting.replace(false) {
            self.patience.took(now.duration_since(before));
        }
    }

    fn take_forwarded(
        &self,
        cx: &Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Option<usize> {
        let inbox = &self.route.as_ref()?.inbox;
        inbox.wake_with(cx.waker());
        let count = inbox.take(buffers, metas);
        (count > 0).then_some(count)
    }

    /// Counts what was received, forwards what belongs to other shards, and closes the gaps.
    /// Returns how many messages are left.
    fn keep_own(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
        count: usize,
    ) -> usize {
        let datagrams = metas[..count]
            .iter()
            .map(|meta| segments(meta) as u64)
            .sum();
        add(&self.counters.received, datagrams);
        let Some(route) = &self.route else {
            return count;
        };
        let mut kept = 0;
        for at in 0..count {
            metas[at].len = route
                .peers
                .keep_own(&mut buffers[at], &metas[at], &self.counters);
            if metas[at].len > 0 {
                buffers.swap(kept, at);
                metas.swap(kept, at);
                kept += 1;
            }
        }
        kept
    }
}

/// Datagrams in one received message.
fn segments(meta: &RecvMeta) -> usize {
    meta.len.div_ceil(meta.stride.max(1)).max(1)
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// A connection's view of whether the socket can be written.
#[derive(Debug)]
struct SendPoller {
    socket: Arc<ShardSocket>,
    retry: ThreadBound<Option<Timer>>,
}

impl UdpPoller for SendPoller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(until) = self.socket.0.send_blocked_until.get() else {
            return Poll::Ready(Ok(()));
        };
        let now = Instant::now();
        if now < until {
            let timer = self.retry.get_or_insert_with(|| Timer::new(until - now));
            ready!(Pin::new(timer).poll(cx));
        }
        *self.retry = None;
        self.socket.0.send_blocked_until.set(None);
        Poll::Ready(Ok(()))
    }
}
