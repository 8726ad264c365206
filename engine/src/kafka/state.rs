//! What the Kafka side of a shard keeps beside its connections.

use super::appends::Appends;
use super::fetch::Sessions;
use crate::shard::budget::{BudgetError, MemoryBudget, Permit};

/// Frames that wait for the overdraft at a time; more are closed. As many as there may be
/// connections.
const MAX_OVERDRAFT_WAITERS: usize = 64 * 1024;

/// See the module's documentation.
pub(crate) struct KafkaShard {
    overdraft: MemoryBudget,
    appends: Appends,
    fetch_sessions: Sessions,
}

impl Default for KafkaShard {
    fn default() -> Self {
        Self {
            overdraft: MemoryBudget::new(1, MAX_OVERDRAFT_WAITERS),
            appends: Appends::default(),
            fetch_sessions: Sessions::default(),
        }
    }
}

impl KafkaShard {
    /// The right to read one frame to its end although the memory budget is spent. One frame of the
    /// shard has it at a time.
    pub(crate) async fn overdraft(&self) -> Result<Permit, BudgetError> {
        self.overdraft.acquire(1).await
    }

    /// What consumers want, as far as it is remembered.
    pub(crate) fn fetch_sessions(&self) -> &Sessions {
        &self.fetch_sessions
    }

    /// Batches that wait for their partition to be opened.
    pub(crate) fn appends(&self) -> &Appends {
        &self.appends
    }
}
