//! What the broker needs of its machine, checked before it serves.
//!
//! [`Facts::gather`] looks, [`judge`] decides: the first touches the system and takes a few
//! milliseconds, the second is pure. Each [`Finding`] says what is missing and the command
//! that fixes it. An error stops the start; a warning costs speed or comfort, and the broker
//! serves all the same. A disk that is nearly full is a warning, because consumers and
//! deletions must go on.

mod facts;

use std::fmt;
use std::net::SocketAddr;

use crate::config::{Config, DiskMode};

pub use facts::{DirectIo, Facts, IoUring, PortInUse, RLimit, raise_limits};

/// Segment files that a shard must be able to hold open to be of use.
const MIN_SEGMENT_FILES: u64 = 64;

/// glommio's floor for each executor.
const MIN_LOCKED_MEMORY: u64 = 512 << 10;

/// Descriptors beside segment files: rings, sockets, eventfds, logs of the controller, and
/// HTTP connections.
const FILES_PER_SHARD: u64 = 64;

/// The part of a shard's descriptors that is left to Kafka connections where there are few.
const CONNECTIONS_PART: u64 = 4;

/// Socket buffers smaller than this drop datagrams when a core is busy for a few
/// milliseconds at a gigabyte a second: 4 MiB.
const WANTED_SOCKET_BUFFER: u64 = 4 << 20;

/// Below this much free space a person should know.
const LOW_SPACE: u64 = 1 << 30;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The broker serves, but worse.
    Warning,
    /// The broker cannot serve.
    Error,
}

/// Something that the machine lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is missing.
    pub problem: String,
    /// The command or the setting that fixes it.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}\n  fix: {}", self.problem, self.fix)
    }
}

/// What these facts mean for a broker with this configuration, errors first.
#[must_use]
pub fn judge(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    io_uring(facts, &mut findings);
    cores(facts, config, &mut findings);
    locked_memory(facts, &mut findings);
    open_files(facts, config, &mut findings);
    data_directory(facts, config, &mut findings);
    free_space(facts, config, &mut findings);
    ports(facts, &mut findings);
    socket_buffers(facts, &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn error(problem: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Error,
        problem: problem.into(),
        fix: fix.into(),
    }
}

fn warning(problem: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Warning,
        problem: problem.into(),
        fix: fix.into(),
    }
}

fn io_uring(facts: &Facts, findings: &mut Vec<Finding>) {
    let kernel = &facts.kernel;
    match &facts.io_uring {
        IoUring::Works => {}
        IoUring::Lacks(operations) => findings.push(error(
            format!(
                "kernel {kernel} lacks the io_uring operations {}",
                operations.join(", ")
            ),
            "run Linux 5.8 or later",
        )),
        IoUring::Refused(_) if facts.io_uring_disabled.is_some_and(|level| level > 0) => {
            findings.push(error(
                format!(
                    "io_uring is switched off: kernel.io_uring_disabled is {}",
                    facts.io_uring_disabled.unwrap_or_default()
                ),
                "sudo sysctl -w kernel.io_uring_disabled=0",
            ));
        }
        IoUring::Refused(libc::ENOSYS) => findings.push(error(
            format!("kernel {kernel} has no io_uring, or a seccomp filter hides it"),
            "run Linux 5.8 or later; in a container: docker run --security-opt seccomp=unconfined",
        )),
        IoUring::Refused(libc::EPERM | libc::EACCES) => findings.push(error(
            "io_uring is not permitted: a seccomp filter or a security module refuses it",
            "in a container: docker run --security-opt seccomp=unconfined",
        )),
        IoUring::Refused(libc::ENOMEM) => findings.push(error(
            "no memory can be locked for an io_uring",
            "ulimit -l 65536 (in a systemd unit: LimitMEMLOCK=64M)",
        )),
        IoUring::Refused(errno) => findings.push(error(
            format!(
                "io_uring cannot be used: {}",
                std::io::Error::from_raw_os_error(*errno)
            ),
            "run Linux 5.8 or later",
        )),
    }
}

fn cores(facts: &Facts, config: &Config, findings: &mut Vec<Finding>) {
    let shards = usize::from(config.cores.shards(facts.cores).get());
    if shards > facts.cores {
        findings.push(warning(
            format!(
                "{shards} shards share {} cores and will wait for each other",
                facts.cores
            ),
            "--cores all",
        ));
    }
}

