//! What the controller needs of its surroundings: time, and other brokers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_model::{BrokerId, Timestamp};
use millrace_replication::Refusal;
use millrace_replication::cluster::Acquaintance;

/// A clock that only goes forward, and a way to wait.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub trait Time: Clone + 'static {
    /// Now, in milliseconds since anything that stays the same.
    fn now(&self) -> Timestamp;

    /// Returns when this much time has passed.
    async fn sleep(&self, duration: Duration);
}

/// What carries bytes to other brokers' controllers.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub trait PeerTransport: 'static {
    /// Sends a message of the quorum, for [`super::ControllerClient::deliver`] there. It may be
    /// lost, come late or twice.
    fn send(&self, to: BrokerId, message: Bytes);

    /// Asks another controller, by [`super::ControllerClient::serve`] there.
    ///
    /// # Errors
    /// The broker was not reached, or did not answer. Whether it did something is unknown.
    async fn call(&self, to: BrokerId, request: Bytes) -> Result<Bytes, Refusal>;

    /// Whether the network says that nobody is where the broker is reached: its process has
    /// ended. `false` where nothing is known, after a second at most.
    async fn is_gone(&self, broker: BrokerId) -> bool {
        let _ = broker;
        false
    }

    /// Another broker has said where these are. Who finds them otherwise need not care.
    fn meet(&self, brokers: &[Acquaintance]) {
        let _ = brokers;
    }
}

/// The time of a shard: the system's monotonic clock and the executor's timers.
#[derive(Clone, Copy, Debug)]
pub struct ShardTime {
    begun: Instant,
}

impl ShardTime {
    /// Counts from now on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
        }
    }
}

impl Default for ShardTime {
    fn default() -> Self {
        Self::new()
    }
}

impl Time for ShardTime {
    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }
}

/// Nobody else: what a broker that is alone runs with.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl PeerTransport for NoPeers {
    fn send(&self, _: BrokerId, _: Bytes) {}

    async fn call(&self, to: BrokerId, _: Bytes) -> Result<Bytes, Refusal> {
        Err(Refusal::new(
            millrace_model::ErrorCode::NotController,
            format!("this broker is alone, and does not know broker {to}"),
        ))
    }
}
