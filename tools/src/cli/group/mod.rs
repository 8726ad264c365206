//! `millctl group`: look at consumer groups, and change what they have committed.

mod describe;
mod offsets;
mod reset;
mod scope;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use millrace_client::Client;
use millrace_model::ErrorCode;
use millrace_wire::{ListedGroup, TopicPartitions};
use serde::Serialize;

use self::describe::Describe;
use self::reset::Reset;
use self::scope::{Scope, parse_scope};
use super::connect::failure;
use super::exit::{Exit, Failure};
use super::output::{Output, table};

#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// List all groups.
    List(List),
    /// Show a group: what it has committed, how far it lags behind, and its members.
    Describe(Describe),
    /// Send a group without members to other offsets. Shows what it would do, unless --execute is given.
    ResetOffsets(Reset),
    /// Delete a group without members, and what it has committed.
    Delete {
        /// The group.
        group: String,
    },
    /// Forget what a group has committed for topics that its members do not read.
    DeleteOffsets(DeleteOffsets),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only groups in this state, for example Stable or Empty. Repeatable.
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct DeleteOffsets {
    /// The group.
    group: String,
    /// A topic, or some of its partitions as in orders:0,3. Repeatable.
    #[arg(long = "topic", value_name = "TOPIC[:P,..]", required = true, value_parser = parse_scope)]
    topics: Vec<Scope>,
}

pub(super) async fn run(
    client: &Client,
    command: GroupCommand,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        GroupCommand::List(list) => run_list(client, &list, output).await,
        GroupCommand::Describe(describe) => describe::run(client, &describe, output).await,
        GroupCommand::ResetOffsets(reset) => reset::run(client, &reset, output).await,
        GroupCommand::Delete { group } => run_delete(client, group, output).await,
        GroupCommand::DeleteOffsets(delete) => run_delete_offsets(client, delete, output).await,
    }
}

async fn run_list(client: &Client, list: &List, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Listed {
        group: String,
        state: String,
        r#type: String,
        protocol: String,
    }

    let is_wanted = |group: &ListedGroup| {
        let mut states = list.states.iter();
        list.states.is_empty() || states.any(|state| state.eq_ignore_ascii_case(&group.state))
    };
    let listed = client.list_groups().await;
    let groups: Vec<Listed> = listed
        .map_err(|error| failure(&error))?
        .into_iter()
        .filter(is_wanted)
        .map(|group| Listed {
            group: group.group,
            state: group.state,
            r#type: group.group_type,
            protocol: group.protocol_type,
        })
        .collect();
    output.result(&groups, |groups| {
        let heading = ["GROUP", "STATE", "TYPE", "PROTOCOL"];
        let rows = groups.iter().map(|g| {
            let cells = [&g.group, &g.state, &g.r#type, or_dash(&g.protocol)];
            cells.map(String::from).to_vec()
        });
        headed(&heading, rows)
    })
}

async fn run_delete(client: &Client, group: String, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Deleted {
        group: String,
    }

    let deleted = client.delete_group(&group).await;
    deleted.map_err(|error| failure(&error))?;
    output.result(&Deleted { group }, |d| format!("deleted group {}", d.group))
}

async fn run_delete_offsets(
    client: &Client,
    delete: DeleteOffsets,
    output: &Output,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Forgotten {
        topic: String,
        partition: u32,
    }

    let group = &delete.group;
    let committed = offsets::committed(client, group).await?;
    let mut wanted: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (topic, partition) in committed.keys() {
        if delete
            .topics
            .iter()
            .any(|scope| scope.has(topic, *partition))
        {
            wanted.entry(topic.clone()).or_default().push(*partition);
        }
    }
    let untouched = delete
        .topics
        .iter()
        .find(|scope| !wanted.contains_key(&scope.topic));
    if let Some(scope) = untouched {
        return Err(Failure::not_found(format!(
            "group '{group}' has committed nothing for {scope}; `millctl group describe {group}` \
             shows what it has"
        )));
    }
    let rows: Vec<Forgotten> = wanted
        .iter()
        .flat_map(|(topic, partitions)| {
            let of_topic = partitions.iter();
            of_topic.map(|&partition| Forgotten {
                topic: topic.clone(),
                partition,
            })
        })
        .collect();
    let partitions = wanted
        .into_iter()
        .map(|(topic, partitions)| TopicPartitions { topic, partitions })
        .collect();
    let codes = client.delete_group_offsets(group, partitions).await;
    let codes = codes.map_err(|error| failure(&error))?;
    let refused = rows
        .iter()
        .zip(&codes)
        .filter(|(_, code)| **code != ErrorCode::None);
    all_done(
        refused.map(|(row, code)| (row.topic.as_str(), row.partition, *code)),
        "forgotten",
    )?;
    output.result(&rows, |rows| {
        let plural = if rows.len() == 1 { "" } else { "s" };
        format!("forgot the offsets of {} partition{plural}", rows.len())
    })
}

/// That everything was done, or what was not.
fn all_done<'a>(
    refused: impl Iterator<Item = (&'a str, u32, ErrorCode)>,
    done: &str,
) -> Result<(), Failure> {
    let lines: Vec<_> = refused
        .map(|(topic, partition, code)| format!("partition {partition} of {topic}: {code}"))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let message = format!("not all offsets were {done}: {}", lines.join(", "));
    Err(Failure::new(Exit::Refused, message))
}

/// A table under these headings.
fn headed(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heading = heading.iter().map(ToString::to_string).collect();
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

/// A dash in a cell that would be empty: a column of numbers stays one.
fn or_dash(cell: &str) -> &str {
    if cell.is_empty() { "-" } else { cell }
}

/// A number, or a dash for none.
fn number_or_dash<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}
