//! Hosts of our own making.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use super::*;
use crate::config::Layers;

/// A host where everything is as it should be.
const GOOD: &[(&str, &str)] = &[
    ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-3\n"),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max locked memory         unlimited            unlimited            bytes     \n\
         Max open files            1048576              1048576              files     \n",
    ),
    (
        "proc/self/mountinfo",
        "21 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
         30 21 259:2 / /var/my\\040data rw,noatime - xfs /dev/nvme0n1p2 rw,attr2\n",
    ),
    (
        "proc/interrupts",
        "     CPU0  CPU1  CPU2  CPU3\n 24: 90000 80000 85000 99000 IR-PCI nvme0q1\nLOC: 1 2 3 4 timer\n",
    ),
    ("proc/swaps", "Filename Type Size Used Priority\n"),
    ("proc/sys/kernel/osrelease", "6.8.0-45-generic\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/vm/swappiness", "60\n"),
    ("proc/sys/vm/dirty_background_bytes", "67108864\n"),
    ("proc/sys/vm/dirty_background_ratio", "0\n"),
    ("proc/sys/net/core/rmem_max", "8388608\n"),
    ("proc/sys/net/core/wmem_max", "8388608\n"),
    ("proc/sys/net/core/netdev_max_backlog", "8192\n"),
    ("proc/sys/net/core/busy_poll", "50\n"),
    ("proc/sys/net/core/busy_read", "50\n"),
    ("sys/fs/cgroup/cpu.max", "max 100000\n"),
    ("sys/devices/system/cpu/isolated", "1-3\n"),
    (
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "performance\n",
    ),
    (
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "performance\n",
    ),
    (
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    (
        "sys/devices/system/clocksource/clocksource0/available_clocksource",
        "tsc hpet acpi_pm\n",
    ),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never\n",
    ),
    ("sys/dev/block/259:2/partition", "2\n"),
    ("sys/dev/block/queue/logical_block_size", "512\n"),
    ("sys/dev/block/queue/scheduler", "[none] mq-deadline\n"),
    ("sys/dev/block/queue/rotational", "0\n"),
    ("sys/dev/block/queue/write_cache", "write through\n"),
    ("sys/dev/block/queue/fua", "1\n"),
];

struct Made {
    directory: tempfile::TempDir,
}

impl Made {
    /// A good host with these files changed, or taken away where there is no text.
    fn with(changes: &[(&str, Option<&str>)]) -> Self {
        let made = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for (path, text) in GOOD {
            made.write(path, text);
        }
        for (path, text) in changes {
            match text {
                Some(text) => made.write(path, text),
                None => fs::remove_file(made.directory.path().join(path)).unwrap(),
            }
        }
        made
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn findings(&self, data_dir: &str) -> Findings {
        let mut config = Layers::default().build().unwrap().config;
        config.data_dir = Path::new(data_dir).to_owned();
        Findings::of(&Host::at(self.directory.path()), &config)
    }
}

const DATA: &str = "/var/my data/broker";

fn named<'a>(findings: &'a Findings, name: &str) -> &'a Check {
    let mut checks = findings.checks.iter();
    checks.find(|check| check.name == name).unwrap()
}

#[test]
fn a_good_host_lacks_nothing() {
    let findings = Made::with(&[]).findings(DATA);
    let others: Vec<_> = findings
        .checks
        .iter()
        .filter(|check| check.state != State::Good)
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(findings.fit);
    assert!(findings.text().ends_with("nothing lacks\n"));
    assert_eq!(named(&findings, "file-system").found, "xfs on /var/my data");
}

