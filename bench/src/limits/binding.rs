//! Which limit binds a load, and how near the load came to it. Pure.
//!
//! - One small batch at a time, and every open loop, is about latency: its median is held against the
//!   sum of the medians of what each batch cannot do without, a round trip and a durable append.
//! - Everything else is about throughput: it is held against the slower of the ways that all bytes take.

use serde::{Deserialize, Serialize};

use super::{AppendSize, Ground, Item, Probe, Quantiles};
use crate::options::{AcksOption, Load, StartFrom};
use crate::report::{Kind, Report};

/// What of a batch is no value: the headers of frame, batch and write, and a few bytes a record.
const OVERHEAD: u64 = 256;

/// The size of the writes that a load of large batches is held against. Larger writes gain little
/// throughput, and their latency grows.
const LARGEST: AppendSize = AppendSize::Kib256;

/// What a run is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What counts.
    pub measure: Measure,
    /// For a latency all of these, one after the other; for a throughput the least of these.
    pub probes: Vec<Probe>,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The median latency, in microseconds; the limit is the least that it can be.
    Latency,
    /// Value bytes per second, in units of 1,000,000; the limit is the most that it can be.
    Throughput,
}

/// How near a run came to its limit. Part of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// The limit that binds, by the names of its items.
    pub binding: String,
    /// What it is a limit of.
    pub measure: Measure,
    /// The limit, in the unit of `measure`.
    pub limit: f64,
    /// What the run reached, in the same unit.
    pub reached: f64,
    /// Reached over limit: at least 1 for a latency, at most 1 for a throughput, but for noise and
    /// for what the limit does not see (several partitions write at once, a limit one after
    /// the other).
    pub ratio: f64,
    /// The figures: means of before and after.
    pub items: Vec<Item>,
    /// The figures before the load.
    pub before: Vec<Item>,
    /// The figures after it.
    pub after: Vec<Item>,
}

impl Binding {
    /// What binds this load.
    #[must_use]
    pub fn of(kind: Kind, load: &Load) -> Self {
        let batch = batch_bytes(load);
        let durable = !load.topic_settings().contains(&("write.caching", "true"));
        let in_time = load.rate.is_some() || load.ramp.is_some();
        let one_by_one = load.in_flight.get() == 1 && batch <= AppendSize::Kib4.bytes() as u64;
        let answered = load.acks != AcksOption::None || kind == Kind::E2e;
        if kind == Kind::Consume {
            let mut probes = vec![Probe::StreamDown];
            if load.cold && load.start(kind) == StartFrom::Beginning {
                probes.push(Probe::Read);
            }
            return Self {
                measure: Measure::Throughput,
                probes,
            };
        }
        if answered && (in_time || one_by_one) {
            let mut probes = vec![Probe::RoundTrip];
            if durable && load.acks != AcksOption::None {
                let size = AppendSize::holding(batch).map_or(LARGEST, |size| size.min(LARGEST));
                probes.push(Probe::Append(size, Ground::Zeroed));
            }
            return Self {
                measure: Measure::Latency,
                probes,
            };
        }
        Self {
            measure: Measure::Throughput,
            probes: vec![
                Probe::StreamUp,
                Probe::Append(mean_write(load, batch), Ground::Zeroed),
            ],
        }
    }

    /// How near this report came to it; `None` where nothing was measured.
    #[must_use]
    pub fn judge(&self, report: &Report, before: Vec<Item>, after: Vec<Item>) -> Option<Reached> {
        let items: Vec<Item> = before.iter().zip(&after).map(mean).collect();
        let found = |probe: &Probe| items.iter().find(|of| of.name == probe.name());
        let parts: Vec<&Item> = self.probes.iter().filter_map(found).collect();
        let (binding, limit, reached) = match self.measure {
            Measure::Latency => {
                let medians = parts.iter().filter_map(|of| of.latency.as_ref());
                let names: Vec<&str> = parts.iter().map(|of| of.name.as_str()).collect();
                let limit = medians.map(|of| of.p50_us).sum();
                (names.join(" + "), limit, report.latency()?.p50_us)
            }
            Measure::Throughput => {
                let rates = parts.iter().filter_map(|of| of.megabytes_per_second);
                let (limit, least) = rates
                    .zip(&parts)
                    .min_by(|(one, _), (other, _)| one.total_cmp(other))?;
                (least.name.clone(), limit, report.megabytes_per_second)
            }
        };
        (limit > 0.0).then(|| Reached {
            binding,
            measure: self.measure,
            limit,
            reached,
            ratio: reached / limit,
            items,
            before,
            after,
        })
    }
}

