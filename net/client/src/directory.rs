//! What a client knows of the cluster: where its brokers are, and who leads which partition.
//!
//! It is filled by every answer with metadata, from whichever broker. A broker may lag behind the
//! cluster, so what it says of a partition counts only if the leader epoch is not older than the one
//! that is known.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};

use millrace_model::{
    BrokerId, GROUP_OFFSETS_TOPIC, LeaderEpoch, LogId, PartitionId, ShardCount, ShardId, TopicId,
    coordinator_partition,
};
use millrace_wire::{Metadata, PartitionLeader, Topic};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    brokers: HashMap<BrokerId, Known>,
    leaders: HashMap<LogId, PartitionLeader>,
    names: HashMap<TopicId, String>,
    /// The topic of the coordinators of groups, and its partitions.
    coordinators: Option<(TopicId, u32)>,
}

#[derive(Clone, Debug)]
struct Known {
    addr: SocketAddr,
    shards: ShardCount,
    serves: bool,
    rack: Option<String>,
}

/// A shard of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) broker: BrokerId,
    pub(crate) addr: SocketAddr,
    pub(crate) shard: ShardId,
}

impl Directory {
    /// Takes in what the broker at `reached` says.
    pub(crate) fn learn(&mut self, metadata: &Metadata, reached: SocketAddr) {
        for broker in &metadata.brokers {
            let said = broker.address.as_ref().and_then(resolve);
            let own = (broker.id == metadata.broker).then_some(reached);
            let Some(addr) = own.or(said) else { continue };
            let known = Known {
                addr,
                shards: count(broker.shards),
                serves: broker.serves,
                rack: broker.rack.clone(),
            };
            self.brokers.insert(broker.id, known);
        }
        let before = self.brokers.remove(&metadata.broker);
        let known = Known {
            addr: reached,
            shards: count(metadata.shards),
            serves: true,
            rack: before.and_then(|before| before.rack),
        };
        self.brokers.insert(metadata.broker, known);
        let registered = |id: &BrokerId| metadata.brokers.iter().any(|broker| broker.id == *id);
        self.brokers
            .retain(|id, _| *id == metadata.broker || registered(id));
        for topic in &metadata.topics {
            self.learn_topic(topic);
        }
    }

    fn learn_topic(&mut self, topic: &Topic) {
        self.names.insert(topic.id, topic.name.clone());
        if topic.name == GROUP_OFFSETS_TOPIC {
            self.coordinators = Some((topic.id, topic.partitions()));
        }
        for (partition, leader) in (0..).map(PartitionId).zip(&topic.leaders) {
            let topic = topic.id;
            let log = LogId { topic, partition };
            let known = self.leaders.entry(log).or_insert(*leader);
            if leader.epoch >= known.epoch {
                *known = *leader;
            }
        }
    }

    /// The shard that serves a partition, as far as is known.
    pub(crate) fn place(&self, log: LogId) -> Option<Place> {
        let broker = self.leaders.get(&log)?.broker?;
        self.place_at(broker, log)
    }

    /// The shard of this broker that would serve a partition.
    pub(crate) fn place_at(&self, broker: BrokerId, log: LogId) -> Option<Place> {
        let known = self.brokers.get(&broker)?;
        Some(Place {
            broker,
            addr: known.addr,
            shard: log.shard(known.shards),
        })
    }

    /// The leader and its epoch, as far as they are known.
    pub(crate) fn leader(&self, log: LogId) -> Option<(Option<BrokerId>, LeaderEpoch)> {
        let leader = self.leaders.get(&log)?;
        Some((leader.broker, leader.epoch))
    }

    /// Shards of a broker.
    pub(crate) fn shards(&self, broker: BrokerId) -> ShardCount {
        let known = self.brokers.get(&broker);
        known.map_or(ShardCount::MIN, |known| known.shards)
    }

    /// Whether another broker could take over from one. Asked often, so nothing is made for it.
    pub(crate) fn has_others(&self) -> bool {
        self.brokers.values().filter(|known| known.serves).count() > 1
    }

    /// The brokers that serve, and where.
    pub(crate) fn serving(&self) -> Vec<(BrokerId, SocketAddr)> {
        let serving = self.brokers.iter().filter(|(_, known)| known.serves);
        let mut serving: Vec<_> = serving.map(|(id, known)| (*id, known.addr)).collect();
        serving.sort_unstable();
        serving
    }

