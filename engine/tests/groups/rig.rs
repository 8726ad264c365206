//! A broker in a process of its own, on a temporary directory.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::client::Kafka;

/// A broker that ends with the test.
pub(crate) struct Rig {
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    broker: Option<Running>,
}

struct Running {
    child: Child,
    ready: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
            eprintln!("the broker's log:\n{log}");
        }
    }
}

impl Rig {
    /// Two shards, free ports.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these settings besides.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut arguments = vec!["--cores".to_owned(), "2".to_owned()];
        for (key, value) in settings {
            arguments.push(format!("--{}", key.replace('.', "-")));
            arguments.push((*value).to_owned());
        }
        let mut rig = Self {
            directory: tempfile::tempdir().unwrap(),
            arguments,
            broker: None,
        };
        rig.start_again();
        rig
    }

    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log_path())
            .unwrap();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MILLRACE_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        for listener in ["--quic", "--kafka", "--http"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.arguments)
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(log);
        // SAFETY: `signal` may be called between fork and exec. A write beyond a limit of the
        // process is an error of that write, as on a disk that fails, and not its end.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let mut ready = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready "), "{ready}");
        self.broker = Some(Running { child, ready });
    }

    fn broker(&self) -> &Running {
        self.broker.as_ref().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.broker().child.id()
    }

    fn address(&self, listener: &str) -> SocketAddr {
        let mut words = self.broker().ready.split_whitespace();
        let address = words.find_map(|word| word.strip_prefix(listener)?.strip_prefix('='));
        address.unwrap().parse().unwrap()
    }

    pub(crate) fn kafka_address(&self) -> SocketAddr {
        self.address("kafka")
    }

    pub(crate) fn quic_address(&self) -> SocketAddr {
        self.address("quic")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A connection.
    pub(crate) fn kafka(&self) -> Kafka {
        Kafka::connect(self.kafka_address())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        drop(self.broker.take());
    }

    /// A clean end.
    pub(crate) fn stop(&mut self) {
        let mut broker = self.broker.take().unwrap();
        let pid = broker.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(told.unwrap().success());
        assert!(broker.child.wait().unwrap().success());
    }

    pub(crate) fn metrics(&self) -> String {
        let mut http = TcpStream::connect(self.address("http")).unwrap();
        http.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        http.read_to_string(&mut text).unwrap();
        text
    }

    /// The sum of a counter or a gauge over all shards.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics();
        let of_shards = text.lines().filter_map(|line| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            labels
                .starts_with('{')
                .then(|| value.parse::<u64>().unwrap())
        });
        of_shards.sum()
    }
}
