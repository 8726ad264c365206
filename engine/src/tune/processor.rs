//! Cores, their clock and their speed, and who interrupts them.

use super::{Check, Host};
use crate::config::Config;

const CPUS: &str = "/sys/devices/system/cpu";
const CLOCKS: &str = "/sys/devices/system/clocksource/clocksource0";

/// Clocks that a process reads without a system call.
const FAST_CLOCKS: [&str; 4] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];

/// Interrupts of devices below this are too few to matter.
const MANY_INTERRUPTS: u64 = 100_000;

/// More than this share of them on one core is a queue where there could be several, in percent.
const ONE_CORES_SHARE: u64 = 90;

pub(super) fn look(host: &Host, config: &Config, checks: &mut Vec<Check>) {
    checks.push(cores(host, config));
    checks.push(quota(host));
    checks.push(isolation(host));
    checks.push(governor(host));
    checks.push(clock(host));
    checks.push(interrupts(host));
}

fn cores(host: &Host, config: &Config) -> Check {
    let (name, purpose) = (
        "cores",
        "each shard is pinned to a core of its own and spins before it sleeps",
    );
    let Some(cores) = host.cores() else {
        return Check::unknown(name, "/proc/self/status does not say", purpose);
    };
    let shards = usize::from(config.cores.shards(cores.len()).get());
    let found = format!("{shards} shards on {} cores", cores.len());
    let check = Check::good(name, found, purpose);
    check.unless(
        shards <= cores.len(),
        "--cores all, or give the process more cores",
    )
}

fn quota(host: &Host) -> Check {
    let (name, purpose) = (
        "cpu-quota",
        "a quota takes the cores away for milliseconds at a time, which shows in p99",
    );
    let Some(text) = host.text("/sys/fs/cgroup/cpu.max") else {
        return Check::unknown(name, "no cpu.max at the root of the cgroup", purpose);
    };
    let check = Check::good(name, format!("cpu.max is {text}"), purpose);
    check.unless(
        text.starts_with("max"),
        "echo max > /sys/fs/cgroup/cpu.max (docker: leave --cpus out, use --cpuset-cpus)",
    )
}

fn isolation(host: &Host) -> Check {
    let (name, purpose) = (
        "isolated-cores",
        "no other work is put on the shards' cores, so that none waits for a time slice",
    );
    match host.text(&format!("{CPUS}/isolated")) {
        None => Check::unknown(name, "the kernel does not say", purpose),
        Some(list) if list.is_empty() => Check::good(name, "none", purpose).worth_a_thought(
            "isolcpus=1-N nohz_full=1-N on the kernel's command line, and taskset -c 1-N millrace",
        ),
        Some(list) => Check::good(name, list, purpose),
    }
}

fn governor(host: &Host) -> Check {
    let (name, purpose) = (
        "governor",
        "a core that slows down when idle needs tens of microseconds to be fast again",
    );
    let cpus = host.names(CPUS).into_iter().filter(|name| {
        let number = name.strip_prefix("cpu");
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    let governors =
        cpus.filter_map(|cpu| host.text(&format!("{CPUS}/{cpu}/cpufreq/scaling_governor")));
    let mut governors: Vec<String> = governors.collect();
    governors.sort();
    governors.dedup();
    if governors.is_empty() {
        return Check::unknown(name, "no governor, as in most virtual machines", purpose);
    }
    let check = Check::good(name, governors.join(", "), purpose);
    check.unless(
        governors == ["performance"],
        "cpupower frequency-set -g performance",
    )
}

fn clock(host: &Host) -> Check {
    let (name, purpose) = (
        "clock-source",
        "each batch reads the clock some six times; a slow source makes each a system call",
    );
    let Some(source) = host.text(&format!("{CLOCKS}/current_clocksource")) else {
        return Check::unknown(name, "the kernel does not say", purpose);
    };
    let is_fast = FAST_CLOCKS.contains(&source.as_str());
    let available = host.text(&format!("{CLOCKS}/available_clocksource"));
    let available = available.unwrap_or_default();
    let mut better = available.split_whitespace();
    let better = better.find(|source| FAST_CLOCKS.contains(source));
    let fix = match better {
        Some(better) => format!("echo {better} > {CLOCKS}/current_clocksource"),
        None => format!("none of `{available}` is fast; see dmesg for why the TSC was refused"),
    };
    Check::good(name, source, purpose).unless(is_fast, fix)
}

/// Whether the interrupts of network and storage devices are spread.
fn interrupts(host: &Host) -> Check {
    let (name, purpose) = (
        "interrupts",
        "interrupts of all queues on one core make that shard slower than the others",
    );
    let table = host.text("/proc/interrupts").unwrap_or_default();
    let mut lines = table.lines();
    let cores = lines
        .next()
        .map_or(0, |heading| heading.split_whitespace().count());
    let mut by_core = vec![0_u64; cores];
    let mut busiest: Option<(u64, &str)> = None;
    for line in lines {
        let Some((number, rest)) = line.split_once(':') else {
            continue;
        };
        // Those with a number are devices, the others the processor's own.
        if number.trim().parse::<u32>().is_err() {
            continue;
        }
        let counts = rest
            .split_whitespace()
            .map_while(|cell| cell.parse::<u64>().ok());
        let mut sum = 0;
        for (core, count) in by_core.iter_mut().zip(counts) {
            *core += count;
            sum += count;
        }
        if busiest.is_none_or(|(most, _)| sum > most) {
            busiest = Some((sum, number.trim()));
        }
    }
    let sum: u64 = by_core.iter().sum();
    let most = by_core.iter().copied().max().unwrap_or(0);
    let (true, Some((_, irq))) = (cores > 0, busiest) else {
        return Check::unknown(name, "/proc/interrupts does not say", purpose);
    };
    let share = (most * 100).checked_div(sum).unwrap_or(0);
    let found = format!("{sum} of devices, {share} % of them on one of {cores} cores");
    let is_spread = cores == 1 || sum < MANY_INTERRUPTS || share <= ONE_CORES_SHARE;
    Check::good(name, found, purpose).unless(
        is_spread,
        format!("echo CORE > /proc/irq/{irq}/smp_affinity_list, another core for each queue; or start irqbalance"),
    )
}
