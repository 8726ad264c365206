//! How a shard asks the registry.

use millrace_model::{ErrorCode, TopicId};
use millrace_replication::{Change, Refusal, Request};

/// Requests that wait for the registry at a time. Creating a topic takes one durable write;
/// who comes later than a few hundred others waits in its own task.
pub const MAX_WAITING_REQUESTS: usize = 256;

/// A request on its way to the registry.
pub(super) struct Submission {
    pub(super) request: Request,
    pub(super) reply: flume::Sender<Result<Change, Refusal>>,
}

/// Asks the registry for changes, from any shard.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    sender: flume::Sender<Submission>,
}

impl RegistryClient {
    pub(super) fn new(sender: flume::Sender<Submission>) -> Self {
        Self { sender }
    }

    /// A client of nobody: what the registry holds itself once it runs.
    pub(super) fn disconnected() -> Self {
        Self {
            sender: flume::bounded(0).0,
        }
    }

    /// Asks for a change. When it returns, the change is durable and every shard has applied
    /// it.
    ///
    /// # Errors
    /// The registry's refusal, or `REQUEST_TIMED_OUT` (repeat it elsewhere or later) when the
    /// broker is stopping.
    pub async fn submit(&self, request: Request) -> Result<Change, Refusal> {
        let stopping = || {
            Refusal::new(
                ErrorCode::RequestTimedOut,
                "the broker is stopping; try again later",
            )
        };
        let (reply, answer) = flume::bounded(1);
        let submission = Submission { request, reply };
        self.sender
            .send_async(submission)
            .await
            .map_err(|_| stopping())?;
        answer
            .recv_async()
            .await
            .unwrap_or_else(|_| Err(stopping()))
    }
}

/// A new topic id: 128 random bits of the system.
///
/// # Errors
/// The system gives none.
pub fn random_topic_id() -> std::io::Result<TopicId> {
    let mut id = [0; 16];
    // SAFETY: the pointer and the length are those of `id`, which is writable.
    let filled = unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) };
    match usize::try_from(filled) {
        Ok(16) => Ok(TopicId(id)),
        Ok(_) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(std::io::Error::last_os_error()),
    }
}
