//! What clients ask about the cluster: which APIs there are, which topics, and where.

mod metadata;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use millrace_kafka::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, Coordinator, FindCoordinatorRequest,
    FindCoordinatorResponse,
};
use millrace_model::{BrokerId, ErrorCode, LeaderEpoch};
use millrace_replication::cluster::{Broker, BrokerState, Cluster, Partition};

use super::admin::with_features;
use super::context::RequestContext;
use super::dispatch::OFFERED;
use crate::controller::KAFKA_LISTENER;
use crate::shard::{Refusal, Shard};
pub(super) use metadata::metadata;

/// Longest name or version of a client's software that is taken.
const MAX_SOFTWARE_LEN: usize = 256;

/// What ApiVersions lists of every broker of this version.
pub(super) fn versions() -> ApiVersionsResponse {
    let offered = OFFERED.iter().map(|api| api.served());
    ApiVersionsResponse {
        api_keys: offered
            .map(|range| ApiVersion {
                api_key: range.api.key(),
                min_version: range.min,
                max_version: range.max,
            })
            .collect(),
        ..Default::default()
    }
}

/// ApiVersions.
pub(super) async fn api_versions(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if context.version >= 3 && !named.into_iter().all(|name| is_software(name)) {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest as i16,
            ..Default::default()
        };
    }
    with_features(&shard.topics().cluster(), versions())
}

/// Whether Kafka takes this as the name or the version of a client's software: letters, digits, dots
/// and dashes, none of the latter two at its ends.
fn is_software(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends = [name.bytes().next(), name.bytes().next_back()];
    name.len() <= MAX_SOFTWARE_LEN
        && name.bytes().all(is_inner)
        && ends
            .into_iter()
            .all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

/// Where clients reach this broker: as configured, else as this one has.
pub(crate) fn advertised(shard: &Shard, context: &RequestContext) -> (String, i32) {
    match &shard.config().advertised_listeners.0 {
        Some((host, port)) => (host.clone(), i32::from(*port)),
        None => reached(context.local),
    }
}

/// An IPv4 address that came over an IPv6 socket is told as the former.
fn reached(local: SocketAddr) -> (String, i32) {
    let ip = match local.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    (ip.to_string(), i32::from(local.port()))
}

/// This broker's id, as clients know it.
pub(crate) fn node_id(shard: &Shard) -> i32 {
    i32::try_from(shard.broker().0).unwrap_or(i32::MAX)
}

/// A broker's id, as clients know it; -1 for nobody.
pub(crate) fn signed_id(broker: Option<BrokerId>) -> i32 {
    broker.map_or(NOBODY, |broker| i32::try_from(broker.0).unwrap_or(i32::MAX))
}

/// Kafka's id of a broker that is not there.
const NOBODY: i32 = -1;

/// What clients are told of a partition, which may have no leader.
pub(crate) fn leader_error(partition: &Partition) -> i16 {
    match partition.leader {
        Some(_) => ErrorCode::None as i16,
        None => ErrorCode::LeaderNotAvailable as i16,
    }
}

/// The ids of brokers, as clients know them.
pub(crate) fn signed_ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| signed_id(Some(*id))).collect()
}

/// The replicas of a partition whose brokers are not there.
pub(crate) fn offline_replicas(cluster: &Cluster, partition: &Partition) -> Vec<i32> {
    let is_there = |id: &BrokerId| {
        let broker = cluster.broker(*id);
        broker.is_some_and(|broker| broker.state != BrokerState::Fenced)
    };
    let replicas = partition.replicas.iter();
    let offline = replicas.filter(|id| !is_there(id));
    offline.map(|id| signed_id(Some(*id))).collect()
}

/// A leader epoch, as clients know it.
pub(crate) fn signed_epoch(epoch: LeaderEpoch) -> i32 {
    i32::try_from(epoch.0).unwrap_or(i32::MAX)
}

/// Where Kafka clients reach a broker of the cluster, if it has said so. This broker is where the
/// client has reached it, unless it advertises something else.
pub(crate) fn address_of(
    shard: &Shard,
    context: &RequestContext,
    broker: BrokerId,
) -> Option<(String, i32)> {
    if broker == shard.broker() {
        return Some(advertised(shard, context));
    }
    let cluster = shard.topics().cluster();
    let kafka = cluster.broker(broker)?.endpoint(KAFKA_LISTENER)?;
    Some((kafka.host.clone(), i32::from(kafka.port)))
}

/// A broker with its address for Kafka clients.
pub(crate) struct KnownBroker {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) rack: Option<String>,
    pub(crate) is_fenced: bool,
    pub(crate) has_just_gone: bool,
}

