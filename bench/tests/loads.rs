//! Every shape of load against a real broker, embedded: what is sent is what is counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::Parser;
use millrace_bench::options::{Mode, Options};
use millrace_bench::report::{Kind, Measured, Report};
use millrace_bench::{consume, e2e, mixed, produce};

async fn measured(line: &str) -> (Measured, Report) {
    let line = format!("millrace-bench {line}");
    let mode = Options::parse_from(line.split_ascii_whitespace()).mode;
    let (kind, load) = match mode {
        Mode::Produce(load) => (Kind::Produce, load),
        Mode::Consume(load) => (Kind::Consume, load),
        Mode::E2e(load) => (Kind::E2e, load),
        Mode::Mixed(load) => (Kind::Mixed, load),
        other => panic!("not a load: {other:?}"),
    };
    assert_eq!(load.check(kind), Ok(()), "{line}");
    let measured = match kind {
        Kind::Produce => produce::run(&load).await,
        Kind::Consume => consume::run(&load).await,
        Kind::E2e => e2e::run(&load).await,
        Kind::Mixed => mixed::run(&load).await,
    };
    let measured = measured.unwrap();
    assert!(
        measured.tally.errors.is_empty(),
        "{line}: {:?}",
        measured.tally.errors
    );
    let report = Report::new(kind, &load, &measured);
    (measured, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_spread_over_topics_partitions_and_connections() {
    for clients in [
        "--producers 4 --consumers 2",
        "--producers 1 --consumers 6 --connections 2",
        "--producers 7 --connections each --shards 2",
    ] {
        let line = format!(
            "e2e --topics 2 --partitions 3 {clients} --rate 600 --duration 300ms --warm-up 0s \
             --in-flight 32"
        );
        let (measured, _) = measured(&line).await;
        let tally = measured.tally;
        // Where the rate does not divide by the producers, each of them may have one more.
        let acked = tally.acked.records;
        assert!((180..187).contains(&acked), "{clients}: {acked}");
        assert_eq!(
            tally.delivered.records, acked,
            "{clients}: each arrives once"
        );
        assert!(tally.lost.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_beyond_the_partitions_read_the_same() {
    let line = "e2e --consumers 3 --rate 200 --duration 300ms --warm-up 0s --in-flight 32";
    let (measured, _) = measured(line).await;
    assert_eq!(measured.tally.acked.records, 60);
    assert_eq!(measured.tally.delivered.records, 180);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_of_a_range_are_counted_byte_by_byte() {
    for more in [
        "",
        "--batch-bytes 2KiB",
        "--batch 5 --linger 10ms --compression lz4",
    ] {
        let line = format!(
            "e2e --size 10..500 {more} --payload text --rate 1000 --duration 300ms --warm-up 0s \
             --in-flight 32"
        );
        let (measured, _) = measured(&line).await;
        let tally = measured.tally;
        assert!(
            tally.acked.records >= 290,
            "{more}: {}",
            tally.acked.records
        );
        assert_eq!(tally.delivered.records, tally.acked.records, "{more}");
        // Where records count one by one, the bytes of those at the edge are shared out.
        let off = tally.delivered.bytes.abs_diff(tally.acked.bytes);
        assert!(off <= 2_500, "{more}: {off}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_ends_the_run() {
    let (measured, report) = measured(
        "produce --count 1000 --producers 3 --partitions 2 --batch 10 --in-flight 4 --warm-up 50ms",
    )
    .await;
    // 334, 333 and 333, each rounded up to whole batches.
    assert_eq!(measured.tally.acked.records, 1_020);
    assert!(report.seconds > 0.0 && report.is_sound(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filled_topic_is_read_back_warm_and_cold() {
    for cold in ["", "--cold"] {
        let (measured, report) = measured(&format!(
            "consume --partitions 3 --batch 7 --size 100 --fill 105000 --consumers 2 {cold}"
        ))
        .await;
        assert_eq!(measured.tally.delivered.records, 3 * 50 * 7, "{cold}");
        assert!(report.is_sound(), "{report}");
    }
    let (measured, _) = measured("consume --count 1000 --partitions 3 --batch 10").await;
    assert_eq!(measured.tally.delivered.records, 1_020);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_mixed_load_are_reported() {
    let shape = "--batch 10 --in-flight 4 --duration 400ms --warm-up 100ms";
    let (measured, report) = measured(&format!("mixed {shape}")).await;
    assert!(measured.tally.acked.records > 0 && measured.tally.delivered.records > 0);
    let text = report.to_string();
    assert!(
        text.contains("produced: ") && text.contains("consumed: "),
        "{text}"
    );

    let line = format!("mixed --from beginning --fill 1MiB --cold {shape}");
    let (behind, _) = self::measured(&line).await;
    assert!(behind.tally.delivered.records > 0);

    let line = format!("consume --from tail --rate 2000 {shape}");
    let (tail, report) = self::measured(&line).await;
    assert!(tail.tally.delivered.records > 0);
    assert_eq!(report.records, tail.tally.delivered.records);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_reach_the_topics() {
    let wrong = "millrace-bench produce --topic-config no.such.setting=1";
    let Mode::Produce(load) = Options::parse_from(wrong.split_ascii_whitespace()).mode else {
        panic!("not produce");
    };
    let error = produce::run(&load).await.unwrap_err().to_string();
    assert!(error.contains("no.such.setting"), "{error}");
    measured("produce --topic-config write.caching=true --duration 100ms --warm-up 0s").await;
}
