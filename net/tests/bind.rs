//! Ports: all shards share one, and nobody else does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_net::{BindError, SocketOptions, Steering, bind_group};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use support::shards;

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[test]
fn all_shards_share_one_port() {
    let group = bind_group(loopback(0), shards(4), &SocketOptions::default()).unwrap();
    assert_eq!(group.sockets.len(), 4);
    for socket in &group.sockets {
        assert_eq!(socket.local_addr().unwrap(), group.addr);
    }
    assert!(
        matches!(group.steering, Steering::Kernel),
        "{:?}",
        group.steering
    );
    assert!(group.buffers.receive > 0 && group.buffers.send > 0);
}

#[test]
fn a_port_of_another_group_is_in_use() {
    let options = SocketOptions::default();
    let group = bind_group(loopback(0), shards(2), &options).unwrap();
    let error = bind_group(group.addr, shards(2), &options).unwrap_err();
    assert!(
        matches!(error, BindError::InUse { addr } if addr == group.addr),
        "{error:?}"
    );
    assert!(
        error.to_string().contains(&group.addr.to_string()),
        "{error}"
    );
    drop(group);
    bind_group(loopback(0), shards(2), &options).unwrap();
}

#[test]
fn a_port_of_another_program_is_in_use() {
    let taken = UdpSocket::bind(loopback(0)).unwrap();
    let addr = taken.local_addr().unwrap();
    let error = bind_group(addr, shards(1), &SocketOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let addr = (Ipv4Addr::new(192, 0, 2, 1), 0).into();
    let error = bind_group(addr, shards(1), &SocketOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::NotLocal { .. }), "{error:?}");
}

#[test]
fn steering_is_off_where_it_is_not_wanted() {
    let options = SocketOptions {
        kernel_steering: false,
        ..SocketOptions::default()
    };
    let group = bind_group(loopback(0), shards(2), &options).unwrap();
    assert!(matches!(group.steering, Steering::Off));
    let group = bind_group(loopback(0), shards(1), &SocketOptions::default()).unwrap();
    assert!(matches!(group.steering, Steering::OneShard));
}

#[test]
fn the_unspecified_ipv6_address_takes_ipv4_too() {
    let addr = (Ipv6Addr::UNSPECIFIED, 0).into();
    let Ok(group) = bind_group(addr, shards(1), &SocketOptions::default()) else {
        return; // This machine has no IPv6.
    };
    let sender = UdpSocket::bind(loopback(0)).unwrap();
    sender
        .send_to(b"four", loopback(group.addr.port()))
        .unwrap();
    group.sockets[0].set_nonblocking(false).unwrap();
    let mut bytes = [0; 8];
    assert_eq!(group.sockets[0].recv(&mut bytes).unwrap(), 4);
}
