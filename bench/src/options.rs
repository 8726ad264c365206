//! The command line of `millrace-bench`. What a value looks like is in [`values`]; which options
//! go together is in [`check`], and is checked before anything is started.

mod check;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use values::{Bound, Connections, Payload, Setting, SizeRange, Stall};
use values::{bytes, duration};

/// How long a run measures unless it is told.
const DURATION: Duration = Duration::from_secs(10);

/// How long each step of a ramp measures unless it is told.
const STEP_DURATION: Duration = Duration::from_secs(5);

/// How long the load runs before it is measured, unless that is told.
const WARM_UP: Duration = Duration::from_secs(1);

/// Bytes that a topic is filled with unless that is told.
const FILL: u64 = 256 << 20;

/// Bytes that a consumer of the Kafka protocol asks for at a time, unless that is told.
const FETCH: u64 = 1 << 20;

/// Loads a broker, Millrace or any that speaks the Kafka protocol, and reports what it did.
#[derive(Debug, Parser)]
#[command(name = "millrace-bench", version, about, long_about = None)]
pub struct Options {
    /// What to run.
    #[command(subcommand)]
    pub mode: Mode,
}

/// The kinds of load.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Producers send batches; latency is from send (or schedule) to acknowledgement.
    Produce(Load),
    /// Consumers read: a topic that was filled before (`--from beginning`), or what producers
    /// send meanwhile (`--from tail`).
    Consume(Load),
    /// Producers and consumers together; latency is from send (or schedule) to the
    /// consumer's hands, beside that of the acknowledgement.
    E2e(Load),
    /// Producers and consumers at once, each as fast as it can or at its rate; both are reported.
    Mixed(Load),
    /// Measures what this machine can do at most: device, QUIC, checksum, copy and mesh, each alone.
    Limits(LimitsOptions),
    /// Lays the JSON reports of several runs side by side.
    Compare(Compare),
    /// Serves the Kafka protocol and keeps nothing, until a signal: what a client reaches
    /// against it is the client's own limit. With a known delay it checks the bench itself.
    Sink(Sink),
}

/// Where the sink serves, and how slow it is.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sink {
    /// Address to listen on; port 0 for one that is free.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Hold each acknowledgement back for this long.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub delay: Duration,
    /// Acknowledge nothing for LENGTH, once, when AFTER has passed since the first batch.
    #[arg(long, value_name = "AFTER+LENGTH")]
    pub stall: Option<Stall>,
}

/// What of the machine is measured, and for how long.
#[derive(Clone, Debug, Args)]
pub struct LimitsOptions {
    /// Directory on the device to measure. By default that of temporary files.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// How long each item is measured.
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub duration: Duration,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Whether a run measures the limits of the machine too.
#[derive(Clone, Debug, Args)]
pub struct LimitsArgs {
    /// Measure before and after the load what could bind it, and report the ratio to that.
    #[arg(long, conflicts_with = "kafka", help_heading = "Limits")]
    pub limits: bool,
    /// A directory on the device that the broker writes to. By default that of the embedded broker.
    #[arg(long, value_name = "DIR", requires = "limits", help_heading = "Limits")]
    pub limits_dir: Option<PathBuf>,
    /// How long each of them is measured, before and after.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "500ms",
        value_parser = duration,
        help_heading = "Limits"
    )]
    pub limits_duration: Duration,
}

