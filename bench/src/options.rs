//! The command line of `millrace-bench`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Fills a topic, then reads it back with one consumer a partition.
    Consume(Load),
    /// Producers and consumers together; latency is from send (or schedule) to the
    /// consumer's hands, beside that of the acknowledgement.
    E2e(Load),
    /// Lays the JSON reports of several runs side by side.
    Compare(Compare),
    /// Serves the Kafka protocol and keeps nothing, until a signal: what a client reaches
    /// against it is the client's own limit.
    Sink(Sink),
}

/// Where the sink serves.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sink {
    /// Address to listen on; port 0 for one that is free.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
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

/// How much load, of what shape, on which broker.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Start a broker inside this process on a temporary directory. The default.
    #[arg(long, conflicts_with = "broker")]
    pub embedded: bool,
    /// Load a running broker at this address.
    #[arg(long, env = "MILLRACE_BROKER")]
    pub broker: Option<SocketAddr>,
    /// Load a running broker of any kind at this address, over the Kafka protocol. Goes before
    /// `--broker`.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "embedded")]
    pub kafka: Option<String>,
    /// Process id of that broker on this machine: its CPU time and memory go into the report.
    #[arg(long, conflicts_with = "embedded")]
    pub broker_pid: Option<u32>,
    /// The broker's certificate (PEM). Without it the broker is trusted for this run.
    #[arg(long, requires = "broker")]
    pub ca: Option<PathBuf>,
    /// Shards of the embedded broker.
    #[arg(long, default_value = "1", conflicts_with = "broker")]
    pub shards: std::num::NonZeroU8,
    /// Directory under which the embedded broker makes its temporary one.
    #[arg(long, conflicts_with = "broker")]
    pub data_dir: Option<PathBuf>,
    /// Partitions of the topic, which is made for the run and deleted after it.
    #[arg(long, default_value = "1")]
    pub partitions: NonZeroU32,
    /// Producers, spread over the partitions.
    #[arg(long, default_value = "1")]
    pub producers: NonZeroUsize,
    /// Bytes of a record's value.
    #[arg(long, default_value = "1024")]
    pub record_size: NonZeroUsize,
    /// Records in a batch.
    #[arg(long, default_value = "1")]
    pub batch: NonZeroU32,
    /// Batches that a producer has in flight at most.
    #[arg(long, default_value = "1")]
    pub in_flight: NonZeroUsize,
    /// When the broker acknowledges.
    #[arg(long, value_enum, default_value = "all")]
    pub acks: AcksOption,
    /// Acknowledge from memory (`write.caching=true` on the topic).
    #[arg(long)]
    pub write_caching: bool,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value = "none")]
    pub compression: CompressionOption,
    /// What values are made of.
    #[arg(long, value_enum, default_value = "random")]
    pub payload: Payload,
    /// Open loop: records per second over all producers. Latency then counts from the
    /// scheduled time, so a stall is not omitted. Without it the loop is closed.
    #[arg(long)]
    pub rate: Option<NonZeroU32>,
    /// How long to measure, after the warm-up.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// How long to load before measuring.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warm_up: Duration,
    /// `consume`: bytes to fill the topic with before reading.
    #[arg(long, default_value = "256MiB", value_parser = bytes)]
    pub fill: u64,
    /// With `--kafka`: bytes that a consumer asks for at a time.
    #[arg(long, default_value = "1MiB", value_parser = bytes)]
    pub fetch: u64,
    /// Name of the run in charts and tables.
    #[arg(long)]
    pub label: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the report as a page with charts to this file.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Write the distribution of the latency (in `e2e` that to the consumer) to this file, in
    /// the form that HdrHistogram's plotters read.
    #[arg(long)]
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

    /// Every option that shapes the load, by name.
    #[must_use]
    pub fn describe(&self) -> BTreeMap<String, String> {
        let mut options = vec![
            ("broker", self.target()),
            ("partitions", self.partitions.to_string()),
            ("producers", self.producers.to_string()),
            ("record size", self.record_size.to_string()),
            ("records in a batch", self.batch.to_string()),
            ("batches in flight", self.in_flight.to_string()),
            ("acks", named(&self.acks)),
            ("write caching", self.write_caching.to_string()),
            ("compression", named(&self.compression)),
            ("payload", named(&self.payload)),
            ("duration", format!("{:?}", self.duration)),
            ("warm-up", format!("{:?}", self.warm_up)),
            ("bytes to fill with", self.fill.to_string()),
            ("bytes in a fetch", self.fetch.to_string()),
        ];
        if let Some(rate) = self.rate {
            options.push(("rate, records/s", rate.to_string()));
        }
        let owned = options.into_iter().map(|(name, of)| (name.to_owned(), of));
        owned.collect()
    }
}

/// The value as it is written on the command line.
fn named(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// When the broker acknowledges.
#[derive(Clone, Copy, Debug, ValueEnum)]
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

/// What values are made of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Payload {
    /// Bytes that do not compress.
    Random,
    /// Words, which do.
    Text,
}

/// `250ms`, `10s`, `5m`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a duration"))?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        unit => return Err(format!("{unit:?} is not ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// `4096`, `64KiB`, `256MiB`, `10GiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a size"))?;
    let shift = match &text[digits.len()..] {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => return Err(format!("{unit:?} is not KiB, MiB or GiB")),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(duration("2 fortnights").is_err());
        assert!(duration("-1s").is_err());
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert!(bytes("2GB").is_err());
        assert!(bytes("99999999999GiB").is_err());
    }
}
