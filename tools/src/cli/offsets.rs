//! `millctl offsets`: where each partition of a topic begins and ends, who owns it, and how
//! large it is.

use clap::Args;
use millrace_client::Client;
use millrace_wire::PartitionState;
use serde::Serialize;

use super::connect::failure;
use super::exit::Failure;
use super::output::{Output, table};
use super::topic;

#[derive(Debug, Args)]
pub(super) struct Offsets {
    /// The topic.
    topic: String,
    /// Only this partition.
    #[arg(long)]
    partition: Option<u32>,
}

#[derive(Serialize)]
struct Row {
    partition: u32,
    log_start: u64,
    high_watermark: u64,
    log_end: u64,
    leader_epoch: u32,
    shard: u8,
    bytes: u64,
    segments: u32,
}

pub(super) async fn run(
    client: &Client,
    offsets: &Offsets,
    output: &Output,
) -> Result<(), Failure> {
    let topic = topic::find(client, &offsets.topic).await?;
    let partitions = match offsets.partition {
        Some(only) => only..only.saturating_add(1),
        None => 0..topic.partitions(),
    };
    let mut rows = Vec::new();
    for partition in partitions {
        let log = topic::log_of(&topic, partition)?;
        let state = client
            .describe_partition(log)
            .await
            .map_err(|error| failure(&error))?;
        rows.push(Row::from(state));
    }
    output.result(&rows, |rows| text(rows))
}

impl From<PartitionState> for Row {
    fn from(state: PartitionState) -> Self {
        Self {
            partition: state.partition.0,
            log_start: state.log_start.0,
            high_watermark: state.high_watermark.0,
            log_end: state.log_end.0,
            leader_epoch: state.leader_epoch.0,
            shard: state.shard.0,
            bytes: state.bytes,
            segments: state.segments,
        }
    }
}

fn text(rows: &[Row]) -> String {
    let heading = [
        "PARTITION",
        "START",
        "HIGH WATERMARK",
        "END",
        "EPOCH",
        "SHARD",
        "BYTES",
        "SEGMENTS",
    ];
    let cells = |row: &Row| {
        vec![
            row.partition.to_string(),
            row.log_start.to_string(),
            row.high_watermark.to_string(),
            row.log_end.to_string(),
            row.leader_epoch.to_string(),
            row.shard.to_string(),
            row.bytes.to_string(),
            row.segments.to_string(),
        ]
    };
    let heading = heading.map(String::from).to_vec();
    table(
        &std::iter::once(heading)
            .chain(rows.iter().map(cells))
            .collect::<Vec<_>>(),
    )
}
