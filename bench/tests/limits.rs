//! A run that is held against the limits of the machine, as a user starts it: what its report has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

/// On the device of the build; that of temporary files may be one in memory.
fn bench(line: &str) -> std::process::Output {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-bench"));
    command.args(line.split_ascii_whitespace());
    command.env("TMPDIR", directory.path());
    let done = command.output().unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "{line} left {left:?}");
    done
}

fn report(line: &str) -> Value {
    let done = bench(line);
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {why}");
    serde_json::from_slice(&done.stdout).unwrap()
}

const SHORT: &str = "--duration 200ms --warm-up 50ms --limits --limits-duration 20ms";

#[test]
fn a_latency_is_held_against_append_and_round_trip() {
    let report = report(&format!("produce {SHORT} --json"));
    let limits = &report["limits"];
    let binding = "quic.round_trip.1KiB + disk.append.4KiB";
    assert_eq!(limits["binding"], binding);
    let of = |name: &str| limits[name].as_array().unwrap().iter();
    let median_of = |item: &Value| item["latency"]["p50_us"].as_f64().unwrap();
    let limit: f64 = of("items").map(median_of).sum();
    let median = report["ack_latency"]["p50_us"].as_f64().unwrap();
    let ratio = limits["ratio"].as_f64().unwrap();
    assert!((ratio - median / limit).abs() < 1e-6, "{limits}");
    for (mean, (before, after)) in of("items").zip(of("before").zip(of("after"))) {
        let counts = [before, after].map(|item| item["count"].as_u64().unwrap());
        assert!(counts.iter().all(|count| *count > 0), "{limits}");
        assert_eq!(mean["count"], counts[0] + counts[1]);
    }
}

#[test]
fn a_throughput_is_held_against_the_slower_way_and_told_in_text() {
    let done = bench(&format!("produce --batch 64 --in-flight 4 {SHORT}"));
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{text}");
    assert!(text.contains(" of the binding limit: "), "{text}");
    for item in ["quic.stream.up", "disk.append.256KiB"] {
        assert!(text.contains(item), "{item} is missing: {text}");
    }
}

#[test]
fn a_run_that_is_not_to_be_held_against_anything_is_not() {
    let report = report("produce --duration 100ms --warm-up 0s --json");
    assert_eq!(report["limits"], Value::Null);
}

#[test]
fn a_broker_elsewhere_needs_a_directory_and_kafka_has_no_limits() {
    let done = bench("produce --broker 127.0.0.1:1 --limits");
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(
        !done.status.success() && why.contains("--limits-dir"),
        "{why}"
    );
    let done = bench("produce --kafka 127.0.0.1:1 --limits");
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && why.contains("--kafka"), "{why}");
}
