//! Whether anybody has a port: a datagram is sent there, and the host says so if not (ICMP, port
//! unreachable). The kernel hands such a report to a connected socket as an error, if it answers a datagram
//! of this very socket. Nothing comes back from a port that somebody has: QUIC passes over a datagram of one byte.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use glommio::timer::sleep;

/// When it is looked for a report: at once on the same host, after many round trips within a data center. What comes
/// later is missed, and the broker with it until it has been silent for long.
const LOOKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(9)];

/// Too short for any packet of QUIC, whose first byte has its second bit set.
const KNOCK: [u8; 1] = [0];

/// Whether the host at this address says that nobody has the port.
pub(super) async fn is_refused(address: SocketAddr) -> bool {
    let Ok(socket) = knock(address) else {
        return false;
    };
    for pause in LOOKS {
        sleep(pause).await;
        if let Ok(Some(report)) = socket.take_error() {
            return report.kind() == ErrorKind::ConnectionRefused;
        }
    }
    false
}

/// A socket of its own each time, so that no report of an earlier knock is left in it.
fn knock(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    socket.send(&KNOCK)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use glommio::LocalExecutor;

    #[test]
    fn a_port_is_refused_when_nobody_has_it() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(any).unwrap();
            let address = socket.local_addr().unwrap();
            LocalExecutor::default().run(async {
                assert!(!is_refused(address).await, "{address} is taken");
                drop(socket);
                assert!(is_refused(address).await, "{address} is free");
            });
        }
    }
}
