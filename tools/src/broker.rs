//! The real broker as a child process: started on a data directory, awaited by its `ready`
//! line, ended by its own process id.
//!
//! For the crash test and for end-to-end tests. A [`BrokerProcess`] that is dropped is killed.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How long a broker may take until it serves. Far above what it needs, so that only a hang
/// or a very busy machine reaches it.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a broker may take to shut down cleanly.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a child that was asked to stop is looked at.
const STOP_POLL: Duration = Duration::from_millis(5);

/// Names the broker's binary, for tests of a build that lies elsewhere.
pub const BIN_VARIABLE: &str = "MILLRACE_BIN";

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct BrokerCommand {
    /// The binary.
    pub bin: PathBuf,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 picks a free one.
    pub quic: SocketAddr,
    /// Its standard error is appended to this file.
    pub log_file: PathBuf,
    /// Further arguments.
    pub args: Vec<OsString>,
}

/// A running broker.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    ready: Option<oneshot::Receiver<io::Result<Ready>>>,
    log_file: PathBuf,
}

/// Where a broker that is ready listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The native protocol.
    pub quic: SocketAddr,
    /// The Kafka protocol, if it is served.
    pub kafka: Option<SocketAddr>,
    /// Metrics and health, if they are served.
    pub http: Option<SocketAddr>,
}

impl BrokerCommand {
    /// Starts the process and does not wait for it.
    ///
    /// # Errors
    /// When the log file or the process cannot be made.
    pub fn spawn(&self) -> io::Result<BrokerProcess> {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log_file)?;
        let mut child = Command::new(&self.bin)
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--quic", &self.quic.to_string()])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| {
                io::Error::other(format!("{} cannot be started: {error}", self.bin.display()))
            })?;
        let stdout = child
            .stdout
            .take()
            .expect("standard output is a pipe, as asked for");
        let ready = Some(await_ready_line(stdout)?);
        Ok(BrokerProcess {
            child,
            ready,
            log_file: self.log_file.clone(),
        })
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready in time.
    pub async fn start(&self) -> io::Result<(BrokerProcess, SocketAddr)> {
        let mut process = self.spawn()?;
        let address = process.ready().await?;
        Ok((process, address))
    }
}

impl BrokerProcess {
    /// Waits until the broker serves; the address it serves QUIC on. Once only.
    ///
    /// # Errors
    /// When the process ended, or is not ready in time; the error shows the end of its log.
    pub async fn ready(&mut self) -> io::Result<SocketAddr> {
        let ready = self
            .ready
            .take()
            .ok_or_else(|| io::Error::other("asked for twice"))?;
        match tokio::time::timeout(READY_TIMEOUT, ready).await {
            Ok(Ok(Ok(ready))) => Ok(ready.quic),
            Ok(Ok(Err(error))) => Err(self.explained(&error.to_string())),
            Ok(Err(_)) => Err(self.explained("its output was closed")),
            Err(_) => Err(self.explained("it was not ready in time")),
        }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process as a power switch would end it for the process: SIGKILL.
    ///
    /// # Errors
    /// When it had ended by itself before.
    pub fn kill(mut self) -> io::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(self.explained(&format!("it ended by itself with {status}")));
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        match status.signal() {
            Some(9) => Ok(()),
            _ => Err(self.explained(&format!("it ended by itself with {status}"))),
        }
    }

