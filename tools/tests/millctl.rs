//! `millctl` against the real broker, end to end.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use serde_json::Value;
use support::TestBroker;

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn topics_are_created_listed_described_altered_and_deleted() {
    let broker = TestBroker::start();
    let created = [
        "topic",
        "create",
        "orders",
        "--partitions",
        "3",
        "--config",
        "retention.ms=5000",
    ];
    broker.ok(&created, b"");
    assert!(
        broker
            .fails(5, &created, b"")
            .contains("TOPIC_ALREADY_EXISTS")
    );
    let listed = json(&broker.ok(&["topic", "list", "--json"], b""));
    assert_eq!(listed[0]["name"], "orders");
    assert_eq!(listed[0]["partitions"], 3);
    assert!(text(broker.ok(&["topic", "list"], b"")).starts_with("NAME"));

    let setting = |name: &str| {
        let described = json(&broker.ok(&["topic", "describe", "orders", "--json"], b""));
        let configs = described["configs"].as_array().unwrap().clone();
        configs
            .into_iter()
            .find(|config| config["name"] == name)
            .unwrap()
    };
    assert_eq!(setting("retention.ms")["value"], "5000");
    assert_eq!(setting("retention.ms")["is_default"], false);
    broker.ok(
        &[
            "topic",
            "alter",
            "orders",
            "--partitions",
            "4",
            "--reset",
            "retention.ms",
        ],
        b"",
    );
    assert_eq!(setting("retention.ms")["is_default"], true);
    let offsets = json(&broker.ok(&["offsets", "orders", "--json"], b""));
    assert_eq!(offsets.as_array().unwrap().len(), 4);

    broker.ok(&["topic", "delete", "orders"], b"");
    broker.fails(3, &["topic", "describe", "orders"], b"");
    assert_eq!(
        json(&broker.ok(&["topic", "list", "--json"], b"")),
        Value::Array(vec![])
    );
}

#[test]
fn lines_come_back_byte_for_byte_also_after_a_kill() {
    let mut broker = TestBroker::start();
    broker.ok(&["topic", "create", "lines", "--partitions", "1"], b"");
    let mut input = Vec::new();
    let mut rng = fastrand::Rng::with_seed(1);
    for length in [0, 1, 100, 70_000, 5].into_iter().cycle().take(500) {
        input.extend((0..length).map(|_| match rng.u8(..) {
            b'\n' => b' ',
            other => other,
        }));
        input.push(b'\n');
    }
    broker.ok(&["produce", "lines"], &input);
    let consume = ["consume", "lines", "--from", "earliest"];
    assert!(broker.ok(&consume, b"") == input);
    broker.kill();
    broker.start_again();
    assert!(broker.ok(&consume, b"") == input);
}

#[test]
fn the_last_line_needs_no_newline_and_every_compression_works() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "1"], b"");
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        broker.ok(
            &["produce", "t", "--compression", compression],
            b"one\n\nlast",
        );
    }
    let all = broker.ok(&["consume", "t"], b"");
    assert_eq!(text(all), "one\n\nlast\n".repeat(5));
}

