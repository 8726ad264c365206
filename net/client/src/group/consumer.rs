//! The consumer of a group, on the application's side.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_model::{ErrorCode, Offset, PartitionId};
use millrace_wire::{CommitOffset, TopicPartitions};
use rustls::crypto::ring;
use tokio::sync::watch;

use super::commit::{Committer, Patience, processed_of, to_commit};
use super::driver::{Activity, Command, Driver, Event};
use super::membership::Membership;
use super::reader::{Reader, Slot, Until};
use super::{
    CommitMode, GroupOptions, GroupPartition, GroupRecord, PartitionLag, RebalanceListener,
};
use crate::runtime::{Either, race};
use crate::{Client, ClientError, OffsetReset};

/// Wait before committed offsets are asked for again when that failed.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// How long a member that leaves waits for the broker to hear it. One that is not heard is taken for
/// dead when its session ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// A member of a group. Within a partition records come in order; between partitions as they arrive.
///
/// The application must ask for records (or [`GroupConsumer::close`]) within the rebalance timeout: meanwhile
/// partitions come and go, and offsets are committed. Dropped without being closed, the member leaves and commits
/// nothing.
pub struct GroupConsumer {
    client: Client,
    options: GroupOptions,
    /// Never locked: the mutex makes the consumer `Sync`, which the listener need not be.
    listener: Mutex<Option<Box<dyn RebalanceListener>>>,
    committer: Committer,
    reader: Reader,
    events: flume::Receiver<Event>,
    commands: flume::Sender<Command>,
    activity: Arc<Activity>,
    steps: VecDeque<Step>,
    joined: bool,
    over: bool,
    commit_at: Instant,
}

/// What is to be carried out, in order. Each can be dropped in the middle and begun again.
#[derive(Debug)]
enum Step {
    Start(Vec<GroupPartition>),
    Release {
        partitions: Vec<GroupPartition>,
        /// What the listener wants to be committed, once it was told.
        offsets: Option<Vec<CommitOffset>>,
    },
}

impl Client {
    /// A member of a group. Returns when it has joined; which partitions it reads shows while
    /// records are asked for.
    ///
    /// # Errors
    /// [`ClientError::Options`], `INVALID_REGULAR_EXPRESSION`, `UNSUPPORTED_ASSIGNOR`, `GROUP_MAX_SIZE_REACHED`,
    /// `UNRELEASED_INSTANCE_ID` while another member has the same instance id, and
    /// [`ClientError::TimedOut`].
    pub async fn group_consumer(
        &self,
        options: GroupOptions,
    ) -> Result<GroupConsumer, ClientError> {
        GroupConsumer::open(self.clone(), options).await
    }
}

impl GroupConsumer {
    async fn open(client: Client, mut options: GroupOptions) -> Result<Self, ClientError> {
        options.check()?;
        let shared = Arc::clone(client.shared());
        let reader = Reader::new(
            client.clone(),
            options.offset_reset,
            options.buffer_bytes,
            options.decompressed_bytes_max,
            options.rack.as_deref(),
        )?;
        let member = member_id();
        let now = shared.runtime.now();
        let (commands, received) = flume::unbounded();
        let (events, to_carry_out) = flume::unbounded();
        let (epoch, known_epoch) = watch::channel(None);
        let activity = Arc::new(Activity::default());
        let driver = Driver {
            client: client.clone(),
            membership: Membership::new(now, options.heartbeat(member.clone())),
            commands: received,
            events,
            epoch,
            activity: Arc::clone(&activity),
            patience: options.rebalance_timeout,
        };
        shared.runtime.spawn(driver.run());
        let committer = Committer {
            client: client.clone(),
            group: options.group.clone(),
            member,
            instance: options.instance.clone(),
            epoch: known_epoch,
        };
        let mut consumer = Self {
            commit_at: now + commit_interval(&options),
            client,
            listener: Mutex::new(options.listener.take()),
            options,
            committer,
            reader,
            events: to_carry_out,
            commands,
            activity,
            steps: VecDeque::new(),
            joined: false,
            over: false,
        };
        let after = shared.options.request_timeout;
        let joined = shared.runtime.timeout(after, consumer.join()).await;
        joined.unwrap_or(Err(ClientError::TimedOut {
            what: "joining the group",
            after,
        }))?;
        Ok(consumer)
    }

    async fn join(&mut self) -> Result<(), ClientError> {
        while !self.joined {
            let event = self.events.recv_async().await;
            self.take(event.map_err(|_| ClientError::Closed)?)?;
        }
        Ok(())
    }

