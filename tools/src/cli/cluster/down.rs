//! `millctl cluster down`: stops the brokers of a cluster on this machine.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::exit::{Exit, Failure};
use super::super::output::Output;
use crate::cluster::local::LocalCluster;
use crate::cluster::process::{gone, running, terminate};

#[derive(Debug, Args)]
pub(in crate::cli) struct Down {
    /// Directory of the cluster.
    #[arg(long, value_name = "DIR", default_value = "millrace-cluster")]
    dir: PathBuf,
}

/// A broker that was stopped.
#[derive(Serialize)]
struct Stopped {
    id: u32,
    pid: u32,
}

pub(super) async fn run(down: &Down, output: &Output) -> Result<(), Failure> {
    let cluster = LocalCluster::open(&down.dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::not_found(error.to_string()),
        _ => Failure::new(Exit::Other, error.to_string()),
    })?;
    // All at the same time, as if the machine went down in good order.
    let other = |error: std::io::Error| Failure::new(Exit::Other, error.to_string());
    let mut stopped = Vec::new();
    for node in cluster.nodes() {
        if let Some(pid) = running(&cluster, node.id) {
            terminate(pid).map_err(other)?;
            stopped.push(Stopped { id: node.id, pid });
        }
    }
    for broker in &stopped {
        gone(&cluster, broker.id, broker.pid).await.map_err(other)?;
    }
    output.result(&stopped, |stopped| match stopped.len() {
        0 => "no broker of it runs".to_owned(),
        1 => "stopped 1 broker".to_owned(),
        count => format!("stopped {count} brokers"),
    })
}
