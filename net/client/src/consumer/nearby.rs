//! Reading from a replica in the consumer's rack instead of from the leader.
//!
//! Where to begin, and where the end is that a consumer may want to reach, the leader says: a replica
//! may lag behind what others were shown. From there on its records are those of the leader, in the
//! same order, up to the high watermark that it knows. Whatever goes wrong at a replica, the leader is read
//! on from where it ended, and decides what it means.

use std::future::pending;
use std::time::Duration;

use millrace_model::Offset;
use millrace_wire::OffsetSpec;

use super::fetcher::{Fetcher, Item, Source};
use crate::ClientError;
use crate::streams::open_consume_replica;

/// How often it is looked, while a leader is read, whether a replica nearby is in sync again: a small request,
/// and only where a broker stands in the rack.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

impl Fetcher {
    /// Reads from a replica nearby until that ends, if there is one. Returns where to go on, and from where if
    /// anything was read.
    pub(super) async fn read_nearby(
        &self,
        from: OffsetSpec,
        position: Option<Offset>,
    ) -> (OffsetSpec, Option<Offset>) {
        let mut position = position;
        match self.try_nearby(from, &mut position).await {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(log = %self.log, %error, "a replica nearby is not read any more");
            }
        }
        (position.map_or(from, OffsetSpec::At), position)
    }

    async fn try_nearby(
        &self,
        from: OffsetSpec,
        position: &mut Option<Offset>,
    ) -> Result<(), ClientError> {
        let Some(rack) = &self.rack else {
            return Ok(());
        };
        let Some(link) = self.client.replica_in(self.log, rack).await else {
            return Ok(());
        };
        let start = match from {
            OffsetSpec::At(offset) => offset,
            other => self.client.list_offset(self.log, other).await?.offset,
        };
        let (mut frames, mut opened) = open_consume_replica(&link, self.log, start).await?;
        if position.is_none() {
            let latest = self
                .client
                .list_offset(self.log, OffsetSpec::Latest)
                .await?;
            opened.high_watermark = opened.high_watermark.max(latest.offset);
            self.tell(Item::Opened(opened));
        }
        let at = position.insert(opened.start);
        Err(self.forward(&link, &mut frames, at, Source::Nearby).await)
    }

    /// Resolves when there is a replica nearby to read from. Never for a consumer that has not said
    /// where it is.
    pub(super) async fn nearby_again(&self) {
        let Some(rack) = &self.rack else {
            return pending().await;
        };
        loop {
            self.client.shared().runtime.sleep(LOOK_INTERVAL).await;
            if self.client.replica_in(self.log, rack).await.is_some() {
                return;
            }
        }
    }
}
