//! `millctl certs`: the certificates by which the brokers of a cluster know each other.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use millrace_model::{BrokerId, ClusterId};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output::{Output, table};
use crate::cluster::certificates::{Authority, BrokerCertificate, CertificateError, Terms};
use crate::cluster::local::parse_cluster_id;

#[derive(Debug, Args)]
pub(super) struct Certs {
    /// Directory of the certificates; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// The cluster, 32 hexadecimal digits. Drawn when the directory is made without it.
    #[arg(long, value_name = "ID", value_parser = parse_cluster_id)]
    cluster_id: Option<ClusterId>,
    /// Brokers to make certificates for, by node.id: 1,2,3.
    #[arg(long, value_name = "IDS", value_delimiter = ',', required = true)]
    nodes: Vec<u32>,
    /// A name or address of the brokers' hosts, or of one broker's: 2=broker-2.example.com. Repeatable.
    ///
    /// Brokers know each other by number, whatever their hosts are called; these names are for clients
    /// that compare them.
    #[arg(long = "host", value_name = "[NODE=]HOST")]
    hosts: Vec<Host>,
    /// How many days the certificates hold.
    #[arg(long, value_name = "DAYS", default_value_t = 730)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// Make new certificates for the keys that are there. Without it, nothing is overwritten.
    #[arg(long)]
    renew: bool,
}

/// A name of a host, of one broker or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    node: Option<u32>,
    host: String,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (node, host) = match text.split_once('=') {
            None => (None, text),
            Some((node, host)) => {
                let node = node
                    .parse()
                    .map_err(|_| format!("`{node}` is no node.id"))?;
                (Some(node), host)
            }
        };
        let host = host.to_owned();
        match host.is_empty() {
            true => Err("a host has a name".to_owned()),
            false => Ok(Self { node, host }),
        }
    }
}

#[derive(Serialize)]
struct Made {
    cluster_id: String,
    authority: Files,
    brokers: Vec<Broker>,
}

#[derive(Serialize)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Serialize)]
struct Broker {
    id: u32,
    name: String,
    certificate: PathBuf,
    key: PathBuf,
    /// The last day, as in `2028-11-24`.
    until: String,
}

pub(super) fn run(certs: &Certs, output: &Output) -> Result<(), Failure> {
    let nodes: BTreeSet<u32> = certs.nodes.iter().copied().collect();
    if let Some(stray) = certs
        .hosts
        .iter()
        .filter_map(|host| host.node)
        .find(|node| !nodes.contains(node))
    {
        return Err(Failure::usage(format!(
            "--host names broker {stray}, which --nodes does not"
        )));
    }
    let authority =
        Authority::open(&certs.dir, certs.cluster_id).map_err(|error| failed(&error))?;
    if !certs.renew {
        // Before anything is made: either all of them, or none.
        let brokers = nodes.iter().map(|node| BrokerId(*node));
        authority
            .expect_none(brokers)
            .map_err(|error| failed(&error))?;
    }
    let mut brokers = Vec::new();
    for node in nodes {
        let hosts = certs
            .hosts
            .iter()
            .filter(|host| host.node.is_none_or(|of| of == node));
        let terms = Terms {
            hosts: hosts.map(|host| host.host.clone()).collect(),
            days: certs.days,
        };
        let made = match certs.renew {
            true => authority.renew(BrokerId(node), &terms),
            false => authority.issue(BrokerId(node), &terms),
        };
        brokers.push(shown(made.map_err(|error| failed(&error))?));
    }
    let made = Made {
        cluster_id: authority.cluster().to_string(),
        authority: Files {
            certificate: authority.file(),
            key: authority.key_file(),
        },
        brokers,
    };
    output.result(&made, text)
}

fn failed(error: &CertificateError) -> Failure {
    Failure::new(Exit::Other, error.to_string())
}

fn shown(made: BrokerCertificate) -> Broker {
    let (year, month, day) = made.until;
    Broker {
        id: made.name.broker.0,
        name: made.name.to_string(),
        certificate: made.certificate,
        key: made.key,
        until: format!("{year:04}-{month:02}-{day:02}"),
    }
}

fn text(made: &Made) -> String {
    let mut rows = vec![
        ["BROKER", "CERTIFICATE", "KEY", "UNTIL"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(made.brokers.iter().map(|broker| {
        let (certificate, key) = (broker.certificate.display(), broker.key.display());
        vec![
            broker.id.to_string(),
            certificate.to_string(),
            key.to_string(),
            broker.until.clone(),
        ]
    }));
    let voters: Vec<String> = made
        .brokers
        .iter()
        .map(|broker| format!("{}@HOST:9644", broker.id))
        .collect();
    let settings = made.brokers.first().map_or_else(String::new, |first| {
        format!(
            "\nSettings of broker {}, and likewise of the others:\n\
             \x20 node.id = {}\n\
             \x20 cluster.id = \"{}\"\n\
             \x20 controller.quorum.voters = \"{}\"\n\
             \x20 tls.certificate.file = \"{}\"\n\
             \x20 tls.key.file = \"{}\"\n\
             \x20 tls.ca.file = \"{}\"\n",
            first.id,
            first.id,
            made.cluster_id,
            voters.join(","),
            first.certificate.display(),
            first.key.display(),
            made.authority.certificate.display(),
        )
    });
    format!(
        "cluster {}\n{}\nThe authority is {}. Keep its key {} apart: who has it can make brokers, and no broker needs it.\n{settings}",
        made.cluster_id,
        table(&rows),
        made.authority.certificate.display(),
        made.authority.key.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_of_all_brokers_or_of_one() {
        let host = |node, host: &str| {
            let host = host.to_owned();
            Ok(Host { node, host })
        };
        assert_eq!("10.0.0.1".parse(), host(None, "10.0.0.1"));
        assert_eq!("2=b2".parse(), host(Some(2), "b2"));
        for text in ["", "x=b2", "2="] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }
}
