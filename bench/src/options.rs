//! The command line of `millrace-bench`.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Loads a Millrace broker and reports what it did.
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
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
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