/// Reports to lay side by side.
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// Reports as `--json` printed them; `LABEL=FILE` gives one another name.
    #[arg(required = true)]
    pub reports: Vec<String>,
    /// Write a page with the charts of all of them to this file.
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// How much load, of what shape, on which broker. An option that is not there has no value here
/// where its presence alone may be a mistake; the methods give what is in force.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Start a broker inside this process on a temporary directory. The default.
    #[arg(long, conflicts_with = "broker", help_heading = "Broker")]
    pub embedded: bool,
    /// Load a running broker at this address.
    #[arg(long, env = "MILLRACE_BROKER", help_heading = "Broker")]
    pub broker: Option<SocketAddr>,
    /// Load a running broker of any kind at this address, over the Kafka protocol. Goes before
    /// `--broker`.
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with = "embedded",
        help_heading = "Broker"
    )]
    pub kafka: Option<String>,
    /// Process id of that broker on this machine: its CPU time and memory go into the report.
    #[arg(long, conflicts_with = "embedded", help_heading = "Broker")]
    pub broker_pid: Option<u32>,
    /// The broker's certificate (PEM). Without it the broker is trusted for this run.
    #[arg(long, requires = "broker", help_heading = "Broker")]
    pub ca: Option<PathBuf>,
    /// Shards of the embedded broker.
    #[arg(
        long,
        default_value = "1",
        conflicts_with = "broker",
        help_heading = "Broker"
    )]
    pub shards: std::num::NonZeroU8,
    /// Directory under which the embedded broker makes its temporary one.
    #[arg(long, conflicts_with = "broker", help_heading = "Broker")]
    pub data_dir: Option<PathBuf>,

    /// Topics, which are made for the run and deleted after it.
    #[arg(long, default_value = "1", help_heading = "Topics")]
    pub topics: NonZeroU32,
    /// Partitions of each topic.
    #[arg(long, default_value = "1", help_heading = "Topics")]
    pub partitions: NonZeroU32,
    /// A setting of the topics, by the broker's name for it. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Topics")]
    pub topic_config: Vec<Setting>,
    /// Acknowledge from memory: short for `--topic-config write.caching=true`.
    #[arg(long, help_heading = "Topics")]
    pub write_caching: bool,

    /// Producers, spread over the partitions of all topics. One that has several sends a batch to
    /// each in turn.
    #[arg(long, default_value = "1", help_heading = "Clients")]
    pub producers: NonZeroUsize,
    /// Consumers, spread over the partitions likewise; beyond one a partition they read the same
    /// records. By default one a partition.
    #[arg(long, help_heading = "Clients")]
    pub consumers: Option<NonZeroUsize>,
    /// QUIC connections (to each shard that is needed) that the clients share, or `each` for one
    /// of its own to each client. By default 1.
    #[arg(long, value_name = "NUMBER|each", help_heading = "Clients")]
    pub connections: Option<Connections>,
    /// Threads that all clients share. By default as many as there are cores. With one, nothing of a client's work is
    /// handed from core to core, which is what one record at a time wants.
    #[arg(long, value_name = "NUMBER", help_heading = "Clients")]
    pub client_threads: Option<NonZeroUsize>,
    /// Batches that a producer has in flight at most.
    #[arg(long, default_value = "1", help_heading = "Clients")]
    pub in_flight: NonZeroUsize,
    /// When the broker acknowledges.
    #[arg(long, value_enum, default_value = "all", help_heading = "Clients")]
    pub acks: AcksOption,
    /// With `--kafka`: bytes that a consumer asks for at a time. By default 1MiB.
    #[arg(long, value_parser = bytes, help_heading = "Clients")]
    pub fetch: Option<u64>,
    /// Where consumers start: at what is there already, or at what comes from now on. By default
    /// `consume` starts at the beginning and `mixed` at the tail.
    #[arg(long, value_enum, help_heading = "Clients")]
    pub from: Option<StartFrom>,
    /// Bytes to fill the topics with before consumers read them from the beginning. By default
    /// 256MiB.
    #[arg(long, value_parser = bytes, conflicts_with = "count", help_heading = "Clients")]
    pub fill: Option<u64>,
    /// Start the embedded broker anew after the fill, so that its caches are empty and what is
    /// read comes from the device.
    #[arg(long, conflicts_with_all = ["broker", "kafka"], help_heading = "Clients")]
    pub cold: bool,

    /// Bytes of a record's value: one size, or a range of which each record's is drawn.
    #[arg(
        long = "size",
        visible_alias = "record-size",
        value_name = "BYTES|FROM..TO",
        default_value = "1024",
        help_heading = "Records"
    )]
    pub record_size: SizeRange,
    /// Records in a batch at most. By default 1, or with `--batch-bytes` as many as fit.
    #[arg(long, value_name = "RECORDS", help_heading = "Records")]
    pub batch: Option<NonZeroU32>,
    /// Value bytes in a batch at most.
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Records")]
    pub batch_bytes: Option<u64>,
    /// Open loop: records become due one by one, and a batch waits this long for more of them.
    /// Latency then counts for each record. Without it a batch's records become due together.
    #[arg(long, value_parser = duration, help_heading = "Records")]
    pub linger: Option<Duration>,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value = "none", help_heading = "Records")]
    pub compression: CompressionOption,
    /// What values are made of: `random` bytes, which do not compress, `text`, or the bytes of a
    /// file.
    #[arg(
        long,
        value_name = "random|text|file:PATH",
        default_value = "random",
        help_heading = "Records"
    )]
    pub payload: Payload,

    /// Open loop: records per second over all producers. Latency then counts from the
    /// scheduled time, so a stall is not omitted. Without it the loop is closed.
    #[arg(long, value_name = "RECORDS", help_heading = "Time")]
    pub rate: Option<NonZeroU32>,
    /// Find the highest rate that keeps a latency bound, e.g. `p99=10ms`: open loops one after
    /// the other, the first at `--rate` (or 1,000 records per second).
    #[arg(long, value_name = "QUANTILE=BOUND", help_heading = "Time")]
    pub ramp: Option<Bound>,
    /// How long to measure, after the warm-up. By default 10s; with `--ramp` 5s for each step.
    #[arg(long, value_parser = duration, conflicts_with = "count", help_heading = "Time")]
    pub duration: Option<Duration>,
    /// Measure this many records instead, rounded up to whole batches of each producer.
    #[arg(long, value_name = "RECORDS", help_heading = "Time")]
    pub count: Option<NonZeroU64>,
    /// How long to load before measuring. By default 1s.
    #[arg(long, value_parser = duration, help_heading = "Time")]
    pub warm_up: Option<Duration>,

    /// What the run is held against.
    #[command(flatten)]
    pub limits: LimitsArgs,

    /// Name of the run in charts and tables.
    #[arg(long, help_heading = "Report")]
    pub label: Option<String>,
    /// Print the report as JSON.
    #[arg(long, help_heading = "Report")]
    pub json: bool,
    /// Write the report as a page with charts to this file.
    #[arg(long, help_heading = "Report")]
    pub html: Option<PathBuf>,
    /// Write the distribution of the latency (in `e2e` that to the consumer) to this file, in
    /// the form that HdrHistogram's plotters read.
    #[arg(long, help_heading = "Report")]
    pub hgrm: Option<PathBuf>,
}

