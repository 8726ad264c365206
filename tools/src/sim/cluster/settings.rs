//! What the simulated brokers are set to: times so short that a history sees many of them run out.

use std::rc::Rc;

use millrace_groups::GroupSettings;
use millrace_model::TopicSettings;
use millrace_replication::cluster::LeaseSettings;
use millrace_replication::partition::ReplicaSettings;
use millrace_replication::quorum::QuorumSettings;
use millrace_storage::StorageLimits;

/// Who was not heard of for so long is no member of a group any more.
pub(super) const SESSION_MS: u32 = 3_000;

/// Between two heartbeats of a member.
pub(super) const HEARTBEAT_MS: u32 = 300;

pub(super) fn replica_settings(min_in_sync: u32) -> ReplicaSettings {
    ReplicaSettings {
        min_in_sync,
        max_lag_ms: 1_200,
        min_backoff_ms: 20,
        max_backoff_ms: 320,
        subscribe_timeout_ms: 500,
        catch_up_lag: 40,
    }
}

pub(super) fn quorum_settings() -> QuorumSettings {
    QuorumSettings {
        entries_per_snapshot: 60,
        entries_kept: 10,
        ..QuorumSettings::default()
    }
}

pub(super) fn lease_settings() -> LeaseSettings {
    LeaseSettings::default()
}

pub(super) fn group_settings() -> GroupSettings {
    GroupSettings {
        consumer_session_timeout_ms: SESSION_MS,
        consumer_heartbeat_interval_ms: HEARTBEAT_MS,
        ..GroupSettings::default()
    }
}

/// Segments that roll often.
pub(super) fn topic_settings(min_in_sync: u32) -> Rc<TopicSettings> {
    Rc::new(TopicSettings {
        min_insync_replicas: min_in_sync,
        segment_bytes: 64 << 10,
        ..TopicSettings::default()
    })
}

pub(super) fn storage_limits() -> StorageLimits {
    StorageLimits {
        read_cache_bytes: 256 << 10,
        tail_bytes: 128 << 10,
        append_buffer_bytes: 64 << 10,
        ..StorageLimits::default()
    }
}
