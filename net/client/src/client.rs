//! The client: what can be asked of a cluster.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millrace_model::{
    ErrorCode, LeaderEpoch, LogId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId,
};
use millrace_wire::{
    Acks, ConsumeOpened, Metadata, OffsetSpec, PartitionState, ProduceOpened, Request, Response,
    Topic, TopicDescription,
};

use crate::link::{Link, Shared};
use crate::links::Links;
use crate::{
    AckReceiver, ClientError, ConnectOptions, Consumer, ConsumerOptions, FrameReceiver,
    FrameSender, Producer, ProducerOptions, control, streams,
};

/// An offset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: Offset,
    /// The timestamp of its record, or [`Timestamp::NONE`] unless found by timestamp.
    pub timestamp: Timestamp,
    /// The leader epoch of that offset.
    pub leader_epoch: LeaderEpoch,
}

/// A client of a cluster, or of a broker alone. Cheap to clone; clones share their connections, of
/// which there is one for each shard of each broker that was needed. They close when the last clone,
/// producer and consumer is dropped.
///
/// It begins at one broker and learns of the others from it. What concerns a partition goes to its
/// leader; what any broker can answer goes to another when the first is silent.
#[derive(Clone, Debug)]
pub struct Client {
    links: Arc<Links>,
}

/// How long [`Client::close`] waits at most. The goodbye is on its way within a fraction of a
/// millisecond; waiting for stragglers after it, as QUIC's draining does, is for those who stay.
const FAREWELL: Duration = Duration::from_millis(10);

/// A broker of a cluster from which nothing was heard for so long, while something is due, may have
/// died: another one is asked who leads. Several times what a durable batch takes, and short
/// beside the time in which a cluster elects.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

/// How often a partition's leader is looked for, at [`LEADER_BACKOFF`]: longer than a cluster takes to
/// elect one.
const LEADER_ATTEMPTS: u32 = 20;

/// Kafka's `retry.backoff.ms`.
const LEADER_BACKOFF: Duration = Duration::from_millis(100);

impl Client {
    /// Closes all connections and gives the goodbye time to leave: for a process that is about
    /// to end. Without it the broker holds the connections until their idle timeout. Producers
    /// and consumers of this client fail from here on.
    pub async fn close(self) {
        let all = self.links.all();
        all.iter().for_each(|link| link.close());
        let gone = async {
            for link in &all {
                link.closed().await;
            }
        };
        self.shared().runtime.timeout(FAREWELL, gone).await;
    }

    /// Connects to the broker.
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::CertificateChanged`],
    /// [`ClientError::CertificateUntrusted`], [`ClientError::TrustFile`].
    pub async fn connect(options: ConnectOptions) -> Result<Self, ClientError> {
        let links = Links::connect(Arc::new(Shared::new(options))).await?;
        Ok(Self {
            links: Arc::new(links),
        })
    }

    /// The topics of these names, or all. Unknown ones are missing.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn metadata(&self, topics: Option<&[&str]>) -> Result<Metadata, ClientError> {
        let topics = topics.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        match self.request(&Request::Metadata { topics }).await? {
            Response::Metadata(metadata) => {
                let reached = self.links.answered().addr();
                self.shared().directory().learn(&metadata, reached);
                Ok(metadata)
            }
            other => Err(control::unexpected(other)),
        }
    }

    /// Makes a topic and says its id. Without a number of partitions the broker's
    /// `num.partitions` is in force; settings have Kafka's names.
    ///
    /// # Errors
    /// `TOPIC_ALREADY_EXISTS`, `INVALID_TOPIC_EXCEPTION`, `INVALID_PARTITIONS`,
    /// `INVALID_CONFIG`.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        configs: &[(&str, &str)],
    ) -> Result<TopicId, ClientError> {
        self.create_replicated_topic(name, partitions, None, configs)
            .await
    }

    /// As [`Self::create_topic`], with a number of replicas for each partition. Without one the
    /// broker's `default.replication.factor` is in force.
    ///
    /// # Errors
    /// As [`Self::create_topic`], and `INVALID_REPLICATION_FACTOR`.
    pub async fn create_replicated_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        replication: Option<u8>,
        configs: &[(&str, &str)],
    ) -> Result<TopicId, ClientError> {
        let name = name.to_owned();
        let configs = configs
            .iter()
            .map(|(key, value)| (str::to_owned(key), str::to_owned(value)))
            .collect();
        match self
            .request(&Request::CreateTopic {
                name,
                partitions,
                replication,
                configs,
            })
            .await?
        {
            Response::TopicCreated(id) => Ok(id),
            other => Err(control::unexpected(other)),
        }
    }

    /// Removes a topic and its data.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        self.done(&Request::DeleteTopic {
            name: name.to_owned(),
        })
        .await
    }

    /// Changes a topic's settings (`None` resets one to the broker's default), or grows its
    /// partitions.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `INVALID_PARTITIONS`, `INVALID_CONFIG`.
    pub async fn alter_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        configs: &[(&str, Option<&str>)],
    ) -> Result<(), ClientError> {
        let name = name.to_owned();
        let configs = configs
            .iter()
            .map(|(key, value)| (str::to_owned(key), value.map(str::to_owned)))
            .collect();
        self.done(&Request::AlterTopic {
            name,
            partitions,
            configs,
        })
        .await
    }

    /// All settings of a topic that are in force, and who holds its partitions.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, ClientError> {
        match self
            .request(&Request::DescribeTopic {
                name: name.to_owned(),
            })
            .await?
        {
            Response::Topic(description) => Ok(description),
            other => Err(control::unexpected(other)),
        }
    }

    /// Raises the log start offset to `before`, or to the high watermark, and says the new
    /// one.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE`, `UNKNOWN_TOPIC_ID`.
    pub async fn delete_records(
        &self,
        log: LogId,
        before: Option<Offset>,
    ) -> Result<Offset, ClientError> {
        let request = Request::DeleteRecords { log, before };
        match self.ask_leader(log, &request).await? {
            Response::Offset { offset, .. } => Ok(offset),
            other => Err(control::unexpected(other)),
        }
    }

