//! Where the brokers of the cluster are.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_model::{BrokerId, ShardCount, ShardId};
use millrace_net::{initial_cid_for, initial_cid_for_first_shard};
use millrace_replication::cluster::{Acquaintance, Broker, Cluster};
use quinn::ConnectionId;

use crate::config::Voter;
use crate::controller::{KAFKA_LISTENER, QUIC_LISTENER};

/// Makes the first connection id of an attempt.
pub(super) type FirstId = Arc<dyn Fn() -> ConnectionId + Send + Sync>;

/// A place where a broker may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Host name or address.
    pub(super) host: String,
    pub(super) port: u16,
    /// How many shards it has, once it has registered.
    shards: Option<ShardCount>,
}

impl Place {
    /// What makes a connection land on a shard; `None` if there is no such shard, as far as is known.
    pub(super) fn first_id(&self, shard: ShardId) -> Option<FirstId> {
        match self.shards {
            Some(shards) if shard.0 < shards.get() => {
                Some(Arc::new(move || initial_cid_for(shard, shards)))
            }
            None if shard.0 == 0 => Some(Arc::new(initial_cid_for_first_shard)),
            _ => None,
        }
    }
}

/// Every place that is known.
#[derive(Debug)]
pub(super) struct Addresses {
    /// Where brokers registered themselves.
    registered: BTreeMap<BrokerId, Place>,
    /// Where they take connections of Kafka clients.
    listeners: BTreeMap<BrokerId, (String, u16)>,
    /// Where they are by the word of another broker, until an image says so.
    told: BTreeMap<BrokerId, Place>,
    /// Where the voters are to be by the configuration: what there is before the first image, and
    /// when all of them have moved.
    voters: BTreeMap<BrokerId, Place>,
}

impl Addresses {
    pub(super) fn new(voters: &[Voter]) -> Self {
        let place = |voter: &Voter| Place {
            host: voter.host.clone(),
            port: voter.port,
            shards: None,
        };
        Self {
            registered: BTreeMap::new(),
            listeners: BTreeMap::new(),
            told: BTreeMap::new(),
            voters: voters
                .iter()
                .map(|voter| (voter.broker, place(voter)))
                .collect(),
        }
    }

    /// Takes over what brokers say of themselves. Returns those that are in it no more.
    pub(super) fn learn(&mut self, image: &Cluster) -> Vec<BrokerId> {
        let places = image
            .brokers()
            .filter_map(|broker| Some((broker.id, place_of(broker)?)));
        let before = std::mem::replace(&mut self.registered, places.collect());
        let listeners = image
            .brokers()
            .filter_map(|broker| Some((broker.id, broker.endpoint(KAFKA_LISTENER)?)));
        self.listeners = listeners
            .map(|(id, kafka)| (id, (kafka.host.clone(), kafka.port)))
            .collect();
        // An image that comes is later than what somebody said while there was none.
        self.told
            .retain(|broker, _| !self.registered.contains_key(broker));
        let mut gone: Vec<BrokerId> = before.into_keys().collect();
        gone.retain(|broker| !self.registered.contains_key(broker));
        gone
    }

    /// Where a broker has registered itself.
    pub(super) fn registered(&self, broker: BrokerId) -> Option<&Place> {
        self.registered.get(&broker)
    }

    /// Where a broker takes connections of Kafka clients, if it does and has registered.
    pub(super) fn listener(&self, broker: BrokerId) -> Option<&(String, u16)> {
        self.listeners.get(&broker)
    }

    /// Where a broker is to be tried the `nth` time in a row, counted from 0.
    pub(super) fn of(&self, broker: BrokerId, nth: u32) -> Option<&Place> {
        // A voter that has moved without being able to say so is where it was configured to be. How
        // many shards it has then is not known, and the one that has registered is as good.
        let mut places: Vec<&Place> = Vec::new();
        for known in [&self.told, &self.registered, &self.voters] {
            let place = known.get(&broker);
            let is_same = |place: &Place, other: &Place| {
                (&place.host, place.port) == (&other.host, other.port)
            };
            let is_new = |place: &&Place| !places.iter().any(|other| is_same(place, other));
            places.extend(place.filter(is_new));
        }
        let turn = (nth as usize).checked_rem(places.len())?;
        places.get(turn).copied()
    }

    /// Takes over what another broker says of where brokers are, in place of what the one before said.
    pub(super) fn meet(&mut self, brokers: &[Acquaintance]) {
        let place = |it: &Acquaintance| Place {
            host: it.host.clone(),
            port: it.port,
            shards: ShardCount::new(it.shards),
        };
        self.told = brokers.iter().map(|it| (it.broker, place(it))).collect();
    }
}

