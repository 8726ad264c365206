//! What befalls a cluster of real brokers, one thing a test: brokers that are not who they say, too few
//! alive, all of them gone. What is wrong is said at once, in the log or by `millctl cluster health`, and
//! nothing that was acknowledged is lost. `tools/chaos` does such things under load, by chance.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long is looked at what must not happen.
const WHILE_NOTHING_HAPPENS: Duration = Duration::from_secs(1);

/// Two clusters that choose their ports at the same time may choose the same.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Three brokers, of which nothing runs on after the test.
struct TestCluster {
    dir: TempDir,
    brokers: Vec<Value>,
    _alone: MutexGuard<'static, ()>,
}

impl TestCluster {
    fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock();
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            brokers: Vec::new(),
            _alone: alone.unwrap_or_else(PoisonError::into_inner),
        };
        cluster.up();
        cluster
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    fn up(&mut self) {
        let up = ["cluster", "up", "--nodes", "3", "--detach", "--json"];
        let made = self.local(&up).unwrap();
        assert!(made.status.success(), "{made:?}");
        self.brokers = serde_json::from_slice(&made.stdout).unwrap();
    }

    fn local(&self, args: &[&str]) -> std::io::Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millctl"));
        command.args(args).arg("--dir").arg(self.place());
        command.env("MILLRACE_BIN", support::broker_bin()).output()
    }

    /// `millctl`, asking the first broker.
    fn millctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millctl"));
        command
            .args(["--broker", self.brokers[0]["quic"].as_str().unwrap()])
            .args(args)
            .env("XDG_CONFIG_HOME", self.dir.path());
        command
    }

    /// What `cluster health` says, and whether all is well.
    fn health(&self) -> (bool, String) {
        let told = self.millctl(&["cluster", "health"]).output().unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        (told.status.success(), text)
    }

    fn until_health(&self, what: &str, holds: impl Fn(bool, &str) -> bool) {
        until(what, || {
            let (healthy, text) = self.health();
            holds(healthy, &text)
        });
    }

    fn until_healthy(&self) {
        self.until_health("all is well", |healthy, _| healthy);
    }

    /// Begins to send lines to a topic; it ends when all in sync have them.
    fn begin_to_produce(&self, topic: &str, lines: &str) -> Child {
        let mut child = self
            .millctl(&["produce", topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(lines.as_bytes()).unwrap();
        child
    }

    fn produce(&self, topic: &str, lines: &str) {
        let sent = self.begin_to_produce(topic, lines).wait_with_output();
        assert!(sent.as_ref().unwrap().status.success(), "{sent:?}");
    }

    fn read(&self, topic: &str) -> String {
        let read = ["consume", topic, "--from", "earliest"];
        let read = self.millctl(&read).output().unwrap();
        String::from_utf8(read.stdout).unwrap()
    }

    /// A broker with the settings of that one, and others over them.
    fn stranger(&self, like: u32, over: &[(&str, &str)]) -> Stranger {
        let config = self.place().join(format!("broker-{like}/millrace.toml"));
        let log = self.dir.path().join("stranger.log");
        let elsewhere = self.dir.path().join("elsewhere");
        let mut command = Command::new(support::broker_bin());
        command.arg("serve").arg("--config").arg(config);
        let own = [
            ("--data-dir", elsewhere.to_str().unwrap()),
            ("--quic", "127.0.0.1:0"),
            ("--kafka", "none"),
            ("--http", "none"),
        ];
        let is_over = |key: &str| over.iter().any(|(other, _)| *other == key);
        let own = own.iter().filter(|(key, _)| !is_over(key));
        for (key, value) in own.chain(over) {
            command.args([key, value]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Stranger { child, log }
    }

    /// Starts a broker of the cluster that does not run.
    fn start(&self, broker: u32) -> Stranger {
        let place = self.place().join(format!("broker-{broker}"));
        let log = place.join("again.log");
        let child = Command::new(support::broker_bin())
            .arg("serve")
            .arg("--config")
            .arg(place.join("millrace.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Stranger { child, log }
    }

    fn kill(&self, broker: usize) {
        let pid = self.brokers[broker - 1]["pid"].to_string();
        let killed = Command::new("kill").args(["-9", &pid]).status();
        assert!(killed.unwrap().success());
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let _ = self.local(&["cluster", "down", "--json"]);
    }
}

/// A process of its own, ended with the test.
struct Stranger {
    child: Child,
    log: PathBuf,
}

impl Stranger {
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// It does not start, and says why.
    fn ends_with(mut self, reason: &str) {
        let child = &mut self.child;
        until("it ends", || child.try_wait().unwrap().is_some());
        let status = self.child.wait().unwrap();
        let said = self.said();
        assert!(
            !status.success() && said.contains(reason),
            "{status}: {said}"
        );
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_broker_of_another_cluster_does_not_start() {
    let cluster = TestCluster::new();
    let other = "0123456789abcdef0123456789abcdef";
    let stranger = cluster.stranger(3, &[("--cluster-id", other)]);
    stranger.ends_with(other);
    cluster.until_healthy();
}

#[test]
fn the_data_of_another_broker_is_left_alone() {
    let cluster = TestCluster::new();
    let data = |id: u32| cluster.place().join(format!("broker-{id}/data"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let used = cluster.stranger(2, &[("--data-dir", &text(&data(2)))]);
    used.ends_with("in use by another broker");
    cluster.kill(3);
    let others = cluster.stranger(2, &[("--data-dir", &text(&data(3)))]);
    others.ends_with("belongs to node.id 3, but this broker is configured as 2");
    let up = cluster.local(&["cluster", "up", "--detach", "--json"]);
    assert!(up.unwrap().status.success());
    cluster.until_healthy();
}

#[test]
fn with_fewer_than_min_insync_alive_nothing_is_acknowledged_until_they_are_back() {
    let mut cluster = TestCluster::new();
    let create = [
        "topic",
        "create",
        "orders",
        "--config",
        "min.insync.replicas=3",
    ];
    let made = cluster.millctl(&create).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    cluster.produce("orders", "before\n");
    cluster.kill(3);
    cluster.until_health("it is named", |_, text| {
        text.contains("broker 3 is fenced")
            && text.contains("orders-0 has fewer replicas in sync than min.insync.replicas")
    });
    let mut waiting = cluster.begin_to_produce("orders", "meanwhile\n");
    std::thread::sleep(WHILE_NOTHING_HAPPENS);
    assert_eq!(waiting.try_wait().unwrap(), None, "it is not acknowledged");
    assert_eq!(cluster.read("orders"), "before\n");
    cluster.up();
    let sent = waiting.wait_with_output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    cluster.until_healthy();
    assert_eq!(cluster.read("orders"), "before\nmeanwhile\n");
}

#[test]
fn when_all_were_gone_and_come_back_in_the_wrong_order_a_reader_goes_on() {
    let cluster = TestCluster::new();
    let create = ["topic", "create", "orders", "--partitions", "3"];
    let made = cluster.millctl(&create).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let follow = ["consume", "orders", "--follow", "--count", "9"];
    let mut reader = cluster.millctl(&follow);
    reader.stdout(Stdio::piped()).stderr(Stdio::piped());
    let reader = reader.spawn().unwrap();
    let lines = |numbers: std::ops::Range<u32>| -> String {
        numbers.map(|number| format!("{number}\n")).collect()
    };
    cluster.produce("orders", &lines(0..6));
    // The last of them alone may know of something that the others do not.
    for broker in [1, 2, 3] {
        cluster.kill(broker);
    }
    let mut back = vec![cluster.start(1)];
    std::thread::sleep(WHILE_NOTHING_HAPPENS);
    back.extend([2, 3].map(|broker| cluster.start(broker)));
    // What the first of them remembers looks well before it has joined again.
    until("the first has joined", || {
        let asked = cluster.millctl(&["topic", "describe", "orders"]).output();
        asked.unwrap().status.success()
    });
    cluster.until_healthy();
    cluster.produce("orders", &lines(6..9));
    let read = reader.wait_with_output().unwrap();
    assert!(read.status.success(), "{read:?}");
    let text = String::from_utf8(read.stdout).unwrap();
    let mut seen: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..9).collect::<Vec<_>>());
    let mut stored: Vec<String> = cluster.read("orders").lines().map(Into::into).collect();
    stored.sort_unstable();
    assert_eq!(stored.len(), 9, "{stored:?}");
}
