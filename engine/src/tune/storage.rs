//! The file system under the data directory, the device under that, and the way to it.

use std::path::Path;

use super::host::Mount;
use super::{Check, Host};
use crate::config::Config;

/// File systems whose direct I/O has been measured to be that.
const GOOD_FILE_SYSTEMS: [&str; 2] = ["xfs", "ext4"];

/// Options that make each write more than one.
const SLOW_OPTIONS: [&str; 4] = ["sync", "dirsync", "data=journal", "journal_async_commit"];

/// Writes are of this size or multiples.
const BLOCK: u64 = 4096;

pub(super) fn look(host: &Host, config: &Config, checks: &mut Vec<Check>) {
    let mount = host.mount(&config.data_dir);
    checks.push(file_system(mount.as_ref(), &config.data_dir));
    checks.push(options(mount.as_ref()));
    let queue = mount
        .as_ref()
        .and_then(|mount| queue_of(host, &mount.device));
    let queue = queue.as_deref();
    checks.push(alignment(host, queue));
    checks.push(scheduler(host, queue));
    checks.push(write_cache(host, queue));
    checks.push(io_uring(host));
    checks.push(open_files(host, config));
}

const NO_MOUNT: &str = "/proc/self/mountinfo does not say";
const NO_DEVICE: &str = "the file system has no block device of its own here";

fn file_system(mount: Option<&Mount>, directory: &Path) -> Check {
    let (name, purpose) = (
        "file-system",
        "direct writes that overwrite blocks in place; copy on write and network file systems make them others",
    );
    let Some(mount) = mount else {
        return Check::unknown(name, NO_MOUNT, purpose);
    };
    let found = format!("{} on {}", mount.kind, mount.point.display());
    Check::good(name, found, purpose).unless(
        GOOD_FILE_SYSTEMS.contains(&mount.kind.as_str()),
        format!(
            "mkfs.xfs a device for {}, and mount it there",
            directory.display()
        ),
    )
}

fn options(mount: Option<&Mount>) -> Check {
    let (name, purpose) = (
        "mount-options",
        "a read must not write an access time, and a write not wait for more than itself",
    );
    let Some(mount) = mount else {
        return Check::unknown(name, NO_MOUNT, purpose);
    };
    let point = mount.point.display();
    let slow: Vec<&str> = SLOW_OPTIONS
        .into_iter()
        .filter(|option| mount.has(option))
        .collect();
    let check = |found: &str| Check::good(name, found, purpose);
    if !slow.is_empty() {
        let fix = format!(
            "take {0} out of /etc/fstab, then mount -o remount {point}",
            slow.join(" and ")
        );
        return check(&slow.join(", ")).lacking(fix);
    }
    if mount.has("discard") {
        let fix = format!("mount -o remount,nodiscard {point}, and enable fstrim.timer");
        return check("discard: removing a segment waits for the device").worth_a_thought(fix);
    }
    match ["noatime", "relatime", "lazytime"]
        .into_iter()
        .find(|option| mount.has(option))
    {
        Some(option) => check(option),
        None => check("strictatime").lacking(format!("mount -o remount,noatime {point}")),
    }
}

/// Where the queue of a device, or of the whole that a partition belongs to, is described.
fn queue_of(host: &Host, device: &str) -> Option<String> {
    let own = format!("/sys/dev/block/{device}/queue");
    let of_whole = format!("/sys/dev/block/{device}/../queue");
    [own, of_whole].into_iter().find(|path| host.has(path))
}

fn alignment(host: &Host, queue: Option<&str>) -> Check {
    let (name, purpose) = (
        "direct-alignment",
        "writes are multiples of 4 KiB, which the device must take as they are",
    );
    let size = queue.and_then(|queue| host.number(&format!("{queue}/logical_block_size")));
    match size {
        None => Check::unknown(name, NO_DEVICE, purpose),
        Some(size) => Check::good(name, format!("logical blocks of {size} bytes"), purpose).unless(
            size <= BLOCK,
            "format the device with blocks of 4096 bytes or less (nvme format)",
        ),
    }
}

fn scheduler(host: &Host, queue: Option<&str>) -> Check {
    let (name, purpose) = (
        "io-scheduler",
        "one write of a log is in flight at a time; a scheduler can only hold it up",
    );
    let Some(queue) = queue else {
        return Check::unknown(name, NO_DEVICE, purpose);
    };
    let file = format!("{queue}/scheduler");
    let Some(chosen) = host.chosen(&file).or_else(|| host.text(&file)) else {
        return Check::unknown(name, "the device does not say", purpose);
    };
    if host.number(&format!("{queue}/rotational")) == Some(1) {
        let check = Check::good(
            name,
            format!("{chosen}, on a device that says that it rotates"),
            purpose,
        );
        return check.unless(
            chosen == "mq-deadline" || chosen == "none",
            format!("echo mq-deadline > {file}"),
        );
    }
    let check = Check::good(name, &chosen, purpose);
    check.unless(chosen == "none", format!("echo none > {file}"))
}

fn write_cache(host: &Host, queue: Option<&str>) -> Check {
    let (name, purpose) = (
        "write-cache",
        "every durable write waits until a volatile cache is flushed; devices with power-loss protection have none",
    );
    let Some(queue) = queue else {
        return Check::unknown(name, NO_DEVICE, purpose);
    };
    let Some(kind) = host.text(&format!("{queue}/write_cache")) else {
        return Check::unknown(name, "the device does not say", purpose);
    };
    let fua = host.number(&format!("{queue}/fua")) == Some(1);
    let found = match fua {
        true => format!("{kind}, with forced unit access"),
        false => kind.clone(),
    };
    let check = Check::good(name, found, purpose);
    match kind.as_str() {
        "write through" => check,
        _ => check.worth_a_thought(
            "use a device with power-loss protection; never tell the kernel `write through` of one without",
        ),
    }
}

fn io_uring(host: &Host) -> Check {
    let (name, purpose) = (
        "io-uring",
        "all files and wake-ups go through rings of each shard",
    );
    let file = "/proc/sys/kernel/io_uring_disabled";
    match host.number(file) {
        None => Check::good(name, "no switch: always permitted", purpose),
        Some(level) => Check::good(
            name,
            format!("kernel.io_uring_disabled is {level}"),
            purpose,
        )
        .unless(level == 0, "sysctl -w kernel.io_uring_disabled=0"),
    }
}

fn open_files(host: &Host, config: &Config) -> Check {
    let (name, purpose) = (
        "open-files",
        "segments that are read stay open; with fewer descriptors they are opened again and again",
    );
    let Some(limit) = host.limit("Max open files") else {
        return Check::unknown(name, "/proc/self/limits does not say", purpose);
    };
    let cores = host.cores().map_or(1, |cores| cores.len());
    let wanted = crate::checks::wanted_open_files(config, config.cores.shards(cores).get().into());
    Check::good(name, limit.to_string(), purpose).unless(
        limit >= wanted,
        format!("ulimit -n {wanted} (in a systemd unit: LimitNOFILE={wanted})"),
    )
}
