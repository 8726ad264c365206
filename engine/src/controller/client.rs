//! How a shard asks the controller.

use bytes::Bytes;
use millrace_model::{BrokerId, ErrorCode};
use millrace_replication::Refusal;
use millrace_replication::cluster::{Answer, Ask, ClusterRequest, Command, VoterChange};
use millrace_replication::quorum::QuorumReport;

use super::ControllerStatus;
use super::inquiries::ReportReply;

/// Requests that wait for the controller at a time. A change takes a durable write, and many share
/// one; who comes later than a few hundred others waits in its own task.
const MAX_WAITING_SUBMISSIONS: usize = 256;

/// Messages of the quorum that wait to be handled. The sender says again what is dropped.
const MAX_WAITING_MESSAGES: usize = 128;

/// Asks for changes of the cluster, from any shard.
#[derive(Clone, Debug)]
pub struct ControllerClient {
    submissions: flume::Sender<Submission>,
    messages: flume::Sender<Arrived>,
}

/// A request on its way to the controller.
pub(super) enum Submission {
    /// A change.
    Ask(Ask, Reply),
    /// What another broker's controller asks.
    Peer(BrokerId, Bytes, PeerReply),
    /// How it stands.
    Status(flume::Sender<ControllerStatus>),
    /// How the quorum stands, as its leader sees it.
    Inquire(ReportReply),
    /// This broker wants to stop.
    PrepareToStop(flume::Sender<()>),
}

/// A message of the quorum, from a broker that has proved who it is.
pub(super) struct Arrived {
    pub(super) from: BrokerId,
    pub(super) message: Bytes,
}

pub(super) type Outcome = Result<Answer, Refusal>;
pub(super) type Reply = flume::Sender<Outcome>;
pub(super) type PeerReply = flume::Sender<Result<Bytes, Refusal>>;

/// The controller's ends.
pub(super) struct Inbox {
    pub(super) submissions: flume::Receiver<Submission>,
    pub(super) messages: flume::Receiver<Arrived>,
}

impl ControllerClient {
    pub(super) fn new() -> (Self, Inbox) {
        let (submissions, asked) = flume::bounded(MAX_WAITING_SUBMISSIONS);
        let (messages, arrived) = flume::bounded(MAX_WAITING_MESSAGES);
        let inbox = Inbox {
            submissions: asked,
            messages: arrived,
        };
        let client = Self {
            submissions,
            messages,
        };
        (client, inbox)
    }

    /// Asks for a change that the leader judges on its own state. When it returns, a majority of the
    /// voters has it, and every shard of this broker has applied it.
    ///
    /// # Errors
    /// Why it is refused. `REQUEST_TIMED_OUT` when no leader of the quorum was found in time, or the
    /// broker is stopping: whether it was done is unknown then.
    pub async fn request(&self, request: ClusterRequest) -> Result<Answer, Refusal> {
        self.submit(|reply| Submission::Ask(Ask::Request(request), reply))
            .await?
    }

    /// Asks for exactly this command. As [`Self::request`] otherwise.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn propose(&self, command: Command) -> Result<Answer, Refusal> {
        self.submit(|reply| Submission::Ask(Ask::Command(command), reply))
            .await?
    }

    /// A message of the quorum has arrived from a broker that has proved who it is. It is dropped
    /// when too many wait: the protocol says it again.
    pub fn deliver(&self, from: BrokerId, message: Bytes) {
        let _ = self.messages.try_send(Arrived { from, message });
    }

    /// Answers what the controller of another broker asks, which has proved who it is.
    ///
    /// # Errors
    /// The bytes are no request, or the broker is stopping. A request that is refused is an answer.
    pub async fn serve(&self, from: BrokerId, request: Bytes) -> Result<Bytes, Refusal> {
        self.submit(|reply| Submission::Peer(from, request, reply))
            .await?
    }

    /// Makes a broker a voter of the quorum, or a voter no longer one. When it returns, a majority
    /// of the voters has it.
    ///
    /// # Errors
    /// As [`Self::request`]; why not.
    pub async fn change_voters(&self, change: VoterChange) -> Result<Answer, Refusal> {
        self.submit(|reply| Submission::Ask(Ask::Voters(change), reply))
            .await?
    }

    /// How the quorum stands, as this node sees it.
    ///
    /// # Errors
    /// `REQUEST_TIMED_OUT` when the broker is stopping.
    pub async fn status(&self) -> Result<ControllerStatus, Refusal> {
        self.submit(Submission::Status).await
    }

    /// How the quorum stands, as its leader sees it.
    ///
    /// # Errors
    /// The leader is not known, or does not answer: try again.
    pub async fn quorum_report(&self) -> Result<QuorumReport, Refusal> {
        self.submit(Submission::Inquire).await?
    }

    /// Gives up what others can lead: partitions, and the quorum. Returns when nothing depends on
    /// this broker any more that another could take over, or when waiting for that is not worth
    /// it. The broker must still serve meanwhile.
    pub async fn prepare_to_stop(&self) {
        // A controller that has ended leads nothing.
        let _ = self.submit(Submission::PrepareToStop).await;
    }

    async fn submit<T>(
        &self,
        submission: impl FnOnce(flume::Sender<T>) -> Submission,
    ) -> Result<T, Refusal> {
        let (reply, answer) = flume::bounded(1);
        let sent = self.submissions.send_async(submission(reply)).await;
        sent.map_err(|_| stopping())?;
        answer.recv_async().await.map_err(|_| stopping())
    }
}

fn stopping() -> Refusal {
    Refusal::new(
        ErrorCode::RequestTimedOut,
        "the broker is stopping; try again later",
    )
}
