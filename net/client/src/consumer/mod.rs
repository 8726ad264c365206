//! The consumer: the records of a topic's partitions, merged as they come.

pub(crate) mod fetcher;
mod nearby;
pub(crate) mod record;

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec;

use millrace_model::{Decompressor, LogId, MAX_FRAME_LEN, Offset, PartitionId};
use millrace_wire::{OffsetSpec, Topic};
use tokio::sync::Semaphore;

use self::fetcher::{Fetched, Fetcher, Item, Opening, Room};
pub use self::record::{ConsumerRecord, RecordHeader};
use crate::{Client, ClientError};

/// Frames of one partition that a consumer holds: one that is read, one that comes next.
pub(crate) const FRAMES_PER_PARTITION: usize = 2;

/// Kafka's `fetch.max.bytes` is 50 MiB; a stream needs less, for it has no round trips.
const BUFFER_BYTES: usize = 32 << 20;

/// What a batch may have when it is decompressed: as much as it may have when it is not.
const DECOMPRESSED_BYTES_MAX: usize = MAX_FRAME_LEN;

/// What to do when the wanted offset does not exist: Kafka's `auto.offset.reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Fail with `OFFSET_OUT_OF_RANGE`, so that a gap is not passed over unseen.
    #[default]
    None,
    /// Go on at the log start offset.
    Earliest,
    /// Go on at the high watermark.
    Latest,
}

/// What a consumer is to read.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The topic.
    pub topic: String,
    /// Its partitions; `None` for all.
    pub partitions: Option<Vec<PartitionId>>,
    /// Where to start.
    pub from: OffsetSpec,
    /// Where to start in single partitions, instead.
    pub from_by_partition: Vec<(PartitionId, OffsetSpec)>,
    /// What to do when an offset does not exist.
    pub offset_reset: OffsetReset,
    /// Bytes of frames that the consumer holds, over all partitions. What the broker sends
    /// ahead on top of that is `ConnectOptions::stream_window_bytes` a partition.
    pub buffer_bytes: usize,
    /// Bytes that one batch may have when it is decompressed.
    pub decompressed_bytes_max: usize,
    /// Where the consumer runs: partitions are read from a replica in this rack while one is in sync
    /// there, else from their leaders. Kafka's `client.rack`.
    pub rack: Option<String>,
}

impl ConsumerOptions {
    /// All partitions of this topic from the log start on.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            partitions: None,
            from: OffsetSpec::Earliest,
            from_by_partition: Vec::new(),
            offset_reset: OffsetReset::default(),
            buffer_bytes: BUFFER_BYTES,
            decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
            rack: None,
        }
    }

    /// Starting there.
    #[must_use]
    pub fn from(self, from: OffsetSpec) -> Self {
        Self { from, ..self }
    }

    /// These partitions only.
    #[must_use]
    pub fn partitions(self, partitions: impl IntoIterator<Item = PartitionId>) -> Self {
        Self {
            partitions: Some(partitions.into_iter().collect()),
            ..self
        }
    }

    fn start_of(&self, partition: PartitionId) -> OffsetSpec {
        let own = self
            .from_by_partition
            .iter()
            .find(|(of, _)| *of == partition);
        own.map_or(self.from, |(_, from)| *from)
    }
}

/// Reads the partitions of one topic. Within a partition records come in order; between
/// partitions as they arrive, each in its turn.
///
/// While the application does not ask, nothing is read, and the broker waits.
#[derive(Debug)]
pub struct Consumer {
    topic: Topic,
    partitions: Vec<Partition>,
    items: flume::Receiver<(usize, Item)>,
    /// Frames that came while they were not wanted; bounded, for they hold their room.
    parked: VecDeque<(usize, Fetched)>,
    current: Option<Current>,
    scratch: Decompressor,
    decompressed_bytes_max: usize,
    /// Closed to end the partitions' tasks.
    end: Arc<Semaphore>,
}

#[derive(Debug)]
struct Partition {
    log: LogId,
    /// The next offset that the application gets.
    position: Offset,
    /// High watermark when the stream was opened first.
    end: Offset,
    open: bool,
    failed: bool,
}

/// The frame whose records are being handed out.
#[derive(Debug)]
struct Current {
    partition: usize,
    records: vec::IntoIter<ConsumerRecord>,
    next: Offset,
    _room: Room,
}

/// Which partitions are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Ever,
    /// Those whose end, as it was when they were opened, is not reached.
    End,
}

