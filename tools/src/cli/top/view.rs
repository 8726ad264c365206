//! What the shards of a broker did in a stretch of time, as tables.

use std::fmt;

use millrace_latency::{Counts, Document, ShardDocument, Stage};
use serde::Serialize;

use crate::cli::output::table;

/// All shards over some time.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// How long the broker runs, in seconds.
    pub(super) uptime_seconds: f64,
    /// The time that this is about, in seconds.
    pub(super) seconds: f64,
    /// Each shard.
    pub(super) shards: Vec<Row>,
    /// All together.
    pub(super) all: Row,
}

/// What a shard, or all of them, did. Rates are a second's.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    name: String,
    /// Share of the time that tasks ran, that the core looked for work, and that it slept, in percent.
    busy_percent: f64,
    spin_percent: f64,
    sleep_percent: f64,
    in_megabytes: f64,
    in_batches: f64,
    in_records: f64,
    out_megabytes: f64,
    out_records: f64,
    /// Share of the memory budget that is in use, in percent.
    memory_percent: f64,
    /// Batches that wait for the device, now.
    device_queue: u64,
    device_writes: f64,
    device_megabytes: f64,
    mesh_messages: f64,
    /// Messages of other shards that wait, now.
    mesh_queue: u64,
    /// Connections of both protocols, now.
    connections: u64,
    /// Share of streams and requests that came to the core that owns their partition, in percent; none if
    /// none came.
    owned_percent: Option<f64>,
    stalls: u64,
    stages: Vec<Latency>,
}

/// How long batches were in a stage, in microseconds.
#[derive(Debug, Serialize)]
struct Latency {
    stage: &'static str,
    count: u64,
    p50_us: f64,
    p99_us: f64,
}

impl View {
    /// The view of a document of two moments' difference.
    pub(super) fn new(document: &Document) -> Self {
        let seconds = document.seconds;
        let row = |shard: &ShardDocument| Row::new(&shard.shard.to_string(), shard, seconds, 1);
        Self {
            uptime_seconds: document.uptime_seconds,
            seconds,
            shards: document.shards.iter().map(row).collect(),
            all: Row::new("all", &sum(document), seconds, document.shards.len()),
        }
    }
}

/// All shards as if they were one.
fn sum(document: &Document) -> ShardDocument {
    let mut sum = ShardDocument {
        stages: document.stages.clone(),
        ..ShardDocument::default()
    };
    for shard in &document.shards {
        for (name, value) in &shard.counters {
            *sum.counters.entry(name.clone()).or_default() += value;
        }
        for (name, value) in &shard.gauges {
            *sum.gauges.entry(name.clone()).or_default() += value;
        }
    }
    sum
}

impl Row {
    /// What these did together, being so many.
    fn new(name: &str, shard: &ShardDocument, seconds: f64, shards: usize) -> Self {
        let counter = |name: &str| shard.counters.get(name).copied().unwrap_or(0) as f64;
        let gauge = |name: &str| shard.gauges.get(name).copied().unwrap_or(0);
        let rate = |name: &str| match seconds {
            0.0 => 0.0,
            seconds => counter(name) / seconds,
        };
        let share = |part: f64, whole: f64| match whole {
            0.0 => 0.0,
            whole => (100.0 * part / whole).clamp(0.0, 100.0),
        };
        let time = 1e6 * seconds * shards as f64;
        let busy_percent = share(counter("task_microseconds"), time);
        let awake = share(counter("cpu_microseconds"), time).max(busy_percent);
        let owned = counter("streams_owned") + counter("kafka_partitions_owned");
        let foreign = counter("streams_foreign") + counter("kafka_partitions_foreign");
        let stages = Stage::ALL.iter().filter_map(|stage| {
            let counts: &Counts = shard.stage(*stage).filter(|counts| !counts.is_empty())?;
            let summary = counts.summary();
            Some(Latency {
                stage: stage.name(),
                count: summary.count,
                p50_us: summary.p50_us,
                p99_us: summary.p99_us,
            })
        });
        Self {
            name: name.to_owned(),
            busy_percent,
            spin_percent: awake - busy_percent,
            sleep_percent: 100.0 - awake,
            in_megabytes: rate("produced") / 1e6,
            in_batches: rate("produced_batches"),
            in_records: rate("produced_records"),
            out_megabytes: rate("consumed") / 1e6,
            out_records: rate("consumed_records"),
            memory_percent: share(gauge("memory_used") as f64, gauge("memory_limit") as f64),
            device_queue: gauge("device_queue"),
            device_writes: rate("device_writes"),
            device_megabytes: rate("device_write") / 1e6,
            mesh_messages: rate("mesh_messages"),
            mesh_queue: gauge("mesh_queued"),
            connections: gauge("connections") + gauge("kafka_connections"),
            owned_percent: (owned + foreign > 0.0).then(|| share(owned, owned + foreign)),
            stalls: counter("stalls") as u64,
            stages: stages.collect(),
        }
    }

