//! One outgoing connection to one shard of a broker.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_model::{BrokerId, ShardId};
use millrace_net::tls::PeerFault;
use quinn::{Connection, ConnectionError, VarInt};

use super::{PeerError, Peers};
use crate::shard::notice::Notice;

/// The pause after the first failed attempt; it doubles with each in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: a broker that comes back is met within it, and a cluster that lacks one does not
/// spend its time on it.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause where a person has to mend something first.
const LONGEST_PAUSE_FOR_A_PERSON: Duration = Duration::from_secs(5);

/// A connection that broke sooner counts as a failed attempt: with TLS 1.3 the caller learns that its
/// certificate is refused only after its handshake is done.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// How often it is looked whether a connection is used. It is closed when it was not twice in a row.
const IDLE_CHECK: Duration = Duration::from_secs(30);

/// A connection to a peer. While somebody holds it, it is not closed for being idle.
#[derive(Clone, Debug)]
pub struct PeerConnection {
    connection: Connection,
    _user: Rc<()>,
}

impl Deref for PeerConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// See the module's documentation.
pub(super) struct Link {
    broker: BrokerId,
    shard: ShardId,
    state: RefCell<State>,
    /// Somebody makes a connection.
    making: Cell<bool>,
    /// They have made it, or given up.
    made: Notice,
    /// Attempts that have ended.
    attempts: Cell<u64>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// Attempts that failed in a row.
    failures: u32,
    not_before: Option<Instant>,
    /// Why the last one did.
    error: Option<PeerError>,
}

struct Live {
    connection: Connection,
    since: Instant,
    /// Its clones are those who hold it.
    users: Rc<()>,
}

/// Ends the making of a connection, also when whoever does it is cancelled.
struct Making<'a>(&'a Link);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.making.set(false);
        self.0.made.notify();
    }
}

impl Link {
    pub(super) fn new(broker: BrokerId, shard: ShardId) -> Self {
        Self {
            broker,
            shard,
            state: RefCell::default(),
            making: Cell::new(false),
            made: Notice::default(),
            attempts: Cell::new(0),
        }
    }

    /// The connection; see [`Peers::connection`].
    pub(super) async fn connection(
        self: &Rc<Self>,
        peers: &Peers,
    ) -> Result<PeerConnection, PeerError> {
        loop {
            if let Some(live) = self.live() {
                return Ok(live);
            }
            if !self.making.get() {
                return self.make(peers).await;
            }
            let attempts = self.attempts.get();
            self.made.notified().await;
            // Without an attempt that ended, whoever made it was cancelled: somebody else goes on.
            let error = self.state.borrow().error.clone();
            if self.attempts.get() != attempts
                && let Some(error) = error
            {
                return Err(error);
            }
        }
    }

    /// Closes what there is.
    pub(super) fn close(&self, reason: &str) {
        if let Some(live) = &self.state.borrow().live {
            live.connection
                .close(VarInt::from_u32(0), reason.as_bytes());
        }
    }

    /// The connection, if there is one. One that broke is taken note of and forgotten.
    fn live(&self) -> Option<PeerConnection> {
        let mut state = self.state.borrow_mut();
        let live = state.live.as_ref()?;
        let Some(reason) = live.connection.close_reason() else {
            return Some(live.handle());
        };
        let live = state.live.take().expect("it was just looked at");
        self.lost(&mut state, &live, &reason);
        None
    }

    async fn make(self: &Rc<Self>, peers: &Peers) -> Result<PeerConnection, PeerError> {
        self.making.set(true);
        let _making = Making(self);
        self.pause().await;
        let nth = self.state.borrow().failures;
        let outcome = peers.timely_attempt(self.broker, self.shard, nth).await;
        self.attempts.set(self.attempts.get() + 1);
        let mut state = self.state.borrow_mut();
        match outcome {
            Ok((connection, address)) => {
                tracing::debug!(broker = %self.broker, shard = %self.shard, %address, "reached a peer");
                let live = Live {
                    connection,
                    since: Instant::now(),
                    users: Rc::new(()),
                };
                let handle = live.handle();
                let users = Rc::downgrade(&live.users);
                peers.spawn(end_when_idle(live.connection.clone(), users));
                state.live = Some(live);
                // Failures are forgotten when it has lived for a while.
                state.error = None;
                Ok(handle)
            }
            Err(error) => {
                self.failed(&mut state, error.clone());
                Err(error)
            }
        }
    }

