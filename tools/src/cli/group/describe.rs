//! `millctl group describe`: how far a group has come, how far it lags behind, and who is in it.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use millrace_client::Client;
use millrace_wire::{DescribedGroup, DescribedMember, TopicPartitions};
use serde::Serialize;

use super::offsets::{self, Place};
use super::{headed, number_or_dash, or_dash};
use crate::cli::connect::failure;
use crate::cli::exit::Failure;
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(in crate::cli) struct Describe {
    /// The group.
    group: String,
    /// Show the members and what they read.
    #[arg(long)]
    members: bool,
    /// Show offsets and lag by partition.
    #[arg(long)]
    offsets: bool,
    /// Show the state of the group.
    #[arg(long)]
    state: bool,
}

/// JSON has all of it.
#[derive(Serialize)]
struct Described {
    group: String,
    state: String,
    r#type: String,
    protocol: String,
    assignor: String,
    epoch: i32,
    target_epoch: Option<i32>,
    members: Vec<Member>,
    offsets: Vec<Row>,
}

#[derive(Serialize)]
struct Member {
    member: String,
    instance: Option<String>,
    rack: Option<String>,
    client_id: String,
    host: String,
    epoch: Option<i32>,
    current: Vec<Assigned>,
    target: Vec<Assigned>,
}

#[derive(Serialize)]
struct Assigned {
    topic: String,
    partitions: Vec<u32>,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    partition: u32,
    committed: Option<u64>,
    high_watermark: Option<u64>,
    lag: Option<u64>,
    member: Option<String>,
    host: Option<String>,
    client_id: Option<String>,
}

pub(super) async fn run(
    client: &Client,
    describe: &Describe,
    output: &Output,
) -> Result<(), Failure> {
    let group = client.describe_group(&describe.group).await;
    let group = group.map_err(|error| failure(&error))?;
    let offsets = rows(client, &group).await?;
    let described = Described::of(group, offsets);
    let all = !(describe.members || describe.offsets || describe.state);
    output.result(&described, |described| {
        let mut parts = Vec::new();
        if describe.state || all {
            parts.push(state(described));
        }
        if describe.members {
            parts.push(members(&described.members));
        }
        if (describe.offsets || all) && !described.offsets.is_empty() {
            parts.push(lags(&described.offsets));
        }
        parts.join("\n")
    })
}

/// A line for each partition that is committed or read.
async fn rows(client: &Client, group: &DescribedGroup) -> Result<Vec<Row>, Failure> {
    let committed = offsets::committed(client, &group.group).await?;
    let readers = readers(&group.members);
    let places: BTreeSet<&Place> = committed.keys().chain(readers.keys()).collect();
    let topics = offsets::topics(client, places.iter().map(|(topic, _)| topic.as_str())).await?;
    let mut rows = Vec::with_capacity(places.len());
    for place in places {
        let ends = offsets::ends(client, &topics, place).await?;
        let committed = committed.get(place).map(|offset| offset.0);
        let high_watermark = ends.map(|ends| ends.high_watermark.0);
        let lag = high_watermark.zip(committed);
        let reader = readers.get(place);
        rows.push(Row {
            topic: place.0.clone(),
            partition: place.1,
            committed,
            high_watermark,
            lag: lag.map(|(end, committed)| end.saturating_sub(committed)),
            member: reader.map(|reader| reader.member.clone()),
            host: reader.map(|reader| reader.host.clone()),
            client_id: reader.map(|reader| reader.client_id.clone()),
        });
    }
    Ok(rows)
}

/// Who reads what.
fn readers(members: &[DescribedMember]) -> BTreeMap<Place, &DescribedMember> {
    let places = |member: &DescribedMember| -> Vec<Place> {
        let of_topic = |of: &TopicPartitions| -> Vec<Place> {
            let partitions = of.partitions.iter();
            partitions.map(|&one| (of.topic.clone(), one)).collect()
        };
        member.current.iter().flat_map(of_topic).collect()
    };
    members
        .iter()
        .flat_map(|member| places(member).into_iter().map(move |place| (place, member)))
        .collect()
}

impl Described {
    fn of(group: DescribedGroup, offsets: Vec<Row>) -> Self {
        let assigned = |all: Vec<TopicPartitions>| {
            let all = all.into_iter();
            all.map(|of| Assigned {
                topic: of.topic,
                partitions: of.partitions,
            })
            .collect()
        };
        let member = |member: DescribedMember| Member {
            member: member.member,
            instance: member.instance,
            rack: member.rack,
            client_id: member.client_id,
            host: member.host,
            epoch: member.epoch,
            current: assigned(member.current),
            target: assigned(member.target),
        };
        Self {
            group: group.group,
            state: group.state,
            r#type: group.group_type,
            protocol: group.protocol_type,
            assignor: group.assignor,
            epoch: group.epoch,
            target_epoch: group.target_epoch,
            members: group.members.into_iter().map(member).collect(),
            offsets,
        }
    }
}

fn state(group: &Described) -> String {
    let epochs = match group.target_epoch {
        Some(target) => format!("{} (assignment {target})", group.epoch),
        None => group.epoch.to_string(),
    };
    format!(
        "group     {}\nstate     {}\ntype      {}\nassignor  {}\nepoch     {epochs}\nmembers   {}\n",
        group.group,
        group.state,
        group.r#type,
        or_dash(&group.assignor),
        group.members.len()
    )
}

fn members(members: &[Member]) -> String {
    let heading = [
        "MEMBER",
        "HOST",
        "CLIENT",
        "INSTANCE",
        "EPOCH",
        "READS",
        "SHALL READ",
    ];
    let rows = members.iter().map(|member| {
        vec![
            member.member.clone(),
            or_dash(&member.host).to_owned(),
            or_dash(&member.client_id).to_owned(),
            or_dash(member.instance.as_deref().unwrap_or_default()).to_owned(),
            number_or_dash(member.epoch),
            list(&member.current),
            list(&member.target),
        ]
    });
    headed(&heading, rows)
}

/// `orders:0,3 events:1`.
fn list(assigned: &[Assigned]) -> String {
    let of_topic = |of: &Assigned| {
        let numbers: Vec<_> = of.partitions.iter().map(ToString::to_string).collect();
        format!("{}:{}", of.topic, numbers.join(","))
    };
    let topics: Vec<_> = assigned.iter().map(of_topic).collect();
    or_dash(&topics.join(" ")).to_owned()
}

fn lags(rows: &[Row]) -> String {
    let heading = [
        "TOPIC",
        "PARTITION",
        "COMMITTED",
        "HIGH WATERMARK",
        "LAG",
        "MEMBER",
        "HOST",
        "CLIENT",
    ];
    let text = |cell: &Option<String>| or_dash(cell.as_deref().unwrap_or_default()).to_owned();
    let rows = rows.iter().map(|row| {
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            number_or_dash(row.committed),
            number_or_dash(row.high_watermark),
            number_or_dash(row.lag),
            text(&row.member),
            text(&row.host),
            text(&row.client_id),
        ]
    });
    headed(&heading, rows)
}
