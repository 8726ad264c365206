//! What a replica's behaviour is set to.

/// Settings of a replica. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// `min.insync.replicas`; more than there are replicas counts as their number.
    pub min_in_sync: u32,
    /// `replica.lag.time.max.ms`: who has not caught up for longer is proposed to leave.
    pub max_lag_ms: i64,
    /// The first pause before something that failed is tried again. It doubles with each
    /// failure in a row.
    pub min_backoff_ms: i64,
    /// The longest such pause.
    pub max_backoff_ms: i64,
    /// A subscription that is not answered for so long is made again.
    pub subscribe_timeout_ms: i64,
    /// A follower that is more records behind than this catches up in the class of its own,
    /// until it is behind by less than half of it.
    pub catch_up_lag: u64,
}

impl Default for ReplicaSettings {
    fn default() -> Self {
        Self {
            min_in_sync: 1,
            max_lag_ms: 30_000,
            min_backoff_ms: 50,
            max_backoff_ms: 1_000,
            subscribe_timeout_ms: 2_000,
            catch_up_lag: 100_000,
        }
    }
}

impl ReplicaSettings {
    /// The pause after this many failures in a row.
    pub(super) fn backoff_ms(&self, failures: u32) -> i64 {
        let doublings = failures.saturating_sub(1).min(MAX_DOUBLINGS);
        let pause = self.min_backoff_ms.saturating_mul(1 << doublings);
        pause.min(self.max_backoff_ms)
    }
}

/// Beyond this a pause has long been the longest.
const MAX_DOUBLINGS: u32 = 20;
