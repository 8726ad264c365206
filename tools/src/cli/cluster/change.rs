//! What changes the cluster: brokers are emptied and struck off, replicas move.

use std::time::{Duration, Instant};

use clap::Args;
use millrace_client::Client;
use millrace_model::BrokerId;
use millrace_wire::ClusterDescription;
use serde::Serialize;

use super::super::connect::failure;
use super::super::exit::{Exit, Failure};
use super::super::output::Output;
use super::super::topic::{find, log_of};

/// How often it is looked how far replicas have moved.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(in crate::cli) struct Decommission {
    /// The broker's id.
    #[arg(value_name = "BROKER")]
    id: u32,
    /// Return at once; the replicas go on moving.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until the broker holds nothing, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Reassign {
    /// The topic.
    topic: String,
    /// The partition.
    #[arg(long)]
    partition: u32,
    /// The brokers that shall hold it, the preferred leader first, for example 1,2,3.
    #[arg(long, value_delimiter = ',', required_unless_present = "cancel")]
    replicas: Vec<u32>,
    /// Take back a move that is under way.
    #[arg(long, conflicts_with = "replicas")]
    cancel: bool,
}

#[derive(Serialize)]
struct Emptied {
    broker: u32,
    replicas: u32,
}

pub(super) async fn decommission(
    client: &Client,
    options: Decommission,
    output: &Output,
) -> Result<(), Failure> {
    let broker = BrokerId(options.id);
    let begun = client.cordon_broker(broker, true).await;
    begun.map_err(|error| failure(&error))?;
    let until = Instant::now() + Duration::from_secs(options.timeout);
    let mut left = held_by(client, broker).await?;
    while left > 0 && !options.no_wait {
        if Instant::now() >= until {
            let message =
                format!("broker {broker} still holds {left} partitions; they go on moving");
            return Err(Failure::new(Exit::Other, message));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        left = held_by(client, broker).await?;
    }
    let emptied = Emptied {
        broker: broker.0,
        replicas: left,
    };
    output.result(&emptied, |e| match e.replicas {
        0 => format!(
            "broker {} holds nothing: it can be stopped and unregistered",
            e.broker
        ),
        left => format!(
            "broker {} is being emptied: {left} partitions are left",
            e.broker
        ),
    })
}

async fn held_by(client: &Client, broker: BrokerId) -> Result<u32, Failure> {
    let found: ClusterDescription = client
        .describe_cluster()
        .await
        .map_err(|error| failure(&error))?;
    let mut brokers = found.brokers.iter();
    let standing = brokers.find(|standing| standing.info.id == broker);
    Ok(standing.map_or(0, |standing| standing.replicas))
}

#[derive(Serialize)]
struct Changed {
    broker: u32,
}

pub(super) async fn recommission(
    client: &Client,
    broker: BrokerId,
    output: &Output,
) -> Result<(), Failure> {
    let done = client.cordon_broker(broker, false).await;
    done.map_err(|error| failure(&error))?;
    output.result(&Changed { broker: broker.0 }, |c| {
        format!("broker {} may get replicas again", c.broker)
    })
}

pub(super) async fn unregister(
    client: &Client,
    broker: BrokerId,
    output: &Output,
) -> Result<(), Failure> {
    let done = client.unregister_broker(broker).await;
    done.map_err(|error| failure(&error))?;
    output.result(&Changed { broker: broker.0 }, |c| {
        format!("broker {} is no longer of the cluster", c.broker)
    })
}

#[derive(Serialize)]
struct Reassigned {
    topic: String,
    partition: u32,
    replicas: Vec<u32>,
}

pub(super) async fn reassign(
    client: &Client,
    options: Reassign,
    output: &Output,
) -> Result<(), Failure> {
    let topic = find(client, &options.topic).await?;
    let log = log_of(&topic, options.partition)?;
    let replicas: Vec<BrokerId> = options.replicas.iter().copied().map(BrokerId).collect();
    let wanted = (!options.cancel).then_some(replicas);
    let begun = client.reassign(log, wanted).await;
    begun.map_err(|error| failure(&error))?;
    let reassigned = Reassigned {
        topic: options.topic,
        partition: options.partition,
        replicas: options.replicas,
    };
    output.result(&reassigned, |r| match r.replicas.is_empty() {
        true => format!("{}-{} stays where it was", r.topic, r.partition),
        false => format!(
            "{}-{} moves to {}",
            r.topic,
            r.partition,
            super::listed(&r.replicas)
        ),
    })
}

#[derive(Serialize)]
struct Elected {
    topic: String,
}

pub(super) async fn elect_preferred(
    client: &Client,
    topic: String,
    output: &Output,
) -> Result<(), Failure> {
    let found = find(client, &topic).await?;
    let logs: Result<Vec<_>, _> = (0..found.partitions())
        .map(|partition| log_of(&found, partition))
        .collect();
    let done = client.elect_preferred(logs?).await;
    done.map_err(|error| failure(&error))?;
    output.result(&Elected { topic }, |e| {
        format!(
            "the partitions of {} are led by their preferred leaders",
            e.topic
        )
    })
}
