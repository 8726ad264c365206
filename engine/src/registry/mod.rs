//! The topic registry: the [`Metadata`] machine of `millrace-replication`, made durable on
//! shard 0.
//!
//! One task, [`Registry::run`], takes requests one at a time: it validates the request
//! against the state, makes the command durable in the [`Journal`], applies it, broadcasts
//! it to the shards, and answers. Every shard holds a [`RegistryClient`] to ask with, and a
//! copy of the metadata that the broadcasts keep up to date.
//!
//! **Invariant:** a command is durable before anybody sees its effect.
//! **Invariant:** commands are broadcast in the order in which they were applied, and before
//! they are answered: who created a topic finds it on every shard.
//! **Invariant:** a client that goes away does not stop a command half-way.
//!
//! When the disk is full, a change is refused and may be tried again. When the journal fails
//! otherwise, nothing is known of the command in hand. So the registry refuses
//! every later change with `KAFKA_STORAGE_ERROR` until the broker restarts and reads what is
//! there; everything that exists goes on being served.

mod client;
mod journal;
mod snapshot_file;

use millrace_model::{BrokerId, ErrorCode, LeaderEpoch};
use millrace_replication::{
    ApplyError, Change, Command, CommandError, Metadata, Refusal, Request, SnapshotError,
};

pub use client::{MAX_WAITING_REQUESTS, RegistryClient, random_topic_id};
pub use journal::{Journal, JournalError, LogJournal, Recovered};

use client::Submission;

/// Commands after which the state is written as a snapshot and the older commands are
/// forgotten: replaying as many takes a few milliseconds.
const COMMANDS_PER_SNAPSHOT: u64 = 4_096;

/// Why the registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A command in it cannot be read.
    #[error("command {index} of the metadata log: {source}")]
    Command {
        /// Which, counted from the snapshot.
        index: u64,
        /// Why.
        source: CommandError,
    },
    /// A command in it does not follow from those before.
    #[error("command {index} of the metadata log: {source}")]
    Apply {
        /// Which, counted from the snapshot.
        index: u64,
        /// Why.
        source: ApplyError,
    },
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// This broker's epoch does not grow: the data directory's start counter and the
    /// metadata are not of one broker's life.
    #[error("the metadata does not belong to this data directory: {0}")]
    Epoch(Refusal),
}

/// The registry, on shard 0.
pub struct Registry<J> {
    state: Metadata,
    journal: J,
    commands_since_snapshot: u64,
    commands_per_snapshot: u64,
    submissions: flume::Receiver<Submission>,
    client: RegistryClient,
    failed: Option<String>,
}

impl<J: Journal> Registry<J> {
    /// Replays what the journal holds and begins this broker's life under `epoch`, durably.
    ///
    /// # Errors
    /// The journal fails or is damaged, or `epoch` is not above that of every earlier life.
    pub async fn open(
        journal: J,
        recovered: Recovered,
        broker: BrokerId,
        epoch: LeaderEpoch,
    ) -> Result<Self, RegistryError> {
        let commands_since_snapshot = recovered.commands.len() as u64;
        let state = replay(recovered)?;
        let (sender, submissions) = flume::bounded(MAX_WAITING_REQUESTS);
        let client = RegistryClient::new(sender);
        let failed = None;
        let mut registry = Self {
            state,
            journal,
            commands_since_snapshot,
            commands_per_snapshot: COMMANDS_PER_SNAPSHOT,
            submissions,
            client,
            failed,
        };
        let started = Request::BrokerStarted { broker, epoch };
        let command = registry
            .state
            .validate(started)
            .map_err(RegistryError::Epoch)?;
        registry.commit(&command).await?;
        Ok(registry)
    }

    /// Writes a snapshot after every so many commands instead of the usual number.
    #[must_use]
    pub fn snapshot_every(mut self, commands: u64) -> Self {
        self.commands_per_snapshot = commands;
        self
    }

    /// A handle to ask with, for every shard.
    #[must_use]
    pub fn client(&self) -> RegistryClient {
        self.client.clone()
    }

    /// A copy of the state, for a shard to start from.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.state.clone()
    }

    /// Serves requests until every [`RegistryClient`] is gone. `broadcast` returns when every
    /// shard has applied the command.
    pub async fn run(mut self, broadcast: impl AsyncFn(&Command, &Change)) {
        self.client = RegistryClient::disconnected();
        while let Ok(Submission { request, reply }) = self.submissions.recv_async().await {
            let answer = self.serve(request, &broadcast).await;
            // A client that no longer waits does not concern the command.
            let _ = reply.send(answer);
            self.snapshot_when_due().await;
        }
    }

    async fn serve(
        &mut self,
        request: Request,
        broadcast: &impl AsyncFn(&Command, &Change),
    ) -> Result<Change, Refusal> {
        if let Some(cause) = &self.failed {
            return Err(storage_refusal(cause));
        }
        let command = self.state.validate(request)?;
        match self.commit(&command).await {
            Ok(change) => {
                broadcast(&command, &change).await;
                Ok(change)
            }
            Err(JournalError::Full) => Err(storage_refusal("no space is left; try again")),
            Err(error) => {
                tracing::error!(%error, "the metadata log failed; topics cannot be changed until a restart");
                let cause = self.failed.insert(format!("{error}; restart the broker"));
                Err(storage_refusal(cause))
            }
        }
    }

    /// A snapshot that fails costs nothing but a longer replay; the next command tries again.
    async fn snapshot_when_due(&mut self) {
        if self.failed.is_some() || self.commands_since_snapshot < self.commands_per_snapshot {
            return;
        }
        match self.journal.save_snapshot(self.state.to_snapshot()).await {
            Ok(()) => self.commands_since_snapshot = 0,
            Err(error) => tracing::warn!(%error, "the metadata snapshot was not written"),
        }
    }

    async fn commit(&mut self, command: &Command) -> Result<Change, JournalError> {
        self.journal.append(command.to_bytes()).await?;
        self.commands_since_snapshot += 1;
        let change = self.state.apply(command);
        Ok(change.expect("a validated command applies to the state it was validated on"))
    }
}

fn storage_refusal(cause: &str) -> Refusal {
    let message = format!("the metadata log takes no changes: {cause}");
    Refusal::new(ErrorCode::KafkaStorageError, message)
}

fn replay(recovered: Recovered) -> Result<Metadata, RegistryError> {
    let mut state = match recovered.snapshot {
        Some(bytes) => Metadata::from_snapshot(&bytes)?,
        None => Metadata::default(),
    };
    for (index, bytes) in (0..).zip(recovered.commands) {
        let command = Command::from_bytes(&bytes)
            .map_err(|source| RegistryError::Command { index, source })?;
        state
            .apply(&command)
            .map_err(|source| RegistryError::Apply { index, source })?;
    }
    Ok(state)
}

#[cfg(test)]
mod tests;
