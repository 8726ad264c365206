//! What happens because time passes: flushes of cached writes, rolling and retention of open
//! logs, retention of logs that nobody has opened, the sweep for stalled clients, and the copies of
//! latencies from which those of the last minutes are told.
//!
//! One timer for all open logs, set to the nearest deadline; a log that gets a nearer one
//! says so. While no log is open and nobody has begun anything, only the slow round over
//! unopened logs has a timer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_model::{LogId, Timestamp};
use millrace_net::Stint;
use millrace_net::pulse::{Work, named};

use super::{Shard, clock, stall};
use crate::metrics::{Counter, MINUTE, Stage};
use crate::partition::Partition;

/// How often every log that nobody has opened since the start is opened once for its
/// retention. Slow, because opening may scan a segment, and nothing waits for it: such a log
/// does not grow.
const UNOPENED_ROUND: Duration = Duration::from_secs(60 * 60);

/// Pause before a log whose deadline has passed is tried again: it was just maintained, so
/// trying at once would be a busy loop.
const OVERDUE_PAUSE: Duration = Duration::from_millis(100);

/// Pause between two unopened logs, so that the round never takes a core.
const UNOPENED_PAUSE: Duration = Duration::from_millis(100);

/// Keeps open logs in order, for ever.
pub(super) async fn keep_open_logs(shard: Rc<Shard>) {
    let interval = shard.config.log_retention_check.0;
    let mut next_round = Instant::now() + interval;
    loop {
        let nearer = shard.nearer_deadline.notified();
        let now = Instant::now();
        let round_is_due = now >= next_round;
        if round_is_due {
            next_round = now + interval;
        }
        maintain_due(&shard, round_is_due).await;
        match wait(&shard, next_round) {
            Some(wait) => or(sleep(wait), nearer).await,
            None => nearer.await,
        }
    }
}

/// How long until something is due; `None` while no log is open.
fn wait(shard: &Shard, next_round: Instant) -> Option<Duration> {
    let open = shard.partitions.all_open();
    if open.is_empty() {
        return None;
    }
    let now = clock::timestamp();
    let deadline = open
        .iter()
        .filter_map(|partition| partition.log().next_deadline())
        .min();
    let until_deadline =
        deadline.map(
            |deadline| match u64::try_from(deadline.0.saturating_sub(now.0)) {
                Ok(millis @ 1..) => Duration::from_millis(millis),
                _ => OVERDUE_PAUSE,
            },
        );
    shard
        .sleeps_until
        .set(deadline.unwrap_or(Timestamp(i64::MAX)));
    let until_round = next_round.saturating_duration_since(Instant::now());
    Some(until_deadline.map_or(until_round, |until| until.min(until_round)))
}

async fn maintain_due(shard: &Rc<Shard>, all: bool) {
    let now = clock::timestamp();
    let mut stint = Stint::default();
    for partition in shard.partitions.all_open() {
        let due = partition
            .log()
            .next_deadline()
            .is_some_and(|deadline| deadline <= now);
        if all || due {
            let doing = Work::Retention.on(partition.id());
            stint
                .awaiting(named(doing, maintain(shard, &partition)))
                .await;
            stint.go_on().await;
        }
    }
}

async fn maintain(shard: &Shard, partition: &Rc<Partition>) {
    let maintained = partition.log().maintain(clock::timestamp()).await;
    shard
        .metrics
        .add(Counter::SegmentsRemoved, maintained.removed as u64);
    partition.settle();
    partition.write();
}

/// Removes what deleted topics left, then goes round the unopened logs, for ever.
pub(super) async fn keep_unopened_logs(shard: Rc<Shard>) {
    // Before that, the image may lack topics that exist, whose logs would be taken for left over.
    shard.joined().wait().await;
    shard.remove_directories(|_| true).await;
    loop {
        sleep(UNOPENED_ROUND).await;
        let found = match shard.storage.directories().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "retention could not list the logs");
                continue;
            }
        };
        for id in found.into_iter().filter(|id| shard.owns(*id)) {
            keep_unopened(&shard, id).await;
            sleep(UNOPENED_PAUSE).await;
        }
    }
}

async fn keep_unopened(shard: &Rc<Shard>, id: LogId) {
    if shard.partitions.is_in_use(id) || !shard.topics.is_held(id) {
        return;
    }
    // What cannot be opened was logged.
    if let Ok(partition) = shard.replica(id).await {
        maintain(shard, &partition).await;
        shard.partitions.close_unused(&partition);
    }
}

/// Ends what clients began and do not carry on, for ever.
pub(super) async fn sweep_stalled(shard: Rc<Shard>) {
    loop {
        shard.stalls.something_begun().await;
        sleep(stall::SWEEP_INTERVAL).await;
        let timeout = match shard.budget.waiters() {
            0 => stall::PROGRESS_TIMEOUT,
            _ => stall::CONTENDED_TIMEOUT,
        };
        shard.stalls.sweep(Instant::now(), timeout);
    }
}

/// Copies the latencies a minute after something was recorded, and again while something is, for ever.
pub(super) async fn keep_minutes(shard: Rc<Shard>) {
    let mut stint = Stint::default();
    loop {
        shard.metrics.fresh().await;
        sleep(MINUTE).await;
        shard.metrics.begin_copy();
        let mut stages = std::array::from_fn(|_| Default::default());
        for (stage, copy) in Stage::ALL.iter().zip(&mut stages) {
            *copy = shard.metrics.counts(*stage);
            stint.go_on().await;
        }
        shard.metrics.turn_minute(Instant::now(), stages);
    }
}
