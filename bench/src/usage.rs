//! What the machine gave: CPU time of the broker, of this process and of everything else, the
//! broker's memory, and what machine it is. All from `/proc`, by the kernel's own account.

use std::fmt;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The kernel shows CPU time to processes in this unit, on every architecture that Rust's
/// standard library serves on Linux.
const TICK: Duration = Duration::from_millis(10);

/// How often the usage is looked at, so that little is lost of a process that ends.
const SAMPLE: Duration = Duration::from_millis(250);

/// The process whose CPU time and memory are those of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerProcess {
    /// Another process on this machine.
    Pid(u32),
    /// This one: the broker is embedded, and what is measured is broker and load together.
    This,
    /// Somewhere else, or not said.
    Unknown,
}

/// CPU time and memory at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    broker: Option<Process>,
    this: Process,
    machine: Machine,
}

/// CPU time and memory over a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Wall time between the two readings, in seconds.
    pub seconds: f64,
    /// What the broker took, if it runs here. That of an embedded broker has the load in it.
    pub broker: Option<BrokerUsage>,
    /// CPU-seconds that this process took, an embedded broker with it.
    pub load_cpu_seconds: f64,
    /// CPU-seconds that all other processes and the kernel's own work took: interference.
    pub other_cpu_seconds: f64,
    /// CPU-seconds that the host gave to other machines than this virtual one.
    pub stolen_cpu_seconds: f64,
}

/// What the broker's process took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerUsage {
    /// Whether it is this process, which the load is in too.
    pub embedded: bool,
    /// CPU-seconds, of all its threads, in user mode and in the kernel.
    pub cpu_seconds: f64,
    /// Resident bytes at the end.
    pub resident_bytes: u64,
    /// Most resident bytes at any time since the process began.
    pub peak_resident_bytes: u64,
}

/// Reads the usage of a broker's process between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    process: BrokerProcess,
}

impl Meter {
    /// A meter of that process.
    ///
    /// # Errors
    /// There is no such process, or `/proc` cannot be read.
    pub fn new(process: BrokerProcess) -> io::Result<Self> {
        let meter = Self { process };
        meter.read().map(|_| meter)
    }

    /// Begins to read at `from`, beside the load.
    #[must_use]
    pub fn start(self, from: Instant) -> Metering {
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let reading = tokio::spawn(async move {
            tokio::time::sleep_until(from.into()).await;
            let before = self.read()?;
            let mut last = before;
            loop {
                let over = tokio::select! {
                    _ = &mut ended => true,
                    () = tokio::time::sleep(SAMPLE) => false,
                };
                // A broker that dies has taken what it had at the last look.
                match self.read() {
                    Ok(reading) => last = reading,
                    Err(_) => last = last.without_news()?,
                }
                if over {
                    return Ok(usage(&before, &last));
                }
            }
        });
        Metering { end, reading }
    }

    fn read(&self) -> io::Result<Reading> {
        let this = Process::read("self")?;
        let broker = match self.process {
            BrokerProcess::Pid(pid) => Some(Process::read(&pid.to_string())?),
            BrokerProcess::This => Some(this),
            BrokerProcess::Unknown => None,
        };
        Ok(Reading {
            at: Instant::now(),
            broker: broker.map(|process| Process {
                embedded: self.process == BrokerProcess::This,
                ..process
            }),
            this,
            machine: Machine::read()?,
        })
    }
}

impl Reading {
    /// The same of the broker, and what is new of everything else.
    fn without_news(&self) -> io::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            broker: self.broker,
            this: Process::read("self")?,
            machine: Machine::read()?,
        })
    }
}

/// A meter that reads.
#[derive(Debug)]
pub struct Metering {
    end: tokio::sync::oneshot::Sender<()>,
    reading: tokio::task::JoinHandle<io::Result<Usage>>,
}

impl Metering {
    /// The usage from the start until now.
    ///
    /// # Errors
    /// The broker's process had gone before the start.
    pub async fn end(self) -> io::Result<Usage> {
        // It has ended already when it failed, and says why.
        let _ = self.end.send(());
        self.reading.await.map_err(io::Error::other)?
    }
}

fn usage(before: &Reading, after: &Reading) -> Usage {
    let seconds = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64();
    let load = seconds(before.this.cpu, after.this.cpu);
    let broker = before.broker.zip(after.broker);
    let broker = broker.map(|(before, after)| BrokerUsage {
        embedded: after.embedded,
        cpu_seconds: seconds(before.cpu, after.cpu),
        resident_bytes: after.resident_bytes,
        peak_resident_bytes: after.peak_resident_bytes,
    });
    let apart = broker.filter(|broker| !broker.embedded);
    let ours = load + apart.map_or(0.0, |broker| broker.cpu_seconds);
    let busy = seconds(before.machine.busy, after.machine.busy);
    Usage {
        seconds: (after.at - before.at).as_secs_f64(),
        broker,
        load_cpu_seconds: load,
        other_cpu_seconds: (busy - ours).max(0.0),
        stolen_cpu_seconds: seconds(before.machine.stolen, after.machine.stolen),
    }
}

