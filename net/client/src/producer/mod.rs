//! The producer: records in, batches out, each record's fate back.

mod batch;
mod inbox;
mod partitioner;
mod pump;
mod queue;
#[cfg(test)]
mod queue_tests;
mod record;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use millrace_model::{Compression, ErrorCode, LogId, PartitionId, Timestamp};
use millrace_wire::{Acks, Topic};
use tokio::sync::Semaphore;

use self::inbox::{Closing, Inbox, Reservation};
pub use self::partitioner::{Partitioner, murmur2};
use self::partitioner::{Sticky, partition_of_key};
use self::pump::{Mailbox, Pump};
use self::queue::QueueOptions;
pub use self::record::{Delivery, ProducerRecord, RecordMetadata};
use crate::{Client, ClientError};

/// Bytes of a batch, like Kafka's `batch.size` but larger: the broker's group commit likes
/// large writes.
const BATCH_BYTES: usize = 64 << 10;

/// Kafka's `max.in.flight.requests.per.connection`. A broker remembers a producer's last
/// five batches, so that this many can be told apart when they are sent again.
const MAX_IN_FLIGHT: usize = 5;

/// Kafka's `buffer.memory`.
const BUFFER_BYTES: usize = 32 << 20;

/// Kafka's `delivery.timeout.ms`.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// What a producer is to do.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// The topic.
    pub topic: String,
    /// When the broker acknowledges a batch.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// The level, for gzip and zstd.
    pub compression_level: Option<i32>,
    /// How long a batch waits for more records while others are in flight. When none is, it
    /// goes at once.
    pub linger: Duration,
    /// A batch goes when it has this many bytes, before compression. At most the topic's
    /// `max.message.bytes`.
    pub batch_bytes: usize,
    /// Batches of one partition that may await their acknowledgement, at least 1.
    pub max_in_flight: usize,
    /// Bytes of records that may be unacknowledged, over all partitions. Beyond, `send`
    /// waits.
    pub buffer_bytes: usize,
    /// Whether the broker is to recognise what is sent twice. In force unless `acks` is
    /// [`Acks::None`].
    pub idempotent: bool,
    /// How long a record may take from `send` to its acknowledgement, retries included.
    pub delivery_timeout: Duration,
    /// Where records go that name no partition.
    pub partitioner: Partitioner,
}

impl ProducerOptions {
    /// The defaults for this topic: all acknowledgements, idempotent, no compression.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            acks: Acks::All,
            compression: Compression::None,
            compression_level: None,
            linger: Duration::ZERO,
            batch_bytes: BATCH_BYTES,
            max_in_flight: MAX_IN_FLIGHT,
            buffer_bytes: BUFFER_BYTES,
            idempotent: true,
            delivery_timeout: DELIVERY_TIMEOUT,
            partitioner: Partitioner::default(),
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        let wrong = |name, reason: &str| {
            Err(ClientError::Options {
                name,
                reason: reason.into(),
            })
        };
        if self.max_in_flight == 0 {
            return wrong("max_in_flight", "at least 1");
        }
        if self.buffer_bytes == 0 || self.buffer_bytes > Semaphore::MAX_PERMITS {
            return wrong("buffer_bytes", "at least 1, and less than memory has");
        }
        Ok(())
    }
}

/// A producer to one topic. `send` may be called from many tasks at once.
///
/// Dropping it lets go what was sent already; [`Producer::close`] waits for that. The
/// topic's partitions are counted when it is opened.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    topic: Topic,
    options: ProducerOptions,
    buffer: Arc<Semaphore>,
    sticky: Arc<Sticky>,
    /// By partition, each with a task once a record went there.
    mailboxes: Vec<OnceLock<Arc<Mailbox>>>,
}

impl Producer {
    pub(crate) async fn open(
        client: Client,
        options: ProducerOptions,
    ) -> Result<Self, ClientError> {
        options.check()?;
        let topic = client.topic(&options.topic).await?;
        if topic.leaders.is_empty() {
            return Err(ClientError::Protocol(
                "a topic without partitions".to_owned(),
            ));
        }
        Ok(Self {
            buffer: Arc::new(Semaphore::new(options.buffer_bytes)),
            sticky: Arc::new(Sticky::new(topic.partitions())),
            mailboxes: (0..topic.partitions()).map(|_| OnceLock::new()).collect(),
            client,
            topic,
            options,
        })
    }