/// Bytes of a batch as they are written, about.
fn batch_bytes(load: &Load) -> u64 {
    let values = u64::from(load.batch_records()).saturating_mul(load.record_size.mean());
    values.min(load.batch_bytes.unwrap_or(u64::MAX)) + OVERHEAD
}

/// The size class of the device's writes under a closed loop: while one is written, what else is in
/// flight to its partition gathers for the next, and the two take turns.
fn mean_write(load: &Load, batch: u64) -> AppendSize {
    let producers = load.producers.get().div_ceil(load.places()) as u64;
    let in_flight = load.in_flight.get() as u64 * producers * batch;
    let mean = (in_flight / 2).max(batch);
    AppendSize::holding(mean).map_or(LARGEST, |size| size.min(LARGEST))
}

fn mean((before, after): (&Item, &Item)) -> Item {
    let mid = |of: fn(&Quantiles) -> f64| {
        let both = before.latency.as_ref().zip(after.latency.as_ref());
        both.map_or(0.0, |(one, other)| f64::midpoint(of(one), of(other)))
    };
    let rates = before.megabytes_per_second.zip(after.megabytes_per_second);
    Item {
        name: before.name.clone(),
        count: before.count + after.count,
        megabytes_per_second: rates.map(|(one, other)| f64::midpoint(one, other)),
        latency: before.latency.is_some().then(|| Quantiles {
            p50_us: mid(|of| of.p50_us),
            p99_us: mid(|of| of.p99_us),
            p99_9_us: mid(|of| of.p99_9_us),
            max_us: mid(|of| of.max_us),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{load, measured};

    fn names(kind: Kind, line: &str) -> (Measure, String) {
        let load = load(&line.split_ascii_whitespace().collect::<Vec<_>>());
        let binding = Binding::of(kind, &load);
        let names: Vec<String> = binding.probes.iter().map(|of| of.name()).collect();
        (binding.measure, names.join(" "))
    }

    #[test]
    fn small_batches_one_at_a_time_are_about_latency() {
        for (kind, line, names_of) in [
            (
                Kind::Produce,
                "produce",
                "quic.round_trip.1KiB disk.append.4KiB",
            ),
            (
                Kind::Produce,
                "produce --write-caching",
                "quic.round_trip.1KiB",
            ),
            (
                Kind::Produce,
                "produce --topic-config write.caching=true",
                "quic.round_trip.1KiB",
            ),
            (
                Kind::Produce,
                "produce --rate 1000 --batch 10 --in-flight 8",
                "quic.round_trip.1KiB disk.append.16KiB",
            ),
            (
                Kind::E2e,
                "e2e --rate 1000",
                "quic.round_trip.1KiB disk.append.4KiB",
            ),
            (Kind::E2e, "e2e --rate 10 --acks 0", "quic.round_trip.1KiB"),
        ] {
            let expected = (Measure::Latency, names_of.to_owned());
            assert_eq!(names(kind, line), expected, "{line}");
        }
    }

    #[test]
    fn everything_else_is_about_throughput() {
        for (kind, line, names_of) in [
            (
                Kind::Produce,
                "produce --batch 256 --in-flight 4",
                "quic.stream.up disk.append.256KiB",
            ),
            (
                Kind::Produce,
                "produce --size 100 --in-flight 64 --partitions 8",
                "quic.stream.up disk.append.16KiB",
            ),
            (
                Kind::Produce,
                "produce --acks 0",
                "quic.stream.up disk.append.4KiB",
            ),
            (
                Kind::Mixed,
                "mixed --batch 2000",
                "quic.stream.up disk.append.256KiB",
            ),
            (Kind::Consume, "consume", "quic.stream.down"),
            (Kind::Consume, "consume --from tail", "quic.stream.down"),
            (
                Kind::Consume,
                "consume --cold",
                "quic.stream.down disk.read.1MiB",
            ),
        ] {
            let expected = (Measure::Throughput, names_of.to_owned());
            assert_eq!(names(kind, line), expected, "{line}");
        }
    }

    fn item(probe: Probe, rate: Option<f64>, median: Option<f64>) -> Item {
        Item {
            name: probe.name(),
            count: 10,
            megabytes_per_second: rate,
            latency: median.map(|p50_us| Quantiles {
                p50_us,
                p99_us: 2.0 * p50_us,
                p99_9_us: 3.0 * p50_us,
                max_us: 4.0 * p50_us,
            }),
        }
    }

    #[test]
    fn a_throughput_is_held_against_the_least_mean_of_before_and_after() {
        let load = load(&["produce", "--batch", "256", "--in-flight", "4"]);
        let report = Report::new(Kind::Produce, &load, &measured());
        let binding = Binding::of(Kind::Produce, &load);
        let append = Probe::Append(AppendSize::Kib256, Ground::Zeroed);
        let figures = |up, disk| {
            vec![
                item(Probe::StreamUp, Some(up), None),
                item(append, Some(disk), Some(80.0)),
            ]
        };
        // 1 MB/s was reached. The stream's mean is 5, the disk's 4.
        let reached = binding.judge(&report, figures(3.0, 6.0), figures(7.0, 2.0));
        let reached = reached.unwrap();
        assert_eq!(reached.binding, "disk.append.256KiB");
        assert_eq!((reached.limit, reached.reached), (4.0, 1.0));
        assert_eq!(reached.ratio, 0.25);
        assert_eq!(reached.items[0].megabytes_per_second, Some(5.0));
        assert_eq!(reached.items[1].latency.unwrap().p99_us, 160.0);
        assert_eq!(reached.items[1].count, 20);
        let json = serde_json::to_value(&reached).unwrap();
        assert_eq!(json["binding"], "disk.append.256KiB");
        assert_eq!(json["measure"], "throughput");
        assert_eq!(json["ratio"], 0.25);
        assert_eq!(json["before"][0]["megabytes_per_second"], 3.0);
    }

    #[test]
    fn a_latency_is_held_against_the_sum_of_medians() {
        let load = load(&["produce"]);
        let report = Report::new(Kind::Produce, &load, &measured());
        let binding = Binding::of(Kind::Produce, &load);
        let append = Probe::Append(AppendSize::Kib4, Ground::Zeroed);
        let figures = |round_trip, disk| {
            vec![
                item(Probe::RoundTrip, None, Some(round_trip)),
                item(append, Some(50.0), Some(disk)),
            ]
        };
        let reached = binding.judge(&report, figures(30.0, 80.0), figures(50.0, 100.0));
        let reached = reached.unwrap();
        assert_eq!(reached.binding, "quic.round_trip.1KiB + disk.append.4KiB");
        assert_eq!(reached.limit, 130.0);
        let median = report.latency().unwrap().p50_us;
        assert!((reached.ratio - median / 130.0).abs() < 1e-9);
    }

    #[test]
    fn a_run_that_measured_nothing_has_no_ratio() {
        let load = load(&["produce"]);
        let mut nothing = measured();
        nothing.tally = crate::measure::Tally::default();
        let report = Report::new(Kind::Produce, &load, &nothing);
        let figures = vec![item(Probe::RoundTrip, None, Some(30.0))];
        let binding = Binding::of(Kind::Produce, &load);
        assert_eq!(binding.judge(&report, figures.clone(), figures), None);
    }
}
