//! Control requests: which shard answers them, and how.

use std::net::IpAddr;
use std::rc::Rc;

use millrace_model::{ErrorCode, LogId, Offset, ProducerEpoch, Timestamp, TopicSettings};
use millrace_replication::Refusal;
use millrace_replication::cluster::{Broker, BrokerState, ClusterRequest, ClusterTopic, Partition};
use millrace_wire::{
    BrokerInfo, Metadata, OffsetSpec, PartitionLeader, PartitionReplicas, PartitionState, Request,
    Response, StreamKind, Topic, TopicConfig, TopicDescription,
};
use quinn::SendStream;

use super::cluster;
use super::consume::find_offset;
use super::groups;
use super::stream::{Ending, finish, reset, send_message};
use crate::controller::{QUIC_LISTENER, random_topic_id};
use crate::coordinator;
use crate::mesh::Message;
use crate::metrics::{Counter, render_prometheus};
use crate::observe::{self, Unseen};
use crate::partition::Partition as OpenPartition;
use crate::shard::{Shard, default_replication, overrides, topic_settings_of, wire_error};

/// Answers one request and ends its stream.
pub(super) async fn serve(shard: Rc<Shard>, peer: IpAddr, request: Request, mut send: SendStream) {
    let response = match log_of(&request) {
        Some(log) if !shard.owns(log) => {
            let owner = shard.owner(log);
            let answer = shard
                .ask(owner, |reply| Message::Control(request, reply))
                .await;
            answer.unwrap_or_else(|refusal| Response::Error(wire_error(refusal)))
        }
        _ => answer(&shard, Some(peer), request).await,
    };
    shard.metrics().count(Counter::Requests);
    if matches!(response, Response::Error(_)) {
        shard.metrics().count(Counter::RequestErrors);
    }
    match send_message(&mut send, StreamKind::Control, &response).await {
        Ok(()) => finish(&mut send).await,
        Err(Ending::Reset(code)) => reset(&mut send, code),
        Err(Ending::Gone | Ending::Drain) => {}
    }
}

/// The partition whose owner must answer.
fn log_of(request: &Request) -> Option<LogId> {
    match request {
        Request::DeleteRecords { log, .. }
        | Request::ListOffset { log, .. }
        | Request::DescribePartition { log } => Some(*log),
        _ => None,
    }
}

/// Answers a request on the shard that can. `peer` is the client's address, where it is known.
pub(crate) async fn answer(shard: &Rc<Shard>, peer: Option<IpAddr>, request: Request) -> Response {
    let response = match request {
        Request::Metadata { topics } => {
            shard.settled().await;
            Ok(Response::Metadata(metadata(shard, topics.as_deref())))
        }
        Request::CreateTopic {
            name,
            partitions,
            replication,
            configs,
        } => create_topic(shard, name, (partitions, replication), configs).await,
        Request::DeleteTopic { name } => {
            let done = shard
                .controller()
                .request(ClusterRequest::DeleteTopic { name })
                .await;
            done.map(|_| Response::Done)
        }
        Request::AlterTopic {
            name,
            partitions,
            configs,
        } => alter_topic(shard, name, partitions, configs).await,
        Request::DescribeTopic { name } => describe_topic(shard, &name),
        Request::DeleteRecords { log, before } => delete_records(shard, log, before).await,
        Request::ListOffset { log, at } => list_offset(shard, log, at).await,
        Request::DescribePartition { log } => describe_partition(shard, log).await,
        Request::InitProducerId => producer_id(shard).await,
        Request::Metrics => metrics_text(shard).await.map(Response::Text),
        Request::Group(request) => groups::answer(shard, peer, *request).await,
        Request::Observe { path } => observe(shard, &path).await,
        Request::Cluster(ask) => cluster::answer(shard, ask).await,
        // That of a broker does not come here.
        Request::Peer(_) => Err(super::peers::no_broker()),
    };
    response.unwrap_or_else(|refusal| Response::Error(wire_error(refusal)))
}

fn metadata(shard: &Shard, names: Option<&[String]>) -> Metadata {
    let cluster = shard.topics().cluster();
    let topic = |topic: &ClusterTopic| Topic {
        name: topic.name.to_string(),
        id: topic.id,
        leaders: topic.partitions.iter().map(|p| told_leader(p)).collect(),
        max_message_bytes: topic_settings_of(shard, topic).max_message_bytes,
    };
    let topics = match names {
        None => cluster.topics().map(topic).collect(),
        Some(names) => {
            let named = names.iter().filter_map(|name| cluster.topic_named(name));
            named.map(topic).collect()
        }
    };
    Metadata {
        cluster_id: shard.cluster_id().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        broker: shard.broker(),
        shards: shard.shards().get(),
        connected_shard: shard.id(),
        brokers: cluster.brokers().map(told_broker).collect(),
        topics,
    }
}

fn told_leader(partition: &Partition) -> PartitionLeader {
    PartitionLeader {
        broker: partition.leader,
        epoch: partition.leader_epoch,
    }
}

pub(super) fn told_broker(broker: &Broker) -> BrokerInfo {
    let quic = broker.endpoint(QUIC_LISTENER);
    BrokerInfo {
        id: broker.id,
        address: quic.map(|quic| (quic.host.clone(), quic.port)),
        shards: broker.shards,
        rack: broker.rack.clone(),
        serves: broker.state != BrokerState::Fenced,
    }
}

