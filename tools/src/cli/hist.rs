//! `millctl hist` and `millctl slow`: where the time of batches goes in the broker.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use millrace_client::Client;

use super::connect::failure;
use super::exit::{Exit, Failure};
use super::output::Output;

/// Show how long batches spend in each stage of their way through the broker.
#[derive(Debug, Args)]
pub(super) struct Hist {
    /// Only this stage: receive, queue, append, device, replicate, ack or deliver.
    #[arg(long)]
    stage: Option<String>,
    /// Only this shard.
    #[arg(long)]
    shard: Option<u8>,
    /// Only this topic. It is recorded from the first question about it until ten minutes after the last.
    #[arg(long, conflicts_with = "window")]
    topic: Option<String>,
    /// Since when: start, 1m, 5m or 10m.
    #[arg(long)]
    window: Option<String>,
    /// Also each shard by itself.
    #[arg(long)]
    per_shard: bool,
    /// How it is written. `hgrm` is of one stage.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write to this file.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Show the slowest batches of the last ten minutes, each with all its stages.
#[derive(Debug, Args)]
pub(super) struct Slow {
    /// Only of connections of this shard.
    #[arg(long)]
    shard: Option<u8>,
    /// How many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// How histograms are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// The values that occurred, and how often.
    Json,
    /// What HdrHistogram's plotters read.
    Hgrm,
    /// A page with charts.
    Html,
}

/// A path with a query, made pair by pair.
struct Path {
    text: String,
    is_first: bool,
}

impl Path {
    fn new(path: &str) -> Self {
        let (text, is_first) = (path.to_owned(), true);
        Self { text, is_first }
    }

    fn with(mut self, name: &str, value: Option<impl fmt::Display>) -> Self {
        if let Some(value) = value {
            let sign = if self.is_first { '?' } else { '&' };
            self.text += &format!("{sign}{name}={value}");
            self.is_first = false;
        }
        self
    }
}

impl Hist {
    fn path(&self, format: Format) -> String {
        let format = match format {
            Format::Text => "text",
            Format::Json => "json",
            Format::Hgrm => "hgrm",
            Format::Html => "html",
        };
        Path::new("/hist")
            .with("format", Some(format))
            .with("stage", self.stage.as_ref())
            .with("shard", self.shard)
            .with("topic", self.topic.as_ref())
            .with("window", self.window.as_ref())
            .with("per", self.per_shard.then_some("shard"))
            .text
    }
}

pub(super) async fn hist(client: &Client, hist: &Hist, output: &Output) -> Result<(), Failure> {
    let format = match output.is_json() {
        true => Format::Json,
        false => hist.format,
    };
    let path = hist.path(format);
    let text = client
        .observe(path)
        .await
        .map_err(|error| failure(&error))?;
    match &hist.output {
        None => output.bytes(with_line_end(text).as_bytes()),
        Some(file) => std::fs::write(file, text).map_err(|error| {
            Failure::new(
                Exit::Other,
                format!("{} cannot be written: {error}", file.display()),
            )
        }),
    }
}

pub(super) async fn slow(client: &Client, slow: &Slow, output: &Output) -> Result<(), Failure> {
    let path = Path::new("/slow")
        .with(
            "format",
            Some(if output.is_json() { "json" } else { "text" }),
        )
        .with("shard", slow.shard)
        .with("limit", Some(slow.limit))
        .text;
    let text = client
        .observe(path)
        .await
        .map_err(|error| failure(&error))?;
    output.bytes(with_line_end(text).as_bytes())
}

fn with_line_end(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_what_was_asked_for() {
        let hist = Hist {
            stage: Some("device".to_owned()),
            shard: Some(1),
            topic: None,
            window: Some("5m".to_owned()),
            per_shard: true,
            format: Format::Hgrm,
            output: None,
        };
        let path = "/hist?format=hgrm&stage=device&shard=1&window=5m&per=shard";
        assert_eq!(hist.path(hist.format), path);
    }
}
