//! The binary as a script meets it: the line `ready`, exit codes, signals, the lock.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A broker in a process of its own; killed if a test fails before it ends.
struct Broker {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: String,
}

impl Broker {
    fn start(data_dir: &Path) -> Self {
        let mut child = millrace(data_dir)
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        Self {
            child,
            stdout,
            ready,
        }
    }

    /// The address that the line `ready` gives for a listener.
    fn address(&self, listener: &str) -> Option<SocketAddr> {
        let mut words = self
            .ready
            .strip_prefix("ready ")
            .unwrap()
            .split_whitespace();
        let address = words.find_map(|word| word.strip_prefix(listener)?.strip_prefix('='));
        address.map(|address| address.parse().unwrap())
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// The exit code, the rest of standard output, and standard error.
    fn wait(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        self.stdout.read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It has ended already where the test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary with this data directory, free ports, one shard, and no other settings.
fn millrace(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLRACE_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--cores", "1"]);
    for listener in ["--quic", "--kafka", "--http"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn it_says_ready_once_and_stops_cleanly_on_either_signal() {
    let dir = tempfile::tempdir().unwrap();
    for (life, signal) in ["TERM", "INT"].into_iter().enumerate() {
        let broker = Broker::start(dir.path());
        assert!(
            broker
                .address("quic")
                .is_some_and(|address| address.port() != 0)
        );
        let kafka = broker.address("kafka").unwrap();
        TcpStream::connect(kafka).unwrap();
        let mut http = TcpStream::connect(broker.address("http").unwrap()).unwrap();
        http.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut response = String::new();
        http.read_to_string(&mut response).unwrap();
        assert!(
            response.contains("millrace_produced_bytes_total{shard=\"0\"} 0"),
            "{response}"
        );
        broker.signal(signal);
        let (code, rest, err) = broker.wait();
        assert_eq!((code, rest.as_str()), (Some(0), ""), "{err}");
        assert!(err.contains(&format!("kcat -b {kafka}")), "{err}");
        assert!(err.contains("topic create hello"), "{err}");
        let last = ["last_shutdown=None", "last_shutdown=Clean"][life];
        assert!(err.contains(last), "{last} in {err}");
    }
}

#[test]
fn after_a_kill_the_next_start_knows() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    broker.signal("KILL");
    assert_eq!(broker.wait().0, None);
    let broker = Broker::start(dir.path());
    broker.signal("TERM");
    let (code, _, err) = broker.wait();
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("epoch=2 last_shutdown=Unclean"), "{err}");
}

#[test]
fn a_second_broker_on_the_same_directory_is_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let (code, out, err) = output(&mut millrace(dir.path()));
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(
        err.contains(&format!("(process {})", broker.child.id())),
        "{err}"
    );
    let (code, out, _) = output(millrace(dir.path()).arg("check"));
    assert_eq!(code, Some(3));
    assert!(out.contains("in use by another broker"), "{out}");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0), "it goes on undisturbed");
}

#[test]
fn a_port_in_use_is_named_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--http", "none", "--kafka", "none", "--quic", &address]);
    let (code, out, err) = output(&mut command);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(
        err.contains(&format!("cannot listen on {address}/udp for quic")),
        "{err}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_wrong_configuration_exits_with_2_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("millrace.toml");
    std::fs::write(&file, "num.partition = 3\n").unwrap();
    let (code, out, err) = output(millrace(dir.path()).arg("--config").arg(&file));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.contains("did you mean `num.partitions`?") && err.contains("millrace.toml"),
        "{err}"
    );
    let (code, _, err) = output(millrace(dir.path()).args(["--num-partition", "3"]));
    assert_eq!(code, Some(2));
    assert!(err.contains("--num-partitions"), "{err}");
    let (code, _, err) = output(millrace(dir.path()).env("MILLRACE_NUM_PARTITIONS", "0"));
    assert_eq!(code, Some(2));
    assert!(err.contains("MILLRACE_NUM_PARTITIONS"), "{err}");
    let (code, _, err) = output(millrace(dir.path()).args(["--log-level", "a=b=c"]));
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn config_version_and_check_print_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = output(
        millrace(dir.path())
            .arg("config")
            .env("MILLRACE_NODE_ID", "7"),
    );
    assert_eq!(code, Some(0));
    assert!(out.contains("node.id = 7 # MILLRACE_NODE_ID"), "{out}");
    assert!(out.contains("cores = 1 # --cores"), "{out}");
    let (code, out, _) = output(millrace(dir.path()).arg("version"));
    assert_eq!(
        (code, out),
        (Some(0), format!("millrace {}\n", env!("CARGO_PKG_VERSION")))
    );
    let (code, out, err) = output(millrace(dir.path()).arg("check"));
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.ends_with("this machine can serve\n"), "{out}");
}
