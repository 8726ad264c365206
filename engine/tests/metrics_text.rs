//! The text of the metrics, read back by a parser that follows the OpenMetrics 1.0
//! specification and shares no code with the writer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use millrace_engine::metrics::{
    Counter, Gauge, GroupProgress, GroupsInState, GroupsReport, ShardMetrics, Stage,
    render_prometheus,
};
use millrace_model::{ErrorCode, ShardId, TopicId};

type Labels = BTreeMap<String, String>;

#[derive(Default)]
struct Family {
    kind: String,
    unit: String,
    help: String,
    samples: Vec<(String, Labels, f64)>,
}

/// Parses, and holds the text to the rules of the specification on the way.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let body = text
        .strip_suffix("# EOF\n")
        .expect("the text ends with # EOF");
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name) = (words.next().unwrap(), words.next().unwrap());
            let rest = words.next().unwrap_or_default().to_owned();
            if word == "TYPE" {
                assert!(
                    !families.contains_key(name),
                    "{name} is one family in one place"
                );
                current = name.to_owned();
            }
            assert_eq!(current, name, "metadata of a family stand together");
            let family = families.entry(current.clone()).or_default();
            assert!(family.samples.is_empty(), "metadata come before samples");
            match word {
                "TYPE" => family.kind = rest,
                "UNIT" => family.unit = rest,
                "HELP" => family.help = rest,
                _ => panic!("unknown comment {line}"),
            }
        } else {
            let family = families.get_mut(&current).expect("a type comes first");
            family.samples.push(sample(line));
        }
    }
    families
}

fn sample(line: &str) -> (String, Labels, f64) {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ').unwrap();
        return (name.to_owned(), Labels::new(), value.parse().unwrap());
    };
    let (labels, value) = rest.split_once("} ").unwrap();
    let label = |text: &str| {
        let (name, value) = text.split_once('=').unwrap();
        let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        assert!(!value.contains(['"', '\\', '\n']));
        (name.to_owned(), value.to_owned())
    };
    let all: Vec<_> = labels.split(',').map(label).collect();
    let unique: Labels = all.iter().cloned().collect();
    assert_eq!(unique.len(), all.len(), "labels are named once: {line}");
    (name.to_owned(), unique, value.parse().unwrap())
}

/// The suffixes that samples of a kind have.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_count", "_sum"],
        _ => panic!("unknown kind {kind}"),
    }
}

fn example() -> String {
    let metrics = [ShardMetrics::new(ShardId(0)), ShardMetrics::new(ShardId(1))];
    metrics[0].add(Counter::BytesIn, 123);
    metrics[1].add(Counter::BytesIn, 7);
    metrics[1].set(Gauge::OpenFiles, 9);
    metrics[0].refused(ErrorCode::CorruptMessage);
    for nanos in [900, 1_500, 83_000, 95_000, 1_900_000_000, 30_000_000_000] {
        metrics[0].record(Stage::Device, TopicId([1; 16]), nanos);
    }
    let snapshots = metrics.each_ref().map(ShardMetrics::snapshot);
    let groups = GroupsReport {
        states: vec![GroupsInState {
            group_type: "classic",
            state: "Stable",
            groups: 1,
            members: 3,
        }],
        progress: vec![GroupProgress {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            partition: 0,
            committed: 5,
            end: Some(7),
        }],
        omitted: 0,
    };
    render_prometheus(&snapshots, &groups)
}

#[test]
fn the_text_follows_the_specification() {
    let families = parse(&example());
    let mut names = BTreeSet::new();
    for (name, family) in &families {
        assert!(name.starts_with("millrace_"));
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        );
        assert!(
            !name.ends_with("_total"),
            "{name}: the suffix is of the sample"
        );
        assert!(family.help.ends_with('.'), "{name} has help");
        let unit = &family.unit;
        assert!(
            unit.is_empty() || name.ends_with(&format!("_{unit}")),
            "{name} names its unit"
        );
        for (sample, labels, value) in &family.samples {
            let suffix = sample
                .strip_prefix(name.as_str())
                .expect("samples carry the name");
            assert!(suffixes(&family.kind).contains(&suffix), "{sample}");
            assert!(*value >= 0.0);
            assert!(
                names.insert((sample.clone(), labels.clone())),
                "{sample} {labels:?} once"
            );
        }
    }
    assert!(families.len() > Counter::COUNT + Gauge::COUNT);
}

#[test]
fn values_stand_under_their_shard() {
    let families = parse(&example());
    let of = |family: &str, shard: &str| {
        let samples = &families[family].samples;
        samples
            .iter()
            .find(|(_, labels, _)| labels["shard"] == shard)
            .unwrap()
            .2
    };
    assert_eq!(of("millrace_produced_bytes", "0"), 123.0);
    assert_eq!(of("millrace_produced_bytes", "1"), 7.0);
    assert_eq!(of("millrace_open_files", "1"), 9.0);
    let errors = &families["millrace_append_errors"].samples;
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].1["error"], "CORRUPT_MESSAGE");
}

#[test]
fn histograms_are_cumulative_and_end_in_their_count() {
    let families = parse(&example());
    let family = &families["millrace_stage_duration_seconds"];
    assert_eq!(
        (family.kind.as_str(), family.unit.as_str()),
        ("histogram", "seconds")
    );
    let device = |suffix: &str| -> Vec<(Labels, f64)> {
        let wanted = format!("millrace_stage_duration_seconds{suffix}");
        let samples = family.samples.iter().filter(|(name, labels, _)| {
            *name == wanted && labels["shard"] == "0" && labels["stage"] == "device"
        });
        samples
            .map(|(_, labels, value)| (labels.clone(), *value))
            .collect()
    };
    let buckets = device("_bucket");
    let below = |le: &str| {
        buckets
            .iter()
            .find(|(labels, _)| labels["le"] == le)
            .unwrap()
            .1
    };
    assert_eq!(
        [below("0.000001"), below("0.000002"), below("0.0001")],
        [1.0, 2.0, 4.0]
    );
    assert_eq!(
        [below("1.0"), below("2.0"), below("10.0"), below("+Inf")],
        [4.0, 5.0, 5.0, 6.0]
    );
    let bounds: Vec<f64> = buckets
        .iter()
        .map(|(labels, _)| labels["le"].parse().unwrap())
        .collect();
    assert!(bounds.is_sorted() && buckets.iter().map(|(_, count)| count).is_sorted());
    assert_eq!(device("_count")[0].1, 6.0);
    assert!((device("_sum")[0].1 - 31.900_180_4).abs() < 1e-9);
}