impl Consumer {
    pub(crate) async fn open(
        client: Client,
        options: ConsumerOptions,
    ) -> Result<Self, ClientError> {
        if options.buffer_bytes == 0 || options.buffer_bytes > Semaphore::MAX_PERMITS {
            let reason = "at least 1, and less than memory has".to_owned();
            return Err(ClientError::Options {
                name: "buffer_bytes",
                reason,
            });
        }
        let topic = client.topic(&options.topic).await?;
        let partitions = chosen(&topic, &options)?;
        let (sender, items) = flume::unbounded();
        let mut consumer = Self {
            partitions: partitions
                .iter()
                .map(|&partition| Partition::new(&topic, partition))
                .collect(),
            topic,
            items,
            parked: VecDeque::new(),
            current: None,
            scratch: Decompressor::new(),
            decompressed_bytes_max: options.decompressed_bytes_max,
            end: Arc::new(Semaphore::new(0)),
        };
        consumer.spawn_fetchers(&client, &options, &sender);
        drop(sender);
        consumer.wait_until_open().await?;
        Ok(consumer)
    }

    /// The next record, whenever it comes.
    ///
    /// # Errors
    /// Once for each partition that fails: `OFFSET_OUT_OF_RANGE` unless it is to be reset,
    /// `UNKNOWN_TOPIC_ID`, [`ClientError::Damaged`]. The other partitions go on;
    /// [`ClientError::Closed`] when none is left. A connection that breaks is opened again
    /// and is no error.
    pub async fn next(&mut self) -> Result<ConsumerRecord, ClientError> {
        loop {
            if let Some(record) = self.next_of_current() {
                return Ok(record);
            }
            self.load(Until::Ever).await?;
        }
    }

    /// The next record, or `None` when every partition has reached the end that it had when
    /// the consumer was opened.
    ///
    /// # Errors
    /// As for [`Consumer::next`].
    pub async fn next_before_end(&mut self) -> Result<Option<ConsumerRecord>, ClientError> {
        loop {
            if let Some(record) = self.next_of_current() {
                return Ok(Some(record));
            }
            if self.is_at_end() {
                return Ok(None);
            }
            self.load(Until::End).await?;
        }
    }

    /// The next records of one partition, at least one: the rest of a batch.
    ///
    /// # Errors
    /// As for [`Consumer::next`].
    pub async fn next_batch(&mut self) -> Result<Vec<ConsumerRecord>, ClientError> {
        let first = self.next().await?;
        let mut batch = vec![first];
        batch.extend(std::iter::from_fn(|| self.next_of_current()));
        Ok(batch)
    }

    /// A record that has arrived already.
    ///
    /// # Errors
    /// As for [`Consumer::next`].
    pub fn try_next(&mut self) -> Result<Option<ConsumerRecord>, ClientError> {
        loop {
            if let Some(record) = self.next_of_current() {
                return Ok(Some(record));
            }
            let ready = match self.parked.pop_front() {
                Some((partition, fetched)) => (partition, Item::Frame(fetched)),
                None => match self.items.try_recv() {
                    Ok(ready) => ready,
                    Err(flume::TryRecvError::Empty) => return Ok(None),
                    Err(flume::TryRecvError::Disconnected) => return Err(ClientError::Closed),
                },
            };
            self.handle(ready)?;
        }
    }

    /// The topic as it was when the consumer was opened.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The offset that comes next, by partition.
    pub fn positions(&self) -> impl Iterator<Item = (PartitionId, Offset)> {
        self.partitions
            .iter()
            .map(|partition| (partition.log.partition, partition.position))
    }

    /// The high watermark when the consumer was opened, by partition.
    pub fn end_offsets(&self) -> impl Iterator<Item = (PartitionId, Offset)> {
        self.partitions
            .iter()
            .map(|partition| (partition.log.partition, partition.end))
    }

    /// The offset that comes next in this partition, if it is among those read.
    #[must_use]
    pub fn position(&self, partition: PartitionId) -> Option<Offset> {
        self.positions()
            .find(|(of, _)| *of == partition)
            .map(|(_, position)| position)
    }