    fn traffic(&self) -> Vec<String> {
        let whole = |value: f64| format!("{value:.0}");
        let tenth = |value: f64| format!("{value:.1}");
        vec![
            self.name.clone(),
            whole(self.busy_percent),
            whole(self.spin_percent),
            whole(self.sleep_percent),
            tenth(self.in_megabytes),
            whole(self.in_batches),
            whole(self.in_records),
            tenth(self.out_megabytes),
            whole(self.out_records),
            tenth(self.memory_percent),
            self.device_queue.to_string(),
            whole(self.device_writes),
            tenth(self.device_megabytes),
            whole(self.mesh_messages),
            self.mesh_queue.to_string(),
            self.connections.to_string(),
            self.owned_percent.map_or("-".to_owned(), whole),
            self.stalls.to_string(),
        ]
    }

    fn latency(&self) -> Vec<String> {
        let cell = |stage: &Stage| {
            let mut known = self.stages.iter();
            let known = known.find(|latency| latency.stage == stage.name());
            known.map_or("-".to_owned(), |latency| {
                format!("{}/{}", micros(latency.p50_us), micros(latency.p99_us))
            })
        };
        let cells = Stage::ALL.iter().map(cell);
        std::iter::once(self.name.clone()).chain(cells).collect()
    }
}

/// A time in few letters.
fn micros(us: f64) -> String {
    match us {
        ..10.0 => format!("{us:.1}"),
        10.0..10_000.0 => format!("{us:.0}"),
        10_000.0..10_000_000.0 => format!("{:.0}ms", us / 1e3),
        _ => format!("{:.0}s", us / 1e6),
    }
}

const TRAFFIC: [&str; 18] = [
    "SHARD", "BUSY%", "SPIN%", "SLEEP%", "IN-MB/S", "BATCH/S", "REC/S", "OUT-MB/S", "REC/S",
    "MEM%", "DISK-Q", "WRITE/S", "MB/S", "MESH/S", "MESH-Q", "CONN", "OWN%", "STALLS",
];

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = || self.shards.iter().chain([&self.all]);
        writeln!(
            f,
            "up {:.0} s, the last {:.1} s; {} shards\n",
            self.uptime_seconds,
            self.seconds,
            self.shards.len()
        )?;
        let heading = TRAFFIC.map(str::to_owned).to_vec();
        let traffic: Vec<_> = std::iter::once(heading)
            .chain(rows().map(Row::traffic))
            .collect();
        writeln!(f, "{}", table(&traffic))?;
        let names = Stage::ALL.iter().map(|stage| stage.name().to_uppercase());
        let heading = std::iter::once("SHARD".to_owned()).chain(names).collect();
        let latency: Vec<_> = std::iter::once(heading)
            .chain(rows().map(Row::latency))
            .collect();
        writeln!(f, "stages, p50/p99 in microseconds\n{}", table(&latency))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_latency::StageCounts;
    use std::collections::BTreeMap;

    fn map(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let entries = entries.iter();
        entries
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    fn document() -> Document {
        let device = Counts {
            sum_ns: 200_000,
            counts: vec![(80_000, 1), (120_000, 1)],
        };
        let stages = vec![StageCounts::new(Stage::Device, device)];
        let shard = |shard: u8, owned: u64| ShardDocument {
            shard,
            stages: stages.clone(),
            counters: map(&[
                ("produced", 4_000_000),
                ("produced_batches", 40),
                ("task_microseconds", 500_000),
                ("cpu_microseconds", 1_500_000),
                ("streams_owned", owned),
                ("streams_foreign", 1 - owned),
            ]),
            gauges: map(&[("memory_used", 1), ("memory_limit", 4), ("connections", 3)]),
        };
        Document {
            seconds: 2.0,
            uptime_seconds: 60.0,
            stages: stages.clone(),
            shards: vec![shard(0, 1), shard(1, 0)],
            ..Document::default()
        }
    }

    #[test]
    fn rates_are_of_a_second_and_shares_of_all_cores() {
        let view = View::new(&document());
        let one = &view.shards[0];
        assert_eq!((one.in_megabytes, one.in_batches), (2.0, 20.0));
        assert_eq!(
            (one.busy_percent, one.spin_percent, one.sleep_percent),
            (25.0, 50.0, 25.0)
        );
        assert_eq!((one.memory_percent, one.owned_percent), (25.0, Some(100.0)));
        let all = &view.all;
        assert_eq!(
            (all.in_megabytes, all.busy_percent, all.connections),
            (4.0, 25.0, 6)
        );
        assert_eq!(all.owned_percent, Some(50.0));
    }

    #[test]
    fn the_tables_have_a_row_for_each_shard_and_one_for_all() {
        let text = View::new(&document()).to_string();
        let rows = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(
            [rows("SHARD"), rows("0"), rows("1"), rows("all")],
            [2, 2, 2, 2],
            "{text}"
        );
        assert!(text.contains("80/120"), "{text}");
        let nothing = View::new(&Document::default()).to_string();
        assert!(!nothing.contains("NaN"), "{nothing}");
    }
}
