//! Notices that a broker is gone before the connection's idle timeout does.
//!
//! | what happens | how it shows | what follows |
//! | --- | --- | --- |
//! | the process ends and another takes its port | a stateless reset, with the next datagram | quinn ends the connection |
//! | the process ends, nobody has its port | the network says so of the next datagram | the connection is closed at once |
//! | the host, or the way there, is silent | what was sent is not acknowledged for [`SILENCE`] | another connection is tried |
//!
//! A silent broker may come back, so its connection is not given up for silence alone. It is when another can be made, for
//! then the broker lives and has lost this one; or when none can be made for [`PROBE_TIME`] either. If the broker is heard
//! meanwhile, all stays as it is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quinn::{Connection, ConnectionStats, VarInt};
use tokio::sync::oneshot;

use crate::runtime::{Either, Runtime, race};
use crate::socket::Refused;

/// A broker that acknowledges nothing for this long is silent: what was sent was repeated several times by then.
const SILENCE: Duration = Duration::from_secs(2);

/// On slow ways, it is so many round trips if that is longer.
const SILENCE_ROUND_TRIPS: u32 = 8;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// How long another connection is tried.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Another connection to the same broker.
pub(crate) struct Probe {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) config: quinn::ClientConfig,
    pub(crate) broker: SocketAddr,
}

/// A connection is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    _watched: oneshot::Sender<()>,
}

impl Watch {
    /// Watches the connection.
    pub(crate) fn begin(
        runtime: &Runtime,
        connection: Connection,
        mut refused: Refused,
        probe: Probe,
    ) -> Self {
        let (watched, over) = oneshot::channel::<()>();
        let timers = runtime.clone();
        runtime.spawn(async move {
            let ended = race(over, connection.closed());
            let gone = async {
                match race(refused.told(), silence(&timers, &connection, &probe)).await {
                    Either::Left(()) => "nobody listens at the broker's port",
                    Either::Right(()) => "the broker is silent",
                }
            };
            if let Either::Right(why) = race(ended, gone).await {
                tracing::debug!(broker = %probe.broker, why, "a connection is given up");
                connection.close(VarInt::from_u32(0), why.as_bytes());
            }
        });
        Self { _watched: watched }
    }
}

/// Resolves when the connection is to be given up for silence.
async fn silence(runtime: &Runtime, connection: &Connection, probe: &Probe) {
    let mut ear = Ear::default();
    loop {
        runtime.sleep(LOOK).await;
        let stats = connection.stats();
        let limit = SILENCE.max(stats.path.rtt * SILENCE_ROUND_TRIPS);
        if !ear.is_silent(runtime.now(), Heard::of(&stats), limit) {
            continue;
        }
        let trying = async {
            if let Ok(connecting) =
                probe
                    .endpoint
                    .connect_with(probe.config.clone(), probe.broker, &probe.name())
            {
                // Whether it can be made or not, the one that is silent is given up.
                let _ = runtime.timeout(PROBE_TIME, connecting).await;
            }
        };
        let revived = async {
            let before = stats.udp_rx.datagrams;
            while connection.stats().udp_rx.datagrams == before {
                runtime.sleep(LOOK / 4).await;
            }
        };
        match race(trying, revived).await {
            Either::Left(()) => return,
            Either::Right(()) => ear = Ear::default(),
        }
    }
}

impl Probe {
    fn name(&self) -> String {
        self.broker.ip().to_string()
    }
}

/// What a connection has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    /// Datagrams received.
    received: u64,
    /// Frames sent that the other end must acknowledge.
    asked: u64,
}

impl Heard {
    fn of(stats: &ConnectionStats) -> Self {
        let sent = &stats.frame_tx;
        Self {
            received: stats.udp_rx.datagrams,
            // A probe of what was lost is a PING or an IMMEDIATE_ACK.
            asked: sent.stream
                + sent.ping
                + sent.immediate_ack
                + sent.max_data
                + sent.max_stream_data,
        }
    }
}

/// Tells how long a connection is silent that is expected to say something.
#[derive(Debug, Default)]
struct Ear {
    /// When something was received last: how much had been asked, as far as the look after that tells.
    last: Option<Heard>,
    /// Since when something is asked and nothing received.
    waits_since: Option<Instant>,
}

impl Ear {
    fn is_silent(&mut self, now: Instant, heard: Heard, limit: Duration) -> bool {
        match self.last {
            Some(last) if last.received == heard.received => {
                if heard.asked > last.asked {
                    let since = *self.waits_since.get_or_insert(now);
                    return now.duration_since(since) >= limit;
                }
                false
            }
            _ => {
                *self = Self {
                    last: Some(heard),
                    waits_since: None,
                };
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a second apart: what was received and asked by then; whether it is silent.
    fn looks(all: &[(u64, u64)]) -> Vec<bool> {
        let mut ear = Ear::default();
        let start = Instant::now();
        let look = |(second, (received, asked)): (u64, &(u64, u64))| {
            let heard = Heard {
                received: *received,
                asked: *asked,
            };
            ear.is_silent(start + Duration::from_secs(second), heard, SILENCE)
        };
        (0..).zip(all).map(look).collect()
    }

    #[test]
    fn who_is_asked_and_says_nothing_is_silent() {
        let silent = looks(&[(5, 5), (5, 6), (5, 7), (5, 7), (5, 8)]);
        assert_eq!(silent, [false, false, false, true, true]);
    }

    #[test]
    fn who_is_not_asked_may_say_nothing() {
        assert!(!looks(&[(5, 5); 10]).contains(&true));
    }

    #[test]
    fn an_answer_begins_anew() {
        let silent = looks(&[
            (5, 5),
            (5, 6),
            (5, 6),
            (6, 6),
            (6, 6),
            (6, 7),
            (6, 7),
            (6, 7),
        ]);
        assert_eq!(
            silent,
            [false, false, false, false, false, false, false, true]
        );
    }
}
