//! QUIC's transport parameters, each with its reason.

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt, congestion};
use std::sync::Arc;
use std::time::Duration;

/// What one connection may take, and when it is given up. Each side sets its own; the shorter
/// idle timeout of the two holds.
#[derive(Debug, Clone, Copy)]
pub struct TransportLimits {
    /// Bytes that a peer may send on one stream beyond what was read from it.
    pub stream_window: u32,
    /// The same for all streams of a connection together: the most that a peer can make this
    /// side hold by sending what nobody reads.
    pub connection_window: u32,
    /// Bytes that this side sends on a connection before they are acknowledged: the most that
    /// a peer that does not read makes this side hold.
    pub send_window: u32,
    /// Bidirectional streams that a peer may have open at once. quinn allocates some 70 bytes
    /// for each in advance.
    pub streams: u32,
    /// A connection without a packet for so long is given up, without a farewell.
    pub idle_timeout: Duration,
    /// Send something after so long without a packet, to keep the connection.
    pub keep_alive: Option<Duration>,
}

/// A stream's window: at a round trip of 1 ms it allows 1 GB/s.
const STREAM_WINDOW: u32 = 1 << 20;

/// A connection's window, for streams that fill theirs at the same time.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What a connection may have in flight, in a network with a round trip of 1 ms: 2 GB/s.
const SEND_WINDOW: u32 = 2 << 20;

/// Streams of a connection: some control requests and one for each partition that a client
/// produces to or consumes from on this shard.
const STREAMS: u32 = 1024;

/// Short enough that a client's place is free soon after it vanished.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often an idle client reports: three times within [`IDLE_TIMEOUT`].
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a leader may send ahead of a follower's disk: one stream carries all that joins two shards.
const PEER_STREAM_WINDOW: u32 = 4 << 20;

/// Beside that stream there are short requests.
const PEER_CONNECTION_WINDOW: u32 = 8 << 20;

/// A peer that says nothing for so long has died, is cut off, or is too slow to lead anything.
const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Three times within [`PEER_IDLE_TIMEOUT`], so that a lost packet or two do no harm.
const PEER_KEEP_ALIVE: Duration = Duration::from_millis(300);

/// Congestion window of a new connection. RFC 9002's 14,720 bytes are meant for the open
/// internet; a broker's clients are near, and a first batch should go out in one round trip.
const INITIAL_CONGESTION_WINDOW: u64 = 256 << 10;

impl TransportLimits {
    /// What a broker grants a client. The client keeps the connection alive, not the broker:
    /// one that vanished must time out, and an idle broker must sleep.
    #[must_use]
    pub fn broker() -> Self {
        Self {
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            send_window: SEND_WINDOW,
            streams: STREAMS,
            idle_timeout: IDLE_TIMEOUT,
            keep_alive: None,
        }
    }

    /// What suits a client of a broker.
    #[must_use]
    pub fn client() -> Self {
        Self {
            streams: 0,
            keep_alive: Some(CLIENT_KEEP_ALIVE),
            ..Self::broker()
        }
    }

    /// What a broker grants another that it connects to, mainly to follow the logs that it leads. Silence
    /// means that others have to lead them, so it is noticed soon; the shorter timeout of the two
    /// sides holds, so this one does for both.
    #[must_use]
    pub fn peer() -> Self {
        Self {
            stream_window: PEER_STREAM_WINDOW,
            connection_window: PEER_CONNECTION_WINDOW,
            streams: 0,
            idle_timeout: PEER_IDLE_TIMEOUT,
            keep_alive: Some(PEER_KEEP_ALIVE),
            ..Self::broker()
        }
    }

    /// These limits as quinn's.
    ///
    /// # Panics
    /// If the idle timeout is beyond what QUIC can say, 2^62 milliseconds.
    #[must_use]
    pub fn to_quinn(&self) -> TransportConfig {
        let idle = IdleTimeout::try_from(self.idle_timeout).expect("an idle timeout below 2^62 ms");
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(millrace_wire::MAX_DATAGRAM_LEN);
        let mut congestion = congestion::CubicConfig::default();
        congestion.initial_window(INITIAL_CONGESTION_WINDOW);
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.connection_window))
            .send_window(u64::from(self.send_window))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(self.keep_alive)
            .mtu_discovery_config(Some(mtu))
            .congestion_controller_factory(Arc::new(congestion));
        transport
    }
}
