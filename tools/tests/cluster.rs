//! `millctl certs` and `millctl cluster`, end to end.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

const CLUSTER: &str = "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1";

fn millctl(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millctl"));
    command.args(args).arg("--dir").arg(dir);
    command
}

fn run(args: &[&str], dir: &Path) -> Output {
    let mut command = millctl(args, dir);
    command
        .env("MILLRACE_BIN", support::broker_bin())
        .output()
        .unwrap()
}

fn ok(args: &[&str], dir: &Path) -> Value {
    let output = run(args, dir);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fails(args: &[&str], dir: &Path) -> String {
    let output = run(args, dir);
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn certificates_are_made_added_and_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("certs");
    let make = [
        "certs",
        "--json",
        "--cluster-id",
        CLUSTER,
        "--nodes",
        "1,2",
        "--host",
        "2=b2",
    ];
    let made = ok(&make, &dir);
    assert_eq!(made["cluster_id"], CLUSTER);
    assert_eq!(
        made["brokers"][1]["name"],
        format!("broker-2.{CLUSTER}.millrace")
    );
    let certificate = |made: &Value, broker: usize| {
        std::fs::read_to_string(made["brokers"][broker]["certificate"].as_str().unwrap()).unwrap()
    };
    let before = certificate(&made, 0);
    let error = fails(&["certs", "--nodes", "3,2"], &dir);
    assert!(
        error.contains("not overwritten") && error.contains("--renew"),
        "{error}"
    );
    assert!(!dir.join("broker-3").exists(), "all of them or none");
    let added = ok(&["certs", "--json", "--nodes", "3"], &dir);
    assert_eq!(added["brokers"][0]["id"], 3);
    let renewed = ok(
        &["certs", "--json", "--nodes", "1", "--renew", "--days", "30"],
        &dir,
    );
    assert_ne!(certificate(&renewed, 0), before);
    let error = fails(
        &["certs", "--nodes", "9", "--cluster-id", &"0".repeat(32)],
        &dir,
    );
    assert!(error.contains(CLUSTER), "{error}");
    let error = fails(&["certs", "--nodes", "9", "--host", "8=b8"], &dir);
    assert!(error.contains("broker 8"), "{error}");
    let told = run(&["certs", "--nodes", "4"], &dir);
    let told = String::from_utf8(told.stdout).unwrap();
    for setting in [
        "node.id = 4",
        "tls.ca.file",
        "controller.quorum.voters = \"4@HOST:9644\"",
    ] {
        assert!(told.contains(setting), "{told}");
    }
}

/// A cluster in a directory of its own, of which nothing runs on after the test.
struct TestCluster {
    dir: TempDir,
    /// Two that choose their ports at the same time may choose the same.
    _alone: MutexGuard<'static, ()>,
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl TestCluster {
    fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock();
        Self {
            dir: tempfile::tempdir().unwrap(),
            _alone: alone.unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        run(&["cluster", "down", "--json"], self.dir());
    }
}

fn runs(pid: &Value) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()
}

#[test]
fn a_cluster_is_left_running_stopped_and_started_again() {
    let cluster = TestCluster::new();
    let up = ["cluster", "up", "--detach", "--json"];
    let first = ok(&[&up[..], &["--nodes", "3"]].concat(), cluster.dir());
    let brokers = first.as_array().unwrap();
    assert_eq!(brokers.len(), 3);
    for (broker, id) in brokers.iter().zip(1..) {
        assert_eq!(broker["id"], id);
        assert!(runs(&broker["pid"]), "{broker}");
        for listener in ["quic", "kafka", "http"] {
            assert!(
                broker[listener].as_str().unwrap().starts_with("127.0.0.1:"),
                "{broker}"
            );
        }
    }
    let error = fails(&up, cluster.dir());
    assert!(error.contains("run already"), "{error}");
    let error = fails(&[&up[..], &["--nodes", "2"]].concat(), cluster.dir());
    assert!(error.contains("3 brokers"), "{error}");

    let killed = Command::new("kill")
        .args(["-9", &brokers[0]["pid"].to_string()])
        .status();
    assert!(killed.unwrap().success());
    let stopped = ok(&["cluster", "down", "--json"], cluster.dir());
    assert!(stopped.as_array().unwrap().len() >= 2, "{stopped}");
    assert!(!brokers.iter().any(|broker| runs(&broker["pid"])));

    let again = ok(&up, cluster.dir());
    for (before, now) in brokers.iter().zip(again.as_array().unwrap()) {
        assert_eq!(before["quic"], now["quic"]);
        assert_ne!(before["pid"], now["pid"]);
    }
}

#[test]
fn a_cluster_in_the_foreground_ends_with_it() {
    let cluster = TestCluster::new();
    let mut up = millctl(&["cluster", "up", "--json"], cluster.dir())
        .env("MILLRACE_BIN", support::broker_bin())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(up.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let brokers: Value = serde_json::from_str(&line).unwrap();
    let brokers = brokers.as_array().unwrap();
    assert!(brokers.iter().all(|broker| runs(&broker["pid"])));
    let asked = Command::new("kill")
        .args(["-INT", &up.id().to_string()])
        .status();
    assert!(asked.unwrap().success());
    assert_eq!(up.wait().unwrap().code(), Some(0));
    assert!(!brokers.iter().any(|broker| runs(&broker["pid"])));
}

#[test]
fn what_is_no_cluster_is_not_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["cluster", "down"], dir.path());
    assert_eq!(output.status.code(), Some(3));
}
