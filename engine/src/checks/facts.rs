//! Looks at the machine. Nothing here decides anything.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use io_uring::{IoUring as Ring, Probe, opcode};
use millrace_net::patiently;
use millrace_storage::disk::BLOCK_LEN;

use crate::config::{Config, Listener};
use crate::data_dir::DataDir;
use crate::file_system::space;

/// What the machine offers.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Release of the kernel.
    pub kernel: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Whether a ring can be made and does what is needed.
    pub io_uring: IoUring,
    /// The sysctl `kernel.io_uring_disabled`, where there is one.
    pub io_uring_disabled: Option<u64>,
    /// Bytes that may be locked in memory.
    pub locked_memory: RLimit,
    /// Files that may be open.
    pub open_files: RLimit,
    /// Why the data directory cannot be written, if it cannot.
    pub unwritable: Option<String>,
    /// Which other broker holds it, as a sentence, if one does.
    pub held: Option<String>,
    /// Whether its file system does direct I/O.
    pub direct_io: DirectIo,
    /// Bytes free for this user in its file system.
    pub free_bytes: Option<u64>,
    /// Addresses that cannot be listened on.
    pub ports: Vec<PortInUse>,
    /// The sysctl `net.core.rmem_max`.
    pub rmem_max: Option<u64>,
    /// The sysctl `net.core.wmem_max`.
    pub wmem_max: Option<u64>,
}

/// Whether io_uring can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoUring {
    /// It can.
    Works,
    /// These operations are missing.
    Lacks(Vec<&'static str>),
    /// No ring can be made; the system's error number.
    Refused(i32),
}

/// Whether a file can be written and read past the page cache, in blocks of 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// It can.
    Works,
    /// It cannot, and why.
    Refused(String),
    /// Unknown: the directory cannot be written at all.
    Unknown,
}

/// An address that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInUse {
    /// The key of the listener.
    pub listener: &'static str,
    /// Its address.
    pub address: SocketAddr,
    /// Why not.
    pub reason: String,
}

/// A resource limit of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RLimit {
    /// What is in force.
    pub soft: u64,
    /// Up to where this process may raise it.
    pub hard: u64,
}

impl Facts {
    /// Looks at the machine, for a broker with this configuration. Makes the data directory
    /// if it is missing.
    #[must_use]
    pub fn gather(config: &Config) -> Self {
        let unwritable = make_writable(&config.data_dir)
            .err()
            .map(|error| error.to_string());
        let direct_io = match (&unwritable, try_direct_io(&config.data_dir)) {
            (Some(_), _) => DirectIo::Unknown,
            (None, Ok(())) => DirectIo::Works,
            (None, Err(error)) => DirectIo::Refused(error.to_string()),
        };
        Self {
            kernel: read_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            cores: available_cores(),
            io_uring: probe_io_uring(),
            io_uring_disabled: sysctl("/proc/sys/kernel/io_uring_disabled"),
            locked_memory: resource_limit(libc::RLIMIT_MEMLOCK),
            open_files: resource_limit(libc::RLIMIT_NOFILE),
            unwritable,
            held: DataDir::probe(&config.data_dir)
                .err()
                .map(|error| error.to_string()),
            direct_io,
            free_bytes: space(&config.data_dir).ok().map(|space| space.usable),
            ports: ports_in_use(config),
            rmem_max: sysctl("/proc/sys/net/core/rmem_max"),
            wmem_max: sysctl("/proc/sys/net/core/wmem_max"),
        }
    }
}

/// Raises the soft limits on open files and locked memory to the hard ones, for this
/// process. What cannot be raised stays, and [`super::judge`] tells whether it is enough.
pub fn raise_limits() {
    for resource in [libc::RLIMIT_NOFILE, libc::RLIMIT_MEMLOCK] {
        let RLimit { hard, .. } = resource_limit(resource);
        let raised = libc::rlimit {
            rlim_cur: hard,
            rlim_max: hard,
        };
        // SAFETY: the pointer is to a whole rlimit that lives through the call.
        unsafe { libc::setrlimit(resource, &raised) };
    }
}

