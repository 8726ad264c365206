//! What a run found, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_latency::Document;
use serde::{Deserialize, Serialize};

use crate::limits::Reached;
use crate::measure::{Latencies, Lost, Series, Tally, Track};
use crate::options::{Load, StartFrom};
use crate::ramp::Ramp;
use crate::stages::Breakdown;
use crate::usage::{Place, Usage};

/// Steps of a distribution for each halving of the distance to 100 %: enough for a smooth
/// line.
const STEPS_PER_HALF: u32 = 8;

/// What was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Producers only.
    Produce,
    /// Consumers of a filled topic.
    Consume,
    /// Producers and consumers together, and the way from the one to the other.
    E2e,
    /// Producers and consumers at once.
    Mixed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::E2e => "e2e",
            Self::Mixed => "mixed",
        })
    }
}

/// What all clients did together, and what it took.
#[derive(Debug)]
pub struct Measured {
    /// What was counted.
    pub tally: Tally,
    /// Wall time of the measurement.
    pub wall: Duration,
    /// CPU and memory in that time.
    pub usage: Usage,
    /// The broker's own histograms of that time, if it has any.
    pub stages: Option<Document>,
}

/// A run's report. The JSON has the fields as they are here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What was run.
    pub mode: Kind,
    /// The name of the run in charts and tables.
    pub label: String,
    /// `closed` or `open`.
    pub loop_kind: String,
    /// Records per second that were asked for in an open loop.
    pub target_rate: Option<u32>,
    /// Records per second that were acknowledged while an open loop was measured, whenever they
    /// were due. With a rate that is too high the warm-up has left a queue, and what is counted
    /// had to wait behind it.
    #[serde(default)]
    pub achieved_rate: Option<f64>,
    /// Wall time of the measurement, in seconds.
    pub seconds: f64,
    /// Records acknowledged (or read) in that time.
    pub records: u64,
    /// Value bytes of those records.
    pub bytes: u64,
    /// Records over wall time.
    pub records_per_second: f64,
    /// Value bytes over wall time, in units of 1,000,000.
    pub megabytes_per_second: f64,
    /// From send (or schedule) to acknowledgement.
    pub ack_latency: Option<Summary>,
    /// From send (or schedule) to the consumer.
    pub end_to_end_latency: Option<Summary>,
    /// What producers had acknowledged, where there are any.
    #[serde(default)]
    pub produced: Option<Throughput>,
    /// What consumers read, where there are any.
    #[serde(default)]
    pub consumed: Option<Throughput>,
    /// Records that did not get where they should.
    #[serde(default)]
    pub lost: Lost,
    /// The rates that a ramp tried; the rest of the report is of one of them.
    #[serde(default)]
    pub ramp: Option<Ramp>,
    /// What the machine could do at most, and how near the run came, where that was asked for.
    #[serde(default)]
    pub limits: Option<Reached>,
    /// Acknowledgements by the second, by when their batches were due.
    pub ack_series: Vec<Point>,
    /// Deliveries by the second, by when their batches were due; in `consume` by when they
    /// were read.
    pub delivered_series: Vec<Point>,
    /// CPU and memory.
    pub usage: Usage,
    /// CPU-seconds of the broker for 1,000,000,000 value bytes, if it runs here. That of an
    /// embedded broker has the load in it.
    pub broker_cpu_seconds_per_gb: Option<f64>,
    /// Where the time went inside the broker, if it tells.
    #[serde(default)]
    pub broker: Option<Breakdown>,
    /// The load, option by option.
    pub load: BTreeMap<String, String>,
    /// The machine and the program.
    pub place: Place,
    /// When the report was made, in seconds since 1970.
    pub made_at: u64,
    /// Batches refused or lost, by reason.
    pub errors: BTreeMap<String, u64>,
}

/// What passed one point, over the wall time of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Records.
    pub records: u64,
    /// Their value bytes.
    pub bytes: u64,
    /// Records over wall time.
    pub records_per_second: f64,
    /// Value bytes over wall time, in units of 1,000,000.
    pub megabytes_per_second: f64,
}