#[test]
fn keys_headers_partitions_and_formats() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "3"], b"");
    let produce = [
        "produce",
        "t",
        "--key-separator",
        ":",
        "--header",
        "a=1",
        "--header",
        "a=2",
        "--partition",
        "2",
    ];
    broker.ok(&produce, b"k:v:w\n:empty\n");
    let format = ["consume", "t", "--format", "%T/%p@%o %k=%v [%h]\\n"];
    assert_eq!(
        text(broker.ok(&format, b"")),
        "t/2@0 k=v:w [a=1,a=2]\nt/2@1 =empty [a=1,a=2]\n"
    );
    let lines = text(broker.ok(&["consume", "t", "--json"], b""));
    let first = json(lines.lines().next().unwrap().as_bytes());
    assert_eq!(
        (&first["key"], &first["value"]),
        (&"k".into(), &"v:w".into())
    );
    assert_eq!(first["headers"][1]["value"], "2");
    let error = broker.fails(1, &["produce", "t", "--key-separator", ":"], b"k:v\nnone\n");
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn consuming_starts_and_stops_where_it_is_told() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "1"], b"");
    broker.ok(&["produce", "t"], b"a\nb\nc\n");
    let consumed = |args: &[&str]| text(broker.ok(&[&["consume", "t"], args].concat(), b""));
    assert_eq!(consumed(&["--from", "1"]), "b\nc\n");
    assert_eq!(consumed(&["--from", "1", "--count", "1"]), "b\n");
    assert_eq!(consumed(&["--from", "latest"]), "");
    assert_eq!(consumed(&["--from", "@0"]), "a\nb\nc\n");
    assert_eq!(consumed(&["--from", "@9999-01-01T00:00:00Z"]), "");
    assert_eq!(consumed(&["--count", "0"]), "");
    broker.fails(3, &["consume", "t", "--from", "99"], b"");
    broker.fails(3, &["consume", "t", "--partition", "1"], b"");
    broker.fails(3, &["consume", "nothing"], b"");

    broker.ok(
        &[
            "topic",
            "delete-records",
            "t",
            "--partition",
            "0",
            "--before",
            "2",
        ],
        b"",
    );
    assert_eq!(consumed(&[]), "c\n");
    let offsets = json(&broker.ok(&["offsets", "t", "--json"], b""));
    assert_eq!(offsets[0]["log_start"], 2);
    assert_eq!(offsets[0]["high_watermark"], 3);
}

#[test]
fn following_prints_what_comes_and_ends_when_interrupted() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "2"], b"");
    let mut following = broker
        .millctl(&["consume", "t", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    for value in ["first", "second", "third"] {
        broker.ok(&["produce", "t"], value.as_bytes());
        assert_eq!(lines.next().unwrap().unwrap(), value);
    }
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &following.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(following.wait().unwrap().code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "1"], b"");
    broker.ok(
        &["produce", "t"],
        &b"a line of some length\n".repeat(200_000),
    );
    let mut child = broker
        .millctl(&["consume", "t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 22];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    assert_eq!(&start, b"a line of some length\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(text(output.stderr), "");
}

#[test]
fn a_line_that_is_too_long_is_named_and_those_before_it_are_kept() {
    let broker = TestBroker::start();
    let create = [
        "topic",
        "create",
        "t",
        "--partitions",
        "1",
        "--config",
        "max.message.bytes=2000",
    ];
    broker.ok(&create, b"");
    let input = [b"short\n".as_slice(), &[b'x'; 5_000], b"\n"].concat();
    let error = broker.fails(5, &["produce", "t"], &input);
    assert!(error.contains("line 2"), "{error}");
    assert_eq!(text(broker.ok(&["consume", "t"], b"")), "short\n");
    // Between the record's limit and the batch's: the client refuses it, with its line.
    let input = [b"short\n".as_slice(), &[b'x'; 1_990], b"\n"].concat();
    let error = broker.fails(5, &["produce", "t"], &input);
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn nobody_answering_and_another_certificate_are_connection_errors() {
    let mut broker = TestBroker::start();
    broker.ok(&["topic", "list"], b"");
    let wrong = "00".repeat(32);
    broker.fails(4, &["topic", "list", "--fingerprint", &wrong], b"");
    let error = broker.fails(
        4,
        &["topic", "list", "--fingerprint", &wrong, "--json"],
        b"",
    );
    assert_eq!(json(error.as_bytes())["exit_code"], 4);
    broker.stop();
    broker.fails(4, &["topic", "list", "--timeout", "1"], b"");
}

#[test]
fn metrics_are_prometheus_text() {
    let broker = TestBroker::start();
    let metrics = text(broker.ok(&["metrics"], b""));
    assert!(metrics.contains("# HELP"), "{metrics}");
}

#[test]
fn latencies_are_shown_by_stage_by_batch_and_by_core() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "1"], b"");
    broker.ok(&["produce", "t"], b"one\ntwo\n");
    let table = text(broker.ok(&["hist", "--per-shard"], b""));
    for part in ["Since the start", "The last 1m", "append", "shard 0"] {
        assert!(table.contains(part), "{table}");
    }
    let document = json(&broker.ok(&["hist", "--stage", "device", "--json"], b""));
    assert_eq!(document["stages"][0]["stage"], "device");
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    let arguments = [
        "hist",
        "--format",
        "html",
        "--output",
        page.to_str().unwrap(),
    ];
    assert!(broker.ok(&arguments, b"").is_empty());
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg"), "{page}");
    let slow = json(&broker.ok(&["slow", "--json"], b""));
    assert_eq!(slow["batches"][0]["topic"], "t");
    let top = text(broker.ok(&["top", "--once"], b""));
    assert!(top.contains("BUSY%") && top.contains("\nall "), "{top}");
    broker.fails(3, &["hist", "--topic", "nothing"], b"");
    broker.fails(2, &["top"], b"");
}

