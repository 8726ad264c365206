//! Of what administrators ask of a cluster.

use millrace_model::{BrokerEpoch, BrokerId, PartitionId};
use millrace_wire::{
    BrokerInfo, BrokerMode, BrokerStanding, ClusterAsk, ClusterDescription, ClusterTold,
    MemberStanding, PartitionCounts, QuorumMember, QuorumStanding, Request, Response, Trouble,
    TroubledPartition,
};

use super::log;

pub(crate) fn requests() -> Vec<(&'static str, Request)> {
    let broker = BrokerId(2);
    let replicas = Some(vec![BrokerId(2), BrokerId(3)]);
    let asks = [
        ("cluster.describe", ClusterAsk::Describe),
        (
            "cluster.cordon",
            ClusterAsk::Cordon {
                broker,
                cordoned: true,
            },
        ),
        ("cluster.unregister", ClusterAsk::Unregister { broker }),
        (
            "cluster.reassign",
            ClusterAsk::Reassign {
                log: log(),
                replicas,
            },
        ),
        (
            "cluster.elect_preferred",
            ClusterAsk::ElectPreferred { logs: vec![log()] },
        ),
        ("cluster.voters", ClusterAsk::Voters),
        ("cluster.add_voter", ClusterAsk::AddVoter { broker }),
        ("cluster.remove_voter", ClusterAsk::RemoveVoter { broker }),
    ];
    asks.map(|(name, ask)| (name, Request::Cluster(ask))).into()
}

pub(crate) fn responses() -> Vec<(&'static str, Response)> {
    let broker = BrokerId(2);
    let told = [
        ("cluster.done", ClusterTold::Done),
        (
            "cluster.voters",
            ClusterTold::Voters(QuorumStanding {
                leader: broker,
                term: 3,
                committed: 17,
                last: 18,
                members: vec![MemberStanding {
                    broker,
                    votes: true,
                    matched: 16,
                    silent_ms: 40,
                    alive: true,
                }],
            }),
        ),
        (
            "cluster.described",
            ClusterTold::Described(ClusterDescription {
                cluster_id: "cluster-0001".into(),
                broker,
                controller: Some(BrokerId(1)),
                term: 3,
                committed: 17,
                quorum: vec![QuorumMember {
                    broker,
                    votes: true,
                    lag: Some(4),
                }],
                feature_level: 1,
                brokers: vec![BrokerStanding {
                    info: BrokerInfo {
                        id: broker,
                        address: Some(("broker.example".into(), 9644)),
                        shards: 2,
                        rack: Some("r1".into()),
                        serves: true,
                    },
                    mode: BrokerMode::ShuttingDown,
                    cordoned: true,
                    epoch: BrokerEpoch(9),
                    leaders: 5,
                    replicas: 6,
                }],
                partitions: PartitionCounts {
                    total: 10,
                    leaderless: 1,
                    under_min_in_sync: 2,
                    under_replicated: 3,
                    reassigning: 4,
                    led_elsewhere: 5,
                },
                troubled: vec![TroubledPartition {
                    topic: "orders".into(),
                    partition: PartitionId(3),
                    leader: None,
                    replicas: vec![broker],
                    in_sync: Vec::new(),
                    trouble: Trouble::Leaderless,
                }],
            }),
        ),
    ];
    told.map(|(name, told)| (name, Response::Cluster(Box::new(told))))
        .into()
}
