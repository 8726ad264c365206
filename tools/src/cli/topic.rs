//! `millctl topic`: create, list, describe, alter and delete topics.

use clap::{Args, Subcommand};
use millrace_client::Client;
use millrace_model::{BrokerId, LogId, Offset, PartitionId};
use millrace_wire::{PartitionReplicas, Topic, TopicConfig};
use serde::Serialize;

use super::cluster::listed;
use super::connect::{failure, unknown_topic};
use super::exit::Failure;
use super::output::{Output, table};

#[derive(Debug, Subcommand)]
pub(super) enum TopicCommand {
    /// Make a topic.
    Create(Create),
    /// List all topics.
    List,
    /// Show a topic with all its settings.
    Describe {
        /// Its name.
        name: String,
    },
    /// Change settings of a topic, or give it more partitions.
    Alter(Alter),
    /// Delete a topic and all its records.
    Delete {
        /// Its name.
        name: String,
    },
    /// Delete the oldest records of a partition.
    DeleteRecords(DeleteRecords),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'.
    name: String,
    /// Number of partitions; the broker's num.partitions unless given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// Replicas of each partition; the broker's default.replication.factor unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    replication_factor: Option<u8>,
    /// A setting by Kafka's name, for example retention.ms=3600000. Repeatable.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct Alter {
    /// The topic.
    name: String,
    #[command(flatten)]
    changes: Changes,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// The new number of partitions, above the present one.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// A setting to change. Repeatable.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
    /// A setting to reset to the broker's default. Repeatable.
    #[arg(long = "reset", value_name = "NAME")]
    resets: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct DeleteRecords {
    /// The topic.
    name: String,
    /// The partition.
    #[arg(long)]
    partition: u32,
    /// The first offset to keep, or 'latest' to delete all.
    #[arg(long, value_name = "OFFSET", value_parser = parse_before)]
    before: Before,
}

/// Where the deleting of records stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Before(Option<Offset>);

pub(super) async fn run(
    client: &Client,
    command: TopicCommand,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        TopicCommand::Create(create) => run_create(client, create, output).await,
        TopicCommand::List => run_list(client, output).await,
        TopicCommand::Describe { name } => run_describe(client, &name, output).await,
        TopicCommand::Alter(alter) => run_alter(client, alter, output).await,
        TopicCommand::Delete { name } => run_delete(client, name, output).await,
        TopicCommand::DeleteRecords(records) => run_delete_records(client, records, output).await,
    }
}

/// The topic of this name.
pub(super) async fn find(client: &Client, name: &str) -> Result<Topic, Failure> {
    let metadata = client
        .metadata(Some(&[name]))
        .await
        .map_err(|error| failure(&error))?;
    metadata
        .topics
        .into_iter()
        .find(|topic| topic.name == name)
        .ok_or_else(|| unknown_topic(name))
}

/// The identity of a partition of this topic.
pub(super) fn log_of(topic: &Topic, partition: u32) -> Result<LogId, Failure> {
    if partition >= topic.partitions() {
        return Err(Failure::not_found(format!(
            "topic '{}' has no partition {partition}; its partitions are 0 to {}",
            topic.name,
            topic.partitions().saturating_sub(1)
        )));
    }
    Ok(LogId {
        topic: topic.id,
        partition: PartitionId(partition),
    })
}

async fn run_create(client: &Client, create: Create, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Created {
        name: String,
        id: String,
        partitions: u32,
    }

    let configs: Vec<(&str, &str)> = create
        .configs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let id = client
        .create_replicated_topic(
            &create.name,
            create.partitions,
            create.replication_factor,
            &configs,
        )
        .await
        .map_err(|error| failure(&error))?;
    let topic = find(client, &create.name).await?;
    let created = Created {
        name: create.name,
        id: id.to_string(),
        partitions: topic.partitions(),
    };
    output.result(&created, |c| {
        let plural = if c.partitions == 1 { "" } else { "s" };
        format!(
            "created topic {} with {} partition{plural}",
            c.name, c.partitions
        )
    })
}