/// The brokers that clients are told of: those that are not fenced, and this one.
pub(crate) fn living_brokers(shard: &Shard, context: &RequestContext) -> Vec<KnownBroker> {
    let mut brokers = known_brokers(shard, context);
    brokers.retain(|broker| !broker.is_fenced || broker.id == node_id(shard));
    brokers
}

/// The same, and for a while those that were fenced: see [`crate::shard::presence`].
pub(crate) fn listed_brokers(shard: &Shard, context: &RequestContext) -> Vec<KnownBroker> {
    let mut brokers = known_brokers(shard, context);
    brokers
        .retain(|broker| !broker.is_fenced || broker.has_just_gone || broker.id == node_id(shard));
    brokers
}

/// Every registered broker that has an address for Kafka clients.
pub(crate) fn known_brokers(shard: &Shard, context: &RequestContext) -> Vec<KnownBroker> {
    let cluster = shard.topics().cluster();
    let known = |broker: &Broker| {
        let (host, port) = address_of(shard, context, broker.id)?;
        Some(KnownBroker {
            id: signed_id(Some(broker.id)),
            host,
            port,
            rack: broker.rack.clone(),
            is_fenced: broker.state == BrokerState::Fenced,
            has_just_gone: shard.presence().has_just_gone(broker.id),
        })
    };
    cluster.brokers().filter_map(known).collect()
}

/// Whom clients take for the controller. Any broker passes changes on, so it is this one.
pub(crate) fn controller_id(shard: &Shard) -> i32 {
    node_id(shard)
}

/// Kinds of coordinators, as FindCoordinator names them.
const OF_GROUPS: i8 = 0;

/// The first version that asks for many coordinators at once.
const FIRST_WITH_MANY_KEYS: i16 = 4;

/// FindCoordinator: of groups, whoever leads the log of theirs. Of transactions and share groups
/// there are none.
pub(super) async fn find_coordinator(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    if context.version >= FIRST_WITH_MANY_KEYS {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            coordinators.push(coordinator(shard, context, request.key_type, key).await);
        }
        return FindCoordinatorResponse {
            coordinators,
            ..Default::default()
        };
    }
    let found = coordinator(shard, context, request.key_type, request.key).await;
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

async fn coordinator(
    shard: &Rc<Shard>,
    context: &RequestContext,
    key_type: i8,
    key: String,
) -> Coordinator {
    let found = match key_type {
        OF_GROUPS => coordinator_of_group(shard, context, &key).await,
        // The code that clients take as final for transactions, instead of asking for ever.
        _ => Err(Refusal::new(
            ErrorCode::TransactionalIdAuthorizationFailed,
            "only groups have coordinators here",
        )),
    };
    match found {
        Ok((broker, (host, port))) => Coordinator {
            key,
            node_id: signed_id(Some(broker)),
            host,
            port,
            ..Default::default()
        },
        Err(refusal) => Coordinator {
            key,
            node_id: NOBODY,
            host: String::new(),
            port: -1,
            error_code: refusal.code as i16,
            error_message: Some(refusal.message),
        },
    }
}

async fn coordinator_of_group(
    shard: &Rc<Shard>,
    context: &RequestContext,
    group: &str,
) -> Result<(BrokerId, (String, i32)), Refusal> {
    let found = shard.groups().coordinator_of(group).await;
    let broker = found
        .map_err(|refusal| Refusal::new(ErrorCode::CoordinatorNotAvailable, refusal.message))?;
    let unknown = || {
        let message = format!("broker {broker} has no address for Kafka clients");
        Refusal::new(ErrorCode::CoordinatorNotAvailable, message)
    };
    let address = address_of(shard, context, broker).ok_or_else(unknown)?;
    Ok((broker, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_clients_software_is_held_to_kafkas_rule() {
        for name in ["librdkafka", "apache-kafka-java", "3.9.0", "a", "2.0.2-RC1"] {
            assert!(is_software(name), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "ä", "a/b"] {
            assert!(!is_software(name), "{name:?}");
        }
        assert!(!is_software(&"a".repeat(MAX_SOFTWARE_LEN + 1)));
    }

    #[test]
    fn a_client_is_told_the_address_that_it_has_reached() {
        let told = |local: &str| reached(local.parse().unwrap());
        assert_eq!(told("10.0.0.1:9092"), ("10.0.0.1".to_owned(), 9092));
        assert_eq!(told("[::ffff:10.0.0.1]:1"), ("10.0.0.1".to_owned(), 1));
        assert_eq!(told("[::1]:9092"), ("::1".to_owned(), 9092));
    }
}