async fn create_topic(
    shard: &Shard,
    name: String,
    (partitions, replication): (Option<u32>, Option<u8>),
    configs: Vec<(String, String)>,
) -> Result<Response, Refusal> {
    check_settings(shard.topics().defaults(), &configs)?;
    let id = random_topic_id()
        .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
    let partitions = partitions.unwrap_or(shard.config().num_partitions.get());
    let request = ClusterRequest::CreateTopic {
        name,
        id,
        partitions,
        replication: replication.map_or_else(|| default_replication(shard), usize::from),
        overrides: configs,
        internal: false,
    };
    shard.controller().request(request).await?;
    Ok(Response::TopicCreated(id))
}

async fn alter_topic(
    shard: &Shard,
    name: String,
    partitions: Option<u32>,
    configs: Vec<(String, Option<String>)>,
) -> Result<Response, Refusal> {
    let defaults = shard.topics().defaults();
    for (name, value) in &configs {
        match value {
            Some(value) => check_settings(defaults, &[(name.clone(), value.clone())])?,
            None => check_name(defaults, name)?,
        }
    }
    // Settings first: whether they can be is known before anything is changed.
    if !configs.is_empty() || partitions.is_none() {
        let request = ClusterRequest::AlterTopicConfigs {
            name: name.clone(),
            changes: configs,
        };
        shard.controller().request(request).await?;
    }
    if let Some(total) = partitions {
        let request = ClusterRequest::CreatePartitions {
            name,
            total,
            assignments: None,
        };
        shard.controller().request(request).await?;
    }
    Ok(Response::Done)
}

fn check_settings(defaults: &TopicSettings, configs: &[(String, String)]) -> Result<(), Refusal> {
    TopicSettings::resolve(defaults, configs)
        .map(drop)
        .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))
}

fn check_name(defaults: &TopicSettings, name: &str) -> Result<(), Refusal> {
    if defaults.entries().iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let message = format!("no setting of a topic is called `{name}`");
    Err(Refusal::new(ErrorCode::InvalidConfig, message))
}

fn describe_topic(shard: &Shard, name: &str) -> Result<Response, Refusal> {
    let cluster = shard.topics().cluster();
    let Some(topic) = cluster.topic_named(name) else {
        let message = format!("no topic is called `{name}`");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let is_default = |name: &str| !overrides(topic, name);
    let entries = topic_settings_of(shard, topic).entries().into_iter();
    let configs = entries.map(|(name, value)| TopicConfig {
        is_default: is_default(name),
        name: name.to_owned(),
        value,
    });
    let partitions = topic.partitions.iter().map(|partition| PartitionReplicas {
        leader: told_leader(partition),
        replicas: partition.replicas.clone(),
        in_sync: partition.in_sync.clone(),
    });
    Ok(Response::Topic(TopicDescription {
        configs: configs.collect(),
        partitions: partitions.collect(),
    }))
}

async fn delete_records(
    shard: &Rc<Shard>,
    log: LogId,
    before: Option<Offset>,
) -> Result<Response, Refusal> {
    shard.topics().refuse_internal(log)?;
    let partition = shard.partition(log).await?;
    let log_start = partition.delete_before(before).await?;
    Ok(offset_response(&partition, log_start, Timestamp::NONE))
}

async fn list_offset(shard: &Rc<Shard>, log: LogId, at: OffsetSpec) -> Result<Response, Refusal> {
    let partition = shard.partition(log).await?;
    let (offset, timestamp) = find_offset(&partition, at).await?;
    Ok(offset_response(&partition, offset, timestamp))
}

fn offset_response(partition: &OpenPartition, offset: Offset, timestamp: Timestamp) -> Response {
    Response::Offset {
        offset,
        timestamp,
        leader_epoch: partition.leader_epoch(),
    }
}

async fn describe_partition(shard: &Rc<Shard>, log: LogId) -> Result<Response, Refusal> {
    let partition = shard.partition(log).await?;
    let stats = partition.log().stats();
    Ok(Response::Partition(PartitionState {
        partition: log.partition,
        shard: shard.id(),
        log_start: partition.log().log_start(),
        high_watermark: partition.high_watermark(),
        log_end: partition.log().accepted_end(),
        leader_epoch: partition.leader_epoch(),
        segments: u32::try_from(stats.segments).unwrap_or(u32::MAX),
        bytes: stats.disk_bytes,
    }))
}

async fn producer_id(shard: &Rc<Shard>) -> Result<Response, Refusal> {
    let id = shard.producer_id().await?;
    Ok(Response::ProducerId {
        id,
        epoch: ProducerEpoch(0),
    })
}

async fn observe(shard: &Rc<Shard>, path: &str) -> Result<Response, Refusal> {
    let shown = observe::answer(shard, path).await;
    shown
        .map(|shown| Response::Text(shown.text))
        .map_err(|unseen| {
            let code = match &unseen {
                Unseen::Path(_) | Unseen::Query(_) => ErrorCode::InvalidRequest,
                Unseen::Missing(_) => ErrorCode::UnknownTopicOrPartition,
                Unseen::Busy(_) => ErrorCode::ThrottlingQuotaExceeded,
                Unseen::Shard(refusal) => refusal.code,
            };
            Refusal::new(code, unseen.to_string())
        })
}

/// The metrics of all shards as text.
pub(crate) async fn metrics_text(shard: &Rc<Shard>) -> Result<String, Refusal> {
    let mut snapshots = Vec::new();
    for other in shard.all_shards() {
        snapshots.push(match other == shard.id() {
            true => shard.snapshot(),
            false => shard.ask(other, Message::Snapshot).await?,
        });
    }
    let groups = coordinator::report(shard).await?;
    Ok(render_prometheus(&snapshots, &groups))
}
