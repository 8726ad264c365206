//! `millctl cluster describe`.

use millrace_client::Client;
use millrace_wire::{BrokerMode, BrokerStanding, ClusterDescription, PartitionCounts};
use serde::Serialize;

use super::super::connect::failure;
use super::super::exit::Failure;
use super::super::output::{Output, table};

#[derive(Serialize)]
struct Described {
    cluster_id: String,
    controller: Option<u32>,
    term: u64,
    feature_level: u16,
    quorum: Vec<Member>,
    brokers: Vec<Broker>,
    partitions: Partitions,
}

#[derive(Serialize)]
struct Member {
    id: u32,
    votes: bool,
    lag: Option<u64>,
}

#[derive(Serialize)]
struct Broker {
    id: u32,
    state: &'static str,
    cordoned: bool,
    address: Option<String>,
    rack: Option<String>,
    shards: u8,
    epoch: u64,
    leaders: u32,
    replicas: u32,
}

#[derive(Serialize)]
pub(super) struct Partitions {
    total: u32,
    leaderless: u32,
    under_min_isr: u32,
    under_replicated: u32,
    reassigning: u32,
    not_preferred: u32,
}

impl From<PartitionCounts> for Partitions {
    fn from(counts: PartitionCounts) -> Self {
        Self {
            total: counts.total,
            leaderless: counts.leaderless,
            under_min_isr: counts.under_min_in_sync,
            under_replicated: counts.under_replicated,
            reassigning: counts.reassigning,
            not_preferred: counts.led_elsewhere,
        }
    }
}

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let found = client.describe_cluster().await;
    let found = found.map_err(|error| failure(&error))?;
    output.result(&described(found), text)
}

fn described(found: ClusterDescription) -> Described {
    let members = found.quorum.iter().map(|member| Member {
        id: member.broker.0,
        votes: member.votes,
        lag: member.lag,
    });
    Described {
        cluster_id: found.cluster_id,
        controller: found.controller.map(|id| id.0),
        term: found.term,
        feature_level: found.feature_level,
        quorum: members.collect(),
        brokers: found.brokers.into_iter().map(broker).collect(),
        partitions: found.partitions.into(),
    }
}

fn broker(standing: BrokerStanding) -> Broker {
    let address = standing.info.address;
    Broker {
        id: standing.info.id.0,
        state: mode(standing.mode),
        cordoned: standing.cordoned,
        address: address.map(|(host, port)| format!("{host}:{port}")),
        rack: standing.info.rack,
        shards: standing.info.shards,
        epoch: standing.epoch.0,
        leaders: standing.leaders,
        replicas: standing.replicas,
    }
}

/// What a broker does, in a word.
pub(super) fn mode(mode: BrokerMode) -> &'static str {
    match mode {
        BrokerMode::Fenced => "fenced",
        BrokerMode::Active => "active",
        BrokerMode::ShuttingDown => "shutting down",
    }
}

fn text(d: &Described) -> String {
    let none = || "none".to_owned();
    let heading = [
        "BROKER", "STATE", "ADDRESS", "RACK", "CORES", "LEADS", "HOLDS",
    ];
    let rows = d.brokers.iter().map(|broker| {
        let state = match broker.cordoned {
            true => format!("{}, cordoned", broker.state),
            false => broker.state.to_owned(),
        };
        vec![
            broker.id.to_string(),
            state,
            broker.address.clone().unwrap_or_else(none),
            broker.rack.clone().unwrap_or_else(none),
            broker.shards.to_string(),
            broker.leaders.to_string(),
            broker.replicas.to_string(),
        ]
    });
    let heading = heading.map(String::from).to_vec();
    let brokers = table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
    let members = d.quorum.iter().map(|member| {
        let kind = if member.votes { "" } else { " (learner)" };
        match member.lag {
            Some(lag) if lag > 0 => format!("{}{kind}, {lag} behind", member.id),
            _ => format!("{}{kind}", member.id),
        }
    });
    let members: Vec<String> = members.collect();
    let p = &d.partitions;
    format!(
        "cluster     {}\ncontroller  {}, term {}\nvoters      {}\npartitions  {}: {} without a leader, {} below \
         min.insync.replicas, {} under-replicated, {} reassigning\n\n{brokers}",
        d.cluster_id,
        d.controller.map_or_else(none, |id| format!("broker {id}")),
        d.term,
        members.join("; "),
        p.total,
        p.leaderless,
        p.under_min_isr,
        p.under_replicated,
        p.reassigning,
    )
}