    /// Asks the process to shut down with SIGTERM and waits for it.
    ///
    /// # Errors
    /// When it does not end in time or not with success.
    pub fn stop(mut self) -> io::Result<()> {
        // The standard library sends no other signal than SIGKILL.
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()?;
        if !asked.success() {
            return Err(self.explained("it could not be signalled"));
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() < deadline => std::thread::sleep(STOP_POLL),
                None => return Err(self.explained("it did not shut down in time")),
            }
        };
        self.succeeded(status)
    }

    fn succeeded(&self, status: ExitStatus) -> io::Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(self.explained(&format!("it ended with {status}")))
    }

    fn explained(&self, what: &str) -> io::Error {
        let tail = log_tail(&self.log_file);
        io::Error::other(format!(
            "the broker failed: {what}; the end of its log:\n{tail}"
        ))
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Already ended is fine; there is nobody to tell anything else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a broker's log.
pub(crate) fn log_tail(path: &Path) -> String {
    const SHOWN_LINES: usize = 15;
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// Reads the line with which a broker says that it serves.
pub(crate) fn await_ready_line(
    stdout: ChildStdout,
) -> io::Result<oneshot::Receiver<io::Result<Ready>>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("broker-stdout".into())
        .spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = String::new();
            let read = reader.read_line(&mut line);
            // A receiver that went away has killed the broker on purpose.
            let _ = sender.send(read.and_then(|_| parse_ready(&line)));
            // Keeps the pipe open, so that the broker never writes into a closed one.
            let _ = io::copy(&mut reader, &mut io::sink());
        })?;
    Ok(receiver)
}

/// The addresses of `ready quic=ADDR kafka=ADDR http=ADDR`, of which the last two may be missing.
fn parse_ready(line: &str) -> io::Result<Ready> {
    if line.is_empty() {
        return Err(io::Error::other("it ended before it was ready"));
    }
    let strange = || io::Error::other(format!("'{}' is no ready line", line.trim_end()));
    let mut words = line.split_whitespace();
    if words.next() != Some("ready") {
        return Err(strange());
    }
    let address = |name: &str| -> io::Result<Option<SocketAddr>> {
        let mut words = words.clone();
        let address = words.find_map(|word| word.strip_prefix(name));
        address
            .map(|address| address.parse().map_err(|_| strange()))
            .transpose()
    };
    Ok(Ready {
        quic: address("quic=")?.ok_or_else(strange)?,
        kafka: address("kafka=")?,
        http: address("http=")?,
    })
}

/// The broker's binary: the one that `MILLRACE_BIN` names, else the one beside this program,
/// else the one that `cargo build` makes in the same workspace.
///
/// # Errors
/// When there is none and it cannot be built.
pub fn find_binary() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os(BIN_VARIABLE) {
        return Ok(named.into());
    }
    let beside = std::env::current_exe()?.with_file_name("millrace");
    if beside.is_file() {
        Ok(beside)
    } else {
        build_binary()
    }
}

/// The broker's binary, built from the sources of this workspace in the profile of the
/// running program, or the one that `MILLRACE_BIN` names. For tests, which must not meet an
/// older build.
///
/// # Errors
/// When it cannot be built.
pub fn build_binary() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os(BIN_VARIABLE) {
        return Ok(named.into());
    }
    let program = std::env::current_exe()?;
    let mut folder = program.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap_or(folder);
    }
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .args([
            "build",
            "--quiet",
            "--package",
            "millrace-engine",
            "--bin",
            "millrace",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if folder.ends_with("release") {
        build.arg("--release");
    }
    if let Some(target) = folder.parent() {
        build.arg("--target-dir").arg(target);
    }
    if !build.status()?.success() {
        return Err(io::Error::other(format!(
            "the broker cannot be built; set {BIN_VARIABLE} to the path of its binary"
        )));
    }
    Ok(folder.join("millrace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_understood() {
        let line = "ready quic=127.0.0.1:4433 kafka=127.0.0.1:9092 http=127.0.0.1:80\n";
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut ready = Ready {
            quic: local(4433),
            kafka: Some(local(9092)),
            http: Some(local(80)),
        };
        assert_eq!(parse_ready(line).unwrap(), ready);
        (ready.kafka, ready.http) = (None, None);
        assert_eq!(parse_ready("ready quic=127.0.0.1:4433\n").unwrap(), ready);
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "",
            "hello\n",
            "ready\n",
            "ready http=127.0.0.1:80\n",
            "ready quic=x\n",
            "ready quic=127.0.0.1:1 kafka=x\n",
        ] {
            assert!(parse_ready(line).is_err(), "{line}");
        }
    }
}
