//! `millctl cluster up`: starts the brokers of a cluster on this machine that do not run, and stops
//! them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::exit::{Exit, Failure};
use super::super::output::{Output, note, table};
use crate::broker::Ready;
use crate::cluster::local::{LocalCluster, MAX_NODES, Node};
use crate::cluster::process::{NodeProcess, find_installed, running};

/// How often it is looked whether a broker has ended.
const WATCH: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(in crate::cli) struct Up {
    /// Number of brokers, when the cluster is made; 3 without it.
    #[arg(long, value_name = "N", value_parser = parse_nodes)]
    nodes: Option<NonZeroU32>,
    /// Directory of everything that belongs to the cluster.
    #[arg(long, value_name = "DIR", default_value = "millrace-cluster")]
    dir: PathBuf,
    /// The racks that the brokers stand in, in turn, when the cluster is made.
    #[arg(long, value_name = "RACK[,..]", value_delimiter = ',')]
    racks: Vec<String>,
    /// Leave the brokers running and return.
    #[arg(long)]
    detach: bool,
}

fn parse_nodes(text: &str) -> Result<NonZeroU32, String> {
    let nodes = text
        .parse()
        .ok()
        .filter(|nodes: &NonZeroU32| nodes.get() <= MAX_NODES);
    nodes.ok_or_else(|| format!("a number from 1 to {MAX_NODES}"))
}

/// A broker that serves.
#[derive(Serialize)]
struct Broker {
    id: u32,
    pid: u32,
    quic: String,
    kafka: Option<String>,
    http: Option<String>,
}

impl Broker {
    /// One that an earlier `up` started.
    fn running(node: &Node, pid: u32) -> Self {
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        Self {
            id: node.id,
            pid,
            quic: at(node.quic),
            kafka: Some(at(node.kafka)),
            http: Some(at(node.http)),
        }
    }
}

pub(super) async fn run(up: &Up, output: &Output) -> Result<(), Failure> {
    let mut ends = Ends::listen().map_err(other)?;
    let cluster = LocalCluster::open_or_make(&up.dir, up.nodes, &up.racks).map_err(other)?;
    let bin = find_installed().map_err(other)?;
    let mut nodes = Nodes(Vec::new());
    let mut brokers = Vec::new();
    for node in cluster.nodes() {
        match running(&cluster, node.id) {
            Some(pid) => brokers.push(Broker::running(node, pid)),
            None => nodes
                .0
                .push(NodeProcess::start(&bin, &cluster, node).map_err(other)?),
        }
    }
    if nodes.0.is_empty() {
        let message = "all its brokers run already; `millctl cluster down` stops them";
        return Err(Failure::new(Exit::Other, message));
    }
    // Together: a broker serves when a majority of them has found each other.
    let started = tokio::select! {
        brokers = nodes.ready() => brokers.map_err(other)?,
        () = ends.next() => return Err(Failure::interrupted()),
    };
    brokers.extend(started);
    brokers.sort_unstable_by_key(|broker| broker.id);
    output.result(&brokers, |brokers| text(brokers))?;
    if up.detach {
        nodes.leave();
        return Ok(());
    }
    note(&format!(
        "cluster {} runs in {}; Ctrl-C stops it",
        cluster.id(),
        up.dir.display()
    ));
    nodes.watch(&mut ends).await;
    note("stopping; Ctrl-C again kills");
    tokio::select! {
        stopped = nodes.stop() => stopped.map_err(other),
        () = ends.next() => Err(Failure::interrupted()),
    }
}

fn other(error: io::Error) -> Failure {
    Failure::new(Exit::Other, error.to_string())
}

fn text(brokers: &[Broker]) -> String {
    let mut rows = vec![
        ["ID", "PID", "QUIC", "KAFKA", "HTTP"]
            .map(String::from)
            .to_vec(),
    ];
    let or_none = |address: &Option<String>| address.clone().unwrap_or_else(|| "none".to_owned());
    rows.extend(brokers.iter().map(|broker| {
        vec![
            broker.id.to_string(),
            broker.pid.to_string(),
            broker.quic.clone(),
            or_none(&broker.kafka),
            or_none(&broker.http),
        ]
    }));
    table(&rows)
}

/// Waits until a broker has joined its cluster and takes work.
async fn joined(id: u32, http: SocketAddr) -> io::Result<()> {
    let joined = async {
        loop {
            match is_ready(http).await {
                Ok(true) => return,
                // It may not serve yet, or be busy.
                Ok(false) | Err(_) => tokio::time::sleep(JOIN_INTERVAL).await,
            }
        }
    };
    let late = |_| {
        let message = format!("broker {id} has not joined its cluster after {JOIN_TIMEOUT:?}");
        io::Error::new(io::ErrorKind::TimedOut, message)
    };
    tokio::time::timeout(JOIN_TIMEOUT, joined)
        .await
        .map_err(late)
}

async fn is_ready(http: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(http).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; STATUS_LEN];
    stream.read_exact(&mut status).await?;
    Ok(status.ends_with(b" 200"))
}

/// Bytes of an HTTP answer up to the end of its status code.
const STATUS_LEN: usize = "HTTP/1.1 200".len();

/// How often a broker is asked whether it has joined.
const JOIN_INTERVAL: Duration = Duration::from_millis(10);

/// How long brokers may take to find each other, elect and register: usually a fraction of a second.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The brokers that were started. Who drops them kills them.
struct Nodes(Vec<NodeProcess>);

impl Nodes {
    async fn ready(&mut self) -> io::Result<Vec<Broker>> {
        let mut brokers = Vec::new();
        for node in &mut self.0 {
            let Ready { quic, kafka, http } = node.ready().await?;
            if let Some(http) = http {
                joined(node.id, http).await?;
            }
            brokers.push(Broker {
                id: node.id,
                pid: node.pid(),
                quic: quic.to_string(),
                kafka: kafka.map(|address| address.to_string()),
                http: http.map(|address| address.to_string()),
            });
        }
        Ok(brokers)
    }

    /// Waits for a signal, and says which brokers end meanwhile. The others go on: that is what a
    /// cluster is for.
    async fn watch(&mut self, ends: &mut Ends) {
        while !self.0.is_empty() {
            self.0.retain_mut(|node| match node.ended() {
                Ok(None) => true,
                Ok(Some(status)) => {
                    note(&format!("broker {} ended with {status}", node.id));
                    false
                }
                Err(error) => {
                    note(&format!("broker {} is not seen any more: {error}", node.id));
                    false
                }
            });
            tokio::select! {
                () = ends.next() => return,
                () = tokio::time::sleep(WATCH) => {}
            }
        }
    }

    /// Asks all of them to stop, and waits for it.
    async fn stop(&mut self) -> io::Result<()> {
        for node in &mut self.0 {
            node.ask_to_stop()?;
        }
        let mut outcome = Ok(());
        for node in &mut self.0 {
            let stopped = node.stopped().await;
            outcome = outcome.and(stopped);
        }
        outcome
    }

    /// Leaves them running.
    fn leave(&mut self) {
        self.0.clear();
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            node.kill();
        }
    }
}

/// The signals that end it: Ctrl-C, a kind kill, and a terminal that is closed.
struct Ends([Signal; 3]);

impl Ends {
    fn listen() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
