//! Identities of idempotent producers, from blocks that the cluster gives out.

use std::cell::Cell;

use millrace_model::ProducerId;
use millrace_replication::Refusal;
use millrace_replication::cluster::{Answer, Command};

use super::Shard;

/// What is left of this shard's block.
#[derive(Default)]
pub(super) struct ProducerIds {
    next: Cell<i64>,
    left: Cell<u32>,
}

impl ProducerIds {
    fn take(&self) -> Option<ProducerId> {
        let left = self.left.get().checked_sub(1)?;
        self.left.set(left);
        let id = self.next.get();
        self.next.set(id + 1);
        Some(ProducerId(id))
    }

    fn refill(&self, first: ProducerId, count: u32) {
        self.next.set(first.0);
        self.left.set(count);
    }
}

impl Shard {
    /// An identity that no producer had before.
    pub(crate) async fn producer_id(&self) -> Result<ProducerId, Refusal> {
        loop {
            if let Some(id) = self.producer_ids.take() {
                return Ok(id);
            }
            // Two who come here at once get two blocks, and one block is not used up.
            let command = Command::AllocateProducerIds {
                broker: self.broker,
                epoch: self.life()?,
            };
            if let Answer::ProducerIds { first, count } = self.controller.propose(command).await? {
                self.producer_ids.refill(first, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_once_and_no_further() {
        let ids = ProducerIds::default();
        assert_eq!(ids.take(), None);
        ids.refill(ProducerId(1_000), 2);
        let taken = [ids.take(), ids.take(), ids.take()];
        assert_eq!(
            taken,
            [Some(ProducerId(1_000)), Some(ProducerId(1_001)), None]
        );
    }
}
