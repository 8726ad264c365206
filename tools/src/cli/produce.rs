//! `millctl produce`: the lines of standard input as records.
//!
//! Lines come in blocks from a thread of their own ([`super::lines`]) and go to the producer
//! one after the other, which batches them; their deliveries are awaited in order, so that
//! the first record that was refused is named by its line.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_client::{
    Acks, Client, Compression, Delivery, PartitionId, Producer, ProducerOptions, ProducerRecord,
    RecordHeader,
};
use serde::Serialize;

use super::connect::failure;
use super::exit::{Exit, Failure};
use super::interrupt::Interrupt;
use super::lines::{self, Block, LineError};
use super::output::{Output, json, note};
use super::topic;

/// Deliveries that may be outstanding. The producer's own buffer is bounded in bytes; this
/// bounds what short lines cost beside their bytes.
const MAX_DELIVERIES: usize = 256 << 10;

#[derive(Debug, Args)]
pub(super) struct Produce {
    /// The topic.
    topic: String,
    /// Split each line into key and value at the first of these.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// A header for every record. Repeatable, in order.
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Send all records to this partition, instead of by key, or by turns without one.
    #[arg(long)]
    partition: Option<u32>,
    /// Compress batches: none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value_t = Compression::None)]
    compression: Compression,
    /// When a record counts as sent: 0 at once, 1 when the leader has it, all when all
    /// in-sync replicas have it.
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    acks: Acks,
    /// Send a batch when it has this many bytes.
    #[arg(long, value_name = "BYTES")]
    batch_bytes: Option<usize>,
    /// Wait this long for a batch to fill.
    #[arg(long, value_name = "MS")]
    linger: Option<u64>,
    /// Do without the sequence numbers by which the broker drops what was sent twice.
    #[arg(long)]
    no_idempotence: bool,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    records: u64,
    bytes: u64,
    seconds: f64,
    mb_per_second: f64,
}

struct Sending<'a> {
    produce: &'a Produce,
    producer: Producer,
    headers: Vec<RecordHeader>,
    deliveries: VecDeque<(u64, Delivery)>,
    bytes: u64,
    acknowledged: u64,
    progress: ProgressBar,
}

pub(super) async fn run(client: &Client, produce: Produce, output: &Output) -> Result<(), Failure> {
    let topic = topic::find(client, &produce.topic).await?;
    if let Some(partition) = produce.partition {
        topic::log_of(&topic, partition)?;
    }
    let producer = client
        .producer(produce.options())
        .await
        .map_err(|error| failure(&error))?;
    let started = Instant::now();
    let mut sending = Sending::new(&produce, producer);
    let outcome = sending.send_all(topic.max_message_bytes as usize).await;
    sending.progress.finish_and_clear();
    let report = sending.report(started.elapsed());
    if outcome.is_ok() || report.records > 0 {
        note(&report.text());
    }
    outcome?;
    if output.is_json() {
        output.bytes(format!("{}\n", json(&report)).as_bytes())
    } else {
        Ok(())
    }
}

impl Produce {
    fn options(&self) -> ProducerOptions {
        let mut options = ProducerOptions::new(&self.topic);
        options.compression = self.compression;
        options.acks = self.acks;
        options.idempotent = !self.no_idempotence && self.acks != Acks::None;
        if let Some(bytes) = self.batch_bytes {
            options.batch_bytes = bytes;
        }
        if let Some(ms) = self.linger {
            options.linger = Duration::from_millis(ms);
        }
        options
    }
}

impl<'a> Sending<'a> {
    fn new(produce: &'a Produce, producer: Producer) -> Self {
        let header = |(key, value): &(String, String)| RecordHeader {
            key: Bytes::from(key.clone()),
            value: Some(Bytes::from(value.clone())),
        };
        Self {
            produce,
            producer,
            headers: produce.headers.iter().map(header).collect(),
            deliveries: VecDeque::new(),
            bytes: 0,
            acknowledged: 0,
            progress: progress(),
        }
    }

    /// Sends every line and awaits every delivery; after an error or Ctrl-C, those of the
    /// lines before.
    async fn send_all(&mut self, max_line_len: usize) -> Result<(), Failure> {
        let sent = self.send_lines(max_line_len).await;
        self.producer.flush().await;
        let mut delivered = Ok(());
        while !self.deliveries.is_empty() {
            let next = next_delivered(&mut self.deliveries).await;
            delivered = delivered.and(self.delivered(next));
        }
        sent.and(delivered)
    }

    async fn send_lines(&mut self, max_line_len: usize) -> Result<(), Failure> {
        let interrupt = Interrupt::listen();
        let mut blocks = lines::read_in_background(io::stdin(), max_line_len)
            .map_err(|error| line_failure(&LineError::Read(error), max_line_len))?;
        loop {
            let block = tokio::select! {
                block = blocks.recv() => block,
                delivered = next_delivered(&mut self.deliveries) => {
                    self.delivered(delivered)?;
                    continue;
                }
                () = interrupt.pressed() => return Err(Failure::interrupted()),
            };
            match block {
                Some(Ok(block)) => self.send_block(&block).await?,
                Some(Err(error)) => return Err(line_failure(&error, max_line_len)),
                None => return Ok(()),
            }
        }
    }