    /// The brokers in a rack that serve.
    pub(crate) fn in_rack(&self, rack: &str) -> Vec<BrokerId> {
        let stands_here = |known: &Known| known.serves && known.rack.as_deref() == Some(rack);
        let near = self.brokers.iter().filter(|(_, known)| stands_here(known));
        near.map(|(id, _)| *id).collect()
    }

    /// The log of a group's coordinator, if any group was ever used.
    pub(crate) fn coordinator(&self, group: &str) -> Option<LogId> {
        let (topic, partitions) = self.coordinators?;
        let partition = coordinator_partition(group, partitions);
        Some(LogId { topic, partition })
    }

    /// The name of a topic that was asked for.
    pub(crate) fn name(&self, topic: TopicId) -> Option<&str> {
        self.names.get(&topic).map(String::as_str)
    }
}

fn count(shards: u8) -> ShardCount {
    ShardCount::new(shards.max(1)).unwrap_or(ShardCount::MIN)
}

/// Addresses stand for themselves; a name is looked up by the system, which may take its time.
fn resolve((host, port): &(String, u16)) -> Option<SocketAddr> {
    match host.parse() {
        Ok(ip) => Some(SocketAddr::new(ip, *port)),
        Err(_) => (host.as_str(), *port).to_socket_addrs().ok()?.next(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use millrace_wire::BrokerInfo;

    fn broker(id: u32, port: Option<u16>) -> BrokerInfo {
        BrokerInfo {
            id: BrokerId(id),
            address: port.map(|port| ("127.0.0.1".to_owned(), port)),
            shards: 2,
            rack: (id != 1).then(|| "far".to_owned()),
            serves: id != 3,
        }
    }

    fn leader(id: Option<u32>, epoch: u32) -> PartitionLeader {
        PartitionLeader {
            broker: id.map(BrokerId),
            epoch: LeaderEpoch(epoch),
        }
    }

    fn metadata(leaders: &[PartitionLeader]) -> Metadata {
        Metadata {
            cluster_id: "c".to_owned(),
            version: "v".to_owned(),
            broker: BrokerId(1),
            shards: 2,
            connected_shard: ShardId(0),
            brokers: vec![broker(1, None), broker(2, Some(2)), broker(3, Some(3))],
            topics: vec![Topic {
                name: "t".to_owned(),
                id: TopicId([1; 16]),
                leaders: leaders.to_vec(),
                max_message_bytes: 1,
            }],
        }
    }

    fn log(partition: u32) -> LogId {
        LogId {
            topic: TopicId([1; 16]),
            partition: PartitionId(partition),
        }
    }

    fn reached() -> SocketAddr {
        "10.0.0.1:1".parse().unwrap()
    }

    #[test]
    fn a_broker_is_where_it_was_reached_and_the_others_where_they_say() {
        let mut directory = Directory::default();
        directory.learn(
            &metadata(&[leader(Some(1), 1), leader(Some(2), 1)]),
            reached(),
        );
        assert_eq!(directory.place(log(0)).unwrap().addr, reached());
        let other = directory.place(log(1)).unwrap();
        assert_eq!(other.addr, SocketAddr::from(([127, 0, 0, 1], 2)));
        assert_eq!(other.shard, log(1).shard(ShardCount::new(2).unwrap()));
        let serving: Vec<_> = directory.serving().iter().map(|(id, _)| id.0).collect();
        assert_eq!(serving, [1, 2]);
        assert_eq!(directory.in_rack("far"), [BrokerId(2)], "3 does not serve");
        assert!(directory.in_rack("near").is_empty());
    }

    #[test]
    fn what_is_older_does_not_count() {
        let mut directory = Directory::default();
        directory.learn(&metadata(&[leader(Some(2), 5)]), reached());
        directory.learn(&metadata(&[leader(Some(1), 4)]), reached());
        assert_eq!(directory.place(log(0)).unwrap().broker, BrokerId(2));
        directory.learn(&metadata(&[leader(None, 6)]), reached());
        assert_eq!(directory.place(log(0)), None);
        assert_eq!(directory.leader(log(0)), Some((None, LeaderEpoch(6))));
    }
}