    /// The next record, whenever it comes. All records got before count as processed.
    ///
    /// # Errors
    /// Once for each partition that fails: `OFFSET_OUT_OF_RANGE` unless it is to be reset,
    /// [`ClientError::Damaged`]. The others go on. Whatever ends the membership; then
    /// [`ClientError::Closed`]. A connection that breaks, and a fence, are mended and no error.
    pub async fn next(&mut self) -> Result<GroupRecord, ClientError> {
        loop {
            if let Some(record) = self.next_until(Until::Ever).await? {
                return Ok(record);
            }
        }
    }

    /// The next record, or `None` when every partition that this member has at the moment is read to the end
    /// that it had when the member got it.
    ///
    /// # Errors
    /// As for [`GroupConsumer::next`].
    pub async fn next_before_end(&mut self) -> Result<Option<GroupRecord>, ClientError> {
        self.next_until(Until::End).await
    }

    /// The next records of one partition: what is left of a batch, at least one record and at most
    /// `max`, which is at least 1.
    ///
    /// # Errors
    /// As for [`GroupConsumer::next`].
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<GroupRecord>, ClientError> {
        let first = self.next().await?;
        Ok(self.batch(first, max))
    }

    /// As [`GroupConsumer::next_batch`], and none at the end as [`GroupConsumer::next_before_end`] has
    /// it.
    ///
    /// # Errors
    /// As for [`GroupConsumer::next`].
    pub async fn next_batch_before_end(
        &mut self,
        max: usize,
    ) -> Result<Vec<GroupRecord>, ClientError> {
        let first = self.next_before_end().await?;
        Ok(first.map_or_else(Vec::new, |first| self.batch(first, max)))
    }

