//! The README's "Grow a cluster", with real brokers: one that runs alone becomes three and five, the first
//! two are decommissioned, one more is killed, and everything that was acknowledged is there.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millrace_tools::broker::{BrokerCommand, BrokerProcess};
use serde_json::Value;
use tempfile::TempDir;

/// Within this, what must happen has happened, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The brokers, by number, and what they share.
struct Growing {
    dir: TempDir,
    commands: Vec<BrokerCommand>,
    processes: Vec<Option<BrokerProcess>>,
    /// Certificates that `millctl` has seen. A broker that joins a cluster shows another.
    known: PathBuf,
}

impl Growing {
    /// Broker 0, alone.
    fn alone() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let known = dir.path().join("known_alone");
        let mut growing = Self {
            dir,
            commands: Vec::new(),
            processes: Vec::new(),
            known,
        };
        growing.add(&[]);
        growing.start(0);
        growing
    }

    fn add(&mut self, args: &[&str]) {
        let id = self.commands.len();
        let home = self.dir.path().join(format!("broker-{id}"));
        std::fs::create_dir_all(&home).unwrap();
        let always = ["--http", "127.0.0.1:0", "--kafka", "none", "--cores", "1"];
        self.commands.push(BrokerCommand {
            bin: support::broker_bin(),
            data_dir: home.join("data"),
            quic: SocketAddr::from(([127, 0, 0, 1], 0)),
            log_file: home.join("broker.log"),
            args: always.iter().chain(args).map(OsString::from).collect(),
        });
        self.processes.push(None);
    }

    fn start(&mut self, id: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (process, address) = runtime.block_on(self.commands[id].start()).unwrap();
        self.commands[id].quic = address;
        self.processes[id] = Some(process);
    }

    fn stop(&mut self, id: usize) {
        self.processes[id].take().unwrap().stop().unwrap();
    }

    fn kill(&mut self, id: usize) {
        self.processes[id].take().unwrap().kill().unwrap();
    }

    /// The settings of a broker of the cluster that knows one other by its number.
    fn member(&self, id: usize, known: usize, cluster: &str) -> Vec<String> {
        let certs = self.dir.path().join("certs");
        let file = |name: &str| certs.join(name).display().to_string();
        let settings = [
            ("--node-id", id.to_string()),
            ("--cluster-id", cluster.to_owned()),
            (
                "--controller-quorum-voters",
                format!("{known}@{}", self.commands[known].quic),
            ),
            (
                "--tls-certificate-file",
                file(&format!("broker-{id}/cert.pem")),
            ),
            ("--tls-key-file", file(&format!("broker-{id}/key.pem"))),
            ("--tls-ca-file", file("ca.pem")),
        ];
        let settings = settings.into_iter();
        settings
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    fn join(&mut self, known: usize, cluster: &str) {
        let settings = self.member(self.commands.len(), known, cluster);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        self.add(&settings);
        self.start(self.commands.len() - 1);
    }

    /// Runs `millctl` with a broker. What it printed, or said.
    fn millctl(&self, broker: usize, args: &[&str], stdin: &[u8]) -> Result<Vec<u8>, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_millctl"))
            .args(args)
            .env("MILLRACE_BROKER", self.commands[broker].quic.to_string())
            .env("MILLRACE_KNOWN_BROKERS", &self.known)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn ok(&self, broker: usize, args: &[&str], stdin: &[u8]) -> Vec<u8> {
        let done = self.millctl(broker, args, stdin);
        done.unwrap_or_else(|error| panic!("{args:?}: {error}\n{}", self.logs()))
    }

    fn json(&self, broker: usize, args: &[&str]) -> Option<Value> {
        let args = [args, &["--json"]].concat();
        let printed = self.millctl(broker, &args, b"").ok()?;
        Some(serde_json::from_slice(&printed).unwrap())
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "never: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn until_they_vote(&self, broker: usize, voters: &[u64]) {
        self.until(&format!("{voters:?} vote"), || {
            let Some(found) = self.json(broker, &["cluster", "voters"]) else {
                return false;
            };
            let members = found["members"].as_array().unwrap().iter();
            let votes = members.filter(|it| it["votes"] == true && it["alive"] == true);
            votes
                .map(|it| it["id"].as_u64().unwrap())
                .eq(voters.iter().copied())
        });
    }

    fn produce(&self, broker: usize, from: u32) {
        let lines: String = (from..from + 100).map(|n| format!("{n}\n")).collect();
        self.ok(broker, &["produce", "orders"], lines.as_bytes());
    }

    fn consume(&self, broker: usize, count: usize) -> Vec<u32> {
        let count = count.to_string();
        let args = [
            "consume", "orders", "--from", "earliest", "--count", &count, "--format", "%v\\n",
        ];
        let printed = String::from_utf8(self.ok(broker, &args, b"")).unwrap();
        printed.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// The ends of the brokers' logs.
    fn logs(&self) -> String {
        let tail = |command: &BrokerCommand| {
            let text = std::fs::read_to_string(&command.log_file).unwrap_or_default();
            let from = text.len().saturating_sub(4_000);
            let tail = text.get(from..).unwrap_or_default().to_owned();
            format!("--- {}\n{tail}\n", command.log_file.display())
        };
        self.commands.iter().map(tail).collect()
    }
}

fn certs(dir: &Path, cluster: &str) {
    let made = Command::new(env!("CARGO_BIN_EXE_millctl"))
        .args([
            "certs",
            "--cluster-id",
            cluster,
            "--nodes",
            "0,1,2,3,4",
            "--dir",
        ])
        .arg(dir)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[test]
fn a_broker_alone_grows_into_a_cluster_and_is_decommissioned_itself() {
    let mut brokers = Growing::alone();
    brokers.ok(0, &["topic", "create", "orders"], b"");
    brokers.produce(0, 0);
    let described = brokers.json(0, &["cluster", "describe"]).unwrap();
    let cluster = described["cluster_id"].as_str().unwrap().to_owned();
    brokers.stop(0);

    certs(&brokers.dir.path().join("certs"), &cluster);
    let settings = brokers.member(0, 0, &cluster);
    brokers.commands[0]
        .args
        .extend(settings.iter().map(OsString::from));
    brokers.known = brokers.dir.path().join("known_cluster");
    brokers.start(0);
    brokers.until_they_vote(0, &[0]);
    brokers.join(0, &cluster);
    brokers.join(0, &cluster);
    brokers.until_they_vote(0, &[0, 1, 2]);

    let refused = brokers
        .millctl(2, &["cluster", "add-voter", "1"], b"")
        .unwrap_err();
    assert!(refused.contains("votes already"), "{refused}");
    let refused = brokers
        .millctl(1, &["cluster", "remove-voter", "9"], b"")
        .unwrap_err();
    assert!(refused.contains("no voter"), "{refused}");

    let replicas = [
        "cluster",
        "reassign",
        "orders",
        "--partition",
        "0",
        "--replicas",
        "0,1,2",
    ];
    brokers.ok(1, &replicas, b"");
    let partition = |broker| {
        let described = brokers.json(broker, &["topic", "describe", "orders"])?;
        Some(described["partitions"][0].clone())
    };
    brokers.until("all replicas are in sync", || {
        partition(1).is_some_and(|it| it["isr"].as_array().unwrap().len() == 3)
    });
    brokers.produce(1, 100);

    // Those that come know one that is not the first.
    brokers.join(1, &cluster);
    brokers.join(2, &cluster);
    for id in ["0", "1"] {
        brokers.ok(3, &["cluster", "decommission", id, "--timeout", "80"], b"");
    }
    brokers.until_they_vote(3, &[2, 3, 4]);
    for id in [0, 1] {
        brokers.stop(id);
        let id = id.to_string();
        brokers.until("it is struck off", || {
            brokers
                .millctl(3, &["cluster", "unregister", &id], b"")
                .is_ok()
        });
    }
    brokers.produce(4, 200);
    let leader = brokers.json(3, &["cluster", "voters"]).unwrap();
    let leader = usize::try_from(leader["leader"].as_u64().unwrap()).unwrap();
    brokers.kill(leader);
    let left = (2..5).find(|id| *id != leader).unwrap();
    brokers.ok(left, &["topic", "create", "after"], b"");
    brokers.produce(left, 300);
    let mut found = brokers.consume(left, 400);
    found.sort_unstable();
    assert!(
        found.into_iter().eq(0..400),
        "what was acknowledged is there once"
    );
}