    /// Waits as long as the failures before demand it.
    async fn pause(&self) {
        let not_before = self.state.borrow_mut().not_before.take();
        let left = not_before.map(|at| at.saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            sleep(left).await;
        }
    }

    /// A connection has ended.
    fn lost(&self, state: &mut State, live: &Live, reason: &ConnectionError) {
        let address = live.connection.remote_address();
        tracing::debug!(broker = %self.broker, shard = %self.shard, %address, %reason, "lost a peer");
        let fault = PeerFault::of(reason);
        let was_short = live.since.elapsed() < SHORT_LIFE;
        if fault.is_none() && (!was_short || *reason == ConnectionError::LocallyClosed) {
            state.failures = 0;
            return;
        }
        let broker = self.broker;
        let error = match fault {
            Some(fault) => PeerError::Certificate {
                broker,
                address,
                fault,
            },
            None => PeerError::Unreachable {
                broker,
                address,
                reason: reason.to_string(),
            },
        };
        self.failed(state, error);
    }

    fn failed(&self, state: &mut State, error: PeerError) {
        // Said once for each row of failures, and by one shard for what is the same for all.
        let known = state.failures > 0 || self.shard != ShardId(0);
        match (known, error.needs_a_person()) {
            (false, true) => tracing::warn!(%error, "a peer is not reached"),
            (false, false) => tracing::info!(%error, "a peer is not reached"),
            (true, _) => tracing::debug!(%error, shard = %self.shard, "a peer is not reached"),
        }
        state.failures = state.failures.saturating_add(1);
        let pause = pause_after(state.failures, error.needs_a_person());
        state.not_before = Some(Instant::now() + pause);
        state.error = Some(error);
    }
}

impl Live {
    fn handle(&self) -> PeerConnection {
        PeerConnection {
            connection: self.connection.clone(),
            _user: Rc::clone(&self.users),
        }
    }
}

/// The pause after so many failures in a row, less up to half of it by chance, so that brokers do not all
/// call at the same moment.
fn pause_after(failures: u32, needs_a_person: bool) -> Duration {
    let longest = match needs_a_person {
        true => LONGEST_PAUSE_FOR_A_PERSON,
        false => LONGEST_PAUSE,
    };
    let doublings = failures.saturating_sub(1).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(longest);
    pause.mul_f64(1.0 - fastrand::f64() / 2.0)
}

/// Closes a connection that nobody holds and nothing passes over.
async fn end_when_idle(connection: Connection, users: Weak<()>) {
    let mut before = None;
    loop {
        let ended = async {
            connection.closed().await;
            true
        };
        let waited = async {
            sleep(IDLE_CHECK).await;
            false
        };
        if or(ended, waited).await {
            return;
        }
        let stats = connection.stats();
        let passed = (stats.frame_tx.stream, stats.frame_rx.stream);
        // The link itself holds it, and whoever uses it.
        let is_held = users.strong_count() > 1;
        if !is_held && before == Some(passed) {
            connection.close(VarInt::from_u32(0), b"nobody uses it");
            return;
        }
        before = Some(passed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        for (failures, longest) in [(1, 50), (2, 100), (3, 200), (9, 500), (u32::MAX, 500)] {
            let longest = Duration::from_millis(longest);
            let pause = pause_after(failures, false);
            assert!(
                pause >= longest / 2 && pause <= longest,
                "{failures}: {pause:?}"
            );
        }
        assert!(pause_after(20, true) > LONGEST_PAUSE);
    }
}
