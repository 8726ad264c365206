//! Three brokers as processes, each in a rack of its own, and ways to ask and to hurt them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_kafka::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
    DescribeClusterBroker, DescribeClusterRequest, MetadataRequest, MetadataRequestTopic,
    MetadataResponsePartition, Response,
};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Kafka, metadata};
use super::support;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brokers of two tests at a time would choose ports at the same time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs until this gives something.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} never happens");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Broker {
    pid: String,
    quic: String,
    kafka: SocketAddr,
    http: SocketAddr,
}

/// Brokers 1 to 3, in `rack-1` to `rack-3`. Nothing of it runs on after the test.
pub(crate) struct Cluster {
    dir: TempDir,
    brokers: Vec<Broker>,
    _alone: MutexGuard<'static, ()>,
}

fn millctl(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millctl"));
    command
        .args(args)
        .env("MILLRACE_BIN", support::broker_bin())
        .env("MILLRACE_KNOWN_BROKERS", dir.join("known_brokers"));
    command
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let alone = ONE_AT_A_TIME.lock();
        let dir = tempfile::tempdir().unwrap();
        let racks = "rack-1,rack-2,rack-3";
        let up = [
            "cluster", "up", "--detach", "--json", "--nodes", "3", "--racks", racks,
        ];
        let up = millctl(&up, dir.path())
            .arg("--dir")
            .arg(dir.path())
            .output();
        let mut cluster = Self {
            dir,
            brokers: Vec::new(),
            _alone: alone.unwrap_or_else(PoisonError::into_inner),
        };
        let up = up.unwrap();
        assert!(
            up.status.success(),
            "{}",
            String::from_utf8_lossy(&up.stderr)
        );
        let brokers: Value = serde_json::from_slice(&up.stdout).unwrap();
        let text = |broker: &Value, key: &str| broker[key].as_str().unwrap().to_owned();
        let brokers = brokers.as_array().unwrap().iter();
        cluster.brokers = brokers
            .map(|broker| Broker {
                pid: broker["pid"].to_string(),
                quic: text(broker, "quic"),
                kafka: text(broker, "kafka").parse().unwrap(),
                http: text(broker, "http").parse().unwrap(),
            })
            .collect();
        cluster
    }

    fn broker(&self, id: usize) -> &Broker {
        &self.brokers[id - 1]
    }

    /// A connection of the Kafka protocol.
    pub(crate) fn connect(&self, broker: usize) -> Kafka {
        Kafka::connect(self.broker(broker).kafka)
    }

    pub(crate) fn kafka_port(&self, broker: usize) -> i32 {
        i32::from(self.broker(broker).kafka.port())
    }

    /// A topic of one partition on these brokers, all of them in sync.
    pub(crate) fn create(&self, topic: &str, replicas: &[i32]) {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.to_owned(),
                num_partitions: -1,
                replication_factor: -1,
                assignments: vec![CreatableReplicaAssignment {
                    partition_index: 0,
                    broker_ids: replicas.to_vec(),
                }],
                configs: vec![CreatableTopicConfig {
                    name: "min.insync.replicas".to_owned(),
                    value: Some("2".to_owned()),
                }],
            }],
            ..Default::default()
        };
        let Response::CreateTopics(created) = self.connect(1).ask(7, request) else {
            panic!("another response");
        };
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        for broker in 1..=self.brokers.len() {
            eventually("a new topic in sync", || {
                let in_sync = self.partition(broker, topic).isr_nodes.len();
                (in_sync == replicas.len()).then_some(())
            });
        }
    }

    /// What a broker says of a topic's only partition; nothing while it does not know it.
    pub(crate) fn partition(&self, broker: usize, topic: &str) -> MetadataResponsePartition {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.to_owned()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let mut told = metadata(self.connect(broker).ask(12, request));
        told.topics.remove(0).partitions.pop().unwrap_or_default()
    }

    /// The brokers that a broker knows, those that are fenced as well if wanted.
    pub(crate) fn brokers_known(&self, broker: usize, fenced: bool) -> Vec<DescribeClusterBroker> {
        let request = DescribeClusterRequest {
            endpoint_type: 1,
            include_fenced_brokers: fenced,
            ..Default::default()
        };
        match self.connect(broker).ask(2, request) {
            Response::DescribeCluster(told) => told.brokers,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn is_fenced(&self, id: i32) -> bool {
        let is_listed = |fenced| {
            let known = self.brokers_known(1, fenced);
            known.into_iter().find(|broker| broker.broker_id == id)
        };
        is_listed(false).is_none() && is_listed(true).is_some_and(|broker| broker.is_fenced)
    }

    /// Sends a signal to a broker's process.
    pub(crate) fn signal(&self, broker: usize, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.broker(broker).pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// A metric of a broker, over its shards.
    pub(crate) fn metric(&self, broker: usize, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.broker(broker).http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        let values: Vec<u64> = lines
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(!values.is_empty(), "no {name} in {text}");
        values.iter().sum()
    }

    /// `millctl consume`, by way of the first broker.
    pub(crate) fn consume(&self, args: &[&str]) -> Consumer {
        let mut child = millctl(&[&["consume"], args].concat(), self.dir.path())
            .env("MILLRACE_BROKER", &self.broker(1).quic)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Consumer { child, lines }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for broker in &self.brokers {
            // It may be stopped, or gone already.
            let _ = Command::new("kill")
                .args(["-CONT", &broker.pid])
                .stderr(Stdio::null())
                .status();
        }
        let mut down = millctl(&["cluster", "down", "--json"], self.dir.path());
        let _ = down.arg("--dir").arg(self.dir.path()).output();
    }
}

/// A consumer that runs.
pub(crate) struct Consumer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Consumer {
    /// The next record's value.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
