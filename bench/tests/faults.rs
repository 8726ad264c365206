//! What goes wrong is said, the report is there all the same, and the exit code tells.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const BENCH: &str = env!("CARGO_BIN_EXE_millrace-bench");

fn bench(line: &str) -> Command {
    let mut command = Command::new(BENCH);
    command.args(line.split_ascii_whitespace());
    command.env_remove("MILLRACE_BROKER");
    command
}

/// What a finished bench said: its exit code, its report, its complaints.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn run(line: &str) -> (Option<i32>, String, String) {
    said(&bench(line).output().unwrap())
}

/// A sink in a process of its own, which can be killed.
struct SinkProcess {
    child: Child,
    address: String,
}

impl SinkProcess {
    fn start(more: &str) -> Self {
        let mut sink = bench(&format!("sink {more}"));
        let mut child = sink.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut ready).unwrap();
        let address = ready.trim().strip_prefix("ready kafka=").unwrap();
        Self {
            child,
            address: address.to_owned(),
        }
    }
}

impl Drop for SinkProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn options_that_contradict_each_other_have_an_exit_code_of_their_own() {
    for (line, word) in [
        ("produce --consumers 3", "--consumers"),
        ("consume --rate 5", "--rate"),
        ("e2e --size 4", "--size"),
        ("produce --no-such-option", "--no-such-option"),
        ("produce --payload file:/nowhere --duration 1s", "/nowhere"),
        ("produce --data-dir /nowhere/at/all", "/nowhere/at/all"),
    ] {
        let (code, report, complaint) = run(line);
        assert_eq!(code, Some(2), "{line}: {complaint}");
        assert!(complaint.contains(word), "{line}: {complaint}");
        assert_eq!(report, "", "{line}");
    }
}

#[test]
fn a_target_that_is_not_there_is_named() {
    // Nobody reads from this socket, and nobody listens at this port.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let over_quic = silent.local_addr().unwrap().to_string();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let over_tcp = closed.local_addr().unwrap().to_string();
    drop(closed);
    for (option, address) in [("--broker", over_quic), ("--kafka", over_tcp)] {
        let (code, report, complaint) = run(&format!("produce {option} {address}"));
        assert_eq!(code, Some(1), "{complaint}");
        assert!(complaint.contains(&address), "{complaint}");
        assert_eq!(report, "");
    }
}

#[test]
fn a_broker_that_dies_is_reported_with_what_it_took() {
    let mut sink = SinkProcess::start("--delay 20ms");
    let address = &sink.address;
    let line = format!(
        "produce --kafka {address} --rate 200 --in-flight 2 --duration 30s --warm-up 100ms"
    );
    let mut load = bench(&line);
    let load = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let load = load.unwrap();
    std::thread::sleep(Duration::from_millis(1_000));
    sink.child.kill().unwrap();
    let (code, report, complaint) = said(&load.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{report}{complaint}");
    for part in [
        "the BROKER WAS LOST: its last answer came after ",
        "records were sent and never acknowledged",
        "records were due and never sent",
        "ack ",
    ] {
        assert!(report.contains(part), "{part} is missing: {report}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_printed_all_the_same() {
    let sink = SinkProcess::start("");
    let address = &sink.address;
    let (code, report, complaint) = run(&format!(
        "produce --kafka {address} --duration 200ms --warm-up 0s --hgrm /dev/full --html /dev/full"
    ));
    assert_eq!(code, Some(1));
    assert!(report.starts_with("produce (closed loop)"), "{report}");
    let said = complaint.matches("cannot write /dev/full: ").count();
    assert_eq!(said, 2, "{complaint}");
}

#[test]
fn a_rate_that_cannot_be_reached_is_said_with_the_one_that_was() {
    let sink = SinkProcess::start("--delay 20ms");
    let address = &sink.address;
    let (code, report, _) = run(&format!(
        "produce --kafka {address} --duration 300ms --warm-up 0s --rate 4000"
    ));
    assert_eq!(code, Some(1));
    for part in [
        "the rate of 4000 records/s was NOT reached: ",
        "records were due and never sent; their latency counts as the time that they waited",
    ] {
        assert!(report.contains(part), "{part} is missing: {report}");
    }
}

#[test]
fn a_ramp_reports_each_step_and_fails_where_none_keeps_the_bound() {
    let sink = SinkProcess::start("--delay 20ms");
    let address = &sink.address;
    let line = format!("produce --kafka {address} --duration 100ms --warm-up 0s --rate 2");
    let (code, report, _) = run(&format!("{line} --ramp p50=1ms"));
    assert_eq!(code, Some(1));
    assert!(report.contains("NO rate kept p50=1ms"), "{report}");
    assert!(report.contains("2 records/s: "), "{report}");

    let line = format!("produce --kafka {address} --duration 100ms --warm-up 0s --rate 8 --json");
    let (_, report, _) = run(&format!("{line} --ramp p50=10s --acks 1"));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let steps = report["ramp"]["steps"].as_array().unwrap();
    assert!(steps.len() > 1 && steps[0]["kept"] == true, "{steps:?}");
    assert_eq!(report["target_rate"], report["ramp"]["highest"]);
}
