//! The request and the response of a control stream.

use millrace_model::{LeaderEpoch, LogId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId};
use rkyv::{Archive, Deserialize, Serialize};

use crate::{
    ClusterAsk, ClusterTold, GroupRequest, GroupResponse, Metadata, OffsetSpec, PartitionState,
    TopicDescription, WireError,
};

/// Asks the broker for something on a control stream.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Request {
    /// The topics of these names, or all: [`Response::Metadata`].
    Metadata {
        /// Names; `None` for every topic.
        topics: Option<Vec<String>>,
    },
    /// Makes a topic: [`Response::TopicCreated`].
    CreateTopic {
        /// Its name: 1 to 249 of `a-zA-Z0-9._-`, neither `.` nor `..`.
        name: String,
        /// Number of partitions; `None` for the broker's `num.partitions`.
        partitions: Option<u32>,
        /// Replicas of each; `None` for the broker's `default.replication.factor`.
        replication: Option<u8>,
        /// Settings by Kafka's names that differ from the broker's defaults.
        configs: Vec<(String, String)>,
    },
    /// Removes a topic and its data: [`Response::Done`].
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// Changes a topic's settings, or grows its partitions: [`Response::Done`].
    AlterTopic {
        /// Its name.
        name: String,
        /// New number of partitions, above the present one; `None` leaves it.
        partitions: Option<u32>,
        /// Settings to set (`Some`) or to reset to the broker's default (`None`).
        configs: Vec<(String, Option<String>)>,
    },
    /// All settings of a topic, with defaults, and its partitions: [`Response::Topic`].
    DescribeTopic {
        /// Its name.
        name: String,
    },
    /// Raises the log start offset: [`Response::Offset`] with the new log start.
    DeleteRecords {
        /// The partition.
        log: LogId,
        /// The first offset to keep; `None` for the high watermark.
        before: Option<Offset>,
    },
    /// Finds an offset: [`Response::Offset`].
    ListOffset {
        /// The partition.
        log: LogId,
        /// Which offset.
        at: OffsetSpec,
    },
    /// The state of one partition's log: [`Response::Partition`].
    DescribePartition {
        /// The partition.
        log: LogId,
    },
    /// A new identity for an idempotent producer: [`Response::ProducerId`].
    InitProducerId,
    /// The broker's counters and histograms as Prometheus text: [`Response::Text`].
    Metrics,
    /// Something of a consumer group: [`Response::Group`].
    Group(Box<GroupRequest>),
    /// What the broker tells of its own work, by the path and query that it serves over HTTP, for example
    /// `/hist?format=json`: [`Response::Text`].
    Observe {
        /// The path, with its query.
        path: String,
    },
    /// Something of the cluster: [`Response::Cluster`].
    Cluster(ClusterAsk),
    /// A request of one broker's controller to another's, in bytes of its own: [`Response::Peer`]. Only on a
    /// connection of a broker of the same cluster.
    Peer(Vec<u8>),
}

/// Answers a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Response {
    /// The request failed.
    Error(WireError),
    /// The request is done.
    Done,
    /// The broker and its topics.
    Metadata(Metadata),
    /// The new topic's id.
    TopicCreated(TopicId),
    /// Settings of a topic.
    Topic(TopicDescription),
    /// An offset, and the timestamp of its record where one was asked for.
    Offset {
        /// The offset.
        offset: Offset,
        /// [`Timestamp::NONE`] unless found by timestamp.
        timestamp: Timestamp,
        /// The leader epoch of that offset.
        leader_epoch: LeaderEpoch,
    },
    /// The state of a partition.
    Partition(PartitionState),
    /// A new producer.
    ProducerId {
        /// Its id.
        id: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
    },
    /// Text.
    Text(String),
    /// To a request of a consumer group.
    Group(Box<GroupResponse>),
    /// To a request of the cluster.
    Cluster(Box<ClusterTold>),
    /// To [`Request::Peer`], in bytes of the controller's own.
    Peer(Vec<u8>),
}