    /// Finds an offset. Nothing as late as a timestamp gives the end of the log.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE`, `UNKNOWN_TOPIC_ID`.
    pub async fn list_offset(
        &self,
        log: LogId,
        at: OffsetSpec,
    ) -> Result<FoundOffset, ClientError> {
        match self
            .ask_leader(log, &Request::ListOffset { log, at })
            .await?
        {
            Response::Offset {
                offset,
                timestamp,
                leader_epoch,
            } => Ok(FoundOffset {
                offset,
                timestamp,
                leader_epoch,
            }),
            other => Err(control::unexpected(other)),
        }
    }

    /// The state of one partition's log.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID`, `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn describe_partition(&self, log: LogId) -> Result<PartitionState, ClientError> {
        let request = Request::DescribePartition { log };
        match self.ask_leader(log, &request).await? {
            Response::Partition(state) => Ok(state),
            other => Err(control::unexpected(other)),
        }
    }

    /// The broker's counters and histograms as Prometheus text.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn metrics(&self) -> Result<String, ClientError> {
        match self.request(&Request::Metrics).await? {
            Response::Text(text) => Ok(text),
            other => Err(control::unexpected(other)),
        }
    }

    /// What the broker tells of its own work, by a path that it serves over HTTP too: `/hist` and `/slow`, with
    /// their queries.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a path or a query that it does not know, `UNKNOWN_TOPIC_OR_PARTITION`,
    /// `THROTTLING_QUOTA_EXCEEDED` when too many topics are observed.
    pub async fn observe(&self, path: impl Into<String>) -> Result<String, ClientError> {
        let path = path.into();
        match self.request(&Request::Observe { path }).await? {
            Response::Text(text) => Ok(text),
            other => Err(control::unexpected(other)),
        }
    }

    /// A producer to one topic.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, [`ClientError::Options`].
    pub async fn producer(&self, options: ProducerOptions) -> Result<Producer, ClientError> {
        Producer::open(self.clone(), options).await
    }

    /// A consumer of one topic.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, [`ClientError::Options`], and what opening the streams
    /// gives.
    pub async fn consumer(&self, options: ConsumerOptions) -> Result<Consumer, ClientError> {
        Consumer::open(self.clone(), options).await
    }

    /// A raw produce stream, for load generators: whole frames to one partition, in order,
    /// acknowledgements back in order. Nothing is repeated when it breaks.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID`, `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn produce_stream(
        &self,
        log: LogId,
        acks: Acks,
    ) -> Result<(FrameSender, AckReceiver, ProduceOpened), ClientError> {
        let open = |link: Arc<Link>| async move { streams::open_produce(&link, log, acks).await };
        self.at_leader(log, open).await
    }

    /// A raw consume stream: the frames of one partition as they become readable. The first
    /// one may hold records before the wanted offset.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID`, `UNKNOWN_TOPIC_OR_PARTITION`, `OFFSET_OUT_OF_RANGE`.
    pub async fn consume_stream(
        &self,
        log: LogId,
        from: OffsetSpec,
    ) -> Result<(FrameReceiver, ConsumeOpened), ClientError> {
        let open = |link: Arc<Link>| async move { streams::open_consume(&link, log, from).await };
        self.at_leader(log, open).await
    }

    /// A new identity for an idempotent producer, for those who build their own frames.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn init_producer_id(&self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        match self.request(&Request::InitProducerId).await? {
            Response::ProducerId { id, epoch } => Ok((id, epoch)),
            other => Err(control::unexpected(other)),
        }
    }

    /// Sends any request and gives its answer, which is never [`Response::Error`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn request(&self, request: &Request) -> Result<Response, ClientError> {
        self.links.request(request).await
    }

    /// The topic of this name.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn topic(&self, name: &str) -> Result<Topic, ClientError> {
        let topics = self.metadata(Some(&[name])).await?.topics;
        topics
            .into_iter()
            .find(|topic| topic.name == name)
            .ok_or_else(|| ClientError::Broker {
                code: millrace_model::ErrorCode::UnknownTopicOrPartition,
                message: format!("there is no topic {name}"),
            })
    }

    async fn done(&self, request: &Request) -> Result<(), ClientError> {
        match self.request(request).await? {
            Response::Done => Ok(()),
            other => Err(control::unexpected(other)),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.links.shared()
    }

    /// The connection to the shard that serves this partition.
    pub(crate) fn link(&self, log: LogId) -> Arc<Link> {
        self.links.of(log)
    }

    /// The link to a replica of the partition that is in this rack and in sync, if there is one and the
    /// leader is elsewhere.
    pub(crate) async fn replica_in(&self, log: LogId, rack: &str) -> Option<Arc<Link>> {
        let (near, name) = {
            let directory = self.shared().directory();
            let name = directory.name(log.topic)?.to_owned();
            (directory.in_rack(rack), name)
        };
        if near.is_empty() {
            return None;
        }
        let described = self.describe_topic(&name).await.ok()?;
        let partition = usize::try_from(log.partition.0).ok()?;
        let held = described.partitions.get(partition)?;
        if held
            .leader
            .broker
            .is_some_and(|leader| near.contains(&leader))
        {
            return None;
        }
        let replicas = held.replicas.iter();
        let replicas = replicas.filter(|id| near.contains(id) && held.in_sync.contains(id));
        let replicas: Vec<_> = replicas.copied().collect();
        // Partitions are spread over those that could serve them.
        let chosen = partition.checked_rem(replicas.len())?;
        let place = self.shared().directory().place_at(replicas[chosen], log)?;
        Some(self.links.at(place))
    }

    /// A link to each broker that serves.
    pub(crate) fn all_brokers(&self) -> Vec<Arc<Link>> {
        self.links.candidates()
    }

    /// Whether there are brokers besides the one that the client began with.
    pub(crate) fn has_others(&self) -> bool {
        self.shared().directory().has_others()
    }

    /// Resolves when this is no longer the link to whom a partition's requests go: while it is
    /// silent, who leads is asked again and again. Never, for a broker alone.
    pub(crate) async fn led_elsewhere(&self, log: LogId, link: &Arc<Link>) {
        if !self.has_others() {
            return std::future::pending().await;
        }
        loop {
            self.shared().runtime.sleep(SILENCE).await;
            // Nobody who knows is as good as no news.
            let _ = self.find_leader(log).await;
            if !Arc::ptr_eq(&self.link(log), link) {
                return;
            }
        }
    }

    /// Does something at the partition's leader. A client that has not asked for the topic does not know
    /// who that is, and one that has may find that another took over: then it asks, and tries again.
    async fn at_leader<T, F>(
        &self,
        log: LogId,
        mut work: impl FnMut(Arc<Link>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut attempt = 1;
        loop {
            let done = work(self.link(log)).await;
            let moved =
                matches!(&done, Err(error) if error.code() == ErrorCode::NotLeaderOrFollower);
            if !moved || attempt == LEADER_ATTEMPTS {
                return done;
            }
            attempt += 1;
            if self.find_leader(log).await != Ok(true) {
                self.shared().runtime.sleep(LEADER_BACKOFF).await;
            }
        }
    }

    async fn ask_leader(&self, log: LogId, request: &Request) -> Result<Response, ClientError> {
        let ask = |link: Arc<Link>| async move { control::request(&link, request).await };
        self.at_leader(log, ask).await
    }

    /// Asks who leads a partition, after somebody has refused it or was silent. Whether that is
    /// another broker, or in another epoch, than was known.
    pub(crate) async fn find_leader(&self, log: LogId) -> Result<bool, ClientError> {
        let (known, name) = {
            let directory = self.shared().directory();
            let name = directory.name(log.topic).map(str::to_owned);
            (directory.leader(log), name)
        };
        match &name {
            Some(name) => self.metadata(Some(&[name])).await?,
            None => self.metadata(None).await?,
        };
        Ok(self.shared().directory().leader(log) != known)
    }
}