fn locked_memory(facts: &Facts, findings: &mut Vec<Finding>) {
    let limit = facts.locked_memory.soft;
    if limit < MIN_LOCKED_MEMORY {
        findings.push(error(
            format!("only {limit} bytes of memory can be locked, {MIN_LOCKED_MEMORY} are needed"),
            "ulimit -l 65536 (in a systemd unit: LimitMEMLOCK=64M; \
             docker: --ulimit memlock=67108864)",
        ));
    }
}

/// Descriptors with which so many shards can keep open as many segments as they are configured to.
pub(crate) fn wanted_open_files(config: &Config, shards: u64) -> u64 {
    (FILES_PER_SHARD + u64::from(config.shard_open_files.get())) * shards
}

fn open_files(facts: &Facts, config: &Config, findings: &mut Vec<Finding>) {
    let limit = facts.open_files.soft;
    let shards = u64::from(config.cores.shards(facts.cores).get());
    let least = (FILES_PER_SHARD + MIN_SEGMENT_FILES) * shards;
    let wanted = wanted_open_files(config, shards);
    let fix = format!("ulimit -n {wanted} (in a systemd unit: LimitNOFILE={wanted})");
    if limit < least {
        let problem =
            format!("only {limit} files can be open, {least} are needed for {shards} shards");
        findings.push(error(problem, fix));
    } else if limit < wanted {
        let problem = format!(
            "only {limit} files can be open, but {shards} shards with shard.open.files = {} want {wanted}; \
             each shard keeps at most {} open",
            config.shard_open_files,
            segment_files(config, shards, limit),
        );
        findings.push(warning(problem, fix + ", or a lower shard.open.files"));
    }
}

/// How many segment files each of so many shards may hold open: as configured, as far as
/// this process's limit on open files goes.
#[must_use]
pub fn open_segment_files(config: &Config, shards: u64) -> u32 {
    segment_files(
        config,
        shards,
        facts::resource_limit(libc::RLIMIT_NOFILE).soft,
    )
}

/// How many Kafka connections each of so many shards may have, as far as this process's limit on
/// open files goes: clients must not take what the log needs.
#[must_use]
pub fn kafka_connections(config: &Config, shards: u64) -> usize {
    let limit = facts::resource_limit(libc::RLIMIT_NOFILE).soft;
    connections(config, shards, limit)
}

fn connections(config: &Config, shards: u64, limit: u64) -> usize {
    let segments = u64::from(segment_files(config, shards, limit));
    let left = (limit / shards).saturating_sub(FILES_PER_SHARD + segments);
    let wanted = u64::from(config.max_connections.get()).div_ceil(shards);
    usize::try_from(wanted.min(left)).unwrap_or(usize::MAX)
}

fn segment_files(config: &Config, shards: u64, limit: u64) -> u32 {
    let left = (limit / shards).saturating_sub(FILES_PER_SHARD);
    // What few there are is shared with the connections of Kafka clients.
    let of_connections = match config.kafka.0 {
        Some(_) => left / CONNECTIONS_PART,
        None => 0,
    };
    // A hostile or tiny limit leaves something all the same; `judge` has refused it before.
    let share = (left - of_connections).max(1);
    u32::try_from(share).map_or(config.shard_open_files.get(), |share| {
        share.min(config.shard_open_files.get())
    })
}

/// What makes a directory writable, or what else to do, for this reason of the system.
fn fix_unwritable(reason: &str, path: &str) -> String {
    let is = |errno: i32| reason.contains(&format!("(os error {errno})"));
    if is(libc::EEXIST) || is(libc::ENOTDIR) {
        format!("a file stands in the way: ls -ld {path}; or another --data-dir")
    } else if is(libc::ENOSPC) || is(libc::EDQUOT) {
        format!("make room: df -h {path}; df -i {path}; or another --data-dir")
    } else if is(libc::EROFS) {
        format!(
            "mount it writable: mount -o remount,rw $(df --output=target {path} | tail -1); or another --data-dir"
        )
    } else {
        format!("sudo install -d -o $USER {path}, or another --data-dir")
    }
}

fn data_directory(facts: &Facts, config: &Config, findings: &mut Vec<Finding>) {
    let path = config.data_dir.display();
    if let Some(reason) = &facts.unwritable {
        findings.push(error(
            format!("data directory {path} cannot be written: {reason}"),
            fix_unwritable(reason, &path.to_string()),
        ));
        return;
    }
    if let Some(held) = &facts.held {
        findings.push(error(
            held,
            "stop that broker, or choose another --data-dir",
        ));
    }
    if let (DirectIo::Refused(reason), DiskMode::Direct) = (&facts.direct_io, config.disk_mode) {
        findings.push(error(
            format!("the file system of {path} does no direct I/O (O_DIRECT): {reason}"),
            "put --data-dir on ext4 or XFS; for development: --disk-mode buffered",
        ));
    }
    if config.disk_mode == DiskMode::Buffered {
        findings.push(warning(
            "disk.mode is buffered: files go through the page cache, which is for development",
            "--disk-mode direct",
        ));
    }
}

