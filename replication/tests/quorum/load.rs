//! Commands that somebody with an image of the cluster, perhaps an old one, would propose.

use millrace_model::{
    BrokerEpoch, BrokerId, ClusterId, IncarnationId, LogId, PartitionId, TopicId,
};
use millrace_replication::cluster::{
    AlterPartition, BrokerState, Cluster, ClusterRequest, Command, ConfigChange, ConfigOwner,
    ElectionKind, FEATURE_LEVELS, InSyncMember, LeaderRecovery, Registration,
};

const CLUSTER: ClusterId = ClusterId([7; 16]);
pub(crate) const BROKERS: u32 = 5;

/// The next command, by what this image shows.
pub(crate) fn command(image: &Cluster, random: &mut fastrand::Rng) -> Command {
    if image.id().is_none() {
        return Command::Found {
            cluster: CLUSTER,
            level: 1,
        };
    }
    let broker = BrokerId(random.u32(1..=BROKERS));
    let Some(known) = image.broker(broker) else {
        return Command::Register(registration(broker, None, random));
    };
    let epoch = known.epoch;
    let logs: Vec<LogId> = image
        .topics()
        .flat_map(|topic| topic.logs().map(|(log, _)| log))
        .collect();
    match random.u32(0..100) {
        0..=9 if known.state == BrokerState::Fenced => {
            let clean_from = random.bool().then_some(epoch);
            Command::Register(registration(broker, clean_from, random))
        }
        0..=24 if known.state == BrokerState::Fenced => Command::Unfence { broker, epoch },
        0..=9 => Command::Fence { broker, epoch },
        10..=12 => Command::BeginShutdown { broker, epoch },
        13..=14 => Command::AllocateProducerIds { broker, epoch },
        15..=24 => create(image, random),
        _ if logs.is_empty() => create(image, random),
        25..=84 => alter(image, logs[random.usize(..logs.len())], random),
        85..=89 => Command::ElectLeaders {
            kind: match random.u32(..10) {
                0 => ElectionKind::Unclean,
                _ => ElectionKind::Preferred,
            },
            partitions: logs,
        },
        90..=95 => Command::Reassign {
            partition: logs[random.usize(..logs.len())],
            target: random.bool().then(|| {
                let mut brokers: Vec<BrokerId> = (1..=BROKERS).map(BrokerId).collect();
                random.shuffle(&mut brokers);
                brokers.truncate(3);
                brokers
            }),
        },
        _ => Command::AlterConfigs {
            owner: ConfigOwner::Topic(logs[random.usize(..logs.len())].topic),
            changes: vec![ConfigChange {
                name: "min.insync.replicas".to_owned(),
                value: Some(random.u32(1..4).to_string()),
            }],
        },
    }
}

/// A broker is to be decommissioned, or no longer.
pub(crate) fn cordon(random: &mut fastrand::Rng) -> Command {
    Command::Cordon {
        broker: BrokerId(random.u32(1..=BROKERS)),
        cordoned: random.u32(..3) == 0,
    }
}

fn registration(
    id: BrokerId,
    clean_from: Option<BrokerEpoch>,
    random: &mut fastrand::Rng,
) -> Registration {
    Registration {
        cluster: CLUSTER,
        id,
        incarnation: IncarnationId(random.u128(..).to_le_bytes()),
        clean_from,
        rack: Some(format!("rack-{}", id.0 % 3)),
        endpoints: Vec::new(),
        shards: 2,
        features: FEATURE_LEVELS,
    }
}

fn create(image: &Cluster, random: &mut fastrand::Rng) -> Command {
    let id = TopicId(random.u128(..).to_le_bytes());
    let request = ClusterRequest::CreateTopic {
        name: format!("topic-{}", random.u32(..3)),
        id,
        partitions: 2,
        replication: 3,
        overrides: vec![("min.insync.replicas".to_owned(), "2".to_owned())],
        internal: false,
    };
    image.plan(request).unwrap_or(Command::DeleteTopic { id })
}

/// What a leader would propose, sometimes with members that should not be.
fn alter(image: &Cluster, log: LogId, random: &mut fastrand::Rng) -> Command {
    let partition = image.partition(log).expect("it was listed");
    let broker = partition.leader.unwrap_or(BrokerId(1));
    let member = |broker: BrokerId| InSyncMember {
        broker,
        epoch: image
            .broker(broker)
            .map_or(BrokerEpoch(0), |known| known.epoch),
    };
    let mut in_sync = vec![member(broker)];
    for replica in &partition.replicas {
        let may_be = image.is_active(*replica) || random.u32(..8) == 0;
        if *replica != broker && may_be && random.u32(..4) > 0 {
            in_sync.push(member(*replica));
        }
    }
    let alter = AlterPartition {
        log,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        in_sync,
        recovery: LeaderRecovery::Recovered,
    };
    let other = LogId {
        partition: PartitionId(9),
        ..log
    };
    let epoch = image
        .broker(broker)
        .map_or(BrokerEpoch(0), |known| known.epoch);
    let mut partitions = vec![alter.clone()];
    if random.u32(..8) == 0 {
        partitions.push(AlterPartition {
            log: other,
            ..alter
        });
    }
    Command::AlterPartitions {
        broker,
        epoch,
        partitions,
    }
}
