//! The settings of a broker that is one of a cluster: their own types of values, and what must be
//! set together.
//!
//! [`Config::cluster`] is the one question to ask: it tells a broker alone from one among peers,
//! and after a configuration was built it cannot fail.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use millrace_model::{BrokerId, ClusterId};
use millrace_replication::cluster::MAX_REPLICAS;

use super::keys::Config;
use super::value::{Setting, host_and_port, host_and_port_text};

/// Voters of a metadata quorum. More than a handful only make it slower; nobody needs as many.
const MAX_VOTERS: usize = 31;

/// A broker that keeps the metadata of its cluster, and where the others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its number.
    pub broker: BrokerId,
    /// Host name or address of its QUIC listener.
    pub host: String,
    /// That listener's port.
    pub port: u16,
}

/// The voters that a cluster starts with, or `none` for a broker alone:
/// `1@broker-1:9644,2@broker-2:9644,3@broker-3:9644`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters(pub Vec<Voter>);

impl Setting for Voters {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const LEGAL: &str = "brokers and their QUIC addresses, each once, for example \
             1@broker-1:9644,2@broker-2:9644,3@broker-3:9644, or none";
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let mut voters: Vec<Voter> = Vec::new();
        for voter in text.split(',') {
            let (broker, address) = voter.trim().split_once('@').ok_or(LEGAL)?;
            let broker = broker.parse().map_err(|_| LEGAL)?;
            let (host, port) = host_and_port(address).ok_or(LEGAL)?;
            let again = |known: &Voter| {
                known.broker == broker || (known.host == host && known.port == port)
            };
            if voters.iter().any(again) || voters.len() == MAX_VOTERS {
                return Err(LEGAL);
            }
            voters.push(Voter { broker, host, port });
        }
        Ok(Self(voters))
    }

    fn text(&self) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        let voters: Vec<String> = self.0.iter().map(Voter::to_string).collect();
        voters.join(",")
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = host_and_port_text(&self.host, self.port);
        write!(f, "{}@{address}", self.broker)
    }
}

/// How many voters a cluster shall have: odd, or 0 for as many as people make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterTarget(pub u8);

impl Setting for VoterTarget {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let legal =
            |count: &u8| *count == 0 || (count % 2 == 1 && usize::from(*count) <= MAX_VOTERS);
        let count = text.parse().ok().filter(legal);
        // Two voters are no safer than one, nor four than three: each change needs more than half.
        count
            .map(Self)
            .ok_or("an odd number from 1 to 31, or 0 to leave the voters to people")
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl Setting for Option<ClusterId> {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "none" => Ok(None),
            _ => text.parse().map(Some).map_err(
                |_| "the 32 hexadecimal digits that `millctl certs` was given or has drawn, or none",
            ),
        }
    }

    fn text(&self) -> String {
        self.map_or_else(|| "none".to_owned(), |id| id.to_string())
    }
}

/// A name for what brokers stand in, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rack(pub Option<String>);

impl Setting for Rack {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "none" => Ok(Self(None)),
            _ if text.is_empty() || text.len() > millrace_replication::cluster::MAX_NAME_LEN => {
                Err("the name of a rack, of at most 255 bytes, or none")
            }
            _ => Ok(Self(Some(text.to_owned()))),
        }
    }

    fn text(&self) -> String {
        self.0.clone().unwrap_or_else(|| "none".to_owned())
    }
}

/// Which replica consumers are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// One in the consumer's rack.
    Rack,
    /// The leader.
    Leader,
}

impl Setting for ReplicaSelector {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "rack" | "org.apache.kafka.common.replica.RackAwareReplicaSelector" => Ok(Self::Rack),
            "leader" | "org.apache.kafka.common.replica.LeaderSelector" => Ok(Self::Leader),
            _ => Err("rack or leader"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Rack => "rack".to_owned(),
            Self::Leader => "leader".to_owned(),
        }
    }
}

/// What makes a broker one of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterConfig<'a> {
    /// The cluster.
    pub id: ClusterId,
    /// This broker. Who is not among the voters keeps a copy of the metadata, without a vote.
    pub broker: BrokerId,
    /// Who keeps the metadata at the cluster's start.
    pub voters: &'a [Voter],
    /// PEM file of this broker's certificate.
    pub certificate: &'a Path,
    /// PEM file of its private key.
    pub key: &'a Path,
    /// PEM file of the authority that signs the brokers' certificates.
    pub authority: &'a Path,
}

