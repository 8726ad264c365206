//! The brokers of a cluster on this machine, as processes.
//!
//! They are in process groups of their own: Ctrl-C at the terminal reaches whoever started them, who
//! asks them to stop; two signals would stop them at once.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::local::{LocalCluster, Node};
use crate::broker::{BIN_VARIABLE, Ready, await_ready_line, log_tail};

/// How long a broker may take until it serves: far above what it needs.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a broker may take to stop. It gives its leaders away first.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a process is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What every environment variable of the broker starts with. Those of the caller are kept from it: they
/// would be the same for all.
const ENVIRONMENT_PREFIX: &str = "MILLRACE_";

/// A broker that was started here.
#[derive(Debug)]
pub struct NodeProcess {
    /// Which.
    pub id: u32,
    child: Child,
    ready: Option<oneshot::Receiver<io::Result<Ready>>>,
    files: NodeFiles,
}

#[derive(Clone, Debug)]
struct NodeFiles {
    config: PathBuf,
    log: PathBuf,
    pid: PathBuf,
}

impl NodeFiles {
    fn of(cluster: &LocalCluster, id: u32) -> Self {
        let dir = cluster.node_dir(id);
        Self {
            config: cluster.config_file(id),
            log: dir.join("broker.log"),
            pid: dir.join("pid"),
        }
    }
}

impl NodeProcess {
    /// Starts a broker and does not wait for it.
    ///
    /// # Errors
    /// It cannot be started, or runs already.
    pub fn start(bin: &Path, cluster: &LocalCluster, node: &Node) -> io::Result<Self> {
        if let Some(pid) = running(cluster, node.id) {
            return Err(io::Error::other(format!(
                "broker {} runs already, as process {pid}; `millctl cluster down` stops it",
                node.id
            )));
        }
        let files = NodeFiles::of(cluster, node.id);
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&files.log)?;
        let mut command = Command::new(bin);
        command
            .arg("serve")
            .arg("--config")
            .arg(&files.config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let ours = |name: &OsString| name.to_string_lossy().starts_with(ENVIRONMENT_PREFIX);
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|error| {
            io::Error::other(format!("{} cannot be started: {error}", bin.display()))
        })?;
        let stdout = child
            .stdout
            .take()
            .expect("standard output is a pipe, as asked for");
        let ready = Some(await_ready_line(stdout)?);
        fs::write(&files.pid, child.id().to_string())?;
        Ok(Self {
            id: node.id,
            child,
            ready,
            files,
        })
    }

    /// Waits until the broker serves, once.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the error shows the end of its log.
    pub async fn ready(&mut self) -> io::Result<Ready> {
        let ready = self
            .ready
            .take()
            .ok_or_else(|| io::Error::other("asked for twice"))?;
        match tokio::time::timeout(READY_TIMEOUT, ready).await {
            Ok(Ok(Ok(ready))) => Ok(ready),
            Ok(Ok(Err(error))) => Err(self.explained(&error.to_string())),
            Ok(Err(_)) => Err(self.explained("its output was closed")),
            Err(_) => Err(self.explained("it was not ready in time")),
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            // Whoever looks later sees that the process is gone, too.
            let _ = fs::remove_file(&self.files.pid);
        }
        Ok(ended)
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn ask_to_stop(&mut self) -> io::Result<()> {
        match self.ended()? {
            Some(_) => Ok(()),
            None => terminate(self.child.id()),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It does not end in time, or not with success.
    pub async fn stopped(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.explained(&format!("it ended with {status}"))),
                None if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                None => return Err(self.explained("it did not stop in time")),
            }
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It has ended already, then.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.files.pid);
    }

    fn explained(&self, what: &str) -> io::Error {
        let (id, tail) = (self.id, log_tail(&self.files.log));
        io::Error::other(format!(
            "broker {id} failed: {what}; the end of {}:\n{tail}",
            self.files.log.display()
        ))
    }
}

/// The process of a broker, if it runs: the one that its file names, if that is still one with its
/// settings.
#[must_use]
pub fn running(cluster: &LocalCluster, id: u32) -> Option<u32> {
    let files = NodeFiles::of(cluster, id);
    let pid: u32 = fs::read_to_string(&files.pid).ok()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let config = files.config.as_os_str().as_encoded_bytes();
    command
        .split(|byte| *byte == 0)
        .any(|word| word == config)
        .then_some(pid)
}

/// Waits until a broker that somebody else has started, and that was asked to stop, has ended.
///
/// # Errors
/// It does not end in time.
pub async fn gone(cluster: &LocalCluster, id: u32, pid: u32) -> io::Result<()> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    while running(cluster, id) == Some(pid) {
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!(
                "broker {id} did not stop in time"
            )));
        }
        tokio::time::sleep(POLL).await;
    }
    let _ = fs::remove_file(NodeFiles::of(cluster, id).pid);
    Ok(())
}

/// Asks a process to stop, with SIGTERM. The standard library sends no other signal than SIGKILL.
///
/// # Errors
/// It cannot be signalled.
pub fn terminate(pid: u32) -> io::Result<()> {
    let asked = Command::new("kill").arg(pid.to_string()).status()?;
    match asked.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "process {pid} cannot be signalled"
        ))),
    }
}

/// The broker's binary: the one that `MILLRACE_BIN` names, the one beside this program, or the one in the
/// path.
///
/// # Errors
/// There is none.
pub fn find_installed() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os(BIN_VARIABLE) {
        return Ok(named.into());
    }
    let beside = std::env::current_exe()?.with_file_name("millrace");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("millrace"));
    let mut candidates = std::iter::once(beside).chain(in_path);
    candidates
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            io::Error::other(format!(
                "no broker `millrace` beside millctl or in the path; {BIN_VARIABLE} may name one"
            ))
        })
}