    /// Whether every partition has reached the end that it had when the consumer was opened.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.partitions.iter().all(Partition::is_at_end)
    }

    fn spawn_fetchers(
        &self,
        client: &Client,
        options: &ConsumerOptions,
        items: &flume::Sender<(usize, Item)>,
    ) {
        let bytes = Arc::new(Semaphore::new(options.buffer_bytes));
        let rack: Option<Arc<str>> = options.rack.as_deref().map(Arc::from);
        for (index, partition) in self.partitions.iter().enumerate() {
            let fetcher = Fetcher {
                client: client.clone(),
                log: partition.log,
                index,
                reset: options.offset_reset,
                opening: Opening::Once,
                items: items.clone(),
                bytes: Arc::clone(&bytes),
                buffer_bytes: options.buffer_bytes,
                turns: Arc::new(Semaphore::new(FRAMES_PER_PARTITION)),
                rack: rack.clone(),
            };
            let from = options.start_of(partition.log.partition);
            client
                .shared()
                .runtime
                .spawn(fetcher.run(from, Arc::clone(&self.end)));
        }
    }

    async fn wait_until_open(&mut self) -> Result<(), ClientError> {
        while self.partitions.iter().any(|partition| !partition.open) {
            match self.receive().await? {
                (index, Item::Opened(opened)) => {
                    let partition = &mut self.partitions[index];
                    partition.open = true;
                    partition.position = opened.start;
                    partition.end = opened.high_watermark;
                }
                (index, Item::Frame(fetched)) => self.parked.push_back((index, fetched)),
                (_, Item::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn next_of_current(&mut self) -> Option<ConsumerRecord> {
        let current = self.current.as_mut()?;
        let record = current.records.next();
        let position = record
            .as_ref()
            .map_or(current.next, |record| record.offset.plus(1));
        self.partitions[current.partition].position = position;
        if current.records.as_slice().is_empty() {
            self.partitions[current.partition].position = current.next;
            self.current = None;
        }
        record
    }

    /// Makes the next frame that is wanted the current one.
    async fn load(&mut self, until: Until) -> Result<(), ClientError> {
        let wanted = |partition: &Partition| until == Until::Ever || !partition.is_at_end();
        let at = self
            .parked
            .iter()
            .position(|(index, _)| wanted(&self.partitions[*index]));
        if let Some((index, fetched)) = at.and_then(|at| self.parked.remove(at)) {
            return self.decode(index, fetched);
        }
        match self.receive().await? {
            (index, Item::Frame(fetched)) if !wanted(&self.partitions[index]) => {
                self.parked.push_back((index, fetched));
                Ok(())
            }
            ready => self.handle(ready),
        }
    }

    async fn receive(&mut self) -> Result<(usize, Item), ClientError> {
        self.items
            .recv_async()
            .await
            .map_err(|_| ClientError::Closed)
    }

    fn handle(&mut self, (index, item): (usize, Item)) -> Result<(), ClientError> {
        match item {
            Item::Opened(_) => Ok(()),
            Item::Frame(fetched) => self.decode(index, fetched),
            Item::Failed(error) => {
                self.partitions[index].failed = true;
                Err(error)
            }
        }
    }

    fn decode(&mut self, index: usize, fetched: Fetched) -> Result<(), ClientError> {
        let partition = &mut self.partitions[index];
        if partition.failed {
            return Ok(());
        }
        let decoded = record::decode(
            partition.log,
            &fetched.bytes,
            partition.position,
            &mut self.scratch,
            self.decompressed_bytes_max,
        );
        partition.failed = decoded.is_err();
        let (records, next) = decoded?;
        let (records, _room) = (records.into_iter(), fetched.room);
        self.current = Some(Current {
            partition: index,
            records,
            next,
            _room,
        });
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end.close();
    }
}

impl Partition {
    fn new(topic: &Topic, partition: PartitionId) -> Self {
        Self {
            log: LogId {
                topic: topic.id,
                partition,
            },
            position: Offset::ZERO,
            end: Offset::ZERO,
            open: false,
            failed: false,
        }
    }

    fn is_at_end(&self) -> bool {
        self.failed || self.position >= self.end
    }
}

fn chosen(topic: &Topic, options: &ConsumerOptions) -> Result<Vec<PartitionId>, ClientError> {
    let mut chosen = match &options.partitions {
        None => (0..topic.partitions()).map(PartitionId).collect(),
        Some(partitions) => partitions.clone(),
    };
    chosen.sort_unstable();
    chosen.dedup();
    match chosen.last() {
        Some(last) if last.0 < topic.partitions() => Ok(chosen),
        Some(last) => Err(ClientError::refused(
            crate::ErrorCode::UnknownTopicOrPartition,
            format!(
                "{} has {} partitions, none of number {last}",
                topic.name,
                topic.partitions()
            ),
        )),
        None => Err(ClientError::Options {
            name: "partitions",
            reason: "none is named".into(),
        }),
    }
}
