//! The snapshots of all shards as OpenMetrics 1.0 text, which Prometheus reads.
//!
//! Every value but those of groups carries the label `shard`. Histogram bounds are a fixed ladder: cumulative
//! counts at a bound come from the HdrHistogram, so a value within 0.1 % of a bound may
//! stand on its other side.

use std::fmt::Write as _;

use super::groups::{self, GroupsReport};
use super::{Counter, Gauge, Latency, ShardSnapshot, Stage, Unit};

/// The HTTP content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "millrace";

/// Upper bounds of the buckets in nanoseconds: 1, 2, 5 in each decade, from 1 us (below a
/// memory copy) to 10 s (above any healthy wait).
const BOUNDS_NANOS: [u64; 22] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The metrics of all shards, and of the groups, as text.
#[must_use]
pub fn render_prometheus(shards: &[ShardSnapshot], groups: &GroupsReport) -> String {
    let mut out = String::with_capacity(16 << 10);
    for &counter in Counter::ALL {
        let name = head(
            &mut out,
            counter.name(),
            "counter",
            counter.unit(),
            counter.help(),
        );
        for shard in shards {
            let value = shard.counter(counter);
            line(
                &mut out,
                format_args!("{name}_total{{shard=\"{}\"}} {value}", shard.shard()),
            );
        }
    }
    for &gauge in Gauge::ALL {
        let name = head(&mut out, gauge.name(), "gauge", gauge.unit(), gauge.help());
        for shard in shards {
            let value = shard.gauge(gauge);
            line(
                &mut out,
                format_args!("{name}{{shard=\"{}\"}} {value}", shard.shard()),
            );
        }
    }
    refusals(&mut out, shards);
    kafka_requests(&mut out, shards);
    stages(&mut out, shards);
    groups::render(&mut out, groups);
    build_info(&mut out);
    out.push_str("# EOF\n");
    out
}

/// Writes TYPE, UNIT and HELP of a metric and gives its full name.
pub(super) fn head(out: &mut String, name: &str, kind: &str, unit: Unit, help: &str) -> String {
    match unit {
        Unit::Count => {
            let name = format!("{PREFIX}_{name}");
            line(
                out,
                format_args!("# TYPE {name} {kind}\n# HELP {name} {help}"),
            );
            name
        }
        Unit::Bytes => {
            let name = format!("{PREFIX}_{name}_bytes");
            line(
                out,
                format_args!("# TYPE {name} {kind}\n# UNIT {name} bytes\n# HELP {name} {help}"),
            );
            name
        }
    }
}

fn refusals(out: &mut String, shards: &[ShardSnapshot]) {
    let help = "Appends that were refused, by Kafka's name of the error.";
    let name = head(out, "append_errors", "counter", Unit::Count, help);
    for shard in shards {
        for (code, count) in shard.refusals() {
            let labels = format_args!("shard=\"{}\",error=\"{code}\"", shard.shard());
            line(out, format_args!("{name}_total{{{labels}}} {count}"));
        }
    }
}

fn kafka_requests(out: &mut String, shards: &[ShardSnapshot]) {
    let help = "Requests of the Kafka protocol that were answered, by API.";
    let name = head(out, "kafka_requests", "counter", Unit::Count, help);
    for shard in shards {
        for (api, count) in shard.kafka_requests() {
            let labels = format_args!("shard=\"{}\",api=\"{api}\"", shard.shard());
            line(out, format_args!("{name}_total{{{labels}}} {count}"));
        }
    }
}

fn stages(out: &mut String, shards: &[ShardSnapshot]) {
    let name = format!("{PREFIX}_stage_duration_seconds");
    let help = "Time that batches spent in each stage of their way.";
    line(
        out,
        format_args!("# TYPE {name} histogram\n# UNIT {name} seconds\n# HELP {name} {help}"),
    );
    for shard in shards {
        for &stage in Stage::ALL {
            let labels = format!("shard=\"{}\",stage=\"{}\"", shard.shard(), stage.name());
            histogram(out, &name, &labels, shard.stage(stage));
        }
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, latency: &Latency) {
    for (bound, below) in BOUNDS_NANOS.iter().zip(cumulative(latency)) {
        let le = seconds(*bound);
        line(
            out,
            format_args!("{name}_bucket{{{labels},le=\"{le}\"}} {below}"),
        );
    }
    let count = latency.histogram.len();
    line(
        out,
        format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"),
    );
    line(out, format_args!("{name}_count{{{labels}}} {count}"));
    line(
        out,
        format_args!("{name}_sum{{{labels}}} {}", seconds(latency.sum_nanos)),
    );
}

/// How many values lie at or below each bound, in one walk over the histogram.
fn cumulative(latency: &Latency) -> [u64; BOUNDS_NANOS.len()] {
    let mut below = [0; BOUNDS_NANOS.len()];
    for value in latency.histogram.iter_recorded() {
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < value.value_iterated_to());
        if let Some(count) = below.get_mut(bucket) {
            *count += value.count_at_value();
        }
    }
    let mut sum = 0;
    below.map(|count| {
        sum += count;
        sum
    })
}

/// Nanoseconds as seconds, exactly, without trailing zeros but with a decimal point.
fn seconds(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') {
        format!("{short}0")
    } else {
        short.to_owned()
    }
}

fn build_info(out: &mut String) {
    let name = format!("{PREFIX}_build");
    line(
        out,
        format_args!("# TYPE {name} info\n# HELP {name} The version that runs."),
    );
    line(
        out,
        format_args!("{name}_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    );
}

pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string does not fail");
}
