//! Requests on streams of their own, each bounded by the request timeout.

use std::sync::Arc;

use millrace_wire::{ClusterAsk, GroupRequest, MessageReader, Request, Response, StreamKind};

use crate::ClientError;
use crate::link::{Link, Remote};
use crate::streams::{self, READ_CHUNK_BYTES};

/// How often a request that may be repeated is sent when its connection breaks.
const ATTEMPTS: u32 = 3;

/// Sends a request over the link and awaits its answer. A refusal by the broker is an
/// error. A request without effect is repeated over a new connection when one breaks.
pub(crate) async fn request(link: &Link, request: &Request) -> Result<Response, ClientError> {
    let mut attempt = 1;
    loop {
        let connection = link.connection().await?;
        match exchange(link.remote(), &connection, request).await {
            Err(ClientError::Disconnected { .. }) if repeatable(request) && attempt < ATTEMPTS => {
                attempt += 1;
            }
            answered => return answered,
        }
    }
}

/// Sends a request over this connection and awaits its answer.
pub(crate) async fn exchange(
    remote: &Arc<Remote>,
    connection: &quinn::Connection,
    request: &Request,
) -> Result<Response, ClientError> {
    let after = remote.options.request_timeout;
    let answered = remote
        .runtime
        .timeout(after, converse(remote, connection, request))
        .await;
    match answered.unwrap_or(Err(ClientError::TimedOut {
        what: "the request",
        after,
    }))? {
        Response::Error(error) => Err(error.into()),
        response => Ok(response),
    }
}

/// What to say to an answer to another question.
pub(crate) fn unexpected(response: Response) -> ClientError {
    let mut text = format!("{response:?}");
    text.truncate(text.find([' ', '(', '{']).unwrap_or(text.len()));
    ClientError::Protocol(format!("{text} answers another request"))
}

async fn converse(
    remote: &Arc<Remote>,
    connection: &quinn::Connection,
    request: &Request,
) -> Result<Response, ClientError> {
    let bytes = millrace_wire::encode(StreamKind::Control, request).map_err(|error| {
        ClientError::refused(millrace_model::ErrorCode::InvalidRequest, error.to_string())
    })?;
    let (mut send, mut recv) = connection
        .open_bi()
        .await
        .map_err(|error| remote.disconnected(error))?;
    send.write_chunk(bytes)
        .await
        .map_err(|error| streams::write_error(remote, &error))?;
    // An error means that the broker wants to read no more; what it answers says why.
    let _ = send.finish();
    let mut reader = MessageReader::default();
    loop {
        streams::expect_kind(&mut reader, StreamKind::Control)?;
        if let Some(response) = reader.message()? {
            return Ok(response);
        }
        let chunk = recv.read_chunk(READ_CHUNK_BYTES, true).await;
        match chunk.map_err(|error| streams::read_error(remote, &error))? {
            Some(chunk) => reader.push(chunk.bytes),
            None => return Err(reader.cut_short().into()),
        }
    }
}

pub(crate) fn repeatable(request: &Request) -> bool {
    match request {
        Request::Metadata { .. }
        | Request::DescribeTopic { .. }
        | Request::ListOffset { .. }
        | Request::DescribePartition { .. }
        | Request::DeleteRecords { .. }
        | Request::InitProducerId
        | Request::Metrics
        | Request::Observe { .. } => true,
        // Clients send no request of the last kind.
        Request::CreateTopic { .. }
        | Request::DeleteTopic { .. }
        | Request::AlterTopic { .. }
        | Request::Peer(_) => false,
        // What they want is a state, which they may ask for twice.
        Request::Cluster(
            ClusterAsk::Describe
            | ClusterAsk::Voters
            | ClusterAsk::Cordon { .. }
            | ClusterAsk::Reassign { .. }
            | ClusterAsk::ElectPreferred { .. },
        ) => true,
        // The second time it is refused, for it is done.
        Request::Cluster(
            ClusterAsk::Unregister { .. }
            | ClusterAsk::AddVoter { .. }
            | ClusterAsk::RemoveVoter { .. },
        ) => false,
        Request::Group(request) => match request.as_ref() {
            GroupRequest::Commit(_)
            | GroupRequest::FetchOffsets { .. }
            | GroupRequest::List
            | GroupRequest::ListAfter { .. }
            | GroupRequest::Describe { .. }
            | GroupRequest::DeleteOffsets { .. } => true,
            // A member repeats its heartbeat itself, with what is true by then.
            GroupRequest::Heartbeat(_) | GroupRequest::Delete { .. } => false,
        },
    }
}
