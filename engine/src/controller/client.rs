//! How a shard asks the controller.

use millrace_model::ErrorCode;
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
}

pub(super) type Reply = flume::Sender<Result<Answer, Refusal>>;

impl ControllerClient {
    /// Asks for a change that is judged on the present state. When it returns, a majority of the
    /// voters has it, and every shard of this broker has applied it.
    ///
    /// # Errors
    /// Why it is refused. `REQUEST_TIMED_OUT` when no leader of the quorum was found in time, or the
    /// broker is stopping: whether it was done is unknown then.
    pub async fn request(&self, request: ClusterRequest) -> Result<Answer, Refusal> {
        self.submit(|reply| Submission::Request(request, reply))
            .await
    }

    /// Asks for exactly this command. As [`Self::request`] otherwise.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn propose(&self, command: Command) -> Result<Answer, Refusal> {
        self.submit(|reply| Submission::Propose(command, reply))
            .await
    }

    async fn submit(
        &self,
        submission: impl FnOnce(Reply) -> Submission,
    ) -> Result<Answer, Refusal> {
        let stopping = || {
            Refusal::new(
                ErrorCode::RequestTimedOut,
                "the broker is stopping; try again later",
            )
        };
        let (reply, answer) = flume::bounded(1);
        let sent = self.sender.send_async(submission(reply)).await;
        sent.map_err(|_| stopping())?;
        let answer = answer.recv_async().await;
        answer.unwrap_or_else(|_| Err(stopping()))
    }
}
