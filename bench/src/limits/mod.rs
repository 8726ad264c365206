//! What this machine can do at most, measured without a broker: the device, the transport, and
//! the processor, each alone.
//!
//! - [`disk`]: durable appends, writes and reads on a ring of its own, no file system cache.
//! - [`quic`]: a stream and a round trip between a shard's endpoint and a client's, with the
//!   settings and runtimes that broker and load have, and no protocol on them.
//! - [`processor`]: checksum and copy.
//! - [`mesh`]: a question to another executor, and its answer.
//! - [`binding`]: which of them binds a load, and how near the load came.
//!
//! Figures of a virtual machine wander; those that a run is held against are measured before and
//! after it ([`Around`]).

mod around;
mod binding;
mod disk;
mod mesh;
mod probe;
mod processor;
mod quic;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::BenchError;
use crate::measure::Latencies;
use crate::usage::{BrokerProcess, Meter, Place, Usage};

pub use around::Around;
pub use binding::{Binding, Measure, Reached};
pub use mesh::{MeshBy, MeshRest, mesh_round_trips};
pub use probe::{AppendSize, Ground, Probe};

/// One figure, or a few of the same thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// What was measured, as [`Probe::name`] gives it.
    pub name: String,
    /// How often, in the time that was given.
    pub count: u64,
    /// Bytes over time, in units of 1,000,000, where bytes are moved.
    pub megabytes_per_second: Option<f64>,
    /// How long one took, where one was waited for before the next.
    pub latency: Option<Quantiles>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p99_9_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Item {
    /// `count` pieces of together `bytes` in `time`.
    fn rate(probe: Probe, count: u64, bytes: u64, time: Duration) -> Self {
        Self {
            name: probe.name(),
            count,
            megabytes_per_second: Some(bytes as f64 / 1e6 / time.as_secs_f64()),
            latency: None,
        }
    }

    /// What was waited for one by one.
    fn latency(probe: Probe, latencies: &Latencies) -> Self {
        Self {
            name: probe.name(),
            count: latencies.count(),
            megabytes_per_second: None,
            latency: Some(latencies.into()),
        }
    }
}

impl From<&Latencies> for Quantiles {
    fn from(latencies: &Latencies) -> Self {
        let micros = |of: Duration| of.as_nanos() as f64 / 1e3;
        let at = |quantile| micros(latencies.quantile(quantile));
        Self {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: micros(latencies.max()),
        }
    }
}

/// All limits of a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// The directory whose device was measured.
    pub directory: PathBuf,
    /// How long each item was measured, in seconds.
    pub seconds_each: f64,
    /// The figures.
    pub items: Vec<Item>,
    /// CPU time that this process took meanwhile, and what others took of it: where that is much,
    /// these are not the limits of the machine.
    pub usage: Usage,
    /// The machine and the program.
    pub place: Place,
}

impl Limits {
    /// Measures everything, each item for `each`; the device under `directory`.
    ///
    /// # Errors
    /// No file can be made there that bypasses the cache, or no ring or socket.
    pub async fn measure(directory: &Path, each: Duration) -> Result<Self, BenchError> {
        let mut gauge = Gauge::new(directory);
        let mut items = Vec::new();
        let metering = Meter::new(BrokerProcess::Unknown)?.start(Instant::now());
        for probe in Probe::all() {
            items.push(gauge.measure(probe, each).await?);
        }
        let usage = metering.end().await?;
        Ok(Self {
            directory: directory.to_owned(),
            seconds_each: each.as_secs_f64(),
            items,
            usage,
            place: Place::here(),
        })
    }
}

/// What measures, with the files that it has prepared for that.
struct Gauge {
    directory: PathBuf,
    zeroed: Option<disk::Field>,
    reserved: Option<disk::Field>,
}