#[test]
fn each_lack_is_named_with_its_command() {
    let limits = "Max locked memory  65536  65536  bytes\nMax open files  256  256  files\n";
    let table: &[(&str, &str, &str, &str)] = &[
        (
            "locked-memory",
            "proc/self/limits",
            limits,
            "ulimit -l 8192",
        ),
        ("open-files", "proc/self/limits", limits, "ulimit -n "),
        (
            "cpu-quota",
            "sys/fs/cgroup/cpu.max",
            "50000 100000",
            "cpu.max",
        ),
        (
            "governor",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "powersave",
            "cpupower",
        ),
        (
            "clock-source",
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            "echo tsc >",
        ),
        (
            "interrupts",
            "proc/interrupts",
            "  CPU0 CPU1\n 24: 990000 1 nvme\n 25: 100 100 eth0\n",
            "/proc/irq/24/smp_affinity_list",
        ),
        (
            "huge-pages",
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never",
            "echo madvise",
        ),
        (
            "swap",
            "proc/swaps",
            "Filename\n/swapfile file 1 0 -2\n",
            "vm.swappiness=1",
        ),
        (
            "udp-receive-buffer",
            "proc/sys/net/core/rmem_max",
            "212992",
            "net.core.rmem_max=4194304",
        ),
        (
            "udp-send-buffer",
            "proc/sys/net/core/wmem_max",
            "212992",
            "net.core.wmem_max=4194304",
        ),
        (
            "udp-offload",
            "proc/sys/kernel/osrelease",
            "4.19.0",
            "Linux 5.0",
        ),
        (
            "file-system",
            "proc/self/mountinfo",
            "30 21 0:30 / /var rw,noatime - tmpfs tmpfs rw\n",
            "mkfs.xfs",
        ),
        (
            "mount-options",
            "proc/self/mountinfo",
            "30 21 259:2 / /var rw,noatime,sync - ext4 /dev/x rw,data=journal\n",
            "take sync and data=journal out",
        ),
        (
            "direct-alignment",
            "sys/dev/block/queue/logical_block_size",
            "16384",
            "nvme format",
        ),
        (
            "io-scheduler",
            "sys/dev/block/queue/scheduler",
            "none [bfq]",
            "echo none",
        ),
        (
            "io-uring",
            "proc/sys/kernel/io_uring_disabled",
            "2",
            "io_uring_disabled=0",
        ),
    ];
    for (name, path, text, fix) in table {
        let findings = Made::with(&[(path, Some(text))]).findings(DATA);
        let check = named(&findings, name);
        assert_eq!(check.state, State::Lacks, "{check:?}");
        assert!(check.fix.as_ref().unwrap().contains(fix), "{check:?}");
        assert!(!findings.fit);
        let text = findings.text();
        assert!(
            text.contains(check.purpose) && text.contains("lack; nothing was changed"),
            "{text}"
        );
    }
}

#[test]
fn what_is_a_matter_of_taste_does_not_fail() {
    for (name, path, text) in [
        ("isolated-cores", "sys/devices/system/cpu/isolated", ""),
        ("dirty-pages", "proc/sys/vm/dirty_background_bytes", "0"),
        ("busy-poll", "proc/sys/net/core/busy_poll", "0"),
        (
            "network-backlog",
            "proc/sys/net/core/netdev_max_backlog",
            "1000",
        ),
        (
            "write-cache",
            "sys/dev/block/queue/write_cache",
            "write back",
        ),
    ] {
        let mut changes = vec![(path, Some(text))];
        if name == "dirty-pages" {
            changes.push(("proc/sys/vm/dirty_background_ratio", Some("10")));
        }
        let findings = Made::with(&changes).findings(DATA);
        assert_eq!(named(&findings, name).state, State::Consider, "{name}");
        assert!(findings.fit, "{name}");
    }
}

#[test]
fn what_a_host_does_not_tell_is_unknown() {
    for (name, path) in [
        ("cores", "proc/self/status"),
        ("locked-memory", "proc/self/limits"),
        ("file-system", "proc/self/mountinfo"),
        ("interrupts", "proc/interrupts"),
        ("huge-pages", "sys/kernel/mm/transparent_hugepage/enabled"),
        ("io-scheduler", "sys/dev/block/queue/scheduler"),
        ("busy-poll", "proc/sys/net/core/busy_read"),
    ] {
        let findings = Made::with(&[(path, None)]).findings(DATA);
        assert_eq!(named(&findings, name).state, State::Unknown, "{name}");
        assert!(findings.fit, "{name}");
    }
    let nothing = Made {
        directory: tempfile::tempdir().unwrap(),
    };
    assert!(nothing.findings(DATA).fit);
}

#[test]
fn the_json_has_what_the_text_has() {
    let findings = Made::with(&[("proc/sys/net/core/rmem_max", Some("212992"))]).findings(DATA);
    let json: serde_json::Value = serde_json::from_str(&findings.json()).unwrap();
    assert_eq!(json["fit"], false);
    let checks = json["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["name"] == "udp-receive-buffer")
        .unwrap();
    assert_eq!(check["state"], "lacks");
    assert_eq!(check["fix"], "sysctl -w net.core.rmem_max=4194304");
    assert_eq!(checks.len(), findings.checks.len());
}

#[test]
fn this_host_can_be_looked_at() {
    let config = Layers::default().build().unwrap().config;
    let findings = Findings::of(&Host::this(), &config);
    assert_ne!(named(&findings, "cores").state, State::Unknown);
}
