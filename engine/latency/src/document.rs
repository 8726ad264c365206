//! What a broker says of the latencies of a time: JSON for programs, a table for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use crate::{Counts, Stage, Summary};

/// Version of the document. Readers refuse others.
pub const VERSION: u32 = 1;

/// The latencies of one window of time. Its JSON has the fields as they are here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// Seconds since the shard that answers has started.
    pub uptime_seconds: f64,
    /// The window's name: `start`, `1m`, `5m`, `10m`.
    pub window: String,
    /// The time that it covers, in seconds.
    pub seconds: f64,
    /// The topic, if it is of one only.
    pub topic: Option<String>,
    /// All shards that were asked for together, by stage in the order of a batch's way.
    pub stages: Vec<StageCounts>,
    /// Each of them, where that was asked for.
    #[serde(default)]
    pub shards: Vec<ShardDocument>,
}

/// Latencies of one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCounts {
    /// Name of a [`Stage`].
    pub stage: String,
    /// How often each latency occurred.
    #[serde(flatten)]
    pub latency: Counts,
}

/// What one shard has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardDocument {
    /// The shard.
    pub shard: u8,
    /// Its latencies by stage.
    pub stages: Vec<StageCounts>,
    /// What it has counted since its start, by the names of the metrics.
    pub counters: BTreeMap<String, u64>,
    /// What rises and falls there, by the names of the metrics.
    pub gauges: BTreeMap<String, u64>,
}

impl StageCounts {
    /// The latencies of a stage.
    #[must_use]
    pub fn new(stage: Stage, latency: Counts) -> Self {
        Self {
            stage: stage.name().to_owned(),
            latency,
        }
    }
}

/// The latencies of a stage in a list of them.
fn of(stages: &[StageCounts], stage: Stage) -> Option<&Counts> {
    let mut all = stages.iter();
    all.find(|counts| counts.stage == stage.name())
        .map(|counts| &counts.latency)
}

fn since(now: &[StageCounts], before: &[StageCounts]) -> Vec<StageCounts> {
    let nothing = Counts::default();
    let one = |stage: &StageCounts| {
        let mut earlier = before.iter();
        let earlier = earlier.find(|other| other.stage == stage.stage);
        StageCounts {
            stage: stage.stage.clone(),
            latency: stage
                .latency
                .since(earlier.map_or(&nothing, |other| &other.latency)),
        }
    };
    now.iter().map(one).collect()
}

impl ShardDocument {
    /// The latencies of a stage, if they were asked for.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> Option<&Counts> {
        of(&self.stages, stage)
    }
}

impl Document {
    /// The latencies of a stage of all shards together, if they were asked for.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> Option<&Counts> {
        of(&self.stages, stage)
    }

    /// What has come since `before`, an earlier document about the same since the start. Counters become what
    /// they rose by, gauges stay as they are now.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let shard = |shard: &ShardDocument| {
            let earlier = before
                .shards
                .iter()
                .find(|other| other.shard == shard.shard);
            let counter =
                |name: &String| earlier.and_then(|other| other.counters.get(name).copied());
            let counters = shard.counters.iter().map(|(name, value)| {
                let more = value.saturating_sub(counter(name).unwrap_or(0));
                (name.clone(), more)
            });
            ShardDocument {
                shard: shard.shard,
                stages: since(&shard.stages, earlier.map_or(&[], |other| &other.stages)),
                counters: counters.collect(),
                gauges: shard.gauges.clone(),
            }
        };
        Self {
            seconds: (self.uptime_seconds - before.uptime_seconds).max(0.0),
            stages: since(&self.stages, &before.stages),
            shards: self.shards.iter().map(shard).collect(),
            ..self.clone()
        }
    }

    /// The sum of the medians of the stages that a producer waits for, in microseconds: what of its latency
    /// the broker accounts for. `None` when no batch came.
    #[must_use]
    pub fn sum_of_produce_medians_us(&self) -> Option<f64> {
        let stages = Stage::PRODUCE.iter().filter_map(|stage| self.stage(*stage));
        let medians = stages.filter(|counts| !counts.is_empty());
        medians
            .map(|counts| counts.summary().p50_us)
            .reduce(|sum, median| sum + median)
    }

    /// The time that it is about, as a heading.
    pub(crate) fn time_in_words(&self) -> String {
        let what = match (self.window.as_str(), &self.topic) {
            ("start", Some(_)) => "Since the topic is watched".to_owned(),
            ("start", None) => "Since the start".to_owned(),
            (window, _) => format!("The last {window}"),
        };
        format!("{what} ({:.0} s)", self.seconds)
    }

    fn heading(&self) -> String {
        let topic = self.topic.as_ref();
        let topic = topic.map_or_else(String::new, |topic| format!(", topic {topic}"));
        format!("{}: stages in microseconds{topic}", self.time_in_words())
    }
}