fn free_space(facts: &Facts, config: &Config, findings: &mut Vec<Finding>) {
    if let Some(free) = facts.free_bytes.filter(|free| *free < LOW_SPACE) {
        let path = config.data_dir.display();
        findings.push(warning(
            format!("only {} MiB are free in {path}", free >> 20),
            format!("make room (df -h {path}), or lower log.retention.ms or log.retention.bytes"),
        ));
    }
}

fn fix_listener(reason: &str, address: SocketAddr, show: &str, listener: &str) -> String {
    let is = |errno: i32| reason.contains(&format!("(os error {errno})"));
    if is(libc::EADDRNOTAVAIL) {
        format!("choose an address of this machine (ip -brief address) for --{listener}")
    } else if is(libc::EACCES) {
        format!(
            "a port from 1024 up for --{listener}, or: sudo setcap cap_net_bind_service=+ep $(command -v millrace)"
        )
    } else {
        let port = address.port();
        format!(
            "see who does: ss {show} 'sport = :{port}'; or another --{listener} (port 0 picks a free one)"
        )
    }
}

fn ports(facts: &Facts, findings: &mut Vec<Finding>) {
    for PortInUse {
        listener,
        address,
        reason,
    } in &facts.ports
    {
        let protocol = if *listener == "quic" { "udp" } else { "tcp" };
        let show = if *listener == "quic" {
            "-lunp"
        } else {
            "-ltnp"
        };
        findings.push(error(
            format!("cannot listen on {address}/{protocol} for {listener}: {reason}"),
            fix_listener(reason, *address, show, listener),
        ));
    }
}

