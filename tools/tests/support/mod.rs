//! The real broker on a temporary directory, and `millctl` talking to it.

#![allow(dead_code, reason = "each test uses its part")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use millrace_client::{ConnectOptions, Trust};
use millrace_tools::broker::{BrokerCommand, BrokerProcess, build_binary};
use tempfile::TempDir;

/// The broker's binary, built once a test program.
pub(crate) fn broker_bin() -> PathBuf {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| build_binary().unwrap()).clone()
}

/// A broker of a test's own.
pub(crate) struct TestBroker {
    dir: TempDir,
    command: BrokerCommand,
    process: Option<BrokerProcess>,
}

impl TestBroker {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A broker with these arguments besides.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let command = BrokerCommand {
            bin: broker_bin(),
            data_dir: dir.path().join("data"),
            quic: SocketAddr::from(([127, 0, 0, 1], 0)),
            log_file: dir.path().join("broker.log"),
            args: ["--http", "127.0.0.1:0", "--kafka", "none"]
                .iter()
                .chain(args)
                .map(Into::into)
                .collect(),
        };
        let mut broker = Self {
            dir,
            command,
            process: None,
        };
        broker.start_again();
        broker
    }

    /// Starts the broker after [`TestBroker::stop`] or [`TestBroker::kill`], where it was.
    pub(crate) fn start_again(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (process, address) = runtime.block_on(self.command.start()).unwrap();
        self.command.quic = address;
        self.process = Some(process);
    }

    pub(crate) fn stop(&mut self) {
        self.process.take().unwrap().stop().unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill().unwrap();
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.command.data_dir
    }

    /// How a client reaches this broker.
    pub(crate) fn options(&self) -> ConnectOptions {
        let trust = Trust::FirstUse(self.dir.path().join("known_brokers"));
        ConnectOptions::new(self.command.quic, trust)
    }

    /// `millctl` with these arguments, for this broker.
    pub(crate) fn millctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millctl"));
        command
            .args(args)
            .env("MILLRACE_BROKER", self.command.quic.to_string())
            .env(
                "MILLRACE_KNOWN_BROKERS",
                self.dir.path().join("known_brokers"),
            );
        command
    }

    /// Runs `millctl` with this standard input.
    pub(crate) fn run(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = self
            .millctl(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        // A command that ends early closes the pipe, which is its right.
        let feeding = std::thread::spawn(move || drop(input.write_all(&bytes)));
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        output
    }

    /// Runs `millctl`, which must succeed; what it printed.
    pub(crate) fn ok(&self, args: &[&str], stdin: &[u8]) -> Vec<u8> {
        let output = self.run(args, stdin);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "millctl {args:?}: {}\n{stderr}",
            output.status
        );
        output.stdout
    }

    /// Runs `millctl`, which must fail with this exit code; what it said.
    pub(crate) fn fails(&self, exit_code: i32, args: &[&str], stdin: &[u8]) -> String {
        let output = self.run(args, stdin);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(exit_code),
            "millctl {args:?}: {stderr}"
        );
        stderr
    }
}