pub(super) fn resource_limit(resource: libc::__rlimit_resource_t) -> RLimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a whole, writable rlimit that lives through the call.
    unsafe { libc::getrlimit(resource, &mut limit) };
    RLimit {
        soft: limit.rlim_cur,
        hard: limit.rlim_max,
    }
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The operations that the broker's executor and disk use; the youngest is of Linux 5.6, and
/// the probe itself.
const OPERATIONS: [(&str, u8); 18] = [
    ("nop", opcode::Nop::CODE),
    ("readv", opcode::Readv::CODE),
    ("writev", opcode::Writev::CODE),
    ("fsync", opcode::Fsync::CODE),
    ("read_fixed", opcode::ReadFixed::CODE),
    ("write_fixed", opcode::WriteFixed::CODE),
    ("poll_add", opcode::PollAdd::CODE),
    ("poll_remove", opcode::PollRemove::CODE),
    ("sendmsg", opcode::SendMsg::CODE),
    ("recvmsg", opcode::RecvMsg::CODE),
    ("timeout", opcode::Timeout::CODE),
    ("accept", opcode::Accept::CODE),
    ("fallocate", opcode::Fallocate::CODE),
    ("openat", opcode::OpenAt::CODE),
    ("close", opcode::Close::CODE),
    ("statx", opcode::Statx::CODE),
    ("read", opcode::Read::CODE),
    ("write", opcode::Write::CODE),
];

fn probe_io_uring() -> IoUring {
    let refused = |error: &io::Error| IoUring::Refused(error.raw_os_error().unwrap_or(libc::EIO));
    let ring = match Ring::new(2) {
        Ok(ring) => ring,
        Err(error) => return refused(&error),
    };
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        return refused(&error);
    }
    let missing = OPERATIONS
        .iter()
        .filter(|(_, code)| !probe.is_supported(*code));
    let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
    if missing.is_empty() {
        IoUring::Works
    } else {
        IoUring::Lacks(missing)
    }
}

fn make_writable(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let probe = directory.join(format!(".writable-{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

#[repr(C, align(4096))]
struct Block([u8; BLOCK_LEN]);

/// Writes and reads one block with O_DIRECT.
fn try_direct_io(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".direct-{}", std::process::id()));
    let result = write_and_read_block(&path);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => result.and(Err(error)),
        _ => result,
    }
}

fn write_and_read_block(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT);
    let file = options.open(path)?;
    let mut block = Box::new(Block([0x5a; BLOCK_LEN]));
    file.write_all_at(&block.0, 0)?;
    block.0.fill(0);
    file.read_exact_at(&mut block.0, 0)?;
    if block.0.iter().all(|byte| *byte == 0x5a) {
        Ok(())
    } else {
        Err(io::Error::other(
            "a block read back differs from what was written",
        ))
    }
}

/// Tries each address. Not with SO_REUSEPORT, as the broker's own sockets have it: with it,
/// a second broker of the same user would succeed and take half of the datagrams. And with
/// patience: after a kill the kernel holds the sockets of the old broker for a moment.
fn ports_in_use(config: &Config) -> Vec<PortInUse> {
    let quic = (
        config.quic,
        patiently(|| UdpSocket::bind(config.quic)).err(),
    );
    let tcp = |listener: Listener| {
        let address = listener.0?;
        Some((address, patiently(|| TcpListener::bind(address)).err()))
    };
    let (kafka, http) = (tcp(config.kafka), tcp(config.http));
    [("quic", Some(quic)), ("kafka", kafka), ("http", http)]
        .into_iter()
        .filter_map(|(listener, tried)| {
            let (address, error) = tried?;
            let reason = error?.to_string();
            Some(PortInUse {
                listener,
                address,
                reason,
            })
        })
        .collect()
}

fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

fn sysctl(path: &str) -> Option<u64> {
    read_line(path)?.parse().ok()
}