impl Throughput {
    fn new(track: &Track, seconds: f64) -> Option<Self> {
        (track.records > 0).then(|| Self {
            records: track.records,
            bytes: track.bytes,
            records_per_second: per(track.records as f64, seconds),
            megabytes_per_second: per(track.bytes as f64 / 1e6, seconds),
        })
    }
}

/// A rate; nothing in no time is none.
fn per(what: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { what / seconds } else { 0.0 }
}

/// Latencies of one kind, in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// How many were measured.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Their standard deviation.
    pub stddev_us: f64,
    /// The shortest.
    pub min_us: f64,
    /// The median.
    pub p50_us: f64,
    /// The 90th percentile.
    pub p90_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p99_9_us: f64,
    /// The 99.99th percentile.
    pub p99_99_us: f64,
    /// The longest.
    pub max_us: f64,
    /// The whole distribution, in steps that get finer towards 100 %.
    pub distribution: Vec<Step>,
}

/// A step of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The quantile, from 0 to 1.
    pub quantile: f64,
    /// The latency there, in microseconds.
    pub us: f64,
    /// How many latencies are not above it.
    pub count: u64,
}

/// A stretch of the measured time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds from the start of the measurement.
    pub at: f64,
    /// How long the stretch is, in seconds; the last one may be shorter than the others.
    pub seconds: f64,
    /// Records of that time.
    pub records: u64,
    /// Their value bytes.
    pub bytes: u64,
    /// The median latency, if any was measured.
    pub p50_us: Option<f64>,
    /// The 99th percentile.
    pub p99_us: Option<f64>,
    /// The longest.
    pub max_us: Option<f64>,
}

impl Report {
    /// The report of what was measured.
    #[must_use]
    pub fn new(mode: Kind, load: &Load, measured: &Measured) -> Self {
        let Measured {
            tally,
            wall,
            usage,
            stages,
        } = measured;
        let seconds = wall.as_secs_f64();
        let counted = match mode {
            Kind::Produce | Kind::E2e | Kind::Mixed => &tally.acked,
            Kind::Consume => &tally.delivered,
        };
        let summary = |latencies: &Latencies| (latencies.count() > 0).then(|| latencies.into());
        let paced = mode != Kind::Consume || load.start(mode) == StartFrom::Tail;
        let target_rate = load.rate.filter(|_| paced).map(Into::into);
        // A run that ends by a count, or with the broker, has no other time than it took.
        let window = match load.count.is_some() || tally.lost.broken_at.is_some() {
            true => seconds,
            false => load.duration().as_secs_f64(),
        };
        let achieved = match mode {
            Kind::Consume => per(counted.records as f64, seconds),
            _ => per(tally.acked.arrived as f64, window),
        };
        let achieved = target_rate.map(|_: u32| achieved);
        let gigabytes = counted.bytes as f64 / 1e9;
        let per_gigabyte = |broker: crate::usage::BrokerUsage| broker.cpu_seconds / gigabytes;
        let described = load.describe();
        Self {
            mode,
            label: load
                .label
                .clone()
                .unwrap_or_else(|| format!("{mode}, {}", load.target())),
            loop_kind: if target_rate.is_some() {
                "open"
            } else {
                "closed"
            }
            .to_owned(),
            target_rate,
            achieved_rate: achieved,
            seconds,
            records: counted.records,
            bytes: counted.bytes,
            records_per_second: per(counted.records as f64, seconds),
            megabytes_per_second: per(counted.bytes as f64 / 1e6, seconds),
            ack_latency: summary(&tally.acked.latencies),
            end_to_end_latency: summary(&tally.delivered.latencies),
            produced: Throughput::new(&tally.acked, seconds),
            consumed: Throughput::new(&tally.delivered, seconds),
            lost: tally.lost,
            ramp: None,
            limits: None,
            ack_series: points(&tally.acked.series, *wall),
            delivered_series: points(&tally.delivered.series, *wall),
            usage: *usage,
            broker_cpu_seconds_per_gb: usage.broker.filter(|_| counted.bytes > 0).map(per_gigabyte),
            broker: stages.as_ref().map(Breakdown::from),
            load: described,
            place: Place::here(),
            made_at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
            errors: tally.errors.clone(),
        }
    }