impl Load {
    /// The broker that is loaded, and over which protocol.
    #[must_use]
    pub fn target(&self) -> String {
        match (&self.kafka, self.broker) {
            (Some(address), _) => format!("Kafka protocol, {address}"),
            (None, Some(address)) => format!("QUIC, {address}"),
            (None, None) => format!("QUIC, embedded broker, shards: {}", self.shards),
        }
    }

    /// How long the load is measured, unless it ends by a count.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration.unwrap_or(match self.ramp {
            Some(_) => STEP_DURATION,
            None => DURATION,
        })
    }

    /// How long the load runs before it is measured.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        self.warm_up.unwrap_or(WARM_UP)
    }

    /// Partitions of all topics together.
    #[must_use]
    pub fn places(&self) -> usize {
        self.topics.get() as usize * self.partitions.get() as usize
    }

    /// Consumers.
    #[must_use]
    pub fn consumers(&self) -> usize {
        self.consumers.map_or(self.places(), NonZeroUsize::get)
    }

    /// Records in a batch at most; its bytes may allow fewer.
    #[must_use]
    pub fn batch_records(&self) -> u32 {
        let unsaid = match self.batch_bytes {
            Some(_) => u32::MAX,
            None => 1,
        };
        self.batch.map_or(unsaid, NonZeroU32::get)
    }

    /// Bytes that the topics are filled with.
    #[must_use]
    pub fn fill(&self) -> u64 {
        let counted = self
            .count
            .map(|count| count.get() * self.record_size.mean());
        self.fill.or(counted).unwrap_or(FILL)
    }

    /// Bytes that a consumer of the Kafka protocol asks for at a time.
    #[must_use]
    pub fn fetch(&self) -> u64 {
        self.fetch.unwrap_or(FETCH)
    }

    /// The settings of the topics.
    #[must_use]
    pub fn topic_settings(&self) -> Vec<(&str, &str)> {
        let caching = self.write_caching.then_some(("write.caching", "true"));
        let settings = self.topic_config.iter();
        settings
            .map(|Setting { name, value }| (name.as_str(), value.as_str()))
            .chain(caching)
            .collect()
    }

    /// Every option that shapes the load, by name.
    #[must_use]
    pub fn describe(&self) -> BTreeMap<String, String> {
        let mut options = vec![
            ("broker", self.target()),
            ("topics", self.topics.to_string()),
            ("partitions", self.partitions.to_string()),
            ("producers", self.producers.to_string()),
            ("consumers", self.consumers().to_string()),
            ("record size", self.record_size.to_string()),
            ("batches in flight", self.in_flight.to_string()),
            ("acks", named(&self.acks)),
            ("write caching", self.write_caching.to_string()),
            ("compression", named(&self.compression)),
            ("payload", self.payload.to_string()),
            ("warm-up", format!("{:?}", self.warm_up())),
        ];
        if self.batch.is_some() || self.batch_bytes.is_none() {
            options.push(("records in a batch", self.batch_records().to_string()));
        }
        match self.count {
            Some(count) => options.push(("count", count.to_string())),
            None => options.push(("duration", format!("{:?}", self.duration()))),
        }
        if self.cold {
            options.push(("caches", "empty: the broker was started anew".to_owned()));
        }
        let settings = self.topic_settings().into_iter();
        let settings: Vec<_> = settings.map(|(name, of)| format!("{name}={of}")).collect();
        if !settings.is_empty() {
            options.push(("topic settings", settings.join(", ")));
        }
        let given = [
            (
                "bytes in a batch",
                self.batch_bytes.map(|of| of.to_string()),
            ),
            ("linger", self.linger.map(|of| format!("{of:?}"))),
            ("connections", self.connections.map(|of| of.to_string())),
            ("from", self.from.map(|of| named(&of))),
            ("bytes to fill with", self.fill.map(|of| of.to_string())),
            ("bytes in a fetch", self.fetch.map(|of| of.to_string())),
            ("rate, records/s", self.rate.map(|of| of.to_string())),
        ];
        let given = given.into_iter().filter_map(|(name, of)| Some((name, of?)));
        let options = options.into_iter().chain(given);
        let owned = options.map(|(name, of)| (name.to_owned(), of));
        owned.collect()
    }
}

/// The value as it is written on the command line.
fn named(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// When the broker acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcksOption {
    /// Never.
    #[value(name = "0")]
    None,
    /// After the leader has it.
    #[value(name = "1")]
    Leader,
    /// After all in-sync replicas have it.
    All,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompressionOption {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Where consumers start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartFrom {
    /// At what is there already.
    Beginning,
    /// At what comes from now on.
    Tail,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}
