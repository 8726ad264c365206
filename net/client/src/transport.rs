//! What a client asks of QUIC.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::udp::{UdpSockRef, UdpSocketState};
use quinn::{
    ConnectionId, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
};

use millrace_wire::MAX_DATAGRAM_LEN;
use rustls::crypto::ring;

use crate::ConnectOptions;
use crate::runtime::Runtime;
use crate::socket::{Refusals, Socket};

/// Bytes that may be on their way to the broker, over all streams of a connection.
const SEND_WINDOW_BYTES: u64 = 16 << 20;

/// Keep-alives in an idle timeout, so that two may be lost.
const KEEP_ALIVES_PER_TIMEOUT: u32 = 3;

/// How often a silent connection to a broker of a cluster asks for a sign of life: another broker
/// can take over, so it is worth a packet to know soon. Where there is no other, nothing is gained.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// What is taken for the round trip before it is known. RFC 9002 says 333 ms, which makes
/// one lost packet at the start cost a second; brokers are mostly near.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// Asked of the kernel for the socket; it gives what `net.core.rmem_max` allows.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// RFC 9000 wants at least 8 unpredictable bytes; the first one is steered, hence more.
const INITIAL_ID_LEN: usize = 16;

/// The transport's settings. A connection's window is the sum of its streams' windows, so
/// that a consumer that stands still never keeps another stream's bytes away.
pub(crate) fn config(options: &ConnectOptions, is_in_cluster: bool) -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_DATAGRAM_LEN);
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(options.idle_timeout)
        .unwrap_or_else(|_| IdleTimeout::from(VarInt::MAX));
    let keep_alive = options.idle_timeout / KEEP_ALIVES_PER_TIMEOUT;
    let keep_alive = match is_in_cluster {
        true => keep_alive.min(SIGN_OF_LIFE),
        false => keep_alive,
    };
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(keep_alive))
        .stream_receive_window(VarInt::from_u32(options.stream_window_bytes))
        .receive_window(VarInt::MAX)
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu));
    Arc::new(transport)
}

/// An endpoint on a socket of its own, and where it is told that nobody listens at the broker's port.
pub(crate) fn endpoint(
    broker: SocketAddr,
    runtime: &Runtime,
) -> std::io::Result<(quinn::Endpoint, Refusals)> {
    let refusals = Refusals::default();
    let socket = socket(broker, runtime, &refusals)?;
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(MAX_DATAGRAM_LEN)
        .expect("a payload above QUIC's least of 1,200 bytes is a legal size");
    let endpoint =
        quinn::Endpoint::new_with_abstract_socket(config, None, socket, runtime.quinn())?;
    Ok((endpoint, refusals))
}

/// A socket of the broker's address family, which hears from there only.
pub(crate) fn socket(
    broker: SocketAddr,
    runtime: &Runtime,
    refusals: &Refusals,
) -> std::io::Result<Arc<Socket>> {
    let any: SocketAddr = match broker {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(broker)?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // A smaller buffer costs speed, nothing else.
    let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
    let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
    Socket::new(socket, runtime, refusals.clone())
}

/// An initial connection id that the broker's kernel steers to this shard: its first byte
/// modulo the number of shards is the shard.
pub(crate) fn steered_id(shard: u8, shards: u8) -> ConnectionId {
    let mut id = [0; INITIAL_ID_LEN];
    id.iter_mut().for_each(|byte| *byte = fastrand::u8(..));
    // The better source; where the system has none, the handshake fails anyway.
    let _ = ring::default_provider().secure_random.fill(&mut id);
    let shards = shards.max(1);
    let shard = shard % shards;
    id[0] = shard + shards * fastrand::u8(0..=(u8::MAX - shard) / shards);
    ConnectionId::new(&id)
}

/// An initial connection id that may land anywhere.
pub(crate) fn random_id() -> ConnectionId {
    steered_id(0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_names_the_shard() {
        for shards in 1..=u8::MAX {
            for shard in [0, shards / 2, shards - 1] {
                assert_eq!(steered_id(shard, shards)[0] % shards, shard);
            }
        }
    }
}