    /// Whether an open loop fell short of its rate by more than 5 %.
    #[must_use]
    pub fn fell_short(&self) -> bool {
        self.target_rate
            .is_some_and(|rate| self.records_per_second < f64::from(rate) * 0.95)
    }

    /// Whether the run did what it was to do: no errors, nothing lost, the rate reached and, in a
    /// ramp, the bound kept by some rate.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let kept = self.ramp.as_ref().is_none_or(|of| of.highest.is_some());
        self.errors.is_empty() && self.lost.is_none() && !self.fell_short() && kept
    }

    /// The latency that the run is about: to the consumer where that was measured.
    #[must_use]
    pub fn latency(&self) -> Option<&Summary> {
        self.end_to_end_latency
            .as_ref()
            .or(self.ack_latency.as_ref())
    }

    /// What happened by the second, of the same point as [`Self::latency`].
    #[must_use]
    pub fn series(&self) -> &[Point] {
        match self.mode {
            Kind::Produce | Kind::Mixed => &self.ack_series,
            Kind::Consume | Kind::E2e => &self.delivered_series,
        }
    }
}

impl From<&Latencies> for Summary {
    fn from(latencies: &Latencies) -> Self {
        let histogram = latencies.histogram();
        let micros = |quantile| as_micros(latencies.quantile(quantile));
        let max_us = as_micros(latencies.max());
        let mut count = 0;
        let steps = histogram.iter_quantiles(STEPS_PER_HALF).map(|step| {
            count += step.count_since_last_iteration();
            Step {
                quantile: step.quantile_iterated_to(),
                us: (step.value_iterated_to() as f64 / 1e3).min(max_us),
                count,
            }
        });
        Self {
            count: latencies.count(),
            mean_us: histogram.mean() / 1e3,
            stddev_us: histogram.stdev() / 1e3,
            min_us: histogram.min() as f64 / 1e3,
            p50_us: micros(0.5),
            p90_us: micros(0.9),
            p99_us: micros(0.99),
            p99_9_us: micros(0.999),
            p99_99_us: micros(0.9999),
            max_us,
            distribution: steps.collect(),
        }
    }
}

fn points(series: &Series, wall: Duration) -> Vec<Point> {
    let width = series.width().as_secs_f64();
    let buckets = series.buckets().iter().enumerate();
    let points = buckets.map(|(index, bucket)| {
        let at = index as f64 * width;
        let rest = wall.as_secs_f64() - at;
        Point {
            at,
            seconds: if rest > 0.0 { rest.min(width) } else { width },
            records: bucket.records,
            bytes: bucket.bytes,
            p50_us: bucket.quantile(0.5).map(as_micros),
            p99_us: bucket.quantile(0.99).map(as_micros),
            max_us: bucket.max().map(as_micros),
        }
    });
    points.collect()
}

fn as_micros(latency: Duration) -> f64 {
    latency.as_nanos() as f64 / 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({} loop), {:.1} s",
            self.mode, self.loop_kind, self.seconds
        )?;
        let mut of_what = "";
        if let (true, Some(rate)) = (self.fell_short(), self.target_rate) {
            let reached = self.achieved_rate.unwrap_or(self.records_per_second);
            let percent = 100.0 * reached / f64::from(rate);
            writeln!(
                f,
                "  the rate of {rate} records/s was NOT reached: {reached:.0} records/s were, {percent:.0} %"
            )?;
            of_what = " of what was due in this time";
        }
        writeln!(
            f,
            "  {:.0} records/s, {:.1} MB/s ({} records){of_what}",
            self.records_per_second, self.megabytes_per_second, self.records
        )?;
        self.write_both_ways(f)?;
        write_lost(f, &self.lost)?;
        for (what, summary) in [
            ("ack", &self.ack_latency),
            ("end to end", &self.end_to_end_latency),
        ] {
            if let Some(summary) = summary {
                write!(f, "  {what:<11}{summary}")?;
            }
        }
        if let Some(limits) = &self.limits {
            write!(f, "{limits}")?;
        }
        if let Some(broker) = &self.broker {
            let client = self.ack_latency.as_ref().map(|summary| summary.p50_us);
            broker.write(f, client)?;
        }
        write_usage(f, &self.usage, self.broker_cpu_seconds_per_gb)?;
        writeln!(f, "  on {}", self.place)?;
        if let Some(ramp) = &self.ramp {
            write_ramp(f, ramp)?;
        }
        for (reason, count) in &self.errors {
            writeln!(f, "  {count} x {reason}")?;
        }
        Ok(())
    }
}

