//! Administration of a cluster in the native protocol.

use std::rc::Rc;

use millrace_model::{BrokerId, ErrorCode, LogId};
use millrace_replication::Refusal;
use millrace_replication::cluster::{
    Answer, BrokerState, Cluster, ClusterTopic, Command, ElectionKind, Partition, VOTER_ALIVE_MS,
    VoterChange,
};
use millrace_replication::quorum::{MemberReport, QuorumReport};
use millrace_wire::{
    BrokerMode, BrokerStanding, ClusterAsk, ClusterDescription, ClusterTold,
    MAX_TROUBLED_PARTITIONS, MemberStanding, PartitionCounts, QuorumMember, QuorumStanding,
    Response, Trouble, TroubledPartition,
};

use super::control::told_broker;
use crate::controller::ControllerStatus;
use crate::shard::Shard;

/// Answers one request.
pub(super) async fn answer(shard: &Rc<Shard>, ask: ClusterAsk) -> Result<Response, Refusal> {
    let command = match ask {
        ClusterAsk::Describe => {
            let status = shard.controller().status().await?;
            let described = describe(shard, &status);
            return Ok(Response::Cluster(Box::new(ClusterTold::Described(
                described,
            ))));
        }
        ClusterAsk::Voters => {
            let report = shard.controller().quorum_report().await?;
            let standing = ClusterTold::Voters(standing(&report));
            return Ok(Response::Cluster(Box::new(standing)));
        }
        ClusterAsk::AddVoter { broker } => {
            return change_voters(shard, VoterChange::Add(broker)).await;
        }
        ClusterAsk::RemoveVoter { broker } => {
            return change_voters(shard, VoterChange::Remove(broker)).await;
        }
        ClusterAsk::Cordon { broker, cordoned } => Command::Cordon { broker, cordoned },
        ClusterAsk::Unregister { broker } => Command::Unregister { broker },
        ClusterAsk::Reassign { log, replicas } => Command::Reassign {
            partition: log,
            target: replicas,
        },
        ClusterAsk::ElectPreferred { logs } => Command::ElectLeaders {
            kind: ElectionKind::Preferred,
            partitions: logs,
        },
    };
    match shard.controller().propose(command).await? {
        Answer::Partitions(outcomes) => {
            let refused = outcomes.iter().find(|outcome| {
                !matches!(outcome.code, ErrorCode::None | ErrorCode::ElectionNotNeeded)
            });
            if let Some(outcome) = refused {
                let message = "not every partition could be given that leader";
                return Err(Refusal::new(outcome.code, message));
            }
        }
        Answer::Done | Answer::Registered(_) | Answer::ProducerIds { .. } => {}
    }
    Ok(Response::Cluster(Box::new(ClusterTold::Done)))
}

async fn change_voters(shard: &Shard, change: VoterChange) -> Result<Response, Refusal> {
    shard.controller().change_voters(change).await?;
    Ok(Response::Cluster(Box::new(ClusterTold::Done)))
}

fn standing(report: &QuorumReport) -> QuorumStanding {
    let member = |it: &MemberReport| MemberStanding {
        broker: it.id,
        votes: it.votes,
        matched: it.matched,
        silent_ms: it.silent_ms,
        alive: it.silent_ms <= VOTER_ALIVE_MS,
    };
    QuorumStanding {
        leader: report.leader,
        term: report.term,
        committed: report.commit,
        // The leader has all of its own log.
        last: report
            .members
            .iter()
            .map(|it| it.matched)
            .max()
            .unwrap_or(0),
        members: report.members.iter().map(member).collect(),
    }
}

fn describe(shard: &Shard, status: &ControllerStatus) -> ClusterDescription {
    let cluster = shard.topics().cluster();
    let quorum = &status.quorum;
    let lag = |id: BrokerId| {
        let peer = quorum.peers.iter().find(|peer| peer.id == id);
        peer.map(|peer| quorum.last.0.saturating_sub(peer.matched.0))
    };
    let member = |votes| {
        move |id: &BrokerId| QuorumMember {
            broker: *id,
            votes,
            lag: match quorum.leader == Some(*id) {
                true => Some(0),
                false => lag(*id),
            },
        }
    };
    let membership = &quorum.membership;
    let voters = membership.voters.iter().map(member(true));
    let learners = membership.learners.iter().map(member(false));
    let (partitions, troubled) = look_over(&cluster);
    ClusterDescription {
        cluster_id: shard.cluster_id().to_owned(),
        broker: shard.broker(),
        controller: quorum.leader,
        term: quorum.term.0,
        committed: quorum.commit.0,
        quorum: voters.chain(learners).collect(),
        feature_level: cluster.feature_level(),
        brokers: standings(&cluster),
        partitions,
        troubled,
    }
}

fn standings(cluster: &Cluster) -> Vec<BrokerStanding> {
    let mut standings: Vec<_> = cluster
        .brokers()
        .map(|broker| BrokerStanding {
            info: told_broker(broker),
            mode: match broker.state {
                BrokerState::Fenced => BrokerMode::Fenced,
                BrokerState::Active => BrokerMode::Active,
                BrokerState::ShuttingDown => BrokerMode::ShuttingDown,
            },
            cordoned: broker.cordoned,
            epoch: broker.epoch,
            leaders: 0,
            replicas: 0,
        })
        .collect();
    for (_, partition) in cluster.topics().flat_map(ClusterTopic::logs) {
        for standing in &mut standings {
            let id = standing.info.id;
            standing.leaders += u32::from(partition.leader == Some(id));
            standing.replicas += u32::from(partition.replicas.contains(&id));
        }
    }
    standings
}

fn look_over(cluster: &Cluster) -> (PartitionCounts, Vec<TroubledPartition>) {
    let mut counts = PartitionCounts::default();
    let mut troubled = Vec::new();
    for topic in cluster.topics() {
        let least = cluster.min_in_sync(topic);
        for (log, partition) in topic.logs() {
            let trouble = count(partition, least, &mut counts);
            if let Some(trouble) = trouble.filter(|_| troubled.len() < MAX_TROUBLED_PARTITIONS) {
                troubled.push(told(topic, log, partition, trouble));
            }
        }
    }
    (counts, troubled)
}

fn count(partition: &Partition, least: usize, counts: &mut PartitionCounts) -> Option<Trouble> {
    let is_leaderless = partition.leader.is_none();
    let is_under_min = partition.in_sync.len() < least;
    let is_under = partition.in_sync.len() < partition.replicas.len();
    let preferred = partition.target().first().copied();
    counts.total += 1;
    counts.leaderless += u32::from(is_leaderless);
    counts.under_min_in_sync += u32::from(is_under_min);
    counts.under_replicated += u32::from(is_under);
    counts.reassigning += u32::from(partition.is_reassigning());
    counts.led_elsewhere += u32::from(!is_leaderless && partition.leader != preferred);
    match (is_leaderless, is_under_min, is_under) {
        (true, ..) => Some(Trouble::Leaderless),
        (_, true, _) => Some(Trouble::UnderMinInSync),
        (.., true) => Some(Trouble::UnderReplicated),
        _ => None,
    }
}

fn told(
    topic: &ClusterTopic,
    log: LogId,
    partition: &Partition,
    trouble: Trouble,
) -> TroubledPartition {
    TroubledPartition {
        topic: topic.name.to_string(),
        partition: log.partition,
        leader: partition.leader,
        replicas: partition.replicas.clone(),
        in_sync: partition.in_sync.clone(),
        trouble,
    }
}
