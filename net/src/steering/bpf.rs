//! The program that makes the kernel steer.

use super::cid::{LONG_CID_AT, LONG_HEADER, SHORT_CID_AT};
use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET,
    sock_filter, sock_fprog,
};
use millrace_model::ShardCount;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Makes the group that `socket` belongs to choose its socket by connection id. The answer of
/// the program is an index into the group, in the order in which its sockets were bound.
///
/// A datagram shorter than a load ends the program with 0, the first socket.
pub(super) fn attach(socket: &UdpSocket, shards: ShardCount) -> io::Result<()> {
    let mut program = steering_program(shards);
    let filter = sock_fprog {
        len: u16::try_from(program.len()).expect("the program has seven steps"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points to `program`, which outlives the call; the kernel copies both.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<sock_fprog>() as libc::socklen_t,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `byte[0] & 0x80 ? byte[6] : byte[1]`, modulo the number of shards. Offset 0 is the first
/// byte of the UDP payload.
fn steering_program(shards: ShardCount) -> [sock_filter; 7] {
    let load = |at: usize| step(BPF_LD | BPF_B | BPF_ABS, at as u32, 0, 0);
    [
        load(0),
        step(BPF_JMP | BPF_JSET | BPF_K, u32::from(LONG_HEADER), 2, 0),
        load(SHORT_CID_AT),
        step(BPF_JMP | libc::BPF_JA, 1, 0, 0),
        load(LONG_CID_AT),
        step(BPF_ALU | BPF_MOD | BPF_K, u32::from(shards.get()), 0, 0),
        step(BPF_RET | BPF_A, 0, 0, 0),
    ]
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    let code = u16::try_from(code).expect("an operation code fits in 16 bits");
    sock_filter { code, jt, jf, k }
}
