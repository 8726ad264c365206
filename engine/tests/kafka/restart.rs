//! What was acknowledged over Kafka survives the death of the process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use millrace_kafka::ApiKey;

use crate::client::{Kafka, PRODUCE, batch, only, produce_request, records};

/// A broker in a process of its own; killed when the test is done with it.
struct Broker {
    child: Child,
    kafka: SocketAddr,
}

impl Broker {
    fn start(data_dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.arg("serve").arg("--data-dir").arg(data_dir);
        for listener in ["--quic", "--kafka"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        let mut child = command
            .args(["--http", "none", "--cores", "2"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        let kafka = ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix("kafka="));
        let kafka = kafka.unwrap().parse().unwrap();
        Self { child, kafka }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_kill_keeps_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for life in 0..3 {
        let broker = Broker::start(directory.path());
        let mut kafka = Kafka::connect(broker.kafka);
        kafka.topic("t");
        for number in 0..30 {
            let value = format!("{life} {number}");
            let request = produce_request(-1, "t", [(0, Some(batch(&[&value])))]);
            kafka.send(PRODUCE, request);
        }
        // Killed with requests in flight.
        for number in 0..20 {
            let stored = only(kafka.receive(ApiKey::Produce, PRODUCE).1);
            assert_eq!(stored.error_code, 0);
            let offset = u64::try_from(stored.base_offset).unwrap();
            acknowledged.push((offset, format!("{life} {number}")));
        }
    }
    let broker = Broker::start(directory.path());
    let kept = records(&Kafka::connect(broker.kafka).fetch("t", 0, 0));
    for record in &acknowledged {
        assert!(kept.contains(record), "{record:?} of {kept:?}");
    }
}
