//! Which handler answers which request.
//!
//! A handler is `async fn name(shard, context, request) -> response`. To add an API: name it in
//! [`OFFERED`] and give it an arm in [`handle`]. Handlers are dropped when their connection ends, so
//! what must go on without the client goes on in a task of its own.

use std::rc::Rc;

use bytes::Bytes;
use millrace_kafka::{
    ApiKey, ApiVersionsResponse, Request, RequestError, RequestHeader, Response, decode_request,
    encode_response,
};
use millrace_model::ErrorCode;

use super::connection::Memory;
use super::context::RequestContext;
use super::produce::{self, Produced};
use super::{admin, cluster, fetch, groups, offsets, producers};
use crate::shard::Shard;

/// The APIs that ApiVersions offers: those that [`handle`] has an arm for.
pub(super) const OFFERED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::UnregisterBroker,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
];

/// What a frame holds.
pub(super) enum Decoded {
    Request(RequestHeader, Request),
    /// No request that can be served, but one that has an answer.
    Answer(i32, Response, i16),
    /// Nothing to answer: the connection is closed.
    Refused(RequestError),
}

/// Looks into a frame.
pub(super) fn decode(frame: Bytes) -> Decoded {
    match decode_request(frame) {
        Ok((header, request)) if OFFERED.contains(&header.api) => Decoded::Request(header, request),
        Ok((header, _)) => Decoded::Refused(RequestError::UnknownApi {
            key: header.api.key(),
            version: header.version,
            correlation_id: header.correlation_id,
        }),
        // A client that is newer than the broker begins with a version that is not known here; the
        // answer is in the form of version 0, which every client reads.
        Err(RequestError::UnsupportedVersion {
            api: ApiKey::ApiVersions,
            correlation_id,
            ..
        }) => {
            let response = ApiVersionsResponse {
                error_code: ErrorCode::UnsupportedVersion as i16,
                ..cluster::versions()
            };
            Decoded::Answer(correlation_id, response.into(), 0)
        }
        Err(error) => Decoded::Refused(error),
    }
}

/// How a request ends.
pub(super) enum Reply {
    Response(Response),
    /// The client wants no response.
    Silence,
    /// The connection is to be closed.
    Close,
}

/// Serves a request. `memory` is what its bytes hold.
pub(super) async fn serve(
    shard: Rc<Shard>,
    context: RequestContext,
    request: Request,
    memory: Memory,
) -> Reply {
    // Here, so that their futures stay small: these two are most of all requests.
    match request {
        Request::Produce(request) => {
            let produced = produce::produce(&shard, &context, request).await;
            drop(memory);
            match produced {
                Produced::Answer(response) => Reply::Response(response.into()),
                Produced::Silence => Reply::Silence,
                Produced::Close => Reply::Close,
            }
        }
        Request::Fetch(request) => {
            drop(memory);
            Reply::Response(fetch::fetch(&shard, &context, request).await.into())
        }
        request => {
            let handled = Box::pin(handle(&shard, &context, request)).await;
            drop(memory);
            handled.map_or(Reply::Close, Reply::Response)
        }
    }
}

/// Every request but the two that [`serve`] handles itself. `None` closes the connection.
async fn handle(shard: &Rc<Shard>, context: &RequestContext, request: Request) -> Option<Response> {
    Some(match request {
        Request::ApiVersions(request) => {
            cluster::api_versions(shard, context, request).await.into()
        }
        Request::Metadata(request) => cluster::metadata(shard, context, request).await.into(),
        Request::FindCoordinator(request) => cluster::find_coordinator(shard, context, request)
            .await
            .into(),
        Request::OffsetCommit(request) => {
            groups::offset_commit(shard, context, request).await.into()
        }
        Request::OffsetFetch(request) => groups::offset_fetch(shard, context, request).await.into(),
        Request::JoinGroup(request) => groups::join_group(shard, context, request).await.into(),
        Request::Heartbeat(request) => groups::heartbeat(shard, context, request).await.into(),
        Request::LeaveGroup(request) => groups::leave_group(shard, context, request).await.into(),
        Request::SyncGroup(request) => groups::sync_group(shard, context, request).await.into(),
        Request::DescribeGroups(request) => groups::describe_groups(shard, context, request)
            .await
            .into(),
        Request::ListGroups(request) => groups::list_groups(shard, context, request).await.into(),
        Request::DeleteGroups(request) => {
            groups::delete_groups(shard, context, request).await.into()
        }
        Request::OffsetDelete(request) => {
            groups::offset_delete(shard, context, request).await.into()
        }
        Request::ConsumerGroupHeartbeat(request) => {
            groups::consumer_group_heartbeat(shard, context, request)
                .await
                .into()
        }
        Request::ConsumerGroupDescribe(request) => {
            groups::consumer_group_describe(shard, context, request)
                .await
                .into()
        }
        Request::ListOffsets(request) => offsets::list(shard, context, request).await.into(),
        Request::OffsetForLeaderEpoch(request) => {
            offsets::for_leader_epoch(shard, context, request)
                .await
                .into()
        }
        Request::DeleteRecords(request) => offsets::delete_records(shard, context, request)
            .await
            .into(),
        Request::InitProducerId(request) => producers::init(shard, context, request).await.into(),
        Request::DescribeProducers(request) => {
            producers::describe(shard, context, request).await.into()
        }
        Request::CreateTopics(request) => {
            admin::create_topics(shard, context, request).await.into()
        }
        Request::DeleteTopics(request) => {
            admin::delete_topics(shard, context, request).await.into()
        }
        Request::CreatePartitions(request) => admin::create_partitions(shard, context, request)
            .await
            .into(),
        Request::DescribeConfigs(request) => admin::describe_configs(shard, context, request)
            .await
            .into(),
        Request::AlterConfigs(request) => {
            admin::alter_configs(shard, context, request).await.into()
        }
        Request::IncrementalAlterConfigs(request) => {
            admin::incremental_alter_configs(shard, context, request)
                .await
                .into()
        }
        Request::ListConfigResources(request) => {
            admin::list_config_resources(shard, context, request)
                .await
                .into()
        }
        Request::DescribeCluster(request) => admin::describe_cluster(shard, context, request)
            .await
            .into(),
        Request::DescribeTopicPartitions(request) => {
            admin::describe_topic_partitions(shard, context, request)
                .await
                .into()
        }
        Request::ElectLeaders(request) => {
            admin::elect_leaders(shard, context, request).await.into()
        }
        Request::AlterPartitionReassignments(request) => {
            admin::alter_partition_reassignments(shard, context, request)
                .await
                .into()
        }
        Request::ListPartitionReassignments(request) => {
            admin::list_partition_reassignments(shard, context, request)
                .await
                .into()
        }
        Request::DescribeQuorum(request) => {
            admin::describe_quorum(shard, context, request).await.into()
        }
        Request::UpdateFeatures(request) => {
            admin::update_features(shard, context, request).await.into()
        }
        Request::UnregisterBroker(request) => admin::unregister_broker(shard, context, request)
            .await
            .into(),
        Request::DescribeLogDirs(request) => admin::describe_log_dirs(shard, context, request)
            .await
            .into(),
        // Not offered, so never here.
        _ => return None,
    })
}

/// A response as bytes. `None`, after a line in the log, when it cannot be said in this version.
pub(super) fn encode(version: i16, correlation_id: i32, response: &Response) -> Option<Vec<Bytes>> {
    encode_response(version, correlation_id, response)
        .inspect_err(|error| {
            let api = response.api().name();
            tracing::error!(api, version, %error, "a response cannot be encoded");
        })
        .ok()
}
