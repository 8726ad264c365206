//! What the messages of the native protocol are made of. Their archived layout is pinned by golden bytes in
//! `tests/golden.rs`; a change of layout is a new [`crate::VERSION`].

use millrace_model::{
    BrokerId, LeaderEpoch, LogId, Offset, PartitionId, ShardId, Timestamp, TopicId,
};
use rkyv::{Archive, Deserialize, Serialize};

/// An error as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct WireError {
    /// Number of a [`millrace_model::ErrorCode`].
    pub code: i16,
    /// What happened, for a person.
    pub message: String,
}

/// Where to start reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// Exactly this offset.
    At(Offset),
    /// The first record whose timestamp is this or later.
    Timestamp(Timestamp),
}

/// A broker, its cluster, and the topics.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Metadata {
    /// Identity of the cluster, the same for ever.
    pub cluster_id: String,
    /// The broker's version.
    pub version: String,
    /// The broker that answers.
    pub broker: BrokerId,
    /// Its shards, at least 1: see [`LogId::shard`].
    pub shards: u8,
    /// The shard that serves this connection.
    pub connected_shard: ShardId,
    /// The brokers of the cluster, this one among them.
    pub brokers: Vec<BrokerInfo>,
    /// Topics by name. Unknown ones that were asked for are missing.
    pub topics: Vec<Topic>,
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct BrokerInfo {
    /// Its id.
    pub id: BrokerId,
    /// Host and port of its native protocol. `None` where it has said none: then it is where the
    /// client has reached it.
    pub address: Option<(String, u16)>,
    /// Its shards, at least 1: see [`LogId::shard`].
    pub shards: u8,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it serves: it is there, and not fenced.
    pub serves: bool,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PartitionLeader {
    /// The broker, if anybody leads.
    pub broker: Option<BrokerId>,
    /// The leader epoch.
    pub epoch: LeaderEpoch,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Who leads each partition.
    pub leaders: Vec<PartitionLeader>,
    /// Largest record batch in bytes, `max.message.bytes`.
    pub max_message_bytes: u32,
}

impl Topic {
    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.leaders.len()).unwrap_or(u32::MAX)
    }
}

/// A setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TopicConfig {
    /// Kafka's name.
    pub name: String,
    /// The value in force.
    pub value: String,
    /// Whether the topic sets it, or the broker's default is in force.
    pub is_default: bool,
}

/// What a topic is made of.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TopicDescription {
    /// All its settings.
    pub configs: Vec<TopicConfig>,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionReplicas>,
}

/// Who holds a partition.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PartitionReplicas {
    /// Who leads.
    pub leader: PartitionLeader,
    /// Every replica, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The in-sync set.
    pub in_sync: Vec<BrokerId>,
}

/// The state of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct PartitionState {
    /// The partition.
    pub partition: PartitionId,
    /// The shard that owns it.
    pub shard: ShardId,
    /// First offset that can be read.
    pub log_start: Offset,
    /// End of what consumers may read.
    pub high_watermark: Offset,
    /// End of the log.
    pub log_end: Offset,
    /// Leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Segments.
    pub segments: u32,
    /// Bytes of log on the device.
    pub bytes: u64,
}

/// Opens a produce stream. Frames follow; see [`millrace_model::FrameHeader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ProduceOpen {
    /// The partition.
    pub log: LogId,
    /// When to acknowledge.
    pub acks: Acks,
}

/// When a batch is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Acks {
    /// Never. An error resets the stream.
    None,
    /// After the leader has it durably (or in memory, with `write.caching`).
    Leader,
    /// After all in-sync replicas have it so.
    All,
}

/// A produce stream is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ProduceOpened {
    /// Largest record batch in bytes, `max.message.bytes`.
    pub max_message_bytes: u32,
    /// Whether this connection is on the shard that owns the partition.
    pub on_owning_shard: bool,
}

/// The fate of one frame of a produce stream, in the order of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Ack {
    /// Offset of the batch's first record; for a duplicate the original one.
    pub base_offset: Offset,
    /// The broker's clock at append, or [`Timestamp::NONE`].
    pub append_timestamp: Timestamp,
    /// Log start offset.
    pub log_start: Offset,
    /// Number of a [`millrace_model::ErrorCode`]; 0 for success.
    pub code: i16,
    /// Zero.
    pub reserved: [u8; 6],
}

/// Length of an archived [`Ack`] in bytes.
pub const ACK_LEN: usize = 32;
const _: () = assert!(size_of::<ArchivedAck>() == ACK_LEN);

/// Opens a consume stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ConsumeOpen {
    /// The partition.
    pub log: LogId,
    /// Where to start. The first frame may hold earlier records, which the client skips.
    pub from: OffsetSpec,
}

/// A consume stream is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ConsumeOpened {
    /// The first offset that the client wants, resolved.
    pub start: Offset,
    /// Log start offset.
    pub log_start: Offset,
    /// High watermark when the stream was opened: a consumer that wants to stop at the end
    /// stops there.
    pub high_watermark: Offset,
    /// Whether this connection is on the shard that owns the partition.
    pub on_owning_shard: bool,
}