    async fn send_block(&mut self, block: &Block) -> Result<(), Failure> {
        for (line, bytes) in block.lines() {
            let record = self.record(line, bytes)?;
            self.bytes += record.value.as_ref().map_or(0, Bytes::len) as u64
                + record.key.as_ref().map_or(0, Bytes::len) as u64;
            let sent = self.producer.send(record).await;
            let delivery = sent.map_err(|error| at_line(line, failure(&error)))?;
            self.deliveries.push_back((line, delivery));
            if self.deliveries.len() >= MAX_DELIVERIES {
                let delivered = next_delivered(&mut self.deliveries).await;
                self.delivered(delivered)?;
            }
        }
        self.progress.set_position(self.bytes);
        Ok(())
    }

    fn record(&self, line: u64, bytes: Bytes) -> Result<ProducerRecord, Failure> {
        let (key, value) = match &self.produce.key_separator {
            None => (None, bytes),
            Some(separator) => {
                let (key, value) = split_key(&bytes, separator.as_bytes()).ok_or_else(|| {
                    let what = format!("it has no key separator '{separator}'");
                    at_line(line, Failure::new(Exit::Other, what))
                })?;
                (Some(key), value)
            }
        };
        Ok(ProducerRecord {
            partition: self.produce.partition.map(PartitionId),
            key,
            value: Some(value),
            headers: self.headers.clone(),
            timestamp: None,
        })
    }

    fn delivered(&mut self, (line, outcome): (u64, Result<(), Failure>)) -> Result<(), Failure> {
        outcome.map_err(|failure| at_line(line, failure))?;
        self.acknowledged += 1;
        Ok(())
    }

    fn report(&self, elapsed: Duration) -> Report {
        let seconds = elapsed.as_secs_f64();
        let mb_per_second = self.bytes as f64 / 1e6 / seconds.max(f64::MIN_POSITIVE);
        Report {
            records: self.acknowledged,
            bytes: self.bytes,
            seconds,
            mb_per_second,
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let plural = if self.records == 1 { "" } else { "s" };
        format!(
            "{} record{plural}, {:.1} MB in {:.2} s: {:.1} MB/s",
            self.records,
            self.bytes as f64 / 1e6,
            self.seconds,
            self.mb_per_second
        )
    }
}

/// Takes the first delivery off the queue when it is there; never ready on an empty queue.
async fn next_delivered(deliveries: &mut VecDeque<(u64, Delivery)>) -> (u64, Result<(), Failure>) {
    let Some((line, delivery)) = deliveries.front_mut() else {
        return std::future::pending().await;
    };
    let line = *line;
    let outcome = delivery.await;
    deliveries.pop_front();
    (line, outcome.map(|_| ()).map_err(|error| failure(&error)))
}

fn split_key(line: &Bytes, separator: &[u8]) -> Option<(Bytes, Bytes)> {
    let at = memchr::memmem::find(line, separator)?;
    Some((line.slice(..at), line.slice(at + separator.len()..)))
}

fn at_line(line: u64, failure: Failure) -> Failure {
    Failure::new(failure.exit, format!("line {line}: {}", failure.message))
}

fn line_failure(error: &LineError, max_line_len: usize) -> Failure {
    match error {
        LineError::Read(error) => Failure::new(
            Exit::Other,
            format!("standard input cannot be read: {error}"),
        ),
        LineError::TooLong { line } => Failure::new(
            Exit::Refused,
            format!(
                "line {line} is longer than the topic's max.message.bytes, {max_line_len}; \
                 lines before it were sent; `millctl topic alter` can raise the limit"
            ),
        ),
    }
}

/// Progress on standard error when that is a terminal: of how much, when it can be known.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let total = std::fs::metadata("/dev/stdin")
        .ok()
        .filter(std::fs::Metadata::is_file);
    let (bar, template) = match total {
        Some(file) => (
            ProgressBar::new(file.len()),
            "{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes} {binary_bytes_per_sec}",
        ),
    };
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.expect("the template is a constant and has been tried"))
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    parts
        .map(|(key, value)| (key.into(), value.into()))
        .ok_or_else(|| "a header is written KEY=VALUE".into())
}

fn parse_acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("acks are 0, 1 or all".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_and_headers_are_written_as_kafkas_tools_write_them() {
        assert_eq!(parse_acks("0"), Ok(Acks::None));
        assert_eq!(parse_acks("1"), Ok(Acks::Leader));
        assert_eq!(parse_acks("all"), Ok(Acks::All));
        assert_eq!(parse_acks("-1"), Ok(Acks::All));
        assert!(parse_acks("2").is_err());
        assert_eq!(parse_header("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_header("=b").is_err());
    }

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        let split = |line: &'static str, separator: &str| {
            split_key(&Bytes::from_static(line.as_bytes()), separator.as_bytes())
        };
        let pair = |key: &'static str, value: &'static str| Some((key.into(), value.into()));
        assert_eq!(split("k:v:w", ":"), pair("k", "v:w"));
        assert_eq!(split("::v", "::"), pair("", "v"));
        assert_eq!(split("k\t", "\t"), pair("k", ""));
        assert_eq!(split("kv", ":"), None);
    }

    #[test]
    fn the_templates_of_the_progress_bars_are_valid() {
        let _ = progress();
    }
}
