//! quinn on a glommio executor.
//!
//! [`GlommioRuntime`] gives quinn tasks ([`glommio::spawn_local_into`]), a timer over
//! glommio's, and a UDP socket that quinn-udp drives (GSO, GRO, ECN) and whose readiness comes
//! from the executor's ring.
//!
//! Invariant: everything here stays on the thread that made it; quinn's `Send` bounds are met
//! by asserting the thread at each access.
//!
//! Invariant: an endpoint without traffic causes no wake-up. Nothing here runs on a period.

mod counters;
mod patience;
mod readiness;
mod socket;
mod spin;
mod stint;
mod thread_bound;
mod timer;

pub use counters::DatagramCounters;
pub(crate) use counters::add;
pub use patience::Patience;
pub(crate) use socket::ShardSocket;
pub use spin::Spinner;
pub use stint::{PREEMPTION_TIMER, Stint};
pub(crate) use thread_bound::ThreadBound;

use crate::pulse::{Work, named};
use glommio::TaskQueueHandle;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a socket is polled after its last datagram before the executor may sleep.
///
/// Measured on loopback, two cores, 1 KiB there and back (`tests/speed.rs`): 115 us when both
/// executors sleep between packets, 17 us when both poll for 30 us, and no better for longer;
/// 10 us is too short to catch the answer. Kept below a device write (some 80 us), so that a
/// shard that waits for its disk sleeps.
pub const DEFAULT_SPIN: Duration = Duration::from_micros(30);

/// quinn's runtime on the executor that it is used in.
///
/// Build the executor, and the task queue, with [`PREEMPTION_TIMER`]: with a short one glommio
/// may sleep while tasks could run.
#[derive(Debug, Clone)]
pub struct GlommioRuntime {
    queue: TaskQueueHandle,
    spin: Duration,
}

impl GlommioRuntime {
    /// A runtime whose tasks go to `queue` of the current executor, and whose sockets are
    /// polled for `spin` after the last datagram before the executor may sleep; zero turns
    /// that off.
    #[must_use]
    pub fn new(queue: TaskQueueHandle, spin: Duration) -> Self {
        Self { queue, spin }
    }

    /// A runtime on the task queue of the caller.
    ///
    /// # Panics
    /// Outside of a glommio executor.
    #[must_use]
    pub fn current() -> Self {
        Self::new(glommio::executor().current_task_queue(), DEFAULT_SPIN)
    }
}

impl Runtime for GlommioRuntime {
    fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(timer::GlommioTimer::new(deadline))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        glommio::spawn_local_into(named(Work::Quic, future), self.queue)
            .expect("the task queue of the runtime lives as long as its executor")
            .detach();
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let counters = Rc::new(DatagramCounters::default());
        Ok(Arc::new(ShardSocket::new(
            socket, self.spin, None, counters,
        )?))
    }
}