    /// Commits the position of every partition: all that the application has got counts as
    /// processed.
    ///
    /// # Errors
    /// The first error of any offset. `FENCED_MEMBER_EPOCH` and `UNKNOWN_MEMBER_ID`: the partitions belong to
    /// others meanwhile.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let _call = self.begin_call();
        self.reader.settle();
        self.commit_processed(Patience::Long).await
    }

    /// Commits these offsets: in each partition the next one to read.
    ///
    /// # Errors
    /// As for [`GroupConsumer::commit`].
    pub async fn commit_offsets(
        &mut self,
        offsets: &[(GroupPartition, Offset)],
    ) -> Result<(), ClientError> {
        let _call = self.begin_call();
        let wanted = to_commit(offsets);
        self.committer.commit(&wanted, Patience::Long).await?;
        let offsets: Vec<_> = offsets
            .iter()
            .map(|(partition, offset)| (partition.log, *offset))
            .collect();
        self.reader.committed(&offsets);
        Ok(())
    }

    /// What this member reads at present.
    pub fn assignment(&self) -> impl Iterator<Item = &GroupPartition> {
        self.reader.slots().map(|slot| &slot.partition)
    }

    /// The offset that comes next, by partition.
    pub fn positions(&self) -> impl Iterator<Item = (&GroupPartition, Offset)> {
        self.reader
            .slots()
            .map(|slot| (&slot.partition, slot.position))
    }

    /// The offset that comes next in this partition, if this member reads it.
    #[must_use]
    pub fn position(&self, topic: &str, partition: PartitionId) -> Option<Offset> {
        let is_it = |of: &GroupPartition| &*of.topic == topic && of.log.partition == partition;
        let mut positions = self.positions();
        positions
            .find(|(of, _)| is_it(of))
            .map(|(_, position)| position)
    }

    /// How far this member is behind, by partition. Asks the broker for the present ends.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lag(&self) -> Result<Vec<PartitionLag>, ClientError> {
        let mut lags = Vec::new();
        for slot in self.reader.slots() {
            let state = self.client.describe_partition(slot.partition.log).await?;
            lags.push(PartitionLag {
                partition: slot.partition.clone(),
                position: slot.position,
                committed: slot.committed,
                high_watermark: state.high_watermark,
            });
        }
        Ok(lags)
    }

    /// The member's id, as descriptions of the group show it.
    #[must_use]
    pub fn member(&self) -> &str {
        &self.committer.member
    }

    /// Commits, unless the application does that itself, and leaves the group: its partitions go to
    /// others at once. All records got before count as processed. A static member's partitions wait for
    /// it.
    ///
    /// # Errors
    /// What became of the commit. The member has left all the same.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.reader.settle();
        let all: Vec<_> = self.assignment().cloned().collect();
        self.reader.stop(&all);
        let committed = match self.options.commit {
            CommitMode::Every(_) if !self.over => self.commit_processed(Patience::Long).await,
            _ => Ok(()),
        };
        // Without its task the member has left already.
        let _ = self.commands.send(Command::Leave);
        let left = async {
            while let Ok(event) = self.events.recv_async().await {
                if matches!(event, Event::Left | Event::Failed(_)) {
                    return;
                }
            }
        };
        let runtime = self.client.shared().runtime.clone();
        runtime.timeout(GOODBYE, left).await;
        committed
    }

    async fn next_until(&mut self, until: Until) -> Result<Option<GroupRecord>, ClientError> {
        let _call = self.begin_call();
        self.reader.settle();
        loop {
            self.take_events()?;
            if !self.steps.is_empty() {
                self.carry_out().await?;
                continue;
            }
            if let Some(record) = self.reader.next_of_current() {
                return Ok(Some(record));
            }
            if until == Until::End && self.joined && self.reader.is_at_end() {
                return Ok(None);
            }
            self.wait(until).await?;
        }
    }

    fn batch(&mut self, first: GroupRecord, max: usize) -> Vec<GroupRecord> {
        let rest = std::iter::from_fn(|| self.reader.next_of_current());
        std::iter::once(first).chain(rest).take(max).collect()
    }

    /// Awaits a frame, an event or the time to commit.
    async fn wait(&mut self, until: Until) -> Result<(), ClientError> {
        if self.over {
            return Err(ClientError::Closed);
        }
        let runtime = self.client.shared().runtime.clone();
        let is_due = matches!(self.options.commit, CommitMode::Every(_))
            && self.reader.uncommitted().next().is_some();
        if is_due && runtime.now() >= self.commit_at {
            // What fails is tried again in the next interval, and before partitions are given up.
            if let Err(error) = self.commit_processed(Patience::Short).await {
                tracing::debug!(group = %self.options.group, %error, "a commit failed");
            }
            self.commit_at = runtime.now() + commit_interval(&self.options);
            return Ok(());
        }
        let commit_at = self.commit_at;
        let time = async {
            match is_due {
                true => runtime.sleep_until(commit_at).await,
                false => std::future::pending().await,
            }
        };
        let arrived = race(self.events.recv_async(), self.reader.load(until));
        match race(arrived, time).await {
            Either::Left(Either::Left(event)) => self.take(event.map_err(|_| ClientError::Closed)?),
            Either::Left(Either::Right(loaded)) => loaded,
            Either::Right(()) => Ok(()),
        }
    }

    fn take_events(&mut self) -> Result<(), ClientError> {
        while let Ok(event) = self.events.try_recv() {
            self.take(event)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), ClientError> {
        match event {
            Event::Start(partitions) => self.steps.push_back(Step::Start(partitions)),
            Event::Release(partitions) => self.steps.push_back(Step::Release {
                partitions,
                offsets: None,
            }),
            Event::Lose(partitions) => self.lose(&partitions),
            Event::Joined => self.joined = true,
            Event::Failed(error) => {
                self.over = true;
                return Err(error);
            }
            Event::Left => self.over = true,
        }
        Ok(())
    }

    /// What was lost is not read any more, and what was to be done about it is not done.
    fn lose(&mut self, partitions: &[GroupPartition]) {
        self.joined = false;
        self.steps.clear();
        self.reader.remove(partitions);
        if let Some(listener) = self.listener() {
            listener.lost(partitions);
        }
    }

    async fn carry_out(&mut self) -> Result<(), ClientError> {
        match self.steps.front() {
            Some(Step::Start(partitions)) => {
                let partitions = partitions.clone();
                self.start(partitions).await
            }
            Some(Step::Release {
                partitions,
                offsets,
            }) => {
                let (partitions, offsets) = (partitions.clone(), offsets.clone());
                self.release(partitions, offsets).await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn start(&mut self, partitions: Vec<GroupPartition>) -> Result<(), ClientError> {
        let wanted = named(&partitions);
        let runtime = self.client.shared().runtime.clone();
        let fetched = self.client.group_offsets(&self.options.group, Some(wanted));
        let offsets = match fetched.await {
            Ok(offsets) => offsets,
            Err(error) if error.is_retriable() => {
                tracing::debug!(group = %self.options.group, %error, "committed offsets are asked for again");
                // An event, such as the loss of these partitions, is not waited for any longer.
                runtime.sleep(RETRY_BACKOFF).await;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.steps.pop_front();
        let mut missing = None;
        for partition in &partitions {
            let found = offsets.iter().find(|offset| {
                offset.topic == *partition.topic && offset.partition == partition.log.partition.0
            });
            let committed = found.and_then(|offset| offset.committed.as_ref());
            if committed.is_none() && self.options.offset_reset == OffsetReset::None {
                missing = Some(partition.clone());
                continue;
            }
            self.reader
                .start(partition.clone(), committed.map(|of| of.offset));
        }
        if let Some(listener) = self.listener() {
            listener.assigned(&partitions);
        }
        match missing {
            None => Ok(()),
            Some(partition) => Err(ClientError::refused(
                ErrorCode::OffsetOutOfRange,
                format!(
                    "group {} has committed nothing for partition {} of {}",
                    self.options.group, partition.log.partition, partition.topic
                ),
            )),
        }
    }

    /// Stops partitions, commits what was processed of them, and lets go of them.
    async fn release(&mut self, partitions: Vec<GroupPartition>, said: Option<Vec<CommitOffset>>) {
        self.reader.stop(&partitions);
        let mut offsets = match said {
            Some(said) => said,
            None => self.tell_revoked(&partitions),
        };
        if matches!(self.options.commit, CommitMode::Every(_)) {
            let is_said = |slot: &Slot| {
                offsets.iter().any(|said| {
                    said.topic == *slot.partition.topic
                        && said.partition == slot.partition.log.partition.0
                })
            };
            let uncommitted = self.reader.uncommitted();
            let own: Vec<_> = uncommitted
                .filter(|slot| partitions.contains(&slot.partition) && !is_said(slot))
                .map(processed_of)
                .collect();
            offsets.extend(own);
        }
        if !offsets.is_empty()
            && let Err(error) = self.committer.commit(&offsets, Patience::Long).await
        {
            // Whoever reads on gets records that were read here, as after a crash.
            tracing::warn!(group = %self.options.group, %error, "partitions are given up without a commit");
        }
        self.steps.pop_front();
        self.reader.remove(&partitions);
        let logs = partitions.iter().map(|partition| partition.log).collect();
        // Without its task the member is none any more.
        let _ = self.commands.send(Command::Released(logs));
    }

    /// Tells the listener, and notes what it wants to be committed, so that it is told once.
    fn tell_revoked(&mut self, partitions: &[GroupPartition]) -> Vec<CommitOffset> {
        let wanted = match self.listener() {
            Some(listener) => to_commit(&listener.revoked(partitions)),
            None => Vec::new(),
        };
        if let Some(Step::Release { offsets, .. }) = self.steps.front_mut() {
            *offsets = Some(wanted.clone());
        }
        wanted
    }

    fn listener(&mut self) -> Option<&mut Box<dyn RebalanceListener>> {
        let listener = self.listener.get_mut();
        listener.unwrap_or_else(PoisonError::into_inner).as_mut()
    }

    async fn commit_processed(&mut self, patience: Patience) -> Result<(), ClientError> {
        let offsets: Vec<_> = self.reader.uncommitted().map(processed_of).collect();
        let logs: Vec<_> = self
            .reader
            .uncommitted()
            .map(|slot| (slot.partition.log, slot.processed))
            .collect();
        if offsets.is_empty() {
            return Ok(());
        }
        self.committer.commit(&offsets, patience).await?;
        self.reader.committed(&logs);
        Ok(())
    }

    fn begin_call(&self) -> Call {
        if self.activity.begin() {
            // Without its task the member is none any more.
            let _ = self.commands.send(Command::Resumed);
        }
        Call(Arc::clone(&self.activity))
    }
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumer")
            .field("options", &self.options)
            .field("member", &self.committer.member)
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}

/// A call of the application, until it is dropped.
struct Call(Arc<Activity>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An id that no other member has: 128 random bits.
fn member_id() -> String {
    let mut id = [0; 16];
    // The system's source of randomness fails only before the machine has any.
    let _ = ring::default_provider().secure_random.fill(&mut id);
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn commit_interval(options: &GroupOptions) -> Duration {
    match options.commit {
        CommitMode::Every(interval) => interval,
        CommitMode::Manual => Duration::ZERO,
    }
}

/// Partitions by their topics' names.
fn named(partitions: &[GroupPartition]) -> Vec<TopicPartitions> {
    let mut named: Vec<TopicPartitions> = Vec::new();
    for partition in partitions {
        let number = partition.log.partition.0;
        match named.last_mut() {
            Some(last) if last.topic == *partition.topic => last.partitions.push(number),
            _ => named.push(TopicPartitions {
                topic: partition.topic.to_string(),
                partitions: vec![number],
            }),
        }
    }
    named
}
