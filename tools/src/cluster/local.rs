//! A cluster on this machine, to play with and to test: its directory.
//!
//! | name | what |
//! | --- | --- |
//! | `cluster.json` | the cluster's identity, its brokers and their ports; written last |
//! | `certs/` | see [`super::certificates`] |
//! | `broker-<id>/millrace.toml` | the broker's settings, for a person to add to |
//! | `broker-<id>/data/` | what it stores |
//! | `broker-<id>/broker.log` | its log |
//! | `broker-<id>/pid` | its process, while it runs |
//!
//! Ports are fixed when the directory is made, for brokers find each other at them.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use millrace_model::{BrokerId, ClusterId};
use serde::{Deserialize, Serialize};

use super::certificates::{Authority, BrokerCertificate, CertificateError, Terms};

/// Brokers of a cluster on one machine. More than a dozen only wait for each other.
pub const MAX_NODES: u32 = 31;

/// Brokers, unless somebody says how many.
pub const DEFAULT_NODES: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");

/// Where ports are looked for: below those that Linux gives to outgoing connections, one of which would
/// be in the way when the cluster is started again.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Ports tried for one that is free.
const PORT_ATTEMPTS: usize = 1_000;

/// For how many days the brokers' certificates hold: a toy is not renewed.
const CERTIFICATE_DAYS: u64 = 10 * 365;

const STATE: &str = "cluster.json";

/// A broker's ports on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Port of the native protocol.
    pub quic: u16,
    /// Port of the Kafka protocol.
    pub kafka: u16,
    /// Port of metrics and health.
    pub http: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    cluster_id: String,
    nodes: Vec<Node>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LocalCluster {
    dir: PathBuf,
    state: State,
}

impl LocalCluster {
    /// The cluster in `dir`, which is made with so many brokers, that stand in these racks in turn, if
    /// there is none.
    ///
    /// # Errors
    /// Something cannot be read or written, or there is a cluster with another number of brokers.
    pub fn open_or_make(
        dir: &Path,
        nodes: Option<NonZeroU32>,
        racks: &[String],
    ) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        if !dir.join(STATE).exists() {
            return Self::make(dir, nodes.unwrap_or(DEFAULT_NODES).get(), racks);
        }
        let cluster = Self::open(&dir)?;
        let there = cluster.nodes().len();
        match nodes.filter(|nodes| nodes.get() as usize != there) {
            None => Ok(cluster),
            Some(_) => Err(io::Error::other(format!(
                "{} has a cluster of {there} brokers; name another --dir, or leave --nodes away",
                dir.display()
            ))),
        }
    }

    /// The cluster in `dir`.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let path = dir.join(STATE);
        let text = fs::read(&path).map_err(|error| explained(&path, error))?;
        let state = serde_json::from_slice(&text)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        Ok(Self { dir, state })
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.state.cluster_id
    }

    /// Its brokers.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.state.nodes
    }

    /// Where a broker's files are.
    #[must_use]
    pub fn node_dir(&self, id: u32) -> PathBuf {
        self.dir.join(format!("broker-{id}"))
    }

    /// A broker's settings.
    #[must_use]
    pub fn config_file(&self, id: u32) -> PathBuf {
        self.node_dir(id).join("millrace.toml")
    }

    fn make(dir: PathBuf, count: u32, racks: &[String]) -> io::Result<Self> {
        let certs = dir.join("certs");
        let authority = Authority::open(&certs, None).map_err(io::Error::other)?;
        let cluster = Self {
            state: State {
                cluster_id: authority.cluster().to_string(),
                nodes: choose_ports(count)?,
            },
            dir,
        };
        for (at, node) in cluster.nodes().iter().enumerate() {
            let rack = at.checked_rem(racks.len()).map(|at| racks[at].as_str());
            let files = certificate(&authority, node.id).map_err(io::Error::other)?;
            let path = cluster.config_file(node.id);
            fs::create_dir_all(cluster.node_dir(node.id))?;
            let text = cluster.settings(node, rack, &authority, &files);
            fs::write(&path, text).map_err(|error| explained(&path, error))?;
        }
        // Whole or not there: an interrupted making is begun again.
        let (new, path) = (
            cluster.dir.join("cluster.json.new"),
            cluster.dir.join(STATE),
        );
        let text = serde_json::to_string_pretty(&cluster.state)?;
        fs::write(&new, text).map_err(|error| explained(&new, error))?;
        fs::rename(&new, &path).map_err(|error| explained(&path, error))?;
        Ok(cluster)
    }

    /// A broker's settings as TOML.
    fn settings(
        &self,
        node: &Node,
        rack: Option<&str>,
        authority: &Authority,
        files: &BrokerCertificate,
    ) -> String {
        let nodes = self.nodes();
        let voters: Vec<String> = nodes
            .iter()
            .map(|node| format!("{}@{}", node.id, local(node.quic)))
            .collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) / nodes.len();
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let path = |path: &Path| quoted(&path.display().to_string());
        let rows = [
            ("node.id", node.id.to_string()),
            ("data.dir", path(&self.node_dir(node.id).join("data"))),
            ("quic", quoted(&local(node.quic).to_string())),
            ("kafka", quoted(&local(node.kafka).to_string())),
            ("http", quoted(&local(node.http).to_string())),
            ("cores", cores.max(1).to_string()),
            ("cluster.id", quoted(self.id())),
            ("controller.quorum.voters", quoted(&voters.join(","))),
            ("tls.certificate.file", path(&files.certificate)),
            ("tls.key.file", path(&files.key)),
            ("tls.ca.file", path(&authority.file())),
            ("default.replication.factor", nodes.len().min(3).to_string()),
            (
                "min.insync.replicas",
                nodes.len().div_ceil(2).min(2).to_string(),
            ),
        ];
        let mut text = format!(
            "# Broker {} of a cluster on this machine, made by `millctl cluster up`.\n\
             # Settings may be added; `millrace config` lists all. The ports are where the others find it.\n",
            node.id
        );
        let rack = rack.map(|rack| ("broker.rack", quoted(rack)));
        for (key, value) in rows.into_iter().chain(rack) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text
    }
}

