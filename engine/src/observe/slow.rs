//! The slowest batches of the last minutes, each with all its stages.

use std::rc::Rc;
use std::time::Instant;

use millrace_latency::{SlowDocument, SlowEntry, Stage, VERSION};

use super::{Query, Shown, Unseen, json, shards, text};
use crate::shard::Shard;

pub(super) const KEYS: &[&str] = &["format", "shard", "limit"];

/// Batches that are shown unless another number is asked for.
const DEFAULT_LIMIT: usize = 50;

pub(super) async fn answer(shard: &Rc<Shard>, query: &Query<'_>) -> Result<Shown, Unseen> {
    let as_json = query.one_of("format", &[("text", false), ("json", true)])?;
    let limit = match query.value("limit") {
        None => DEFAULT_LIMIT,
        Some(limit) => limit
            .parse()
            .map_err(|_| Unseen::Query(format!("limit is a number, not `{limit}`")))?,
    };
    let mut batches = Vec::new();
    for owner in shards(shard, query)? {
        let kept = shard.on(owner, |owner| async move { kept(&owner) }).await?;
        batches.extend(kept);
    }
    batches.sort_by(|a, b| b.total_us.total_cmp(&a.total_us));
    batches.truncate(limit);
    let document = SlowDocument {
        version: VERSION,
        batches,
    };
    Ok(match as_json {
        true => json(&document),
        false => text(document.to_string()),
    })
}

/// What this shard has kept.
fn kept(shard: &Shard) -> Vec<SlowEntry> {
    let kept = shard.metrics().slow(Instant::now());
    let cluster = shard.topics().cluster();
    let us = |nanos: u64| nanos as f64 / 1e3;
    let entries = kept.iter().map(|batch| SlowEntry {
        at_ms: batch.at.0,
        shard: shard.id().0,
        topic: match cluster.topic(batch.log.topic) {
            Some(topic) => topic.name.to_string(),
            None => batch.log.topic.to_string(),
        },
        partition: batch.log.partition.0,
        bytes: batch.trace.len,
        peer: batch.peer.to_string(),
        protocol: batch.protocol.to_owned(),
        total_us: us(batch.total()),
        stages_us: Stage::PRODUCE
            .iter()
            .map(|stage| us(batch.nanos(*stage)))
            .collect(),
    });
    entries.collect()
}