/// The table for people.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading())?;
        f.write_str(&table(&self.stages))?;
        if let Some(sum) = self.sum_of_produce_medians_us() {
            writeln!(f, "sum of the medians from receive to ack: {sum:.1}")?;
        }
        for shard in &self.shards {
            writeln!(f, "\nshard {}", shard.shard)?;
            f.write_str(&table(&shard.stages))?;
        }
        Ok(())
    }
}

/// The table of these stages, those without values left out.
fn table(stages: &[StageCounts]) -> String {
    let mut out = format!(
        "{:<10}{:>12}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}\n",
        "stage", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"
    );
    for stage in stages.iter().filter(|stage| !stage.latency.is_empty()) {
        let Summary {
            count,
            mean_us,
            p50_us,
            p90_us,
            p99_us,
            p99_9_us,
            p99_99_us,
            max_us,
        } = stage.latency.summary();
        write!(out, "{:<10}{count:>12}", stage.stage).expect("writing to a string does not fail");
        for us in [p50_us, p90_us, p99_us, p99_9_us, p99_99_us, max_us, mean_us] {
            write!(out, "{us:>11.1}").expect("writing to a string does not fail");
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Latency;

    fn counts(values: &[u64]) -> Counts {
        let mut latency = Latency::fine();
        values.iter().for_each(|value| latency.record(*value, 1));
        Counts::from(&latency)
    }

    fn document(uptime_seconds: f64, device: &[u64], appends: u64) -> Document {
        let stages = vec![
            StageCounts::new(Stage::Append, counts(&[2_000])),
            StageCounts::new(Stage::Device, counts(device)),
            StageCounts::new(Stage::Deliver, counts(&[9_000_000])),
        ];
        let shard = ShardDocument {
            shard: 0,
            stages: stages.clone(),
            counters: BTreeMap::from([("produced_batches".to_owned(), appends)]),
            gauges: BTreeMap::from([("connections".to_owned(), 3)]),
        };
        Document {
            version: VERSION,
            uptime_seconds,
            window: "start".to_owned(),
            seconds: uptime_seconds,
            topic: None,
            stages,
            shards: vec![shard],
        }
    }

    #[test]
    fn a_document_survives_its_json() {
        let document = document(10.0, &[80_000, 90_000], 2);
        let json = serde_json::to_string(&document).expect("it has only names as keys");
        assert!(
            json.contains("\"stage\":\"device\",\"sum_ns\":170000,\"counts\":[["),
            "{json}"
        );
        let back: Document = serde_json::from_str(&json).expect("it was just written");
        assert_eq!(back, document);
    }

    #[test]
    fn two_moments_make_a_window() {
        let (before, now) = (
            document(10.0, &[80_000], 7),
            document(14.0, &[80_000, 90_000], 9),
        );
        let window = now.since(&before);
        assert_eq!(window.seconds, 4.0);
        assert_eq!(window.stage(Stage::Device), Some(&counts(&[90_000])));
        assert_eq!(window.shards[0].counters["produced_batches"], 2);
        assert_eq!(window.shards[0].gauges["connections"], 3);
        assert!(
            window.shards[0]
                .stage(Stage::Append)
                .is_some_and(Counts::is_empty)
        );
    }

    #[test]
    fn the_sum_has_what_a_producer_waits_for() {
        let sum = document(1.0, &[80_000], 1).sum_of_produce_medians_us();
        let sum = sum.expect("there was a batch");
        assert!((sum - 82.0).abs() < 0.1, "{sum}");
        assert_eq!(Document::default().sum_of_produce_medians_us(), None);
    }

    #[test]
    fn the_table_names_stages_that_had_something() {
        let text = document(1.0, &[80_000], 1).to_string();
        assert!(
            text.starts_with("Since the start (1 s): stages in microseconds\n"),
            "{text}"
        );
        assert!(
            text.contains("\ndevice               1       80.0"),
            "{text}"
        );
        assert!(!text.contains("replicate"), "{text}");
        assert!(text.contains("\nshard 0\n"), "{text}");
    }
}