/// A broker's certificate; a new one for its key if a making was interrupted.
fn certificate(authority: &Authority, id: u32) -> Result<BrokerCertificate, CertificateError> {
    let terms = Terms {
        hosts: Vec::new(),
        days: CERTIFICATE_DAYS,
    };
    match authority.issue(BrokerId(id), &terms) {
        Err(CertificateError::Exists(_)) => authority.renew(BrokerId(id), &terms),
        outcome => outcome,
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What keeps a port from being chosen twice.
enum Held {
    Tcp(#[allow(dead_code, reason = "held, not used")] TcpListener),
    Udp(#[allow(dead_code, reason = "held, not used")] UdpSocket),
}

fn choose_ports(count: u32) -> io::Result<Vec<Node>> {
    let mut held = Vec::new();
    let mut port = |bind: fn(SocketAddr) -> io::Result<Held>| {
        for _ in 0..PORT_ATTEMPTS {
            let port = fastrand::u16(PORTS);
            if let Ok(socket) = bind(local(port)) {
                held.push(socket);
                return Ok(port);
            }
        }
        Err(io::Error::other("no port is free"))
    };
    let tcp = |addr| TcpListener::bind(addr).map(Held::Tcp);
    let udp = |addr| UdpSocket::bind(addr).map(Held::Udp);
    let mut nodes = Vec::new();
    for id in 1..=count {
        nodes.push(Node {
            id,
            quic: port(udp)?,
            kafka: port(tcp)?,
            http: port(tcp)?,
        });
    }
    Ok(nodes)
}

fn explained(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The text of a cluster's identity is one.
///
/// # Errors
/// What it should be.
pub fn parse_cluster_id(text: &str) -> Result<ClusterId, String> {
    text.parse()
        .map_err(|_| "the identity of a cluster is 32 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_cluster_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a \"quoted\" place");
        let three = NonZeroU32::new(3);
        let racks = ["a".to_owned(), "b".to_owned()];
        let made = LocalCluster::open_or_make(&dir, three, &racks).unwrap();
        assert_eq!(made.nodes().len(), 3);
        let settings = fs::read_to_string(made.config_file(2)).unwrap();
        assert!(settings.contains("node.id = 2\n"), "{settings}");
        assert!(settings.contains("a \\\"quoted\\\" place"), "{settings}");
        assert!(settings.contains("min.insync.replicas = 2\n"), "{settings}");
        assert!(settings.contains("broker.rack = \"b\"\n"), "{settings}");
        let third = fs::read_to_string(made.config_file(3)).unwrap();
        assert!(third.contains("broker.rack = \"a\"\n"), "{third}");
        let again = LocalCluster::open_or_make(&dir, None, &[]).unwrap();
        assert_eq!((again.id(), again.nodes()), (made.id(), made.nodes()));
        let other = LocalCluster::open_or_make(&dir, NonZeroU32::new(5), &[]).unwrap_err();
        assert!(other.to_string().contains("3 brokers"), "{other}");
    }

    #[test]
    fn an_interrupted_making_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let one = NonZeroU32::new(1);
        let made = LocalCluster::open_or_make(dir.path(), one, &[]).unwrap();
        fs::remove_file(dir.path().join(STATE)).unwrap();
        let again = LocalCluster::open_or_make(dir.path(), NonZeroU32::new(2), &[]).unwrap();
        assert_eq!(again.id(), made.id());
        assert_eq!(again.nodes().len(), 2);
    }

    #[test]
    fn no_port_is_chosen_twice() {
        let nodes = choose_ports(MAX_NODES).unwrap();
        let mut tcp: Vec<u16> = nodes
            .iter()
            .flat_map(|node| [node.kafka, node.http])
            .collect();
        tcp.sort_unstable();
        tcp.dedup();
        assert_eq!(tcp.len(), 2 * MAX_NODES as usize);
        assert!(tcp.iter().all(|port| PORTS.contains(port)));
    }
}