impl Config {
    /// What makes this broker one of a cluster; `None` for a broker alone.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterConfig<'_>> {
        if self.controller_quorum_voters.0.is_empty() {
            return None;
        }
        const BUILT: &str =
            "it is set together with the voters; that was checked when the configuration was built";
        Some(ClusterConfig {
            id: self.cluster_id.expect(BUILT),
            broker: BrokerId(self.node_id),
            voters: &self.controller_quorum_voters.0,
            certificate: self.tls_certificate.0.as_deref().expect(BUILT),
            key: self.tls_key.0.as_deref().expect(BUILT),
            authority: self.tls_ca.0.as_deref().expect(BUILT),
        })
    }

    /// Host and port at which peers and native clients find a broker that listens at `bound`:
    /// what `advertised.quic` says, else what the voters say of it, else `bound`, as it is seen from
    /// this machine.
    #[must_use]
    pub fn quic_endpoint(&self, bound: SocketAddr) -> (String, u16) {
        if let Some(advertised) = &self.advertised_quic.0 {
            return advertised.clone();
        }
        if let Some(voter) = self.own_vote() {
            return (voter.host.clone(), voter.port);
        }
        let host = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        (host.to_string(), bound.port())
    }

    fn own_vote(&self) -> Option<&Voter> {
        let mut voters = self.controller_quorum_voters.0.iter();
        voters.find(|voter| voter.broker == BrokerId(self.node_id))
    }

    /// What is wrong with the settings of a cluster taken together.
    pub(super) fn cluster_conflict(&self, node_id_is_set: bool) -> Option<String> {
        let factors = [
            (
                "default.replication.factor",
                self.default_replication_factor,
            ),
            (
                "offsets.topic.replication.factor",
                self.offsets_topic_replication_factor,
            ),
        ];
        for (key, factor) in factors {
            if factor.get() as usize > MAX_REPLICAS {
                return Some(format!(
                    "{key} is above {MAX_REPLICAS}, the most replicas of a partition"
                ));
            }
        }
        let (heartbeat, session) = (self.broker_heartbeat_interval, self.broker_session_timeout);
        if heartbeat.0.is_zero() || heartbeat.0 > session.0 / 2 {
            return Some(
                "broker.heartbeat.interval.ms is above half of broker.session.timeout.ms, or zero: \
                 one lost heartbeat would fence the broker"
                    .to_owned(),
            );
        }
        match self.controller_quorum_voters.0.is_empty() {
            true => self.lone_conflict(),
            false => self.member_conflict(node_id_is_set),
        }
    }

    /// A broker alone has nothing of a cluster: half a configuration must not start as one.
    fn lone_conflict(&self) -> Option<String> {
        let set = [
            ("cluster.id", self.cluster_id.is_some()),
            ("tls.ca.file", self.tls_ca.0.is_some()),
        ];
        let (key, _) = set.into_iter().find(|(_, is_set)| *is_set)?;
        Some(format!(
            "{key} is set, but controller.quorum.voters is not: a broker alone needs neither, one of a cluster both"
        ))
    }

    fn member_conflict(&self, node_id_is_set: bool) -> Option<String> {
        if !node_id_is_set {
            return Some("controller.quorum.voters is set, so node.id must be too: the brokers of a cluster are told apart by it".to_owned());
        }
        let set = [
            ("cluster.id", self.cluster_id.is_some()),
            ("tls.certificate.file", self.tls_certificate.0.is_some()),
            ("tls.key.file", self.tls_key.0.is_some()),
            ("tls.ca.file", self.tls_ca.0.is_some()),
        ];
        let missing: Vec<&str> = set
            .iter()
            .filter_map(|(key, is_set)| (!is_set).then_some(*key))
            .collect();
        if !missing.is_empty() {
            let (missing, node) = (missing.join(", "), self.node_id);
            return Some(format!(
                "controller.quorum.voters is set, so these must be too: {missing}. Brokers of a cluster know each other by \
                 certificates; `millctl certs --nodes {node},...` makes them and prints the settings"
            ));
        }
        if self.quic.ip().is_unspecified()
            && self.advertised_quic.0.is_none()
            && self.own_vote().is_none()
        {
            return Some(format!(
                "broker {} is not among controller.quorum.voters and listens on {}, so advertised.quic must say where the others find it",
                self.node_id, self.quic
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::Layers;
    use super::*;

    const ID: &str = "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1";
    const VOTERS: &str = "1@127.0.0.1:9001,2@[::1]:9002,3@broker-3:9003";

    fn configured(flags: &[(&str, &str)]) -> Result<Config, String> {
        let mut layers = Layers::default();
        for (key, text) in flags {
            layers = layers.flag(key, text).unwrap();
        }
        let built = layers.build().map_err(|error| error.to_string())?;
        Ok(built.config)
    }

    fn member<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut flags = vec![
            ("controller.quorum.voters", VOTERS),
            ("node.id", "2"),
            ("cluster.id", ID),
            ("tls.certificate.file", "cert.pem"),
            ("tls.key.file", "key.pem"),
            ("tls.ca.file", "ca.pem"),
        ];
        flags.extend(more);
        flags
    }

    #[test]
    fn voters_are_read_as_they_are_written() {
        let voters = Voters::parse(VOTERS).unwrap();
        assert_eq!(voters.text(), VOTERS);
        assert_eq!(voters.0[1].host, "::1");
        assert_eq!(voters.0[2].broker, BrokerId(3));
        assert_eq!(Voters::parse("none"), Ok(Voters(Vec::new())));
        for text in [
            "",
            "1",
            "1@host",
            "@host:1",
            "x@host:1",
            "1@host:0",
            "1@a:1,1@b:1",
            "1@a:1,2@a:1",
            "1@a:1,",
        ] {
            assert!(Voters::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_cluster_has_an_odd_number_of_voters() {
        for text in ["0", "1", "3", "31"] {
            assert_eq!(VoterTarget::parse(text).unwrap().text(), text);
        }
        for text in ["2", "32", "33", "-1", "three"] {
            assert!(VoterTarget::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_broker_alone_is_none_of_a_cluster() {
        let config = configured(&[]).unwrap();
        assert_eq!(config.cluster(), None);
        for key in ["cluster.id", "tls.ca.file"] {
            let error = configured(&[(key, ID)]).unwrap_err();
            assert!(
                error.contains(key) && error.contains("controller.quorum.voters"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_member_has_all_that_its_peers_know_it_by() {
        let config = configured(&member(&[])).unwrap();
        let cluster = config.cluster().unwrap();
        assert_eq!(
            (cluster.id, cluster.broker),
            (ID.parse().unwrap(), BrokerId(2))
        );
        assert_eq!(cluster.authority, Path::new("ca.pem"));
        let whole = member(&[]);
        for at in 1..whole.len() {
            let mut flags = whole.clone();
            let (key, _) = flags.remove(at);
            let error = configured(&flags).unwrap_err();
            assert!(error.contains(key), "without {key}: {error}");
        }
    }

    #[test]
    fn who_lacks_a_certificate_is_told_how_to_make_one() {
        let flags = [
            ("controller.quorum.voters", VOTERS),
            ("node.id", "2"),
            ("cluster.id", ID),
        ];
        let error = configured(&flags).unwrap_err();
        assert!(
            error.contains("tls.certificate.file, tls.key.file, tls.ca.file"),
            "{error}"
        );
        assert!(error.contains("millctl certs"), "{error}");
    }

    #[test]
    fn a_broker_without_a_vote_says_where_it_is_found() {
        let config = configured(&member(&[("node.id", "4"), ("quic", "10.0.0.4:9644")])).unwrap();
        assert_eq!(config.cluster().unwrap().broker, BrokerId(4));
        let error = configured(&member(&[("node.id", "4")])).unwrap_err();
        assert!(error.contains("advertised.quic"), "{error}");
        assert!(configured(&member(&[("node.id", "4"), ("advertised.quic", "b4:9644")])).is_ok());
    }

    #[test]
    fn a_listener_is_found_where_it_is_said_to_be() {
        let endpoint = |flags: &[(&str, &str)], bound: &str| {
            configured(flags)
                .unwrap()
                .quic_endpoint(bound.parse().unwrap())
        };
        let found = |host: &str, port| (host.to_owned(), port);
        assert_eq!(endpoint(&[], "0.0.0.0:7"), found("127.0.0.1", 7));
        assert_eq!(endpoint(&[], "[::]:7"), found("::1", 7));
        assert_eq!(endpoint(&[], "10.0.0.1:7"), found("10.0.0.1", 7));
        assert_eq!(endpoint(&member(&[]), "0.0.0.0:7"), found("::1", 9002));
        let advertised = member(&[("advertised.quic", "b2:1")]);
        assert_eq!(endpoint(&advertised, "0.0.0.0:7"), found("b2", 1));
    }

    #[test]
    fn times_and_factors_that_cannot_work_are_refused() {
        for (key, text) in [
            ("broker.heartbeat.interval.ms", "0"),
            ("broker.heartbeat.interval.ms", "700"),
            ("broker.session.timeout.ms", "300"),
            ("default.replication.factor", "33"),
            ("offsets.topic.replication.factor", "33"),
        ] {
            let error = configured(&[(key, text)]).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
    }
}