impl Report {
    /// The two sides of a load that has both, where they may differ.
    fn write_both_ways(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(produced), Some(consumed)) = (&self.produced, &self.consumed) else {
            return Ok(());
        };
        if self.mode == Kind::E2e && produced.records == consumed.records {
            return Ok(());
        }
        for (what, of) in [("produced", produced), ("consumed", consumed)] {
            writeln!(
                f,
                "  {what}: {:.0} records/s, {:.1} MB/s ({} records)",
                of.records_per_second, of.megabytes_per_second, of.records
            )?;
        }
        Ok(())
    }
}

fn write_lost(f: &mut fmt::Formatter<'_>, lost: &Lost) -> fmt::Result {
    if let Some(at) = lost.broken_at {
        match at < 0.0 {
            true => writeln!(f, "  the BROKER WAS LOST in the warm-up")?,
            false => writeln!(
                f,
                "  the BROKER WAS LOST: its last answer came after {:.1} s, the connection broke after {at:.1} s",
                lost.last_answer_at.unwrap_or_default()
            )?,
        }
    }
    let waited = match lost.broken_at {
        Some(_) => "",
        None => "; their latency counts as the time that they waited",
    };
    for (records, what, more) in [
        (lost.unanswered, "sent and never acknowledged", waited),
        (lost.unsent, "due and never sent", waited),
        (lost.undelivered, "not delivered", ""),
    ] {
        if records > 0 {
            writeln!(f, "  LOST: {records} records were {what}{more}")?;
        }
    }
    Ok(())
}

fn write_ramp(f: &mut fmt::Formatter<'_>, ramp: &Ramp) -> fmt::Result {
    let bound = &ramp.bound;
    match ramp.highest {
        Some(rate) => writeln!(
            f,
            "  {rate} records/s is the highest rate that kept {bound}"
        )?,
        None => writeln!(f, "  NO rate kept {bound}")?,
    }
    let quantile = bound.split('=').next().unwrap_or_default();
    for step in &ramp.steps {
        writeln!(f, "{}", step.line(quantile))?;
    }
    Ok(())
}

