//! Which replica a consumer reads from: one in its own rack, if there is one that can serve it
//! (KIP-392).

use std::cmp::Reverse;

use millrace_model::{BrokerId, Offset};
use millrace_replication::cluster::{Broker, BrokerState};

use crate::controller::KAFKA_LISTENER;
use crate::partition::Partition;
use crate::shard::Shard;

/// The replica that a consumer in `rack` is sent to by the leader: in sync, in that rack, running, and with
/// all that lies before `offset`. `None` when the leader itself serves it.
pub(super) fn nearer(
    shard: &Shard,
    partition: &Partition,
    rack: &str,
    offset: Offset,
) -> Option<BrokerId> {
    let cluster = shard.topics().cluster();
    let stands_here = |broker: &Broker| broker.rack.as_deref() == Some(rack);
    if !partition.is_leader() || cluster.broker(shard.broker()).is_some_and(stands_here) {
        return None;
    }
    let is_near = |id: BrokerId| {
        let broker = cluster.broker(id);
        broker.is_some_and(|broker| stands_here(broker) && serves(broker))
    };
    let followers = partition.followers_in_sync().into_iter();
    let near = followers.filter(|(id, end)| *end >= offset && is_near(*id));
    let furthest = near.max_by_key(|(id, end)| (*end, Reverse(*id)));
    furthest.map(|(id, _)| id)
}

fn serves(broker: &Broker) -> bool {
    broker.state == BrokerState::Active && broker.endpoint(KAFKA_LISTENER).is_some()
}