#[test]
fn interactive_lines_are_sent_as_they_come() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "1"], b"");
    let mut producing = broker
        .millctl(&["produce", "t"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut following = broker
        .millctl(&["consume", "t", "--follow", "--count", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut input = producing.stdin.take().unwrap();
    for line in ["one", "two"] {
        writeln!(input, "{line}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), line);
    }
    assert!(following.wait().unwrap().success());
    drop(input);
    assert!(producing.wait().unwrap().success());
}

#[test]
fn the_files_of_a_stopped_broker_are_dumped_and_verified_and_damage_is_found() {
    let mut broker = TestBroker::start();
    let create = [
        "topic",
        "create",
        "t",
        "--partitions",
        "1",
        "--config",
        "segment.bytes=65536",
    ];
    broker.ok(&create, b"");
    broker.ok(
        &["produce", "t", "--batch-bytes", "8000"],
        &b"0123456789abcdef\n".repeat(20_000),
    );
    let topic = json(&broker.ok(&["topic", "describe", "t", "--json"], b""));
    let log = format!("{}-0", topic["id"].as_str().unwrap());
    let dir = broker.data_dir().to_str().unwrap().to_owned();
    let verify = ["log", "verify", dir.as_str(), "--json"];
    assert!(broker.fails(1, &verify, b"").contains("a broker runs on"));
    broker.kill();

    let verified = json(&broker.ok(&verify, b""));
    let of_log = |verified: &Value| {
        let logs = verified.as_array().unwrap();
        logs.iter()
            .find(|verified| verified["log"] == log.as_str())
            .unwrap()
            .clone()
    };
    let whole = of_log(&verified);
    assert_eq!(whole["records"], 20_000);
    assert!(whole["segments"].as_u64().unwrap() > 1, "{whole}");
    let partition = broker.data_dir().join("logs").join(&log);
    let partition_dir = partition.to_str().unwrap();
    let dumped = broker.ok(&["log", "dump", partition_dir, "--json", "--records"], b"");
    let dumped: Vec<Value> = text(dumped)
        .lines()
        .map(|line| json(line.as_bytes()))
        .collect();
    let kind = |kind: &str| dumped.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!(kind("record"), 20_000);
    assert_eq!(kind("frame") as u64, whole["frames"].as_u64().unwrap());
    assert!(text(broker.ok(&["log", "dump", partition_dir], b"")).contains("footer"));

    let segment = partition.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = broker.run(&verify, b"");
    assert_eq!(output.status.code(), Some(6));
    let problem = &of_log(&json(&output.stdout))["problems"][0];
    assert_eq!(problem["file"], "00000000000000000000.log");
    assert!(problem["position"].as_u64().unwrap() <= 5_000, "{problem}");
    broker.fails(3, &["log", "verify", "/nonexistent"], b"");
}