fn write_usage(
    f: &mut fmt::Formatter<'_>,
    usage: &Usage,
    per_gigabyte: Option<f64>,
) -> fmt::Result {
    if let Some(broker) = &usage.broker {
        let whose = if broker.embedded {
            "broker and load"
        } else {
            "broker"
        };
        write!(f, "  {whose}: {:.2} CPU-s", broker.cpu_seconds)?;
        if let Some(per_gigabyte) = per_gigabyte {
            write!(f, " ({per_gigabyte:.2} per GB)")?;
        }
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            ", {:.1} MiB resident, {:.1} MiB at its peak",
            mebibytes(broker.resident_bytes),
            mebibytes(broker.peak_resident_bytes)
        )?;
    }
    write!(f, "  ")?;
    if usage.broker.is_none_or(|broker| !broker.embedded) {
        write!(f, "load: {:.2} CPU-s, ", usage.load_cpu_seconds)?;
    }
    write!(f, "all else: {:.2} CPU-s", usage.other_cpu_seconds)?;
    if usage.stolen_cpu_seconds > 0.0 {
        write!(f, ", stolen: {:.2} CPU-s", usage.stolen_cpu_seconds)?;
    }
    writeln!(f)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "us: min {:.0}  p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  p99.99 {:.0}  max {:.0}  mean {:.0}",
            self.min_us,
            self.p50_us,
            self.p90_us,
            self.p99_us,
            self.p99_9_us,
            self.p99_99_us,
            self.max_us,
            self.mean_us
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::options::{Mode, Options};
    use crate::usage::BrokerUsage;

    /// A load from a command line.
    pub(crate) fn load(arguments: &[&str]) -> Load {
        use clap::Parser;
        let arguments = ["millrace-bench"].iter().chain(arguments);
        match Options::try_parse_from(arguments)
            .expect("a valid command line")
            .mode
        {
            Mode::Produce(load) | Mode::Consume(load) | Mode::E2e(load) | Mode::Mixed(load) => load,
            Mode::Compare(_) | Mode::Limits(_) | Mode::Sink(_) => panic!("not a load"),
        }
    }

    /// What a run of three and a half seconds could have measured: a batch of ten records of
    /// 100 bytes each millisecond, each a microsecond slower than the one before.
    pub(crate) fn measured() -> Measured {
        let mut tally = Tally::default();
        for batch in 0..3_500 {
            let due = Duration::from_millis(batch);
            let latency = Duration::from_micros(1 + batch);
            tally.acked.count(due, 10, 1_000, Some(latency));
        }
        let usage = Usage {
            seconds: 3.5,
            broker: Some(BrokerUsage {
                embedded: false,
                cpu_seconds: 0.7,
                resident_bytes: 20 << 20,
                peak_resident_bytes: 30 << 20,
            }),
            load_cpu_seconds: 0.5,
            other_cpu_seconds: 0.25,
            stolen_cpu_seconds: 0.0,
        };
        Measured {
            tally,
            wall: Duration::from_millis(3_500),
            usage,
            stages: Some(crate::stages::tests::document()),
        }
    }

    #[test]
    fn a_rate_that_was_not_reached_is_said() {
        let load = load(&["produce", "--rate", "10600"]);
        let report = Report::new(Kind::Produce, &load, &measured());
        assert!(report.to_string().contains("NOT reached"));
        let load = self::load(&["produce", "--rate", "10400"]);
        let report = Report::new(Kind::Produce, &load, &measured());
        assert!(!report.fell_short());
    }

    #[test]
    fn throughput_is_bytes_over_wall_time() {
        let report = Report::new(Kind::Produce, &load(&["produce"]), &measured());
        assert_eq!(report.records, 35_000);
        assert_eq!(report.records_per_second, 10_000.0);
        assert_eq!(report.megabytes_per_second, 1.0);
        let per_gigabyte = report.broker_cpu_seconds_per_gb.expect("a broker ran here");
        assert!((per_gigabyte - 200.0).abs() < 1e-9, "{per_gigabyte}");
        assert!(report.to_string().contains("0.70 CPU-s (200.00 per GB)"));
    }

    #[test]
    fn the_last_point_of_a_series_covers_what_is_left() {
        let report = Report::new(Kind::Produce, &load(&["produce"]), &measured());
        let lengths: Vec<f64> = report.series().iter().map(|point| point.seconds).collect();
        assert_eq!(lengths, [1.0, 1.0, 1.0, 0.5]);
        let records: u64 = report.series().iter().map(|point| point.records).sum();
        assert_eq!(records, report.records);
        let max = report.series()[1].max_us.expect("latencies were measured");
        assert_eq!(max, 2_000.0);
    }

    #[test]
    fn the_distribution_is_whole_and_rises() {
        let report = Report::new(Kind::Produce, &load(&["produce"]), &measured());
        let summary = report.latency().expect("latencies were measured");
        let steps = &summary.distribution;
        assert!(steps.is_sorted_by(|a, b| a.quantile <= b.quantile && a.us <= b.us));
        let last = steps.last().expect("there are steps");
        assert_eq!((last.quantile, last.count), (1.0, 3_500));
        assert_eq!(last.us, summary.max_us);
        let half = steps.iter().find(|step| step.quantile >= 0.5);
        let half = half.expect("the steps reach 1").us;
        assert!((half / 1_750.0 - 1.0).abs() < 0.01, "{half}");
    }

    #[test]
    fn json_brings_the_same_report_back() {
        let report = Report::new(Kind::Produce, &load(&["produce"]), &measured());
        let json = serde_json::to_string(&report).expect("a report is JSON");
        let again: Report = serde_json::from_str(&json).expect("and back");
        assert_eq!(again.to_string(), report.to_string());
        assert_eq!(again.ack_series, report.ack_series);
    }
}
