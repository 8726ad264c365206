//! `millctl`, the command line of Millrace.
//!
//! One file a command. Each command is a `clap` argument type and a function that carries it
//! out; what they share is how a broker is reached ([`connect`]), how results are printed
//! ([`output`]) and what the exit code says ([`exit`]). Results go to standard output, all
//! else to standard error.

mod certs;
mod cluster;
mod connect;
mod consume;
pub mod exit;
mod group;
mod hist;
mod interrupt;
pub mod lines;
mod metrics;
mod offline;
mod offsets;
pub mod output;
mod produce;
pub mod template;
pub mod time;
mod top;
mod topic;

use clap::{CommandFactory as _, Parser, Subcommand};
use millrace_client::Client;

pub use connect::BrokerOptions;
use exit::{Exit, Failure};
use output::Output;

/// Produce to, consume from and look after a Millrace broker.
#[derive(Debug, Parser)]
#[command(name = "millctl", version, after_help = Exit::TABLE)]
pub struct Millctl {
    #[command(flatten)]
    broker: BrokerOptions,

    /// Print results, and errors, as JSON.
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, list, describe, alter and delete topics.
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// List, describe, reset and delete consumer groups.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Describe a cluster, say how it is, move replicas, empty brokers; start one on this machine.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Make the certificates by which the brokers of a cluster know each other.
    ///
    /// An authority is made with the first of them, and kept for those of brokers that come later.
    Certs(certs::Certs),
    /// Send the lines of standard input, one record a line.
    Produce(produce::Produce),
    /// Print the records of a topic.
    Consume(consume::Consume),
    /// Show the offsets, the shard and the size of each partition of a topic.
    Offsets(offsets::Offsets),
    /// Print the broker's counters and histograms as Prometheus text.
    Metrics,
    /// Show how long batches spend in each stage of their way through the broker.
    Hist(hist::Hist),
    /// Show the slowest batches of the last ten minutes, each with all its stages.
    Slow(hist::Slow),
    /// Show what each core of the broker does, again and again. `q` ends it.
    Top(top::Top),
    /// Look into the log files of a stopped broker.
    #[command(subcommand)]
    Log(offline::LogCommand),
    /// Print a completion script for a shell.
    ///
    /// For example `millctl completions bash > /etc/bash_completion.d/millctl`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs `millctl` with the arguments of this process.
#[must_use]
pub fn main() -> Exit {
    let millctl = Millctl::parse();
    let json = millctl.json;
    match run(millctl) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            output::print_failure(&failure, json);
            failure.exit
        }
    }
}

fn run(millctl: Millctl) -> Result<(), Failure> {
    let output = Output::new(millctl.json);
    match millctl.command {
        Command::Completions { shell } => completions(shell, &output),
        Command::Log(command) => offline::run(&command, &output),
        Command::Certs(certs) => certs::run(&certs, &output),
        online => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::new(Exit::Other, format!("cannot start: {error}")))?;
            let outcome = runtime.block_on(run_online(online, &millctl.broker, &output));
            // A read of standard input may block for ever; nothing is lost by leaving it.
            runtime.shutdown_background();
            outcome
        }
    }
}

async fn run_online(
    command: Command,
    broker: &BrokerOptions,
    output: &Output,
) -> Result<(), Failure> {
    // It goes on when the broker goes away.
    if let Command::Top(top) = &command {
        return top::run(top, broker, output).await;
    }
    if let Command::Cluster(cluster::ClusterCommand::Local(command)) = &command {
        return cluster::run_local(command, output).await;
    }
    let client = broker.connect().await?;
    let outcome = run_command(&client, command, output).await;
    client.close().await;
    outcome
}

async fn run_command(client: &Client, command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Topic(command) => topic::run(client, command, output).await,
        Command::Group(command) => group::run(client, command, output).await,
        Command::Cluster(command) => cluster::run(client, command, output).await,
        Command::Produce(produce) => produce::run(client, produce, output).await,
        Command::Consume(consume) => consume::run(client, consume, output).await,
        Command::Offsets(offsets) => offsets::run(client, &offsets, output).await,
        Command::Metrics => metrics::run(client, output).await,
        Command::Hist(hist) => hist::hist(client, &hist, output).await,
        Command::Slow(slow) => hist::slow(client, &slow, output).await,
        Command::Top(_) => unreachable!("connects by itself"),
        Command::Log(_) | Command::Certs(_) | Command::Completions { .. } => {
            unreachable!("needs no broker")
        }
    }
}

fn completions(shell: clap_complete::Shell, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Millctl::command(), "millctl", &mut script);
    output.bytes(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Millctl::command().debug_assert();
    }

    #[test]
    fn the_help_shows_the_exit_codes() {
        let help = Millctl::command().render_help().to_string();
        assert!(help.contains(Exit::TABLE), "{help}");
    }

    #[test]
    fn options_of_the_whole_command_stand_anywhere() {
        let parsed = Millctl::try_parse_from([
            "millctl",
            "topic",
            "create",
            "orders",
            "--config",
            "retention.ms=1000",
            "--json",
            "--broker",
            "[::1]:9000",
        ]);
        assert!(parsed.unwrap().json);
    }

    /// An argument of a command that has the name of a global option takes its place, and is found out
    /// only when it is read.
    #[test]
    fn commands_about_a_broker_stand_beside_the_option_of_that_name() {
        for command in [
            "decommission 4 --no-wait",
            "recommission 4",
            "unregister 4",
            "reassign t --partition 0 --replicas 1,2",
            "elect-preferred t",
            "health",
        ] {
            let line = format!("millctl --broker [::1]:9000 cluster {command}");
            assert!(Millctl::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_a_usage_error() {
        let lines = [
            "millctl",
            "millctl topic create",
            "millctl topic create t --config nothing",
            "millctl topic alter t",
            "millctl topic create t --partitions 0",
            "millctl topic delete-records t --partition 0",
            "millctl produce t --acks 2",
            "millctl produce t --compression brotli",
            "millctl produce t --header nothing",
            "millctl consume t --from yesterday",
            "millctl consume t --format %q",
            "millctl consume t --format %v --json --count x",
            "millctl consume t --group g --partition 1",
            "millctl consume t --instance i",
            "millctl consume t --group g --commit-interval 0",
            "millctl group describe",
            "millctl group reset-offsets g --to-earliest",
            "millctl group reset-offsets g --all-topics",
            "millctl group reset-offsets g --topic t --all-topics --to-latest",
            "millctl group reset-offsets g --topic t --to-latest --to-earliest",
            "millctl group reset-offsets g --topic t:x --to-latest",
            "millctl group reset-offsets g --topic t --shift-by x",
            "millctl group reset-offsets g --topic t --by-duration soon",
            "millctl group delete-offsets g",
            "millctl metrics --ca a --fingerprint 00",
            "millctl metrics --fingerprint 00",
            "millctl hist --format xml",
            "millctl hist --topic t --window 1m",
            "millctl slow --limit many",
            "millctl top --interval 0",
            "millctl certs",
            "millctl certs --nodes x",
            "millctl certs --nodes 1 --cluster-id c1",
            "millctl certs --nodes 1 --host x=b1",
            "millctl cluster",
            "millctl cluster up --nodes 0",
            "millctl cluster up --nodes 32",
            "millctl completions tcsh",
        ];
        for line in lines {
            let error = Millctl::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), i32::from(Exit::Usage as u8), "{line}");
        }
    }
}
