//! How a shard asks the controller.

use bytes::Bytes;
use millrace_model::{BrokerId, ErrorCode};
use millrace_replication::Refusal;
use millrace_replication::cluster::{Answer, ClusterRequest, Command};

/// Asks for changes of the cluster, from any shard.
#[derive(Clone, Debug)]
pub struct ControllerClient {
    sender: flume::Sender<Submission>,
}

/// A request on its way to the controller.
pub(super) enum Submission {
    Request(ClusterRequest, Reply),
    Propose(Command, Reply),
    Message(BrokerId, Bytes),
    Peer(BrokerId, Bytes, PeerReply),
}

pub(super) type Reply = flume::Sender<Result<Answer, Refusal>>;
pub(super) type PeerReply = flume::Sender<Result<Bytes, Refusal>>;

impl ControllerClient {
    /// Asks for a change that is judged on the present state. When it returns, a majority of the
    /// voters has it, and every shard of this broker has applied it.
    ///
    /// # Errors
    /// Why it is refused. `REQUEST_TIMED_OUT` when no leader of the quorum was found in time, or the
    /// broker is stopping: whether it was done is unknown then.
    pub async fn request(&self, request: ClusterRequest) -> Result<Answer, Refusal> {
        self.submit(|reply| Submission::Request(request, reply)).await
    }

    /// Asks for exactly this command. As [`Self::request`] otherwise.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn propose(&self, command: Command) -> Result<Answer, Refusal> {
        self.submit(|reply| Submission::Propose(command, reply)).await
    }

    /// A message of the quorum has arrived from a broker that has proved who it is. It is dropped
    /// when too many wait: the protocol says it again.
    pub fn deliver(&self, from: BrokerId, message: Bytes) {
        let _ = self.sender.try_send(Submission::Message(from, message));
    }

    /// Answers what the controller of another broker asks, which has proved who it is.
    ///
    /// # Errors
    /// The bytes are no request, or the broker is stopping.
    pub async fn serve(&self, from: BrokerId, request: Bytes) -> Result<Bytes, Refusal> {
        let (reply, answer) = flume::bounded(1);
        let sent = self.sender.send_async(Submission::Peer(from, request, reply));
        sent.await.map_err(|_| stopping())?;
        answer.recv_async().await.unwrap_or_else(|_| Err(stopping()))
    }

    async fn submit(
        &self,
        submission: impl FnOnce(Reply) -> Submission,
    ) -> Result<Answer, Refusal> {
        let (reply, answer) = flume::bounded(1);
        let sent = self.sender.send_async(submission(reply)).await;
        sent.map_err(|_| stopping())?;
        let answer = answer.recv_async().await;
        answer.unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> Refusal {
    Refusal::new(
        ErrorCode::RequestTimedOut,
        "the broker is stopping; try again later",
    )
}