fn socket_buffers(facts: &Facts, findings: &mut Vec<Finding>) {
    let small = |limit: Option<u64>| limit.filter(|limit| *limit < WANTED_SOCKET_BUFFER);
    for (name, limit) in [
        ("net.core.rmem_max", facts.rmem_max),
        ("net.core.wmem_max", facts.wmem_max),
    ] {
        if let Some(limit) = small(limit) {
            findings.push(warning(
                format!("UDP socket buffers are limited to {limit} bytes ({name}); bursts will be lost and sent again"),
                format!("sudo sysctl -w {name}={WANTED_SOCKET_BUFFER}"),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::config::Layers;

    fn healthy() -> Facts {
        let unlimited = RLimit {
            soft: u64::MAX,
            hard: u64::MAX,
        };
        Facts {
            kernel: "6.12.0".to_owned(),
            cores: 4,
            io_uring: IoUring::Works,
            io_uring_disabled: Some(0),
            locked_memory: unlimited,
            open_files: unlimited,
            unwritable: None,
            held: None,
            direct_io: DirectIo::Works,
            free_bytes: Some(1 << 40),
            ports: Vec::new(),
            rmem_max: Some(16 << 20),
            wmem_max: None,
        }
    }

    fn found(change: impl FnOnce(&mut Facts)) -> Vec<(Severity, String)> {
        found_with(Layers::default(), change)
    }

    fn found_with(layers: Layers, change: impl FnOnce(&mut Facts)) -> Vec<(Severity, String)> {
        let mut facts = healthy();
        change(&mut facts);
        let findings = judge(&facts, &layers.build().unwrap().config);
        findings
            .iter()
            .map(|finding| (finding.severity, finding.to_string()))
            .collect()
    }

    #[track_caller]
    fn assert_one(findings: &[(Severity, String)], severity: Severity, parts: &[&str]) {
        let [(found, text)] = findings else {
            panic!("one finding, not {findings:?}")
        };
        assert_eq!(*found, severity, "{text}");
        for part in parts {
            assert!(text.contains(part), "`{part}` in {text}");
        }
    }

    #[test]
    fn a_healthy_machine_lacks_nothing() {
        assert_eq!(found(|_| {}), []);
    }

    #[test]
    fn io_uring_that_cannot_be_used_is_an_error_with_its_cause() {
        let switched_off = found(|facts| {
            facts.io_uring = IoUring::Refused(libc::EPERM);
            facts.io_uring_disabled = Some(2);
        });
        let fix = "sysctl -w kernel.io_uring_disabled=0";
        assert_one(&switched_off, Severity::Error, &["is 2", fix]);
        let seccomp = found(|facts| facts.io_uring = IoUring::Refused(libc::EPERM));
        assert_one(&seccomp, Severity::Error, &["seccomp=unconfined"]);
        let old = found(|facts| {
            facts.kernel = "5.4.0".to_owned();
            facts.io_uring = IoUring::Lacks(vec!["openat", "statx"]);
        });
        assert_one(
            &old,
            Severity::Error,
            &["5.4.0", "openat, statx", "Linux 5.8"],
        );
    }

    #[test]
    fn low_limits_name_the_command() {
        let locked = found(|facts| facts.locked_memory.soft = 64 << 10);
        assert_one(
            &locked,
            Severity::Error,
            &["65536 bytes", "ulimit -l", "LimitMEMLOCK"],
        );
        let few = found(|facts| facts.open_files.soft = 100);
        assert_one(&few, Severity::Error, &["100 files", "ulimit -n 8448"]);
        let config = Layers::default().build().unwrap().config;
        for limit in [10, 100, 500, 1_024, 4_096, 1 << 20] {
            let files = u64::from(segment_files(&config, 2, limit));
            let connections = connections(&config, 2, limit) as u64;
            let all = FILES_PER_SHARD + files + connections;
            assert!(all <= (limit / 2).max(FILES_PER_SHARD + 1), "{limit}");
            assert!(connections <= 5_000);
        }
        let some = found(|facts| facts.open_files.soft = 1024);
        assert_one(&some, Severity::Warning, &["shard.open.files"]);
    }

    #[test]
    fn a_data_directory_that_cannot_be_used_says_why() {
        let unwritable = found(|facts| facts.unwritable = Some("Permission denied".to_owned()));
        assert_one(
            &unwritable,
            Severity::Error,
            &["./data", "Permission denied", "install -d"],
        );
        let held = found(|facts| facts.held = Some("in use (process 42)".to_owned()));
        assert_one(&held, Severity::Error, &["process 42"]);
        let full = found(|facts| facts.free_bytes = Some(5 << 20));
        assert_one(&full, Severity::Warning, &["5 MiB"]);
    }

    #[test]
    fn without_direct_io_the_buffered_mode_is_named_and_enough() {
        let refuse = |facts: &mut Facts| facts.direct_io = DirectIo::Refused("EINVAL".to_owned());
        assert_one(
            &found(refuse),
            Severity::Error,
            &["EINVAL", "--disk-mode buffered"],
        );
        let buffered = Layers::default().flag("disk.mode", "buffered").unwrap();
        assert_one(
            &found_with(buffered, refuse),
            Severity::Warning,
            &["for development"],
        );
    }

    #[test]
    fn a_port_in_use_names_the_listener_and_who_to_ask() {
        let findings = found(|facts| {
            let address = "127.0.0.1:9645".parse().unwrap();
            let reason = "Address already in use".to_owned();
            facts.ports.push(PortInUse {
                listener: "http",
                address,
                reason,
            });
        });
        let parts = ["127.0.0.1:9645/tcp", "already in use", "ss -ltnp", "--http"];
        assert_one(&findings, Severity::Error, &parts);
    }

    #[test]
    fn small_socket_buffers_and_too_many_shards_are_warnings() {
        let small = found(|facts| facts.rmem_max = Some(212_992));
        assert_one(
            &small,
            Severity::Warning,
            &["sysctl -w net.core.rmem_max=4194304"],
        );
        let many = Layers::default().flag("cores", "8").unwrap();
        assert_one(
            &found_with(many, |_| {}),
            Severity::Warning,
            &["8 shards share 4 cores"],
        );
    }

    #[test]
    fn errors_come_before_warnings() {
        let findings = found(|facts| {
            facts.rmem_max = Some(1);
            facts.free_bytes = Some(1);
            facts.held = Some("in use".to_owned());
        });
        let severities: Vec<_> = findings.iter().map(|(severity, _)| *severity).collect();
        assert_eq!(
            severities,
            [Severity::Error, Severity::Warning, Severity::Warning]
        );
    }

    #[test]
    fn a_port_that_is_taken_is_seen_on_this_machine() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = Layers::default()
            .flag("quic", &taken.local_addr().unwrap().to_string())
            .and_then(|layers| layers.flag("kafka", "none"))
            .and_then(|layers| layers.flag("http", "127.0.0.1:0"))
            .and_then(|layers| layers.flag("data.dir", dir.path().to_str().unwrap()))
            .unwrap();
        let facts = Facts::gather(&config.build().unwrap().config);
        assert_eq!(facts.ports.len(), 1, "{facts:?}");
        assert_eq!(facts.unwritable, None);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
    }
}
