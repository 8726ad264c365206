//! Memory that must not move: locked, not swapped, not compacted at the wrong moment.

use super::{Check, Host};
use crate::config::{Config, DiskMode};

/// Locked memory that the rings of one shard take at most, with room: see ARCHITECTURE.md, "Small registered
/// memory".
const LOCKED_A_SHARD: u64 = 2 << 20;

/// Dirty pages may be at most this share of memory before the kernel begins to write them, in percent.
const EARLY_WRITING: u64 = 5;

pub(super) fn look(host: &Host, config: &Config, checks: &mut Vec<Check>) {
    checks.push(locked(host, config));
    checks.push(huge_pages(host));
    checks.push(swap(host));
    checks.push(dirty(host, config));
}

fn locked(host: &Host, config: &Config) -> Check {
    let (name, purpose) = (
        "locked-memory",
        "rings and their buffers are pinned for the device",
    );
    let Some(limit) = host.limit("Max locked memory") else {
        return Check::unknown(name, "/proc/self/limits does not say", purpose);
    };
    let cores = host.cores().map_or(1, |cores| cores.len());
    let wanted = LOCKED_A_SHARD * u64::from(config.cores.shards(cores).get());
    let found = match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => format!("{} KiB", limit >> 10),
    };
    Check::good(name, found, purpose).unless(
        limit >= wanted,
        format!(
            "ulimit -l {} (in a systemd unit: LimitMEMLOCK={wanted})",
            wanted >> 10
        ),
    )
}

fn huge_pages(host: &Host) -> Check {
    let (name, purpose) = (
        "huge-pages",
        "with `always` the kernel compacts memory under a page fault, which takes milliseconds now and then",
    );
    let file = "/sys/kernel/mm/transparent_hugepage/enabled";
    match host.chosen(file) {
        None => Check::unknown(name, "the kernel has none", purpose),
        Some(chosen) => {
            let check = Check::good(name, &chosen, purpose);
            check.unless(chosen != "always", format!("echo madvise > {file}"))
        }
    }
}

fn swap(host: &Host) -> Check {
    let (name, purpose) = (
        "swap",
        "a page of the broker that was swapped out costs a read from the disk",
    );
    let Some(table) = host.text("/proc/swaps") else {
        return Check::unknown(name, "/proc/swaps is not there", purpose);
    };
    let spaces = table.lines().skip(1).count();
    let swappiness = host.number("/proc/sys/vm/swappiness");
    match (spaces, swappiness) {
        (0, _) => Check::good(name, "none", purpose),
        (_, Some(swappiness @ 0..=1)) => Check::good(
            name,
            format!("there is, with vm.swappiness {swappiness}"),
            purpose,
        ),
        (_, swappiness) => {
            let swappiness = swappiness.map_or("unknown".to_owned(), |number| number.to_string());
            let found = format!("there is, with vm.swappiness {swappiness}");
            Check::good(name, found, purpose).lacking("sysctl -w vm.swappiness=1, or swapoff -a")
        }
    }
}

fn dirty(host: &Host, config: &Config) -> Check {
    let (name, purpose) = (
        "dirty-pages",
        "others' writes that gather in the page cache reach the device all at once and hold up the log's",
    );
    let bytes = host
        .number("/proc/sys/vm/dirty_background_bytes")
        .unwrap_or(0);
    let Some(ratio) = host.number("/proc/sys/vm/dirty_background_ratio") else {
        return Check::unknown(name, "the kernel does not say", purpose);
    };
    if bytes > 0 {
        return Check::good(
            name,
            format!("vm.dirty_background_bytes is {bytes}"),
            purpose,
        );
    }
    let check = Check::good(
        name,
        format!("vm.dirty_background_ratio is {ratio} %"),
        purpose,
    );
    let fix = "sysctl -w vm.dirty_background_bytes=67108864 -w vm.dirty_bytes=268435456";
    match config.disk_mode {
        _ if ratio <= EARLY_WRITING => check,
        DiskMode::Buffered => check.lacking(fix),
        // The log itself goes past the cache.
        DiskMode::Direct => check.worth_a_thought(fix),
    }
}