/// What `/proc/PID` says of a process.
#[derive(Clone, Copy, Debug)]
struct Process {
    embedded: bool,
    cpu: Duration,
    resident_bytes: u64,
    peak_resident_bytes: u64,
}

impl Process {
    fn read(pid: &str) -> io::Result<Self> {
        let file = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
        };
        let status = file("status")?;
        Ok(Self {
            embedded: false,
            cpu: process_cpu(&file("stat")?).ok_or_else(|| unreadable("stat"))?,
            // A process that has ended, and waits for its parent, has no memory any more.
            resident_bytes: kilobytes(&status, "VmRSS:").ok_or_else(gone)?,
            peak_resident_bytes: kilobytes(&status, "VmHWM:").ok_or_else(gone)?,
        })
    }
}

/// CPU time of the whole machine since it booted.
#[derive(Clone, Copy, Debug)]
struct Machine {
    busy: Duration,
    stolen: Duration,
}

impl Machine {
    fn read() -> io::Result<Self> {
        machine_cpu(&fs::read_to_string("/proc/stat")?).ok_or_else(|| unreadable("stat"))
    }
}

/// `utime` and `stime`. The name of the process, in parentheses, may contain anything.
fn process_cpu(stat: &str) -> Option<Duration> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

/// The line of all CPUs: user, nice, system, idle, iowait, irq, softirq, steal.
fn machine_cpu(stat: &str) -> Option<Machine> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let &[user, nice, system, _, _, irq, softirq, stolen, ..] = ticks.as_slice() else {
        return None;
    };
    Some(Machine {
        busy: TICK.mul_f64(user + nice + system + irq + softirq),
        stolen: TICK.mul_f64(stolen),
    })
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process has ended")
}

fn unreadable(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("/proc has another {file} than this program knows"),
    )
}

/// Where a run took place, and what ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// CPUs that this process may use.
    pub cores: usize,
    /// The CPU's name.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// This program's version.
    pub version: String,
    /// The commit it was built from, as far as that can be told; with `-dirty` when files
    /// differed from it.
    pub commit: Option<String>,
}

impl Place {
    /// This machine, now.
    #[must_use]
    pub fn here() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = cpus.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            (field.trim() == "model name").then(|| value.trim().to_owned())
        });
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            kernel: kernel.trim().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cores, cpu, kernel, ..
        } = self;
        let commit = self.commit.as_deref().unwrap_or("unknown");
        write!(
            f,
            "{cores} x {cpu}, Linux {kernel}; millrace-bench {}, commit {commit}",
            self.version
        )
    }
}

/// What the build was told, or else what the source that this was built from has checked out.
fn commit() -> Option<String> {
    if let Some(commit) = option_env!("MILLRACE_COMMIT") {
        return Some(commit.to_owned());
    }
    let described = std::process::Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always"])
        .args(["--dirty", "--abbrev=12", "--exclude=*"])
        .stderr(std::process::Stdio::null())
        .output();
    let described = described.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&described.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_shift_its_fields() {
        let stat = "17 (a) b (c)) S 1 17 17 0 -1 4194560 9 0 0 0 250 50 7 8 20 0 1 0 99";
        assert_eq!(process_cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(process_cpu("17 (cut"), None);
    }

    #[test]
    fn idle_and_stolen_time_are_not_busy() {
        let stat = "cpu  100 1 99 5000 700 20 80 40 0 0\ncpu0 1 2 3";
        let machine = machine_cpu(stat).expect("the line is whole");
        assert_eq!(machine.busy, Duration::from_secs(3));
        assert_eq!(machine.stolen, Duration::from_millis(400));
        assert!(machine_cpu("cpu  1 2 3").is_none());
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    200 kB\nVmRSS:\t     100 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(102_400));
        assert_eq!(kilobytes(status, "VmHWM:"), Some(204_800));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    fn what_others_took_is_what_is_left() {
        let process = |cpu| Process {
            embedded: false,
            cpu: Duration::from_secs(cpu),
            resident_bytes: 5,
            peak_resident_bytes: 9,
        };
        let reading = |at, broker, this, busy| Reading {
            at,
            broker: Some(process(broker)),
            this: process(this),
            machine: Machine {
                busy: Duration::from_secs(busy),
                stolen: Duration::ZERO,
            },
        };
        let start = Instant::now();
        let before = reading(start, 10, 20, 100);
        let after = reading(start + Duration::from_secs(4), 12, 23, 106);
        let usage = usage(&before, &after);
        assert_eq!(usage.seconds, 4.0);
        assert_eq!(usage.load_cpu_seconds, 3.0);
        assert_eq!(usage.other_cpu_seconds, 1.0);
        assert_eq!(usage.broker.map(|broker| broker.cpu_seconds), Some(2.0));
    }

    #[test]
    fn this_process_can_be_read() {
        let meter = Meter::new(BrokerProcess::This).expect("/proc is there");
        let reading = meter.read().expect("/proc is there");
        assert!(reading.this.resident_bytes > 0);
        assert!(Meter::new(BrokerProcess::Pid(u32::MAX)).is_err());
    }
}