async fn run_list(client: &Client, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Listed {
        name: String,
        partitions: u32,
        id: String,
    }

    let metadata = client
        .metadata(None)
        .await
        .map_err(|error| failure(&error))?;
    let mut topics: Vec<Listed> = metadata
        .topics
        .into_iter()
        .map(|t| Listed {
            name: t.name.clone(),
            partitions: t.partitions(),
            id: t.id.to_string(),
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    output.result(&topics, |topics| {
        let heading = ["NAME", "PARTITIONS", "ID"].map(String::from).to_vec();
        let rows = topics
            .iter()
            .map(|t| vec![t.name.clone(), t.partitions.to_string(), t.id.clone()]);
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
    })
}

async fn run_describe(client: &Client, name: &str, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Setting {
        name: String,
        value: String,
        is_default: bool,
    }
    #[derive(Serialize)]
    struct Held {
        partition: usize,
        leader: Option<u32>,
        leader_epoch: u32,
        replicas: Vec<u32>,
        isr: Vec<u32>,
    }
    #[derive(Serialize)]
    struct Described {
        name: String,
        id: String,
        partitions: Vec<Held>,
        configs: Vec<Setting>,
    }

    let topic = find(client, name).await?;
    let description = client
        .describe_topic(name)
        .await
        .map_err(|error| failure(&error))?;
    let setting = |c: TopicConfig| Setting {
        name: c.name,
        value: c.value,
        is_default: c.is_default,
    };
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    let held = |(partition, held): (usize, &PartitionReplicas)| Held {
        partition,
        leader: held.leader.broker.map(|broker| broker.0),
        leader_epoch: held.leader.epoch.0,
        replicas: ids(&held.replicas),
        isr: ids(&held.in_sync),
    };
    let described = Described {
        name: topic.name,
        id: topic.id.to_string(),
        partitions: description
            .partitions
            .iter()
            .enumerate()
            .map(held)
            .collect(),
        configs: description.configs.into_iter().map(setting).collect(),
    };
    output.result(&described, |d| {
        let heading = ["SETTING", "VALUE", "FROM"].map(String::from).to_vec();
        let rows = d.configs.iter().map(|c| {
            let from = if c.is_default { "default" } else { "topic" };
            vec![c.name.clone(), c.value.clone(), from.into()]
        });
        let settings = table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
        let heading = ["PARTITION", "LEADER", "REPLICAS", "ISR"];
        let heading = heading.map(String::from).to_vec();
        let rows = d.partitions.iter().map(|p| {
            let leader = p.leader.map_or_else(|| "none".into(), |id| id.to_string());
            vec![
                p.partition.to_string(),
                leader,
                listed(&p.replicas),
                listed(&p.isr),
            ]
        });
        let partitions = table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
        format!(
            "name        {}\nid          {}\npartitions  {}\n\n{partitions}\n\n{settings}",
            d.name,
            d.id,
            d.partitions.len()
        )
    })
}

async fn run_alter(client: &Client, alter: Alter, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Altered {
        name: String,
    }

    let changes = &alter.changes;
    let set = changes
        .configs
        .iter()
        .map(|(name, value)| (name.as_str(), Some(value.as_str())));
    let reset = changes.resets.iter().map(|name| (name.as_str(), None));
    let configs: Vec<_> = set.chain(reset).collect();
    client
        .alter_topic(&alter.name, changes.partitions, &configs)
        .await
        .map_err(|error| failure(&error))?;
    output.result(&Altered { name: alter.name }, |a| {
        format!("altered topic {}", a.name)
    })
}

async fn run_delete(client: &Client, name: String, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Deleted {
        name: String,
    }

    client
        .delete_topic(&name)
        .await
        .map_err(|error| failure(&error))?;
    output.result(&Deleted { name }, |d| format!("deleted topic {}", d.name))
}

async fn run_delete_records(
    client: &Client,
    records: DeleteRecords,
    output: &Output,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Start {
        name: String,
        partition: u32,
        log_start: u64,
    }

    let topic = find(client, &records.name).await?;
    let log = log_of(&topic, records.partition)?;
    let log_start = client
        .delete_records(log, records.before.0)
        .await
        .map_err(|error| failure(&error))?;
    let start = Start {
        name: records.name,
        partition: records.partition,
        log_start: log_start.0,
    };
    output.result(&start, |s| {
        format!(
            "partition {} of topic {} now starts at offset {}",
            s.partition, s.name, s.log_start
        )
    })
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("a setting is written NAME=VALUE".into()),
    }
}

fn parse_before(text: &str) -> Result<Before, String> {
    if text == "latest" {
        return Ok(Before(None));
    }
    text.parse()
        .map(|offset| Before(Some(offset)))
        .map_err(|_| "an offset is a number, or 'latest'".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::LeaderEpoch;
    use millrace_wire::PartitionLeader;

    #[test]
    fn settings_and_bounds_are_parsed() {
        let pair = |name: &str, value: &str| Ok((name.into(), value.into()));
        assert_eq!(parse_setting("retention.ms=5"), pair("retention.ms", "5"));
        assert_eq!(parse_setting("a=b=c"), pair("a", "b=c"));
        assert_eq!(parse_setting("a="), pair("a", ""));
        assert!(parse_setting("=b").is_err());
        assert_eq!(parse_before("12"), Ok(Before(Some(Offset(12)))));
        assert_eq!(parse_before("latest"), Ok(Before(None)));
        assert!(parse_before("-1").is_err());
    }

    #[test]
    fn a_partition_that_does_not_exist_is_named() {
        let leader = PartitionLeader {
            broker: None,
            epoch: LeaderEpoch(1),
        };
        let topic = Topic {
            name: "t".into(),
            id: millrace_model::TopicId([1; 16]),
            leaders: vec![leader; 2],
            max_message_bytes: 1,
        };
        assert_eq!(log_of(&topic, 1).unwrap().partition, PartitionId(1));
        assert!(log_of(&topic, 2).unwrap_err().message.contains("0 to 1"));
    }
}
