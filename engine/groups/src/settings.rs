//! The broker's settings for groups, by Kafka's names.

use millrace_model::MAX_BATCH_LEN;

/// `group.consumer.migration.policy`: between which protocols a group may move while it has members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Both ways. Kafka's default.
    #[default]
    Bidirectional,
    /// From the classic protocol to the broker-driven one.
    Upgrade,
    /// From the broker-driven protocol to the classic one.
    Downgrade,
    /// Neither.
    Disabled,
}

/// An assignor of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignorName {
    /// `uniform`: balanced and sticky.
    Uniform,
    /// `range`: per topic, in contiguous ranges, co-partitioned.
    Range,
}

/// See each field. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: u32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: u32,
    /// `group.initial.rebalance.delay.ms`: how long an empty classic group waits for more members.
    pub initial_rebalance_delay_ms: u32,
    /// `group.heartbeat.hold.max.ms`: how long the answer to a heartbeat of a classic member may wait for news of its
    /// group; 0: it never waits.
    pub heartbeat_hold_max_ms: u32,
    /// `group.max.size`: members of a classic group.
    pub max_size: u32,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout_ms: u32,
    /// `group.consumer.heartbeat.interval.ms`, which the broker tells to members.
    pub consumer_heartbeat_interval_ms: u32,
    /// `group.consumer.max.size`: members of a group of the broker-driven protocol.
    pub consumer_max_size: u32,
    /// `group.consumer.assignors`, the first is the default.
    pub consumer_assignors: Vec<AssignorName>,
    /// `group.consumer.migration.policy`.
    pub migration: MigrationPolicy,
    /// `offsets.retention.minutes`, in milliseconds: how long offsets of an empty group are kept.
    pub offsets_retention_ms: u64,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: u32,
    /// Bytes that one write may take in the log. What would take more is refused.
    pub max_write_bytes: usize,
    /// Groups of one coordinator, a limit of memory. More are refused with `COORDINATOR_NOT_AVAILABLE`.
    pub max_groups: u32,
}

impl Default for GroupSettings {
    /// Kafka's defaults, but for two that people wait for: the initial delay of an empty group is short,
    /// and members of the broker-driven protocol come every 2 s instead of 5 s, for they learn of what
    /// changed only then.
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 100,
            heartbeat_hold_max_ms: 5_000,
            max_size: 10_000,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 2_000,
            consumer_max_size: 10_000,
            consumer_assignors: vec![AssignorName::Uniform, AssignorName::Range],
            migration: MigrationPolicy::Bidirectional,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            offset_metadata_max_bytes: 4096,
            max_write_bytes: MAX_BATCH_LEN,
            max_groups: 100_000,
        }
    }
}
