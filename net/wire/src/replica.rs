//! Replica streams: how a broker pulls the logs of partitions that another leads.
//!
//! One stream joins a shard of the follower's broker to a shard of the leader's, for all
//! partitions that concern the two. It opens with [`ReplicaOpen`], which subscribes to the first
//! of them, and is answered by [`ReplicaOpened`]. After that each side sends *records* of a fixed
//! length, without a preface: the follower [`FollowerRecord`]s, the leader [`LeaderRecord`]s.
//! After a leader's record that says [`LeaderSaid::Frames`] the frames themselves follow, as
//! they are on its disk.
//!
//! A record is a rkyv archive, checked like any message before it is touched. Its session
//! counts the follower's subscriptions to that partition in its broker's uptime, so that an
//! answer is recognised as one to an earlier subscription.

use millrace_model::{
    BrokerEpoch, BrokerId, ClusterId, ErrorCode, LeaderEpoch, LogId, MAX_FRAME_LEN, Offset, ShardId,
};
use rkyv::{Archive, Deserialize, Serialize};

/// The longest run of frames behind one record: that of the longest frame, for a run holds
/// whole frames.
pub const MAX_RUN_LEN: usize = MAX_FRAME_LEN;

/// Opens a replica stream.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ReplicaOpen {
    /// The cluster that the follower belongs to. Another one is refused.
    pub cluster: ClusterId,
    /// The follower's broker.
    pub broker: BrokerId,
    /// Its present uptime.
    pub life: BrokerEpoch,
    /// The shard that follows.
    pub shard: ShardId,
    /// The first subscriptions. More may come as [`FollowerSaid::Subscribe`].
    pub partitions: Vec<Subscription>,
}

/// A replica stream is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ReplicaOpened {
    /// The leader's broker.
    pub broker: BrokerId,
    /// Its present uptime.
    pub life: BrokerEpoch,
    /// The shard that serves the stream.
    pub shard: ShardId,
}

/// A partition that a follower wants, and where its own log of it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Subscription {
    /// The partition.
    pub log: LogId,
    /// Number of this subscription.
    pub session: u64,
    /// The leader epoch that the follower is in.
    pub epoch: LeaderEpoch,
    /// Where its log stands.
    pub position: ReplicaPosition,
}

/// Where a follower's log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ReplicaPosition {
    /// Its end, all of it durable.
    pub end: Offset,
    /// Its start.
    pub log_start: Offset,
    /// Leader epoch of the record before the end; `None` for an empty log.
    pub last_epoch: Option<LeaderEpoch>,
}

/// What a follower says of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct FollowerRecord {
    /// The partition.
    pub log: LogId,
    /// Number of the subscription.
    pub session: u64,
    /// The leader epoch that the follower is in.
    pub epoch: LeaderEpoch,
    /// What it says.
    pub said: FollowerSaid,
}

/// See [`FollowerRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum FollowerSaid {
    /// A new subscription from here on.
    Subscribe(ReplicaPosition),
    /// Everything below is durable.
    Progress(Offset),
    /// No more of this partition.
    Unsubscribe,
}

/// What a leader says of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// The partition.
    pub log: LogId,
    /// Number of the subscription that it answers.
    pub session: u64,
    /// What it says.
    pub said: LeaderSaid,
}

/// See [`LeaderRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum LeaderSaid {
    /// Whole frames follow this record, each after the one before.
    Frames {
        /// Their bytes, at most [`MAX_RUN_LEN`].
        len: u32,
        /// Where the leader stands.
        mark: ReplicaMark,
    },
    /// Where the leader stands, without frames.
    Watermark(ReplicaMark),
    /// The logs differ: the largest epoch in the leader's that is not above the follower's
    /// last, and where it ends.
    Diverging {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Its end.
        end: Offset,
    },
    /// The follower's end is not in the leader's log, which starts here.
    OutOfRange(Offset),
    /// The subscription is refused or ended, with the number of an [`ErrorCode`].
    Refused(i16),
}

/// Where a leader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ReplicaMark {
    /// Everything below is committed.
    pub high_watermark: Offset,
    /// Start of the leader's log.
    pub log_start: Offset,
    /// End of what the leader has durably.
    pub end: Offset,
}

impl LeaderSaid {
    /// The refusal of a subscription.
    #[must_use]
    pub fn refused(code: ErrorCode) -> Self {
        Self::Refused(code as i16)
    }

    /// Bytes of frames that follow.
    #[must_use]
    pub fn run_len(&self) -> usize {
        match self {
            Self::Frames { len, .. } => *len as usize,
            Self::Watermark(_)
            | Self::Diverging { .. }
            | Self::OutOfRange(_)
            | Self::Refused(_) => 0,
        }
    }
}
