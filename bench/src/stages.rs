//! Where the time went inside the broker during a run: its own histograms, by the difference of two readings.

use std::fmt;
use std::time::{Duration, Instant};

use millrace_client::Client;
use millrace_latency::{Counts, Document, Stage, Summary, VERSION};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::report::Step;

/// Steps of a distribution towards 100 %: the odds of each are these times those of the one before.
const ODDS: f64 = 1.1;

/// How long a broker may take to tell its histograms: one that has died tells nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Reads a broker's histograms. One that has none, because it is another broker or an older one, gives nothing.
#[derive(Clone, Debug)]
pub(crate) struct Probe(Option<Client>);

impl Probe {
    /// A probe of the broker of this client, if there is one.
    pub(crate) fn new(client: Option<Client>) -> Self {
        Self(client)
    }

    /// All shards since the start.
    pub(crate) async fn read(&self) -> Option<Document> {
        let client = self.0.as_ref()?;
        let json = client.observe("/hist?format=json").await.ok()?;
        let document: Document = serde_json::from_str(&json).ok()?;
        (document.version == VERSION).then_some(document)
    }

    /// Reads at this moment; what comes after it is told by [`Observation::end`].
    pub(crate) fn start(self, from: Instant) -> Observation {
        let probe = self.clone();
        let before = tokio::spawn(async move {
            tokio::time::sleep_until(from.into()).await;
            let read = tokio::time::timeout(ANSWER_TIMEOUT, probe.read()).await;
            read.ok().flatten()
        });
        Observation {
            probe: self,
            before,
        }
    }
}

/// Histograms that are being looked at while a run lasts.
pub(crate) struct Observation {
    probe: Probe,
    before: JoinHandle<Option<Document>>,
}

impl Observation {
    /// What has come since the start. Nothing from a broker that does not answer.
    pub(crate) async fn end(self) -> Option<Document> {
        let before = self.before.await.ok()??;
        let now = tokio::time::timeout(ANSWER_TIMEOUT, self.probe.read());
        Some(now.await.ok()??.since(&before))
    }
}

/// The broker's part of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Breakdown {
    /// The stages that batches went through, in the order of their way.
    pub stages: Vec<StageReport>,
    /// The sum of the medians of the stages that a producer waits for.
    pub produce_medians_us: Option<f64>,
}

/// What one stage took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageReport {
    /// The stage's name.
    pub stage: String,
    /// Its figures.
    #[serde(flatten)]
    pub latency: Summary,
    /// Its distribution, in steps that get finer towards 100 %.
    pub distribution: Vec<Step>,
}

impl From<&Document> for Breakdown {
    fn from(document: &Document) -> Self {
        let stages = Stage::ALL.iter().filter_map(|stage| {
            let counts = document.stage(*stage).filter(|counts| !counts.is_empty())?;
            Some(StageReport {
                stage: stage.name().to_owned(),
                latency: counts.summary(),
                distribution: distribution(counts),
            })
        });
        Self {
            stages: stages.collect(),
            produce_medians_us: document.sum_of_produce_medians_us(),
        }
    }
}

impl Breakdown {
    /// What of a client's median the broker's stages do not account for: the way there and back, and the client.
    #[must_use]
    pub fn outside_us(&self, client_median_us: f64) -> Option<f64> {
        self.produce_medians_us
            .map(|broker| client_median_us - broker)
    }

    /// Writes the table of a report in text. `client_median_us` is that of the acknowledgements.
    pub(crate) fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        client_median_us: Option<f64>,
    ) -> fmt::Result {
        for StageReport { stage, latency, .. } in &self.stages {
            writeln!(
                f,
                "  in the broker, {stage:<10}us: p50 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}  mean {:.1}  ({} batches)",
                latency.p50_us,
                latency.p99_us,
                latency.p99_9_us,
                latency.max_us,
                latency.mean_us,
                latency.count
            )?;
        }
        let (Some(sum), Some(client)) = (self.produce_medians_us, client_median_us) else {
            return Ok(());
        };
        writeln!(
            f,
            "  sum of the broker's medians {sum:.1} us, the client's median {client:.1} us: {:.1} us on the way and in the client",
            client - sum
        )
    }
}

fn distribution(counts: &Counts) -> Vec<Step> {
    let count = counts.count();
    let mut steps = Vec::new();
    let mut odds = 1.0;
    while odds < count as f64 {
        let quantile = 1.0 - 1.0 / odds;
        steps.push(step(counts, quantile, count));
        odds *= ODDS;
    }
    steps.push(step(counts, 1.0, count));
    steps
}

fn step(counts: &Counts, quantile: f64, count: u64) -> Step {
    Step {
        quantile,
        us: counts.quantile(quantile) as f64 / 1e3,
        count: (quantile * count as f64).round() as u64,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use millrace_latency::{Latency, StageCounts};

    /// A thousand batches: 2 us to append, 70 to 80 us on the device, 5 us for the acknowledgement.
    pub(crate) fn document() -> Document {
        let of = |nanos: &dyn Fn(u64) -> u64| {
            let mut latency = Latency::fine();
            (0..1_000).for_each(|n| latency.record(nanos(n), 1));
            Counts::from(&latency)
        };
        let stages = [
            StageCounts::new(Stage::Append, of(&|_| 2_000)),
            StageCounts::new(Stage::Device, of(&|n| 70_000 + n * 10)),
            StageCounts::new(Stage::Ack, of(&|_| 5_000)),
            StageCounts::new(Stage::Deliver, Counts::default()),
        ];
        Document {
            version: VERSION,
            stages: stages.into(),
            ..Document::default()
        }
    }

    #[test]
    fn the_breakdown_has_what_batches_went_through() {
        let breakdown = Breakdown::from(&document());
        let names: Vec<&str> = breakdown.stages.iter().map(|s| s.stage.as_str()).collect();
        assert_eq!(names, ["append", "device", "ack"]);
        let outside = breakdown.outside_us(100.0).expect("there were batches");
        assert!((outside - 18.0).abs() < 0.2, "{outside}");
        let device = &breakdown.stages[1];
        assert!(
            device
                .distribution
                .is_sorted_by(|a, b| a.us <= b.us && a.quantile < b.quantile)
        );
        let last = device
            .distribution
            .last()
            .map(|step| (step.quantile, step.count));
        assert_eq!(last, Some((1.0, 1_000)));
    }
}
