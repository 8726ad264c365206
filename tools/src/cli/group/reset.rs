//! `millctl group reset-offsets`: sends a group that has no members elsewhere.

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use millrace_client::{Client, CommitOffset, CommittedOffset};
use millrace_model::{ErrorCode, Offset, Timestamp};
use millrace_wire::{OffsetSpec, PartitionState, Topic};
use serde::Serialize;

use super::offsets::{self, Place};
use super::scope::{Scope, parse_scope};
use super::{all_done, headed, number_or_dash};
use crate::cli::connect::{failure, unknown_topic};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, note};
use crate::cli::time::{now_ms, parse_duration_ms, parse_timestamp};

/// The state of a group that exists and has no members.
const EMPTY: &str = "Empty";

#[derive(Debug, Args)]
pub(in crate::cli) struct Reset {
    /// The group.
    group: String,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    to: To,
    /// Do it. Without it, only show what would be done.
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// A topic, or some of its partitions as in orders:0,3. Repeatable.
    #[arg(long = "topic", value_name = "TOPIC[:P,..]", value_parser = parse_scope)]
    topics: Vec<Scope>,
    /// Every partition that the group has committed an offset for.
    #[arg(long)]
    all_topics: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To the first offset.
    #[arg(long)]
    to_earliest: bool,
    /// To the end.
    #[arg(long)]
    to_latest: bool,
    /// To this offset.
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<u64>,
    /// To the first record of this time or later: milliseconds since 1970, or as in
    /// 2026-11-22T13:29:15Z.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    to_datetime: Option<Timestamp>,
    /// By so many records forward, or back with a minus.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first record that is not older than this: 90s, 15m, 2h, 1d12h, or PT1H30M.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    by_duration: Option<i64>,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    partition: u32,
    committed: Option<u64>,
    new: u64,
}

pub(super) async fn run(client: &Client, reset: &Reset, output: &Output) -> Result<(), Failure> {
    refuse_active(client, &reset.group).await?;
    let committed = offsets::committed(client, &reset.group).await?;
    let places = places(client, reset, &committed).await?;
    let mut rows = Vec::with_capacity(places.0.len());
    for place in places.0 {
        let ends = offsets::ends(client, &places.1, &place).await?;
        let Some(ends) = ends else {
            return Err(unknown_topic(&place.0));
        };
        let old = committed.get(&place).copied();
        let new = target(client, &reset.to, &places.1[&place.0], ends, old, &place).await?;
        rows.push(Row {
            topic: place.0,
            partition: place.1,
            committed: old.map(|offset| offset.0),
            new: new.0,
        });
    }
    if reset.execute {
        commit(client, &reset.group, &rows).await?;
    }
    output.result(&rows, |rows| {
        let heading = ["TOPIC", "PARTITION", "COMMITTED", "NEW"];
        let cells = rows.iter().map(|row| {
            vec![
                row.topic.clone(),
                row.partition.to_string(),
                number_or_dash(row.committed),
                row.new.to_string(),
            ]
        });
        headed(&heading, cells)
    })?;
    if !reset.execute {
        note("nothing is changed yet; the same with --execute does it");
    }
    Ok(())
}

/// A group that does not exist has no members either; committing makes it.
async fn refuse_active(client: &Client, group: &str) -> Result<(), Failure> {
    match client.describe_group(group).await {
        Ok(described) if described.state == EMPTY => Ok(()),
        Ok(described) => Err(Failure::new(
            Exit::Refused,
            format!(
                "group '{group}' is {} with {} members; stop them first, `millctl group describe \
                 {group} --members` shows them",
                described.state,
                described.members.len()
            ),
        )),
        Err(error) if error.code() == ErrorCode::GroupIdNotFound => Ok(()),
        Err(error) => Err(failure(&error)),
    }
}

/// The partitions that are meant, and their topics.
async fn places(
    client: &Client,
    reset: &Reset,
    committed: &BTreeMap<Place, Offset>,
) -> Result<(Vec<Place>, HashMap<String, Topic>), Failure> {
    if reset.which.all_topics {
        if committed.is_empty() {
            let message = format!("group '{}' has committed nothing", reset.group);
            return Err(Failure::not_found(message));
        }
        let names = committed.keys().map(|(topic, _)| topic.as_str());
        let topics = offsets::topics(client, names).await?;
        // What was committed for topics that are deleted is of no use to anybody.
        let exists = |(topic, partition): &&Place| {
            let topic = topics.get(topic);
            topic.is_some_and(|topic| *partition < topic.partitions())
        };
        let places = committed.keys().filter(exists).cloned().collect();
        return Ok((places, topics));
    }
    let names = reset.which.topics.iter().map(|scope| scope.topic.as_str());
    let topics = offsets::topics(client, names).await?;
    let mut places = Vec::new();
    for scope in &reset.which.topics {
        let topic = topics.get(&scope.topic);
        let topic = topic.ok_or_else(|| unknown_topic(&scope.topic))?;
        let all = || (0..topic.partitions()).collect();
        for partition in scope.partitions.clone().unwrap_or_else(all) {
            crate::cli::topic::log_of(topic, partition)?;
            places.push((scope.topic.clone(), partition));
        }
    }
    places.sort_unstable();
    places.dedup();
    Ok((places, topics))
}

/// Where a partition is sent: never before its first offset nor after its end.
async fn target(
    client: &Client,
    to: &To,
    topic: &Topic,
    ends: PartitionState,
    committed: Option<Offset>,
    (name, partition): &Place,
) -> Result<Offset, Failure> {
    let within = |offset: u64| Offset(offset.clamp(ends.log_start.0, ends.high_watermark.0));
    if to.to_earliest {
        return Ok(ends.log_start);
    }
    if let Some(offset) = to.to_offset {
        return Ok(within(offset));
    }
    if let Some(by) = to.shift_by {
        let Some(from) = committed else {
            return Err(Failure::not_found(format!(
                "nothing is committed for partition {partition} of {name} that could be shifted"
            )));
        };
        return Ok(within(from.0.saturating_add_signed(by)));
    }
    let since = match (to.to_datetime, to.by_duration) {
        (Some(time), _) => time,
        (None, Some(ago)) => Timestamp(now_ms().saturating_sub(ago).max(0)),
        // The one that is left.
        (None, None) => return Ok(ends.high_watermark),
    };
    let log = offsets::log_of(topic, *partition);
    let found = client.list_offset(log, OffsetSpec::Timestamp(since)).await;
    Ok(within(found.map_err(|error| failure(&error))?.offset.0))
}

async fn commit(client: &Client, group: &str, rows: &[Row]) -> Result<(), Failure> {
    let offset = |row: &Row| CommitOffset {
        topic: row.topic.clone(),
        partition: row.partition,
        committed: CommittedOffset {
            offset: Offset(row.new),
            leader_epoch: None,
            metadata: String::new(),
        },
    };
    let offsets = rows.iter().map(offset).collect();
    let codes = client.reset_group_offsets(group, offsets).await;
    let codes = codes.map_err(|error| failure(&error))?;
    let refused = rows
        .iter()
        .zip(&codes)
        .filter(|(_, code)| **code != ErrorCode::None);
    all_done(
        refused.map(|(row, code)| (row.topic.as_str(), row.partition, *code)),
        "reset",
    )
}
