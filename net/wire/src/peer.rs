//! The name by which brokers of a cluster know each other, as it stands in their certificates.

use std::fmt;
use std::str::FromStr;

use millrace_model::{BrokerId, ClusterId};

const PREFIX: &str = "broker-";
const SUFFIX: &str = ".millrace";

/// A broker of a cluster: `broker-<id>.<cluster id>.millrace`, in lower case, as a DNS name among the
/// subject's alternative names of its certificate. It resolves to nothing: addresses are told apart
/// from identities, so that a broker may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerName {
    /// The broker.
    pub broker: BrokerId,
    /// Its cluster.
    pub cluster: ClusterId,
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.{}{SUFFIX}", self.broker, self.cluster)
    }
}

/// The text is not the name of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a broker's name is broker-<number>.<32 hexadecimal digits>.millrace")]
pub struct PeerNameError;

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let middle = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix(SUFFIX));
        let (broker, cluster) = middle
            .and_then(|middle| middle.split_once('.'))
            .ok_or(PeerNameError)?;
        let name = Self {
            broker: broker.parse().map_err(|_| PeerNameError)?,
            cluster: cluster.parse().map_err(|_| PeerNameError)?,
        };
        // One spelling for each broker: no sign, no zero in front, no capitals.
        match name.to_string() == text {
            true => Ok(name),
            false => Err(PeerNameError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_has_one_name() {
        let name = PeerName {
            broker: BrokerId(42),
            cluster: ClusterId([0xc1; 16]),
        };
        let text = "broker-42.c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace";
        assert_eq!(name.to_string(), text);
        assert_eq!(text.parse(), Ok(name));
        for other in [
            "",
            "broker-42",
            "broker-042.c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace",
            "broker-+42.c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace",
            "broker-42.C1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace",
            "broker-4294967296.c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace",
            "broker-42.c1c1.millrace",
            "*.c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace",
            "broker-42.c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace.org",
            "x.broker-42.c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.millrace",
        ] {
            assert_eq!(other.parse::<PeerName>(), Err(PeerNameError), "{other}");
        }
    }

    #[test]
    fn the_longest_name_is_a_legal_dns_name() {
        let longest = PeerName {
            broker: BrokerId(u32::MAX),
            cluster: ClusterId([0xff; 16]),
        };
        let longest = longest.to_string();
        assert!(longest.len() <= 253);
        assert!(longest.split('.').all(|label| label.len() <= 63));
    }
}
