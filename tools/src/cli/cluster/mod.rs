//! `millctl cluster`: what a cluster of brokers is made of, how it is, and what becomes of its
//! brokers and replicas; and clusters on this machine, from one command.

mod change;
mod describe;
mod down;
mod health;
mod up;
mod voters;

use clap::Subcommand;
use millrace_client::Client;
use millrace_model::BrokerId;

use super::exit::Failure;
use super::output::Output;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    #[command(flatten)]
    Local(LocalCommand),
    /// Show the brokers, the metadata quorum and how the partitions are.
    Describe,
    /// Say whether every broker and every partition is well. The exit code says it too.
    Health,
    /// Empty a broker: its replicas move to others, until it holds nothing.
    Decommission(change::Decommission),
    /// Take back a decommission.
    Recommission {
        /// The broker's id.
        #[arg(value_name = "BROKER")]
        id: u32,
    },
    /// Strike off a broker that holds nothing and does not run.
    Unregister {
        /// The broker's id.
        #[arg(value_name = "BROKER")]
        id: u32,
    },
    /// Show who keeps the metadata: voters and learners, by the one who leads them.
    Voters,
    /// Let a broker vote on the metadata. The cluster keeps an odd number of voters by itself; this
    /// is for who wants others.
    AddVoter {
        /// The broker's id.
        #[arg(value_name = "BROKER")]
        id: u32,
    },
    /// Let a broker vote on the metadata no more. Another takes its place if one stands by.
    RemoveVoter {
        /// The broker's id.
        #[arg(value_name = "BROKER")]
        id: u32,
    },
    /// Move a partition to other brokers.
    Reassign(change::Reassign),
    /// Give partitions back to their preferred leaders, which the cluster also does by itself.
    ElectPreferred {
        /// The topic.
        topic: String,
    },
}

/// What needs no broker to talk to.
#[derive(Debug, Subcommand)]
pub(super) enum LocalCommand {
    /// Start a cluster on this machine, to play with: certificates, directories, ports, processes.
    ///
    /// It runs until Ctrl-C. The next `up` with the same --dir starts the same brokers again.
    Up(up::Up),
    /// Stop the brokers of a cluster that `up --detach` has left running.
    Down(down::Down),
}

pub(super) async fn run_local(command: &LocalCommand, output: &Output) -> Result<(), Failure> {
    match command {
        LocalCommand::Up(up) => up::run(up, output).await,
        LocalCommand::Down(down) => down::run(down, output).await,
    }
}

pub(super) async fn run(
    client: &Client,
    command: ClusterCommand,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        ClusterCommand::Local(_) => unreachable!("needs no broker"),
        ClusterCommand::Describe => describe::run(client, output).await,
        ClusterCommand::Health => health::run(client, output).await,
        ClusterCommand::Decommission(decommission) => {
            change::decommission(client, decommission, output).await
        }
        ClusterCommand::Recommission { id } => {
            change::recommission(client, BrokerId(id), output).await
        }
        ClusterCommand::Unregister { id } => change::unregister(client, BrokerId(id), output).await,
        ClusterCommand::Voters => voters::list(client, output).await,
        ClusterCommand::AddVoter { id } => voters::add(client, BrokerId(id), output).await,
        ClusterCommand::RemoveVoter { id } => voters::remove(client, BrokerId(id), output).await,
        ClusterCommand::Reassign(reassign) => change::reassign(client, reassign, output).await,
        ClusterCommand::ElectPreferred { topic } => {
            change::elect_preferred(client, topic, output).await
        }
    }
}

/// Ids of brokers, as Kafka's tools show them.
pub(super) fn listed(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(",")
}
