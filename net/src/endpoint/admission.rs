//! Whether a new connection is let in.

use std::time::Duration;

/// Connections that a shard will serve, and how it deals with more.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections of this shard, those that shake hands included. One more is told so and
    /// closed.
    pub connections: usize,
    /// Handshakes under way. One more gets no answer; a client repeats its first datagram after
    /// about a second and is let in then.
    pub handshakes: usize,
    /// Handshakes under way above which a client must first show that it receives at its
    /// address (a QUIC retry), so that forged addresses cost no handshakes.
    pub retry_above: usize,
    /// A handshake must be done by then.
    pub handshake_timeout: Duration,
}

impl Default for ConnectionLimits {
    /// 1,024 connections a shard, some 100 KiB each while idle. A handshake takes about a
    /// millisecond of a core and as much memory, so 512 at once are 50 MiB and done in half a
    /// second; a thousand clients that come at the same moment to two shards all fit.
    fn default() -> Self {
        Self {
            connections: 1024,
            handshakes: 512,
            retry_above: 64,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// What becomes of a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Shake hands.
    Accept,
    /// Shake hands, and then say that there are too many connections.
    TurnAway,
    /// Let the client prove its address first.
    Retry,
    /// Say nothing: the client will try again.
    Postpone,
}

/// Whether a client has proved that it receives at its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    Proved,
    Claimed,
}

impl ConnectionLimits {
    /// Judges an attempt while `handshakes` are under way out of `connections`.
    pub(super) fn judge(&self, address: Address, handshakes: usize, connections: usize) -> Verdict {
        if handshakes >= self.handshakes {
            Verdict::Postpone
        } else if address == Address::Claimed && handshakes >= self.retry_above {
            Verdict::Retry
        } else if connections >= self.connections {
            Verdict::TurnAway
        } else {
            Verdict::Accept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        connections: 10,
        handshakes: 4,
        retry_above: 2,
        handshake_timeout: Duration::from_secs(1),
    };

    #[test]
    fn each_limit_has_its_answer() {
        use Address::{Claimed, Proved};
        let table = [
            (Claimed, 0, 0, Verdict::Accept),
            (Claimed, 1, 9, Verdict::Accept),
            (Claimed, 1, 10, Verdict::TurnAway),
            (Claimed, 2, 0, Verdict::Retry),
            (Claimed, 3, 10, Verdict::Retry),
            (Proved, 2, 0, Verdict::Accept),
            (Proved, 3, 10, Verdict::TurnAway),
            (Proved, 4, 0, Verdict::Postpone),
            (Claimed, 4, 10, Verdict::Postpone),
        ];
        for (address, handshakes, connections, verdict) in table {
            let judged = LIMITS.judge(address, handshakes, connections);
            assert_eq!(judged, verdict, "{address:?} {handshakes} {connections}");
        }
    }
}
