//! What a member of a group is to read, and how.

use std::fmt;
use std::time::Duration;

use millrace_model::MAX_FRAME_LEN;
use millrace_wire::GroupHeartbeat;

use super::RebalanceListener;
use crate::{ClientError, OffsetReset};

/// Kafka's `auto.commit.interval.ms`.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// Kafka's `max.poll.interval.ms`.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(300);

/// As of a consumer without a group.
const BUFFER_BYTES: usize = 32 << 20;

/// When offsets are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// By the consumer: in this interval, before partitions are given up, and when it is closed. A record
    /// counts as processed when the application asks for the next one.
    Every(Duration),
    /// Only when the application says so.
    Manual,
}

/// What a member of a group is to read, and how.
pub struct GroupOptions {
    /// The group.
    pub group: String,
    /// Names of topics. Those that do not exist yet are read when they do.
    pub topics: Vec<String>,
    /// A regular expression (RE2 syntax) that must match whole names of topics, besides those named.
    pub pattern: Option<String>,
    /// Makes the member a static one: its partitions wait for it when it is away for less than the broker's
    /// session timeout. Different for each member of the group.
    pub instance: Option<String>,
    /// Where the member runs: partitions are read from a replica in this rack while one is in sync there,
    /// else from their leaders.
    pub rack: Option<String>,
    /// How administrators see it.
    pub client_id: String,
    /// An assignor of the broker: `uniform` or `range`. `None` for the broker's choice.
    pub assignor: Option<String>,
    /// How long the application may take between two calls for records, and so for giving partitions up.
    /// One that takes longer loses its partitions to the others.
    pub rebalance_timeout: Duration,
    /// When offsets are committed.
    pub commit: CommitMode,
    /// Where to start where the group has committed nothing, or an offset that no longer exists.
    pub offset_reset: OffsetReset,
    /// Bytes of frames that the consumer holds, over all partitions.
    pub buffer_bytes: usize,
    /// Bytes that one batch may have when it is decompressed.
    pub decompressed_bytes_max: usize,
    /// Who is told of partitions that come and go.
    pub listener: Option<Box<dyn RebalanceListener>>,
}

impl GroupOptions {
    /// A member of this group with the defaults: it reads nothing yet, starts at the earliest record where
    /// nothing is committed, and commits every five seconds.
    #[must_use]
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            topics: Vec::new(),
            pattern: None,
            instance: None,
            rack: None,
            client_id: "millrace".to_owned(),
            assignor: None,
            rebalance_timeout: REBALANCE_TIMEOUT,
            commit: CommitMode::Every(COMMIT_INTERVAL),
            offset_reset: OffsetReset::Earliest,
            buffer_bytes: BUFFER_BYTES,
            decompressed_bytes_max: MAX_FRAME_LEN,
            listener: None,
        }
    }

    /// Reads this topic, too.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topics.push(name.into());
        self
    }

    /// Reads the topics whose names this regular expression matches, too.
    #[must_use]
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// Is the static member of this id.
    #[must_use]
    pub fn instance(mut self, id: impl Into<String>) -> Self {
        self.instance = Some(id.into());
        self
    }

    /// Commits so.
    #[must_use]
    pub fn commit(mut self, commit: CommitMode) -> Self {
        self.commit = commit;
        self
    }

    /// Starts there where nothing is committed.
    #[must_use]
    pub fn offset_reset(mut self, offset_reset: OffsetReset) -> Self {
        self.offset_reset = offset_reset;
        self
    }

    /// Tells this listener.
    #[must_use]
    pub fn listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    pub(super) fn check(&self) -> Result<(), ClientError> {
        let wrong = |name, reason: &str| {
            Err(ClientError::Options {
                name,
                reason: reason.to_owned(),
            })
        };
        if self.group.is_empty() {
            return wrong("group", "it is empty");
        }
        if self.topics.is_empty() && self.pattern.is_none() {
            return wrong("topics", "neither a topic nor a pattern is named");
        }
        if self.rebalance_timeout.is_zero() {
            return wrong("rebalance_timeout", "it is zero");
        }
        if matches!(self.commit, CommitMode::Every(interval) if interval.is_zero()) {
            return wrong("commit", "the interval is zero");
        }
        Ok(())
    }

    /// What each heartbeat of this member says.
    pub(super) fn heartbeat(&self, member: String) -> GroupHeartbeat {
        let rebalance_timeout_ms = i32::try_from(self.rebalance_timeout.as_millis());
        GroupHeartbeat {
            group: self.group.clone(),
            member,
            epoch: millrace_wire::JOIN_EPOCH,
            instance: self.instance.clone(),
            rack: self.rack.clone(),
            client_id: self.client_id.clone(),
            // Kafka's protocol has a signed number here.
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(i32::MAX).cast_unsigned(),
            topics: self.topics.clone(),
            pattern: self.pattern.clone(),
            assignor: self.assignor.clone(),
            owned: Vec::new(),
        }
    }
}

impl fmt::Debug for GroupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupOptions")
            .field("group", &self.group)
            .field("topics", &self.topics)
            .field("pattern", &self.pattern)
            .field("instance", &self.instance)
            .field("commit", &self.commit)
            .field("offset_reset", &self.offset_reset)
            .finish_non_exhaustive()
    }
}
