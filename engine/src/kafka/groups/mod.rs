//! Consumer groups in Kafka's words. Nothing is decided here: a request becomes a question to the
//! group's coordinator ([`crate::coordinator`]), and what differs from version to version is
//! smoothed out on the way there and back.
//!
//! | file | APIs |
//! | --- | --- |
//! | `membership` | JoinGroup, SyncGroup, Heartbeat, LeaveGroup |
//! | `offsets` | OffsetCommit, OffsetFetch, OffsetDelete |
//! | `listing` | DescribeGroups, ListGroups, DeleteGroups |
//! | `consumer` | ConsumerGroupHeartbeat, ConsumerGroupDescribe |

mod consumer;
mod listing;
mod membership;
mod offsets;

use millrace_groups::{Client, Failure, Response};
use millrace_model::ErrorCode;

use super::context::RequestContext;
use crate::shard::{Shard, partition_count};

pub(super) use consumer::{consumer_group_describe, consumer_group_heartbeat};
pub(super) use listing::{delete_groups, describe_groups, list_groups};
pub(super) use membership::{heartbeat, is_patient, join_group, leave_group, sync_group};
pub(super) use offsets::{offset_commit, offset_delete, offset_fetch};

/// What a client may do with a group where nothing is forbidden: read, delete and describe it, as
/// a set of the numbers of these operations.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

/// The number that stands for operations that were not asked for.
const NOT_ASKED_FOR: i32 = i32::MIN;

/// Who asks.
fn client(context: &RequestContext) -> Client {
    Client {
        id: context.client_id.clone().unwrap_or_default(),
        host: format!("/{}", context.peer.ip()),
    }
}

fn operations(asked_for: bool) -> i32 {
    if asked_for {
        ALL_OPERATIONS
    } else {
        NOT_ASKED_FOR
    }
}

/// A failure; an answer of another kind than was asked for is a fault of the broker.
fn failure(response: Response) -> Failure {
    match response {
        Response::Failed(failure) => failure,
        other => {
            tracing::error!(?other, "a coordinator gave an answer to another question");
            Failure {
                code: ErrorCode::UnknownServerError,
                message: None,
            }
        }
    }
}

/// Whether a topic has this partition.
fn exists(shard: &Shard, topic: &str, partition: u32) -> bool {
    let cluster = shard.topics().cluster();
    cluster
        .topic_named(topic)
        .is_some_and(|topic| partition < partition_count(topic))
}