fn place_of(broker: &Broker) -> Option<Place> {
    let quic = broker.endpoint(QUIC_LISTENER)?;
    Some(Place {
        host: quic.host.clone(),
        port: quic.port,
        shards: ShardCount::new(broker.shards),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use millrace_model::{ClusterId, IncarnationId};
    use millrace_replication::cluster::{Command, Endpoint, FeatureRange, Registration};
    use millrace_replication::quorum::Index;

    const ONE: BrokerId = BrokerId(1);
    const TWO: BrokerId = BrokerId(2);

    fn voters() -> Vec<Voter> {
        [(ONE, 9001), (TWO, 9002)]
            .map(|(broker, port)| Voter {
                broker,
                host: "voter".into(),
                port,
            })
            .into()
    }

    /// An image in which broker 1 has registered with two shards.
    fn image(host: &str, port: u16) -> Cluster {
        let mut image = Cluster::default();
        let found = Command::Found {
            cluster: ClusterId([1; 16]),
            level: 1,
        };
        let endpoint = |listener: &str, port| Endpoint {
            listener: listener.into(),
            host: host.into(),
            port,
        };
        let register = Command::Register(Registration {
            cluster: ClusterId([1; 16]),
            id: ONE,
            incarnation: IncarnationId([2; 16]),
            clean_from: None,
            rack: None,
            endpoints: vec![endpoint("KAFKA", 1), endpoint(QUIC_LISTENER, port)],
            shards: 2,
            features: FeatureRange { least: 1, most: 1 },
        });
        image.apply(Index(1), &found).unwrap();
        image.apply(Index(2), &register).unwrap();
        image
    }

    #[test]
    fn voters_are_known_before_anybody_has_registered() {
        let addresses = Addresses::new(&voters());
        let place = addresses.of(TWO, 0).unwrap();
        assert_eq!((place.host.as_str(), place.port), ("voter", 9002));
        assert!(
            place.first_id(ShardId(0)).is_some(),
            "the first shard is always there"
        );
        assert!(
            place.first_id(ShardId(1)).is_none(),
            "how many there are is not known"
        );
        assert_eq!(addresses.of(BrokerId(3), 0), None);
    }

    #[test]
    fn what_a_broker_says_of_itself_goes_before_the_configuration() {
        let mut addresses = Addresses::new(&voters());
        assert!(addresses.learn(&image("moved", 7)).is_empty());
        let place = addresses.of(ONE, 0).unwrap();
        assert_eq!((place.host.as_str(), place.port), ("moved", 7));
        assert!(place.first_id(ShardId(1)).is_some());
        assert!(place.first_id(ShardId(2)).is_none());
        assert_eq!(addresses.listener(ONE), Some(&("moved".to_owned(), 1)));
        assert_eq!(addresses.listener(TWO), None);
        let place = addresses.of(ONE, 1).unwrap();
        assert_eq!(place.port, 9001, "the other place in turn");
        addresses.learn(&image("voter", 9001));
        assert_eq!(
            addresses.of(ONE, 0),
            addresses.of(ONE, 1),
            "they are the same place"
        );
    }

    #[test]
    fn what_others_say_counts_until_an_image_comes() {
        let told = |port| Acquaintance {
            broker: ONE,
            host: "told".into(),
            port,
            shards: 3,
        };
        let mut addresses = Addresses::new(&voters());
        addresses.meet(&[told(5)]);
        let ports = |addresses: &Addresses| {
            [0, 1, 2].map(|nth| addresses.of(ONE, nth).map(|place| place.port))
        };
        assert_eq!(ports(&addresses), [Some(5), Some(9001), Some(5)]);
        assert!(addresses.of(ONE, 0).unwrap().first_id(ShardId(2)).is_some());
        addresses.meet(&[told(6)]);
        assert_eq!(ports(&addresses), [Some(6), Some(9001), Some(6)]);
        addresses.learn(&image("moved", 7));
        assert_eq!(ports(&addresses), [Some(7), Some(9001), Some(7)]);
    }

    #[test]
    fn who_has_left_is_named_once() {
        let mut addresses = Addresses::new(&[]);
        addresses.learn(&image("a", 1));
        assert_eq!(addresses.learn(&Cluster::default()), [ONE]);
        assert!(addresses.learn(&Cluster::default()).is_empty());
        assert_eq!(addresses.of(ONE, 0), None);
    }
}