    /// Hands a record over, and gives the future of its fate. Waits while the producer's
    /// buffer is full.
    ///
    /// # Errors
    /// [`ClientError::Refused`]: the record is over `max.message.bytes`, larger than the
    /// buffer, or of a partition that does not exist.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let partition = self.partition(&record)?;
        let bytes = record.len_bound();
        let reservation = self.reserve(bytes).await?;
        let timestamp = record.timestamp.unwrap_or_else(clock);
        let mailbox = self.mailbox(partition);
        let now = self.client.shared().runtime.now();
        let left = mailbox
            .inbox()
            .leave(now, partition, &record, timestamp, reservation)?;
        if left.closed {
            self.sticky.batch_closed(partition.0);
        }
        if left.wake {
            mailbox.wake();
        }
        Ok(left.delivery)
    }

    /// Lets all records go at once, and completes when the fate of each is decided. The
    /// deliveries say which.
    pub async fn flush(&self) {
        let mut fates = Vec::new();
        for mailbox in self.mailboxes.iter().filter_map(OnceLock::get) {
            fates.append(&mut mailbox.inbox().flush());
            mailbox.wake();
        }
        for fate in fates {
            fate.decided().await;
        }
    }

    /// [`Producer::flush`], then the end.
    pub async fn close(self) {
        self.flush().await;
    }

    /// The topic as it was when the producer was opened.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    fn partition(&self, record: &ProducerRecord) -> Result<PartitionId, ClientError> {
        let partitions = self.topic.partitions();
        let partition = match (&record.partition, &record.key, self.options.partitioner) {
            (Some(PartitionId(partition)), _, _) => *partition,
            (None, Some(key), Partitioner::KeyHash) => partition_of_key(key, partitions),
            (None, _, _) => self.sticky.current(),
        };
        if partition >= partitions {
            let name = &self.topic.name;
            let message = format!(
                "{name} has partitions 0 to {}, not {partition}",
                partitions - 1
            );
            return Err(ClientError::refused(
                ErrorCode::UnknownTopicOrPartition,
                message,
            ));
        }
        Ok(PartitionId(partition))
    }

    async fn reserve(&self, bytes: usize) -> Result<Reservation, ClientError> {
        let too_large = |_| {
            let message = format!(
                "{bytes} bytes, the producer's buffer has {}",
                self.options.buffer_bytes
            );
            ClientError::refused(ErrorCode::MessageTooLarge, message)
        };
        if bytes > self.options.buffer_bytes {
            return Err(too_large(()));
        }
        let permits = u32::try_from(bytes).map_err(|_| too_large(()))?;
        let granted = self
            .buffer
            .acquire_many(permits)
            .await
            .map_err(|_| ClientError::Closed)?;
        granted.forget();
        Ok(Reservation {
            buffer: Arc::clone(&self.buffer),
            bytes,
        })
    }

    fn mailbox(&self, partition: PartitionId) -> &Arc<Mailbox> {
        self.mailboxes[partition.0 as usize].get_or_init(|| {
            let mailbox = Arc::new(Mailbox::new(Inbox::new(self.closing())));
            let pump = Pump::new(
                self.client.clone(),
                Arc::clone(&mailbox),
                Arc::clone(&self.sticky),
                self.queue_options(LogId {
                    topic: self.topic.id,
                    partition,
                }),
            );
            self.client.shared().runtime.spawn(pump.run());
            mailbox
        })
    }

    fn closing(&self) -> Closing {
        let max_message_bytes = self.topic.max_message_bytes as usize;
        Closing {
            batch_bytes: self.options.batch_bytes.min(max_message_bytes),
            max_message_bytes,
            linger: self.options.linger,
            delivery_timeout: self.options.delivery_timeout,
        }
    }

    fn queue_options(&self, log: LogId) -> QueueOptions {
        let options = &self.options;
        QueueOptions {
            log,
            acks: options.acks,
            idempotent: options.idempotent && options.acks != Acks::None,
            compression: options.compression,
            compression_level: options.compression_level,
            max_in_flight: options.max_in_flight,
            delivery_timeout: options.delivery_timeout,
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        for mailbox in self.mailboxes.iter().filter_map(OnceLock::get) {
            mailbox.inbox().end();
            mailbox.wake();
        }
    }
}

/// The clock as records carry it.
fn clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
