//! Datagrams: room for them, many of them in one system call, and who fetches them from the card.

use super::{Check, Host};

/// As [`crate::checks`] wants it: smaller buffers drop datagrams when a core is busy for a few milliseconds.
const WANTED_SOCKET_BUFFER: u64 = 4 << 20;

/// Since when the kernel cuts one large write to a UDP socket into datagrams, and joins those that arrive.
const GSO_SINCE: (u32, u32) = (4, 18);
const GRO_SINCE: (u32, u32) = (5, 0);

/// Datagrams that wait for a core between card and socket.
const WANTED_BACKLOG: u64 = 4096;

pub(super) fn look(host: &Host, checks: &mut Vec<Check>) {
    checks.push(buffer(host, "udp-receive-buffer", "rmem_max"));
    checks.push(buffer(host, "udp-send-buffer", "wmem_max"));
    checks.push(offload(host));
    checks.push(backlog(host));
    checks.push(busy_poll(host));
}

fn buffer(host: &Host, name: &'static str, key: &str) -> Check {
    let purpose =
        "datagrams wait here while a shard is busy; what finds no room is lost and sent again";
    let Some(bytes) = host.number(&format!("/proc/sys/net/core/{key}")) else {
        return Check::unknown(name, "the kernel does not say", purpose);
    };
    let check = Check::good(name, format!("net.core.{key} is {bytes}"), purpose);
    check.unless(
        bytes >= WANTED_SOCKET_BUFFER,
        format!("sysctl -w net.core.{key}={WANTED_SOCKET_BUFFER}"),
    )
}

fn offload(host: &Host) -> Check {
    let (name, purpose) = (
        "udp-offload",
        "one system call sends and receives up to 64 datagrams; without it each costs its own",
    );
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return Check::unknown(name, "the kernel does not say its release", purpose);
    };
    let version = (major, minor);
    let (gso, gro) = (version >= GSO_SINCE, version >= GRO_SINCE);
    let word = |has| if has { "yes" } else { "no" };
    let found = format!("kernel {release}: GSO {}, GRO {}", word(gso), word(gro));
    Check::good(name, found, purpose).unless(gso && gro, "run Linux 5.0 or later")
}

fn backlog(host: &Host) -> Check {
    let (name, purpose) = (
        "network-backlog",
        "datagrams that one core took from the card wait here for another; what finds no room is lost",
    );
    let Some(length) = host.number("/proc/sys/net/core/netdev_max_backlog") else {
        return Check::unknown(name, "the kernel does not say", purpose);
    };
    let check = Check::good(
        name,
        format!("net.core.netdev_max_backlog is {length}"),
        purpose,
    );
    match length {
        WANTED_BACKLOG.. => check,
        _ => check.worth_a_thought(format!(
            "sysctl -w net.core.netdev_max_backlog={WANTED_BACKLOG}"
        )),
    }
}

fn busy_poll(host: &Host) -> Check {
    let (name, purpose) = (
        "busy-poll",
        "a shard that looks at its socket fetches from the card itself instead of waiting for an interrupt",
    );
    let read = |key: &str| host.number(&format!("/proc/sys/net/core/{key}"));
    let (Some(poll), Some(read)) = (read("busy_poll"), read("busy_read")) else {
        return Check::unknown(name, "the kernel cannot", purpose);
    };
    let found = format!("net.core.busy_poll {poll}, net.core.busy_read {read}");
    let check = Check::good(name, found, purpose);
    match (poll, read) {
        (1.., 1..) => check,
        _ => check.worth_a_thought(
            "sysctl -w net.core.busy_poll=50 -w net.core.busy_read=50 (not for loopback)",
        ),
    }
}