impl Gauge {
    fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            zeroed: None,
            reserved: None,
        }
    }

    /// One item, for about `time`.
    async fn measure(&mut self, probe: Probe, time: Duration) -> Result<Item, BenchError> {
        match probe {
            Probe::Append(_, ground) => {
                self.on_disk(ground, move |field| field.measure(probe, time))
                    .await
            }
            Probe::Write | Probe::Read => {
                self.on_disk(Ground::Zeroed, move |field| field.measure(probe, time))
                    .await
            }
            Probe::StreamUp | Probe::StreamDown | Probe::RoundTrip => {
                quic::measure(probe, time).await
            }
            Probe::Crc | Probe::Copy => blocking(move || Ok(processor::measure(probe, time))).await,
            Probe::MeshAwake | Probe::MeshAsleep => {
                blocking(move || mesh::measure(probe, time)).await
            }
        }
    }

    /// Prepares what `probe` needs, so that it does not take of the time of others.
    async fn prepare(&mut self, probe: Probe) -> Result<(), BenchError> {
        match probe {
            Probe::Append(_, ground) => self.on_disk(ground, |_| Ok(())).await,
            Probe::Write | Probe::Read => self.on_disk(Ground::Zeroed, |_| Ok(())).await,
            _ => Ok(()),
        }
    }

    /// Waits until the file system has done what it owes to what was before: the removal of a run's
    /// segments goes on, and takes of the device, after they are gone.
    async fn settle(&self) -> Result<(), BenchError> {
        let directory = self.directory.clone();
        blocking(move || Ok(disk::settle(&directory)?)).await
    }

    async fn on_disk<T: Send + 'static>(
        &mut self,
        ground: Ground,
        work: impl FnOnce(&mut disk::Field) -> Result<T, BenchError> + Send + 'static,
    ) -> Result<T, BenchError> {
        let held = match ground {
            Ground::Zeroed => &mut self.zeroed,
            Ground::Reserved => &mut self.reserved,
        };
        let (field, directory) = (held.take(), self.directory.clone());
        let (field, done) = blocking(move || {
            let mut field = match field {
                Some(field) => field,
                None => disk::Field::prepare(&directory, ground)?,
            };
            let done = work(&mut field)?;
            Ok((field, done))
        })
        .await?;
        *held = Some(field);
        Ok(done)
    }
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> Result<T, BenchError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| BenchError::Limits(error.to_string()))?
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run that reached a quarter of what the device can.
    pub(crate) fn reached() -> Reached {
        let append = Item {
            name: "disk.append.256KiB".to_owned(),
            count: 10,
            megabytes_per_second: Some(4.0),
            latency: Some(Quantiles {
                p50_us: 80.0,
                p99_us: 160.0,
                p99_9_us: 240.0,
                max_us: 320.0,
            }),
        };
        Reached {
            binding: append.name.clone(),
            measure: Measure::Throughput,
            limit: 4.0,
            reached: 1.0,
            ratio: 0.25,
            items: vec![append.clone()],
            before: vec![append.clone()],
            after: vec![append],
        }
    }

    #[test]
    fn json_has_the_names_that_scripts_read() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_micros(80));
        let probe = Probe::Append(AppendSize::Kib4, Ground::Zeroed);
        let limits = Limits {
            directory: "/data".into(),
            seconds_each: 0.5,
            items: vec![
                Item::latency(probe, &latencies),
                Item::rate(Probe::StreamUp, 3, 2_000_000, Duration::from_secs(2)),
            ],
            usage: Usage::default(),
            place: Place::here(),
        };
        let json = serde_json::to_value(&limits).unwrap();
        assert_eq!(json["items"][0]["name"], "disk.append.4KiB");
        assert_eq!(json["items"][0]["count"], 1);
        let median = json["items"][0]["latency"]["p50_us"].as_f64().unwrap();
        assert!((median - 80.0).abs() < 0.1, "{median}");
        assert_eq!(json["items"][1]["name"], "quic.stream.up");
        assert_eq!(json["items"][1]["megabytes_per_second"], 1.0);
        assert_eq!(json["items"][1]["latency"], serde_json::Value::Null);
    }

    #[test]
    fn a_row_has_both_kinds_of_blocks() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_micros(80));
        let item = |ground| Item::latency(Probe::Append(AppendSize::Kib4, ground), &latencies);
        let limits = Limits {
            directory: "/data".into(),
            seconds_each: 0.5,
            items: vec![item(Ground::Zeroed), item(Ground::Reserved)],
            usage: Usage::default(),
            place: Place::here(),
        };
        let table = limits.to_string();
        let row = table.lines().find(|line| line.contains("disk.append.4KiB"));
        assert_eq!(row.unwrap().matches("80.0").count(), 6, "{table}");
    }

    /// On whatever device the build is, which tests of the broker need to bypass its cache too.
    #[tokio::test(flavor = "multi_thread")]
    async fn everything_can_be_measured() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let limits = Limits::measure(directory.path(), Duration::from_millis(20));
        let limits = limits.await.unwrap();
        assert_eq!(limits.items.len(), Probe::all().len());
        for (item, probe) in limits.items.iter().zip(Probe::all()) {
            assert_eq!(item.name, probe.name());
            assert!(item.count > 0, "{item:?}");
            let rate = item.megabytes_per_second.unwrap_or(1.0);
            assert!(rate > 0.0, "{item:?}");
        }
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "files were left behind");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_directory_that_is_not_there_is_told() {
        let nowhere = Path::new("/nowhere/at/all");
        let error = Limits::measure(nowhere, Duration::from_millis(1)).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
